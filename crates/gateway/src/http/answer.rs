//! What HTTP says of bots and recordings: camelCase, ISO times, nothing empty. Never a meeting's address.

use greenroom_contracts::proto::v1::{
    Bot, BotAttempt, BotResources, ListBotsResponse, ListTimelineResponse, Recording, RecordingGap, TimelineEntry,
};
use greenroom_domain::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BotJson {
    id: String,
    number: i64,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
    meeting: MeetingJson,
    display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Timestamp>,
    recording_enabled: bool,
    priority: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    attempt: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    position_is_at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    deduplication_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<ResourcesJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timeline: Vec<EntryJson>,
    /// Where the lines before those are, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_timeline: Option<String>,
}

/// What runners ask for and may take.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourcesJson {
    cpu_millis: u32,
    memory_mb: u32,
    cpu_limit_millis: u32,
    memory_limit_mb: u32,
}

impl From<BotResources> for ResourcesJson {
    fn from(resources: BotResources) -> Self {
        let BotResources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = resources;
        Self { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptJson {
    attempt: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    admitted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageJson {
    cpu_ms: u64,
    peak_memory_bytes: u64,
    lasted_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
}

impl From<BotAttempt> for AttemptJson {
    fn from(attempt: BotAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            platform: attempt.platform,
            admitted_at: time(attempt.admitted_at),
            gone_at: time(attempt.gone_at),
            usage: attempt.usage.map(|usage| UsageJson {
                cpu_ms: usage.cpu_ms,
                peak_memory_bytes: usage.peak_memory_bytes,
                lasted_ms: usage.lasted_ms,
                received_bytes: usage.received_bytes,
                sent_bytes: usage.sent_bytes,
            }),
        }
    }
}

#[derive(Serialize)]
struct MeetingJson {
    provider: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    sequence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    what: String,
    state: String,
    attempt: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageJson {
    bots: Vec<BotJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_cursor: String,
}

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
pub(super) struct TimelineJson {
    entries: Vec<EntryJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_cursor: String,
}

impl From<ListTimelineResponse> for TimelineJson {
    fn from(page: ListTimelineResponse) -> Self {
        Self { entries: page.entries.into_iter().map(EntryJson::from).collect(), next_cursor: page.next_cursor }
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

fn time(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| greenroom_contracts::timestamp("", &at).ok())
}

impl From<Bot> for BotJson {
    fn from(bot: Bot) -> Self {
        let earlier = Some(&bot.earlier_timeline_cursor).filter(|cursor| !cursor.is_empty());
        Self {
            earlier_timeline: earlier.map(|cursor| format!("/v1/bots/{}/timeline?cursor={cursor}", bot.id)),
            id: bot.id,
            number: bot.number,
            state: bot.state,
            reason: bot.reason,
            advice: bot.advice,
            meeting: MeetingJson { provider: bot.provider },
            display_name: bot.display_name,
            start_time: time(bot.start_time),
            end_time: time(bot.end_time),
            recording_enabled: bot.recording_enabled,
            priority: bot.priority,
            platforms: bot.platforms,
            metadata: RawValue::from_string(bot.metadata_json).ok(),
            attempt: bot.attempt,
            platform: bot.platform,
            queue_position: bot.queue_position,
            position_is_at_least: bot.position_is_at_least,
            estimated_wait_ms: bot.estimated_wait_ms,
            deduplication_key: bot.deduplication_key,
            created_at: time(bot.created_at),
            updated_at: time(bot.updated_at),
            sequence: bot.sequence,
            resources: bot.resources.map(ResourcesJson::from),
            attempts: bot.attempts.into_iter().map(AttemptJson::from).collect(),
            timeline: bot.timeline.into_iter().map(EntryJson::from).collect(),
        }
    }
}

impl From<TimelineEntry> for EntryJson {
    fn from(entry: TimelineEntry) -> Self {
        Self {
            sequence: entry.sequence,
            at: time(entry.at),
            what: entry.what,
            state: entry.state,
            attempt: entry.attempt,
            reason: entry.reason,
            detail: entry.detail,
        }
    }
}

impl From<ListBotsResponse> for PageJson {
    fn from(page: ListBotsResponse) -> Self {
        Self { bots: page.bots.into_iter().map(BotJson::from).collect(), next_cursor: page.next_cursor }
    }
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
    use greenroom_contracts::proto::v1::BotUsage;
    use greenroom_contracts::proto_timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bot_has_iso_times_its_own_metadata_and_nothing_empty() {
        let at: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a time");
        let bot = Bot {
            id: "b".to_owned(),
            number: 7,
            state: "QUEUED".to_owned(),
            queue_position: Some(10_000),
            position_is_at_least: true,
            estimated_wait_ms: Some(90_000),
            provider: "web".to_owned(),
            display_name: "Greenroom".to_owned(),
            metadata_json: r#"{"z":1.0, "a":[]}"#.to_owned(),
            created_at: Some(proto_timestamp(at)),
            timeline: vec![TimelineEntry {
                at: Some(proto_timestamp(at)),
                what: "created".to_owned(),
                ..Default::default()
            }],
            resources: Some(BotResources {
                cpu_millis: 500,
                memory_mb: 1024,
                cpu_limit_millis: 1000,
                memory_limit_mb: 1536,
            }),
            attempts: vec![
                BotAttempt {
                    attempt: 1,
                    platform: "local".to_owned(),
                    gone_at: Some(proto_timestamp(at)),
                    usage: Some(BotUsage {
                        cpu_ms: 7,
                        peak_memory_bytes: 1 << 30,
                        lasted_ms: 9,
                        received_bytes: Some(5),
                        sent_bytes: None,
                    }),
                    ..BotAttempt::default()
                },
                BotAttempt { attempt: 2, ..BotAttempt::default() },
            ],
            ..Bot::default()
        };
        let text = serde_json::to_string(&BotJson::from(bot)).expect("plain data");
        assert!(text.contains(r#""metadata":{"z":1.0, "a":[]}"#), "given back as it came: {text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            value,
            json!({
                "id": "b", "number": 7, "state": "QUEUED", "meeting": {"provider": "web"}, "displayName": "Greenroom",
                "recordingEnabled": false, "priority": 0, "metadata": {"z": 1.0, "a": []}, "attempt": 0, "sequence": 0,
                "createdAt": "2026-11-21T10:00:00Z",
                "queuePosition": 10_000, "positionIsAtLeast": true, "estimatedWaitMs": 90_000,
                "resources": {"cpuMillis": 500, "memoryMb": 1024, "cpuLimitMillis": 1000, "memoryLimitMb": 1536},
                "attempts": [
                    {
                        "attempt": 1, "platform": "local", "goneAt": "2026-11-21T10:00:00Z",
                        "usage": {"cpuMs": 7, "peakMemoryBytes": 1_073_741_824, "lastedMs": 9, "receivedBytes": 5},
                    },
                    {"attempt": 2},
                ],
                "timeline": [{"sequence": 0, "at": "2026-11-21T10:00:00Z", "what": "created", "state": "", "attempt": 0}],
            })
        );
    }

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
