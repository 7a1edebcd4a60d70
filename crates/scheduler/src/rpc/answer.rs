//! A bot as callers see it: without its meeting's address.

use greenroom_contracts::proto::v1;
use greenroom_contracts::proto_timestamp;
use greenroom_domain::{PlatformName, Reason};

use crate::rows::{AttemptRow, Stored, TimelineRow};
use crate::sizing::Size;

pub fn bot(stored: &Stored) -> v1::Bot {
    let (bot, details) = (&stored.bot, &stored.details);
    let attempt = bot.attempt.as_ref();
    let meeting = v1::Meeting { provider: details.provider.to_string(), ..v1::Meeting::default() };
    v1::Bot {
        id: bot.id.to_string(),
        number: details.number,
        state: v1::BotState::from(bot.state).into(),
        reason: bot.reason.as_ref().map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        advice: bot.reason.as_ref().and_then(Reason::advice).unwrap_or_default().to_owned(),
        settings: Some(v1::BotSettings { meeting: Some(meeting), ..details.settings.clone() }),
        attempt: attempt.map_or(0, |attempt| attempt.number.0),
        platform: attempt
            .and_then(|attempt| attempt.platform.as_ref())
            .map(PlatformName::to_string)
            .unwrap_or_default(),
        platforms: bot.chain.iter().map(PlatformName::to_string).collect(),
        resources: Some(resources(details.size)),
        created_at: Some(proto_timestamp(details.created_at)),
        updated_at: Some(proto_timestamp(stored.updated_at)),
        sequence: stored.sequence,
        // Only of one that is asked for by itself.
        queue_position: None,
        position_is_at_least: None,
        estimated_wait_ms: None,
        attempts: Vec::new(),
        timeline: Vec::new(),
        earlier_timeline_page_token: String::new(),
    }
}

pub fn resources(size: Size) -> v1::BotResources {
    let Size { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = size;
    v1::BotResources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb }
}

pub fn attempt(row: AttemptRow) -> v1::BotAttempt {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let usage = row.cpu_ms.zip(row.peak_memory_bytes).zip(row.lasted_ms);
    v1::BotAttempt {
        attempt: u32::try_from(row.attempt).unwrap_or(0),
        platform: row.platform.unwrap_or_default(),
        admitted_at: row.admitted_at.map(|at| proto_timestamp(at.to_jiff())),
        gone_at: row.gone_at.map(|at| proto_timestamp(at.to_jiff())),
        usage: usage.map(|((cpu_ms, peak_memory_bytes), lasted_ms)| v1::BotUsage {
            cpu_ms: number(cpu_ms),
            peak_memory_bytes: number(peak_memory_bytes),
            lasted_ms: number(lasted_ms),
            received_bytes: row.received_bytes.map(number),
            sent_bytes: row.sent_bytes.map(number),
        }),
    }
}

pub fn line(row: TimelineRow) -> v1::TimelineEntry {
    v1::TimelineEntry {
        sequence: row.sequence,
        at: Some(proto_timestamp(row.at.to_jiff())),
        what: row.what,
        state: v1::BotState::of_word(&row.state).unwrap_or_default().into(),
        attempt: u32::try_from(row.attempt).unwrap_or(0),
        reason: row.reason.unwrap_or_default(),
        detail: row.detail.unwrap_or_default(),
    }
}
