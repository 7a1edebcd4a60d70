//! Rows as they are written: JSON documents whose names are the columns'.

use greenroom_contracts::proto::v1::BotSettings;
use greenroom_domain::bot::{AttemptState, BotState};
use greenroom_domain::{Attempt, BotId, InstanceId, PlatformName, Provider, Reason, Shard, TenantId, Timestamp, Usage};
use serde::Serialize;

use super::Stored;

/// A new bot, as JSON for one INSERT of many. The names are the columns'.
#[derive(Debug, Serialize)]
pub struct NewBotJson {
    pub id: BotId,
    pub number: i64,
    /// Whether it came with an idempotency key: then it is made only if it wins it.
    pub keyed: bool,
    pub shard: u8,
    pub tenant_id: TenantId,
    pub deduplication_key: Option<String>,
    pub weight: u32,
    #[serde(flatten)]
    pub settings: SettingsJson,
    pub traceparent: Option<String>,
    pub created_at: Timestamp,
    #[serde(flatten)]
    pub changing: ChangedBotJson,
}

impl NewBotJson {
    pub fn new(stored: &Stored, keyed: bool) -> Self {
        let (bot, details) = (&stored.bot, &stored.details);
        Self {
            id: bot.id,
            number: details.number,
            keyed,
            shard: Shard::of(bot.id.uuid()).number(),
            tenant_id: bot.tenant,
            deduplication_key: stored.deduplication_key().map(str::to_owned),
            weight: details.weight,
            settings: stored.into(),
            traceparent: details.traceparent.clone(),
            created_at: details.created_at,
            changing: stored.into(),
        }
    }
}

/// A bot's settings, and the columns that SQL reads of them.
#[derive(Debug, Serialize)]
pub struct SettingsJson {
    pub settings: BotSettings,
    pub provider: Provider,
    pub start_at: Timestamp,
    pub end_at: Option<Timestamp>,
    pub priority: u32,
    pub chain: Vec<PlatformName>,
    pub cpu_millis: u32,
    pub memory_mb: u32,
    pub cpu_limit_millis: u32,
    pub memory_limit_mb: u32,
}

impl From<&Stored> for SettingsJson {
    fn from(stored: &Stored) -> Self {
        let (bot, details) = (&stored.bot, &stored.details);
        Self {
            settings: details.settings.clone(),
            provider: details.provider.clone(),
            start_at: bot.start_at,
            end_at: bot.end_at,
            priority: stored.priority(),
            chain: bot.chain.clone(),
            cpu_millis: details.size.cpu_millis,
            memory_mb: details.size.memory_mb,
            cpu_limit_millis: details.size.cpu_limit_millis,
            memory_limit_mb: details.size.memory_limit_mb,
        }
    }
}

/// What a caller set anew, as JSON for one UPDATE of many.
#[derive(Debug, Serialize)]
pub struct EditedBotJson {
    pub bot_id: BotId,
    #[serde(flatten)]
    pub settings: SettingsJson,
}

/// A claim on an idempotency key, as JSON for one INSERT of many.
#[derive(Debug, Serialize)]
pub struct KeyJson {
    pub tenant_id: TenantId,
    pub key: String,
    /// SHA-256 in hexadecimal.
    pub request: String,
    pub bot_id: BotId,
    pub created_at: Timestamp,
}

/// All that new bots write, for one statement.
#[derive(Debug, Default)]
pub struct NewRows {
    pub keys: Vec<KeyJson>,
    pub bots: Vec<NewBotJson>,
    pub attempts: Vec<AttemptJson>,
    pub timeline: Vec<TimelineJson>,
    /// Tenants whose bots are counted.
    pub counted: Vec<TenantId>,
}

/// What changes about a bot, as JSON for one UPDATE of many.
#[derive(Debug, Serialize)]
pub struct ChangedBotJson {
    pub bot_id: BotId,
    pub version: i64,
    pub sequence: i64,
    pub state: BotState,
    pub state_since: Timestamp,
    pub reason: Option<Reason>,
    pub chain: Vec<PlatformName>,
    pub chain_from: usize,
    pub failures: u32,
    pub queued_at: Option<Timestamp>,
    pub queue_deadline: Option<Timestamp>,
    pub joined_at: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
    pub asserts: u32,
    pub attempt: u32,
    pub updated_at: Timestamp,
}

