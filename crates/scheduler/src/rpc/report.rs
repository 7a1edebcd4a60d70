//! What a runner says happened. Answered after the commit; until then the runner keeps it.

use std::time::Duration;

use greenroom_contracts::proto::v1::runner_report::Report as Said;
use greenroom_contracts::proto::v1::{Desired, Note, ReportRequest, ReportResponse, RunnerReport};
use greenroom_contracts::{BadField, bad_fields, timestamp};
use greenroom_domain::bot::{Event, Report};
use greenroom_domain::time::before;
use greenroom_domain::{InstanceId, Reason, Timestamp};
use prost_types::Timestamp as Stamp;
use tonic::Status;

use super::{Door, refusal};
use crate::writer::{Applied, Input};
use crate::{Error, policy, store};

pub async fn report(door: &Door, request: ReportRequest) -> Result<ReportResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let instance: InstanceId = request.instance.parse().map_err(|_| BadField::new("instance", "must be a UUID"))?;
    let mut reports = request.reports;
    for (index, report) in reports.iter().enumerate() {
        if i64::try_from(report.sequence).is_err() {
            let field = format!("reports[{index}].sequence");
            return Err(BadField::new(field, format!("must not be more than {}", i64::MAX)).into());
        }
    }
    reports.sort_by_key(|report| report.sequence);
    let last = reports.last().map_or(0, |report| report.sequence);
    if reports.iter().any(is_note) {
        let (most, pool) = (door.config.most_notes, door.writer.store().pool());
        let kept = store::notes(pool, bot, most.saturating_add(1)).await.map_err(Error::from)?;
        limit_notes(&mut reports, kept, most);
    }
    limit_states(&mut reports);
    if reports.is_empty() && last > 0 {
        // Nothing is left that the fence would be asked about, and whoever is fenced has to hear of it.
        let pool = door.writer.store().pool();
        let found = store::read(pool, &[bot]).await.map_err(Error::from)?;
        let stored = found.first().ok_or_else(|| Status::failed_precondition("there is no such bot"))?;
        let (now, late) = (door.host.clock.now(), door.config.late_uploads);
        policy::may_upload(&stored.bot, runner.attempt, instance, now, late)
            .map_err(|why| Status::failed_precondition(why.to_string()))?;
    }
    let says_that_it_goes = reports.iter().any(ends);
    let now = door.host.clock.now();
    let inputs = reports.into_iter().map(|said| {
        let sequence = said.sequence;
        let happened_at = happened_at(now, request.sent_at.as_ref(), said.at.as_ref());
        let (report, detail) = understand(said);
        let event = Event::Reported { attempt: runner.attempt, instance, sequence, report };
        Input { happened_at, ..Input::new(bot, event, detail) }
    });
    let mut desired = Desired::Continue;
    for answer in door.apply_all(inputs.collect()).await? {
        match answer {
            Applied::Advanced(stored) | Applied::Ignored(_, stored) => {
                desired = policy::desired(&stored.bot, runner.attempt, Some(instance));
            }
            Applied::Invalid(bad) => return Err(bad_fields(&bad)),
            Applied::Over(over) => return Err(refusal::over(&over, door.writer.now())),
            Applied::Rejected(why) => return Err(Status::failed_precondition(why.to_string())),
            Applied::NoSuchBot => return Err(Status::failed_precondition("there is no such bot")),
        }
    }
    // A runner that says that it goes need not be told.
    let desired = if says_that_it_goes { Desired::Continue } else { desired };
    Ok(ReportResponse { acknowledged: last, desired: desired.into() })
}

/// Returns when something happened that was reported late. The runner's clock may be wrong, so only the time between two of its
/// looks counts.
fn happened_at(now: Timestamp, sent_at: Option<&Stamp>, at: Option<&Stamp>) -> Option<Timestamp> {
    let (sent_at, at) = (timestamp("sent_at", sent_at?).ok()?, timestamp("at", at?).ok()?);
    let ago = Duration::try_from(sent_at.duration_since(at)).ok()?;
    Some(before(now, ago))
}

fn ends(report: &RunnerReport) -> bool {
    matches!(report.report, Some(Said::Leaving(_) | Said::Finished(_) | Said::Failed(_)))
}

fn is_note(report: &RunnerReport) -> bool {
    matches!(report.report, Some(Said::Note(_)) | None)
}

