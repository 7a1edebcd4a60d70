//! Rows as they are read and written. A row that this version cannot understand is an error that names the column.

use std::time::Duration;

use greenroom_domain::bot::{Admission, AttemptState, Bot, BotState, Policy};
use greenroom_domain::{
    Attempt, BotId, Exit, InstanceId, PlatformName, Provider, Reason, Resources, RunnerId, RunnerSpec, Shard, TenantId,
    Timestamp,
};
use greenroom_store::{Error, SqlTimestamp};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

/// What never changes after a bot was made, as far as decisions go.
#[derive(Debug, Clone)]
pub struct Details {
    pub number: i64,
    pub provider: Provider,
    pub meeting_url: String,
    pub meeting_id: String,
    pub meeting_password: String,
    pub display_name: String,
    pub image: Option<String>,
    pub recording_enabled: bool,
    pub priority: u32,
    pub no_one_joined: Duration,
    pub everyone_left: Duration,
    pub inactivity: Duration,
    pub metadata: String,
    pub traceparent: Option<String>,
    pub created_at: Timestamp,
}

/// A bot with all that is known of it.
#[derive(Debug, Clone)]
pub struct Stored {
    pub bot: Bot,
    pub details: Details,
    pub version: i64,
    pub sequence: i64,
    pub updated_at: Timestamp,
}

impl Stored {
    /// What its runner needs; every attempt the same.
    pub fn spec(&self, runner: RunnerId) -> RunnerSpec {
        RunnerSpec {
            runner,
            tenant: self.bot.tenant,
            provider: self.details.provider.clone(),
            image: self.details.image.clone(),
            resources: Resources::default(),
            // Longer than anything the owner allows: it is there for runners that nobody can reach any more.
            max_lifetime: self.bot.policy.max_duration
                + self.bot.policy.waiting_room_timeout
                + Duration::from_secs(1800),
        }
    }
}

/// A bot joined with its current attempt.
#[derive(Debug, FromRow)]
pub struct BotRow {
    id: Uuid,
    number: i64,
    tenant_id: Uuid,
    version: i64,
    sequence: i64,
    state: String,
    state_since: SqlTimestamp,
    reason: Option<String>,
    provider: String,
    meeting_url: String,
    meeting_id: String,
    meeting_password: String,
    display_name: String,
    image: Option<String>,
    start_at: SqlTimestamp,
    end_at: Option<SqlTimestamp>,
    recording_enabled: bool,
    priority: i32,
    chain: Vec<String>,
    chain_from: i32,
    failures: i32,
    max_retries: i32,
    rejoin: bool,
    queue_timeout_ms: i64,
    waiting_room_timeout_ms: i64,
    no_one_joined_timeout_ms: i64,
    everyone_left_timeout_ms: i64,
    inactivity_timeout_ms: i64,
    max_duration_ms: i64,
    metadata: String,
    queued_at: Option<SqlTimestamp>,
    queue_deadline: Option<SqlTimestamp>,
    joined_at: Option<SqlTimestamp>,
    wake_at: Option<SqlTimestamp>,
    asserts: i32,
    attempt: i32,
    traceparent: Option<String>,
    created_at: SqlTimestamp,
    updated_at: SqlTimestamp,
    a_not_before: Option<SqlTimestamp>,
    a_platform: Option<String>,
    a_progress_at: Option<SqlTimestamp>,
    a_started: Option<bool>,
    a_instance: Option<Uuid>,
    a_admitted_at: Option<SqlTimestamp>,
    a_stopped: Option<bool>,
    a_cause: Option<String>,
    a_may_pass: Option<bool>,
    a_report_sequence: Option<i64>,
    a_joined: Option<bool>,
    a_gone_at: Option<SqlTimestamp>,
    a_exit_code: Option<i32>,
    a_exit_signal: Option<i32>,
    a_exit_oom: Option<bool>,
}