impl From<&Stored> for ChangedBotJson {
    fn from(stored: &Stored) -> Self {
        let bot = &stored.bot;
        Self {
            bot_id: bot.id,
            version: stored.version,
            sequence: stored.sequence,
            state: bot.state,
            state_since: bot.state_since,
            reason: bot.reason.clone(),
            chain: bot.chain.clone(),
            chain_from: bot.chain_from,
            failures: bot.failures,
            queued_at: bot.queued_at,
            queue_deadline: bot.queue_deadline,
            joined_at: bot.joined_at,
            wake_at: bot.wake_at,
            asserts: bot.asserts,
            attempt: bot.attempt.as_ref().map_or(0, |attempt| attempt.number.0),
            updated_at: stored.updated_at,
        }
    }
}

/// An attempt, as JSON for one upsert of many.
#[derive(Debug, Serialize)]
pub struct AttemptJson {
    pub bot_id: BotId,
    pub attempt: u32,
    pub not_before: Timestamp,
    pub held: bool,
    pub platform: Option<PlatformName>,
    pub progress_at: Timestamp,
    pub started: bool,
    pub instance: Option<InstanceId>,
    pub admitted_at: Option<Timestamp>,
    pub stopped: bool,
    pub cause: Option<Reason>,
    pub may_pass: bool,
    pub report_sequence: u64,
    pub joined: bool,
    pub gone_at: Option<Timestamp>,
    pub exit_code: Option<i32>,
    pub exit_signal: Option<i32>,
    pub exit_oom: bool,
    pub release_at: Option<Timestamp>,
    pub releases: u32,
}

impl AttemptJson {
    pub fn new(bot_id: BotId, attempt: &AttemptState, release_at: Option<Timestamp>) -> Self {
        Self {
            bot_id,
            attempt: attempt.number.0,
            not_before: attempt.not_before,
            held: attempt.held,
            platform: attempt.platform.clone(),
            progress_at: attempt.progress_at,
            started: attempt.started,
            instance: attempt.admission.map(|admission| admission.instance),
            admitted_at: attempt.admission.map(|admission| admission.at),
            stopped: attempt.stopped,
            cause: attempt.cause.clone(),
            may_pass: attempt.may_pass,
            report_sequence: attempt.report_sequence,
            joined: attempt.joined,
            gone_at: attempt.gone_at,
            exit_code: attempt.exit.and_then(|exit| exit.code),
            exit_signal: attempt.exit.and_then(|exit| exit.signal),
            exit_oom: attempt.exit.is_some_and(|exit| exit.out_of_memory),
            release_at,
            releases: 0,
        }
    }
}

/// What a runner took, as JSON for one INSERT of many.
#[derive(Debug, Serialize)]
pub struct MeasurementJson {
    pub bot_id: BotId,
    pub attempt: u32,
    pub provider: Provider,
    pub at: Timestamp,
    #[serde(rename = "cpu_ms")]
    pub cpu: i64,
    #[serde(rename = "peak_memory_bytes")]
    pub peak_memory: i64,
    #[serde(rename = "lasted_ms")]
    pub lasted: i64,
    #[serde(rename = "received_bytes")]
    pub received: Option<i64>,
    #[serde(rename = "sent_bytes")]
    pub sent: Option<i64>,
}

impl MeasurementJson {
    pub fn new(bot_id: BotId, attempt: Attempt, provider: Provider, at: Timestamp, usage: &Usage) -> Self {
        // Columns hold half as much, which is more than there is of anything.
        let fits = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            bot_id,
            attempt: attempt.0,
            provider,
            at,
            cpu: fits(usage.cpu_ms),
            peak_memory: fits(usage.peak_memory_bytes),
            lasted: fits(usage.lasted_ms),
            received: usage.received_bytes.map(fits),
            sent: usage.sent_bytes.map(fits),
        }
    }
}

/// A line of a timeline, as JSON for one INSERT of many.
#[derive(Debug, Serialize)]
pub struct TimelineJson {
    pub bot_id: BotId,
    pub sequence: i64,
    pub at: Timestamp,
    pub what: String,
    pub state: BotState,
    pub attempt: u32,
    pub reason: Option<Reason>,
    pub detail: Option<String>,
}
