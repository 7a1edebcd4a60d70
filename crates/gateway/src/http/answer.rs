//! What HTTP says of recordings: camelCase, and nothing empty.

use greenroom_contracts::proto::v1::{Recording, RecordingGap};
use serde::Serialize;

/// Time in which the meeting went on and nothing was recorded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GapJson {
    at_ms: u64,
    missing_ms: u64,
}

impl From<RecordingGap> for GapJson {
    fn from(gap: RecordingGap) -> Self {
        Self { at_ms: gap.at_ms, missing_ms: gap.missing_ms }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordingJson {
    bot_id: String,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    media_type: String,
    duration_ms: u64,
    size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_volume_db: Option<f64>,
    parts: u32,
    /// Where the recordings service keeps it.
    #[serde(skip_serializing_if = "String::is_empty")]
    location: String,
    /// Where to fetch it, once it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Where to fetch them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    screenshots: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<GapJson>,
}

impl From<Recording> for RecordingJson {
    fn from(recording: Recording) -> Self {
        let bot = format!("/v1/bots/{}", recording.bot_id);
        Self {
            url: (recording.state == "ready").then(|| format!("{bot}/recording/content")),
            screenshots: recording.screenshots.iter().map(|name| format!("{bot}/screenshots/{name}")).collect(),
            bot_id: recording.bot_id,
            state: recording.state,
            media_type: recording.media_type,
            duration_ms: recording.duration_ms,
            size_bytes: recording.size_bytes,
            mean_volume_db: recording.mean_volume_db,
            parts: recording.parts,
            location: recording.location,
            detail: recording.detail,
            gaps: recording.gaps.into_iter().map(GapJson::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_ready_has_an_address() {
        let json = |state: &str| {
            let recording = Recording {
                bot_id: "b".to_owned(),
                state: state.to_owned(),
                screenshots: vec!["1-in_call.jpg".to_owned()],
                gaps: vec![RecordingGap { at_ms: 61_000, missing_ms: 14_000 }],
                ..Recording::default()
            };
            serde_json::to_value(RecordingJson::from(recording)).expect("plain data")
        };
        assert_eq!(json("ready")["url"], "/v1/bots/b/recording/content");
        assert_eq!(json("ready")["screenshots"][0], "/v1/bots/b/screenshots/1-in_call.jpg");
        assert_eq!(json("ready")["gaps"], json!([{"atMs": 61_000, "missingMs": 14_000}]));
        assert_eq!(json("joining").get("url"), None);
    }
}