fn small(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

fn jiff(at: Option<SqlTimestamp>) -> Option<Timestamp> {
    at.map(SqlTimestamp::to_jiff)
}

impl TryFrom<BotRow> for Stored {
    type Error = Error;

    fn try_from(row: BotRow) -> Result<Self, Error> {
        let attempt = row.attempt_state()?;
        let chain = row.chain.iter().map(|name| PlatformName::new(name.clone()));
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| Error::row("bots.chain", error))?;
        Ok(Self {
            bot: Bot {
                id: BotId::from_uuid(row.id),
                tenant: TenantId::from_uuid(row.tenant_id),
                state: row.state.parse::<BotState>().map_err(|error| Error::row("bots.state", error))?,
                state_since: row.state_since.to_jiff(),
                reason: row.reason.as_deref().map(Reason::open),
                start_at: row.start_at.to_jiff(),
                end_at: jiff(row.end_at),
                queued_at: jiff(row.queued_at),
                queue_deadline: jiff(row.queue_deadline),
                joined_at: jiff(row.joined_at),
                policy: Policy {
                    max_retries: small(row.max_retries),
                    rejoin: row.rejoin,
                    queue_timeout: millis(row.queue_timeout_ms),
                    waiting_room_timeout: millis(row.waiting_room_timeout_ms),
                    max_duration: millis(row.max_duration_ms),
                },
                chain,
                chain_from: usize::try_from(row.chain_from).unwrap_or(0),
                failures: small(row.failures),
                wake_at: jiff(row.wake_at),
                asserts: small(row.asserts),
                attempt,
            },
            details: Details {
                number: row.number,
                provider: Provider::new(row.provider).map_err(|error| Error::row("bots.provider", error))?,
                meeting_url: row.meeting_url,
                meeting_id: row.meeting_id,
                meeting_password: row.meeting_password,
                display_name: row.display_name,
                image: row.image,
                recording_enabled: row.recording_enabled,
                priority: small(row.priority),
                no_one_joined: millis(row.no_one_joined_timeout_ms),
                everyone_left: millis(row.everyone_left_timeout_ms),
                inactivity: millis(row.inactivity_timeout_ms),
                metadata: row.metadata,
                traceparent: row.traceparent,
                created_at: row.created_at.to_jiff(),
            },
            version: row.version,
            sequence: row.sequence,
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

impl BotRow {
    fn attempt_state(&self) -> Result<Option<AttemptState>, Error> {
        let (Some(not_before), Some(progress_at)) = (self.a_not_before, self.a_progress_at) else { return Ok(None) };
        let platform = self.a_platform.clone().map(PlatformName::new).transpose();
        let admission = self
            .a_instance
            .zip(self.a_admitted_at)
            .map(|(instance, at)| Admission { instance: InstanceId::from_uuid(instance), at: at.to_jiff() });
        let gone_at = jiff(self.a_gone_at);
        let out_of_memory = self.a_exit_oom.unwrap_or(false);
        let known = self.a_exit_code.is_some() || self.a_exit_signal.is_some() || out_of_memory;
        Ok(Some(AttemptState {
            number: Attempt(small(self.attempt)),
            not_before: not_before.to_jiff(),
            platform: platform.map_err(|error| Error::row("attempts.platform", error))?,
            progress_at: progress_at.to_jiff(),
            started: self.a_started.unwrap_or(false),
            admission,
            stopped: self.a_stopped.unwrap_or(false),
            cause: self.a_cause.as_deref().map(Reason::open),
            may_pass: self.a_may_pass.unwrap_or(true),
            report_sequence: u64::try_from(self.a_report_sequence.unwrap_or(0)).unwrap_or(0),
            joined: self.a_joined.unwrap_or(false),
            gone_at,
            exit: known.then_some(Exit { code: self.a_exit_code, signal: self.a_exit_signal, out_of_memory }),
        }))
    }
}

/// A new bot, as JSON for one INSERT of many. The names are the columns'.
#[derive(Debug, Serialize)]
pub struct NewBotJson {
    pub id: BotId,
    pub number: i64,
    /// Whether it came with an idempotency key: then it is made only if it wins it.
    pub keyed: bool,
    pub shard: u8,
    pub tenant_id: TenantId,
    pub provider: String,
    pub meeting_url: String,
    pub meeting_id: String,
    pub meeting_password: String,
    pub display_name: String,
    pub image: Option<String>,
    pub start_at: Timestamp,
    pub end_at: Option<Timestamp>,
    pub recording_enabled: bool,
    pub priority: u32,
    pub chain: Vec<PlatformName>,
    pub max_retries: u32,
    pub rejoin: bool,
    pub queue_timeout_ms: u128,
    pub waiting_room_timeout_ms: u128,
    pub no_one_joined_timeout_ms: u128,
    pub everyone_left_timeout_ms: u128,
    pub inactivity_timeout_ms: u128,
    pub max_duration_ms: u128,
    pub metadata: String,
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
            provider: details.provider.to_string(),
            meeting_url: details.meeting_url.clone(),
            meeting_id: details.meeting_id.clone(),
            meeting_password: details.meeting_password.clone(),
            display_name: details.display_name.clone(),
            image: details.image.clone(),
            start_at: bot.start_at,
            end_at: bot.end_at,
            recording_enabled: details.recording_enabled,
            priority: details.priority,
            chain: bot.chain.clone(),
            max_retries: bot.policy.max_retries,
            rejoin: bot.policy.rejoin,
            queue_timeout_ms: bot.policy.queue_timeout.as_millis(),
            waiting_room_timeout_ms: bot.policy.waiting_room_timeout.as_millis(),
            no_one_joined_timeout_ms: details.no_one_joined.as_millis(),
            everyone_left_timeout_ms: details.everyone_left.as_millis(),
            inactivity_timeout_ms: details.inactivity.as_millis(),
            max_duration_ms: bot.policy.max_duration.as_millis(),
            metadata: details.metadata.clone(),
            traceparent: details.traceparent.clone(),
            created_at: details.created_at,
            changing: stored.into(),
        }
    }
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

/// A line of a timeline, read.
#[derive(Debug, FromRow)]
pub struct TimelineRow {
    pub sequence: i64,
    pub at: SqlTimestamp,
    pub what: String,
    pub state: String,
    pub attempt: i32,
    pub reason: Option<String>,
    pub detail: Option<String>,
}
