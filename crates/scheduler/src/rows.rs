//! Rows as they are read, and in a file of its own as they are written. A row that this version cannot understand is an error that names the column.

mod written;

use std::time::Duration;

use greenroom_contracts::proto::v1::BotSettings;
use greenroom_domain::bot::{Admission, AttemptState, Bot, BotState};
use greenroom_domain::{
    Attempt, BotId, Exit, InstanceId, PlatformName, Provider, Reason, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use greenroom_store::{Error, SqlTimestamp};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::settings::policy;
use crate::sizing::Size;

pub use written::{
    AttemptJson, ChangedBotJson, EditedBotJson, KeyJson, MeasurementJson, NewBotJson, NewRows, TimelineJson,
};

/// What no decision depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    pub number: i64,
    pub provider: Provider,
    /// Complete: with defaults for what was not asked.
    pub settings: BotSettings,
    /// The tenant's share of turns in the queue.
    pub weight: u32,
    /// What its runners get.
    pub size: Size,
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
    /// Lower is first.
    pub fn priority(&self) -> u32 {
        self.details.settings.priority.unwrap_or_default()
    }

    /// No two living bots of a tenant have the same.
    pub fn deduplication_key(&self) -> Option<&str> {
        Some(self.details.settings.deduplication_key.as_str()).filter(|key| !key.is_empty())
    }

    /// What its runner needs; every attempt the same, but for the memory after one that had too little.
    pub fn spec(&self, runner: RunnerId) -> RunnerSpec {
        RunnerSpec {
            runner,
            tenant: self.bot.tenant,
            provider: self.details.provider.clone(),
            image: Some(self.details.settings.image.clone()).filter(|image| !image.is_empty()),
            resources: self.details.size.into(),
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
    settings: Json<BotSettings>,
    start_at: SqlTimestamp,
    end_at: Option<SqlTimestamp>,
    chain: Vec<String>,
    chain_from: i32,
    failures: i32,
    queued_at: Option<SqlTimestamp>,
    queue_deadline: Option<SqlTimestamp>,
    joined_at: Option<SqlTimestamp>,
    wake_at: Option<SqlTimestamp>,
    asserts: i32,
    attempt: i32,
    weight: i32,
    cpu_millis: i32,
    memory_mb: i32,
    cpu_limit_millis: i32,
    memory_limit_mb: i32,
    traceparent: Option<String>,
    created_at: SqlTimestamp,
    updated_at: SqlTimestamp,
    a_not_before: Option<SqlTimestamp>,
    a_held: Option<bool>,
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
                policy: policy(&row.settings),
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
                settings: row.settings.0,
                weight: small(row.weight),
                size: Size {
                    cpu_millis: small(row.cpu_millis),
                    memory_mb: small(row.memory_mb),
                    cpu_limit_millis: small(row.cpu_limit_millis),
                    memory_limit_mb: small(row.memory_limit_mb),
                },
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
            held: self.a_held.unwrap_or(false),
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
            // Why its platform ended it became the bot's reason at once, and nobody asks again.
            exit: known.then_some(Exit {
                code: self.a_exit_code,
                signal: self.a_exit_signal,
                out_of_memory,
                cause: None,
            }),
        }))
    }
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

/// An attempt and what its runner took, read.
#[derive(Debug, FromRow)]
pub struct AttemptRow {
    pub attempt: i32,
    pub platform: Option<String>,
    pub admitted_at: Option<SqlTimestamp>,
    pub gone_at: Option<SqlTimestamp>,
    pub cpu_ms: Option<i64>,
    pub peak_memory_bytes: Option<i64>,
    pub lasted_ms: Option<i64>,
    pub received_bytes: Option<i64>,
    pub sent_bytes: Option<i64>,
}
