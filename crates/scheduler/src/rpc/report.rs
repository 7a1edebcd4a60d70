//! What a runner says happened. Answered after the commit; until then the runner keeps it.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::runner_report::Report as Said;
use greenroom_contracts::proto::v1::{ReportRequest, ReportResponse, RunnerReport};
use greenroom_domain::bot::{Event, Report};
use greenroom_domain::{InstanceId, Reason};
use tonic::Status;

use super::{Door, refusal};
use crate::writer::{Applied, Input};

pub async fn report(door: &Door, request: ReportRequest) -> Result<ReportResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let instance: InstanceId =
        request.instance.parse().map_err(|_| Status::invalid_argument("instance: must be a UUID"))?;
    let mut reports = request.reports;
    for (index, report) in reports.iter().enumerate() {
        if i64::try_from(report.sequence).is_err() {
            let field = format!("reports[{index}].sequence");
            return Err(BadField::new(field, format!("must not be more than {}", i64::MAX)).into());
        }
    }
    reports.sort_by_key(|report| report.sequence);
    let sequences: Vec<u64> = reports.iter().map(|report| report.sequence).collect();
    let inputs = reports.into_iter().map(|said| {
        let sequence = said.sequence;
        let (report, detail) = understand(said);
        let event = Event::Reported { attempt: runner.attempt, instance, sequence, report };
        Input::new(bot, event, detail)
    });
    let answers = door.apply_all(inputs.collect()).await?;
    let mut acknowledged = 0;
    for (sequence, answer) in sequences.into_iter().zip(answers) {
        match answer {
            Applied::Advanced(_) | Applied::Ignored(..) => acknowledged = sequence,
            Applied::Invalid(bad) => return Err(bad.into()),
            Applied::Over(over) => return Err(refusal::over(&over, door.writer.now())),
            Applied::Rejected(why) => return Err(Status::failed_precondition(why.to_string())),
            Applied::NoSuchBot => return Err(Status::failed_precondition("there is no such bot")),
        }
    }
    Ok(ReportResponse { acknowledged })
}

/// A report of a newer kind than ours is a note.
fn understand(said: RunnerReport) -> (Report, Option<String>) {
    match said.report {
        Some(Said::Joining(_)) => (Report::Joining, None),
        Some(Said::InWaitingRoom(_)) => (Report::InWaitingRoom, None),
        Some(Said::InCall(_)) => (Report::InCall, None),
        Some(Said::RecordingStarted(_)) => (Report::RecordingStarted, None),
        Some(Said::RecordingStopped(_)) => (Report::RecordingStopped, None),
        Some(Said::Leaving(leaving)) => (Report::Leaving(Reason::open(&leaving.reason)), None),
        Some(Said::Finished(finished)) => (Report::Finished(Reason::open(&finished.reason)), None),
        Some(Said::Failed(failed)) => {
            let report = Report::Failed { reason: Reason::open(&failed.reason), may_pass: failed.may_pass };
            (report, Some(short(failed.detail)).filter(|detail| !detail.is_empty()))
        }
        Some(Said::Note(note)) => (Report::Note, Some(short(note.text))),
        None => (Report::Note, None),
    }
}

/// A person's line, not a log.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(500) {
        text.truncate(end);
    }
    text
}
