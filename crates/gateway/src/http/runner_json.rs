//! What runners send and get over plain HTTP: the messages of `runner.proto` in camelCase. 64-bit numbers may come as
//! strings, as protobuf's JSON has them; they go out as numbers, which every reader takes.

use greenroom_contracts::proto::v1;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto_timestamp;
use greenroom_domain::parse_rfc3339;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Deserialize)]
pub(super) struct RunnerJson {
    kind: String,
    id: String,
    attempt: u32,
}

/// The body of `admit` and `beat`.
#[derive(Deserialize)]
pub(super) struct CallJson {
    runner: RunnerJson,
    instance: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportsJson {
    runner: RunnerJson,
    instance: String,
    #[serde(default)]
    reports: Vec<ReportJson>,
    #[serde(default)]
    sent_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson {
    #[serde(deserialize_with = "number")]
    sequence: u64,
    #[serde(default)]
    at: String,
    in_waiting_room: Option<NothingJson>,
    in_call: Option<NothingJson>,
    recording_started: Option<NothingJson>,
    recording_stopped: Option<NothingJson>,
    leaving: Option<ReasonJson>,
    finished: Option<ReasonJson>,
    failed: Option<FailedJson>,
    note: Option<NoteJson>,
    joining: Option<NothingJson>,
}

#[derive(Deserialize)]
struct NothingJson {}

#[derive(Deserialize)]
struct ReasonJson {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedJson {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    may_pass: bool,
}

#[derive(Deserialize)]
struct NoteJson {
    #[serde(default)]
    text: String,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(deserializer) {
        Ok(Number::Number(number)) => Ok(number),
        Ok(Number::Text(text)) => text.parse().map_err(|_| serde::de::Error::custom("must be a whole number")),
        Err(_) => Err(serde::de::Error::custom("must be a whole number")),
    }
}

/// Returns a time; none for what cannot be read, which is the same as none: a report is taken whatever its runner's clock says.
fn stamp(text: &str) -> Option<prost_types::Timestamp> {
    parse_rfc3339(text).ok().map(proto_timestamp)
}

impl From<RunnerJson> for v1::RunnerRef {
    fn from(runner: RunnerJson) -> Self {
        Self { kind: runner.kind, id: runner.id, attempt: runner.attempt }
    }
}

impl From<CallJson> for v1::AdmitRequest {
    fn from(call: CallJson) -> Self {
        Self { runner: Some(call.runner.into()), instance: call.instance }
    }
}

impl From<CallJson> for v1::BeatRequest {
    fn from(call: CallJson) -> Self {
        Self { runner: Some(call.runner.into()), instance: call.instance }
    }
}

impl From<ReportsJson> for v1::ReportRequest {
    fn from(call: ReportsJson) -> Self {
        Self {
            runner: Some(call.runner.into()),
            instance: call.instance,
            reports: call.reports.into_iter().map(v1::RunnerReport::from).collect(),
            sent_at: stamp(&call.sent_at),
        }
    }
}

impl From<ReportJson> for v1::RunnerReport {
    fn from(json: ReportJson) -> Self {
        let report = [
            json.in_waiting_room.map(|NothingJson {}| Report::InWaitingRoom(v1::InWaitingRoom {})),
            json.in_call.map(|NothingJson {}| Report::InCall(v1::InCall {})),
            json.recording_started.map(|NothingJson {}| Report::RecordingStarted(v1::RecordingStarted {})),
            json.recording_stopped.map(|NothingJson {}| Report::RecordingStopped(v1::RecordingStopped {})),
            json.leaving.map(|ReasonJson { reason }| Report::Leaving(v1::Leaving { reason })),
            json.finished.map(|ReasonJson { reason }| Report::Finished(v1::Finished { reason })),
            json.failed
                .map(|FailedJson { reason, detail, may_pass }| Report::Failed(v1::Failed { reason, detail, may_pass })),
            json.note.map(|NoteJson { text }| Report::Note(v1::Note { text })),
            json.joining.map(|NothingJson {}| Report::Joining(v1::Joining {})),
        ];
        Self { sequence: json.sequence, at: stamp(&json.at), report: report.into_iter().flatten().next() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BeatenJson {
    desired: &'static str,
    next_beat_ms: u64,
    log_level: &'static str,
}

impl From<v1::BeatResponse> for BeatenJson {
    fn from(answer: v1::BeatResponse) -> Self {
        Self {
            desired: answer.desired().as_str_name(),
            next_beat_ms: answer.next_beat_ms,
            log_level: answer.log_level().word(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ReportedJson {
    acknowledged: u64,
    desired: &'static str,
}

impl From<v1::ReportResponse> for ReportedJson {
    fn from(answer: v1::ReportResponse) -> Self {
        Self { acknowledged: answer.acknowledged, desired: answer.desired().as_str_name() }
    }
}

/// The answer to `probe`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProbedJson {
    storage_problem: String,
}

impl From<v1::ProbeResponse> for ProbedJson {
    fn from(answer: v1::ProbeResponse) -> Self {
        Self { storage_problem: answer.storage_problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_has_its_word() {
        let body = r#"{"runner":{"kind":"bot","id":"x","attempt":2},"instance":"i","reports":[
            {"sequence":1,"at":"t","inWaitingRoom":{}}, {"sequence":"2","inCall":{}}, {"sequence":3,"recordingStarted":{}},
            {"sequence":4,"recordingStopped":{}}, {"sequence":5,"leaving":{"reason":"r"}},
            {"sequence":6,"finished":{"reason":"r"}}, {"sequence":7,"failed":{"reason":"r","detail":"d","mayPass":true}},
            {"sequence":8,"note":{"text":"n"}}, {"sequence":9,"joining":{}}, {"sequence":10,"somethingNewer":{}}]}"#;
        let json: ReportsJson = serde_json::from_str(body).expect("reports");
        let reports = v1::ReportRequest::from(json).reports;
        assert!(reports.iter().map(|report| report.sequence).eq(1..=10));
        let expected = [
            Some(Report::InWaitingRoom(v1::InWaitingRoom {})),
            Some(Report::InCall(v1::InCall {})),
            Some(Report::RecordingStarted(v1::RecordingStarted {})),
            Some(Report::RecordingStopped(v1::RecordingStopped {})),
            Some(Report::Leaving(v1::Leaving { reason: "r".into() })),
            Some(Report::Finished(v1::Finished { reason: "r".into() })),
            Some(Report::Failed(v1::Failed { reason: "r".into(), detail: "d".into(), may_pass: true })),
            Some(Report::Note(v1::Note { text: "n".into() })),
            Some(Report::Joining(v1::Joining {})),
            None,
        ];
        assert!(reports.into_iter().map(|report| report.report).eq(expected));
    }
}