/// Leaves out notes beyond the most that a bot's timeline keeps, of which it has `kept`. The first of them is told in their
/// place. They are acknowledged: a runner that kept them would hold back what matters.
fn limit_notes(reports: &mut Vec<RunnerReport>, mut kept: u32, most: u32) {
    reports.retain_mut(|report| {
        if !is_note(report) {
            return true;
        }
        if kept == most {
            let text = format!("further notes of this bot are not kept: NOTES_PER_BOT is {most}");
            report.report = Some(Said::Note(Note { text }));
        }
        kept = kept.saturating_add(1);
        kept <= most.saturating_add(1)
    });
}

/// Changes of state that a runner reports with a later number than this are not kept. Numbers only rise within an attempt, so
/// that this bounds them without counting; a runner in a meeting of a day uses some hundreds.
const LAST_STATE: u64 = 5_000;

/// Leaves out changes of state beyond what is kept of an attempt; the first of them is told in its place. What ends the bot is
/// kept always.
fn limit_states(reports: &mut Vec<RunnerReport>) {
    reports.retain_mut(|report| {
        if ends(report) || is_note(report) || report.sequence <= LAST_STATE {
            return true;
        }
        let text =
            format!("further changes of state of this attempt are not kept: it has reported {LAST_STATE} things");
        report.report = Some(Said::Note(Note { text }));
        report.sequence == LAST_STATE + 1
    });
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

#[cfg(test)]
mod tests {
    use greenroom_contracts::proto::v1::{Failed, InCall, RecordingStarted};
    use greenroom_contracts::proto_timestamp;

    use super::*;

    #[test]
    fn a_late_report_happened_as_long_ago_as_its_runner_kept_it() {
        let now: Timestamp = "2026-11-29T10:00:30Z".parse().expect("a time");
        for (sent_at, at, expected) in [
            ("2026-11-29T10:00:30Z", "2026-11-29T10:00:03Z", Some("2026-11-29T10:00:03Z")),
            // By a clock that is wrong by years.
            ("2031-01-01T00:00:27Z", "2031-01-01T00:00:00Z", Some("2026-11-29T10:00:03Z")),
            ("2026-11-29T10:00:30Z", "2026-11-29T10:00:30Z", Some("2026-11-29T10:00:30Z")),
            // Set back between the two.
            ("2026-11-29T10:00:00Z", "2026-11-29T10:00:03Z", None),
            ("", "2026-11-29T10:00:03Z", None),
            ("2026-11-29T10:00:30Z", "a while ago", None),
        ] {
            let expected = expected.map(|at| at.parse().expect("a time"));
            let stamp = |text: &str| text.parse().ok().map(proto_timestamp);
            let found = happened_at(now, stamp(sent_at).as_ref(), stamp(at).as_ref());
            assert_eq!(found, expected, "{sent_at} {at}");
        }
    }

    #[test]
    fn changes_of_state_without_end_are_left_out_and_ends_are_not() {
        let flap = |sequence| {
            let report =
                if sequence % 2 == 0 { Said::InCall(InCall {}) } else { Said::RecordingStarted(RecordingStarted {}) };
            RunnerReport { sequence, report: Some(report), ..RunnerReport::default() }
        };
        let end = RunnerReport { sequence: 9_001, report: Some(Said::Failed(Failed::default())), ..flap(1) };
        let mut reports: Vec<_> = (1..=9_000).map(flap).chain([end.clone()]).collect();
        limit_states(&mut reports);
        assert_eq!(reports.len() as u64, LAST_STATE + 2);
        assert!(is_note(&reports[5_000]) && !is_note(&reports[4_999]));
        assert_eq!(reports.last(), Some(&end));
        // A runner that goes on flapping is told nothing more of.
        let mut later = vec![flap(5_002), flap(7_777)];
        limit_states(&mut later);
        assert!(later.is_empty());
    }

    #[test]
    fn notes_beyond_the_most_are_left_out_and_nothing_else_is() {
        let note = |text: &str| Some(Said::Note(Note { text: text.to_owned() }));
        let in_call = Some(Said::InCall(InCall {}));
        let said = |kept: u32| {
            let reports = [note("a"), in_call.clone(), note("b"), note("c"), None];
            let mut reports: Vec<_> =
                reports.into_iter().map(|report| RunnerReport { report, ..RunnerReport::default() }).collect();
            limit_notes(&mut reports, kept, 10);
            reports.into_iter().map(|report| report.report).collect::<Vec<_>>()
        };
        let told = note("further notes of this bot are not kept: NOTES_PER_BOT is 10");
        assert_eq!(said(0), [note("a"), in_call.clone(), note("b"), note("c"), None]);
        assert_eq!(said(8), [note("a"), in_call.clone(), note("b"), told.clone()]);
        assert_eq!(said(10), [told, in_call.clone()]);
        assert_eq!(said(11), std::slice::from_ref(&in_call));
        assert_eq!(said(u32::MAX), [in_call]);
    }
}
