//! Runners: what queue, pool-manager and deployers know. They never know a meeting.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BotId, Provider, Reason, Shard, SlotId, TenantId};

/// Whose runner it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A bot of the scheduler.
    Bot,
    /// A browser session.
    Session,
}

impl OwnerKind {
    /// `bot` or `session`, as it stands in names, rows and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Session => "session",
        }
    }
}

impl FromStr for OwnerKind {
    type Err = InvalidRunnerId;

    fn from_str(text: &str) -> Result<Self, InvalidRunnerId> {
        match text {
            "bot" => Ok(Self::Bot),
            "session" => Ok(Self::Session),
            _ => Err(InvalidRunnerId(text.to_owned())),
        }
    }
}

/// 1, 2, 3…: with the owner it names a runner for ever, and it is the runner's fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first one.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// (owner, attempt): one attempt of one bot or session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunnerId {
    /// Bot or session.
    pub kind: OwnerKind,
    /// The bot's or session's id.
    pub id: Uuid,
    /// Which attempt.
    pub attempt: Attempt,
}

impl RunnerId {
    /// The runner of a bot's attempt.
    #[must_use]
    pub fn of_bot(bot: BotId, attempt: Attempt) -> Self {
        Self { kind: OwnerKind::Bot, id: bot.uuid(), attempt }
    }

    /// The bot it belongs to, if it is a bot's.
    #[must_use]
    pub fn bot(&self) -> Option<BotId> {
        match self.kind {
            OwnerKind::Bot => Some(BotId::from_uuid(self.id)),
            OwnerKind::Session => None,
        }
    }

    /// The owner's shard.
    #[must_use]
    pub fn shard(&self) -> Shard {
        Shard::of(self.id)
    }
}

/// `bot-0198…-2`: the tail of every name a platform knows it by.
impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.kind.as_str(), self.id, self.attempt)
    }
}

/// A text that names no runner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no runner: expected <bot|session>-<uuid>-<attempt>")]
pub struct InvalidRunnerId(String);

impl FromStr for RunnerId {
    type Err = InvalidRunnerId;

    fn from_str(text: &str) -> Result<Self, InvalidRunnerId> {
        let invalid = || InvalidRunnerId(text.to_owned());
        let (kind, rest) = text.split_once('-').ok_or_else(invalid)?;
        let (id, attempt) = rest.rsplit_once('-').ok_or_else(invalid)?;
        Ok(Self {
            kind: kind.parse().map_err(|_| invalid())?,
            id: id.parse().map_err(|_| invalid())?,
            attempt: attempt.parse().ok().filter(|n| *n > 0).map(Attempt).ok_or_else(invalid)?,
        })
    }
}

/// (slot, generation): a standing slot of a pooled platform, as that platform knows it. It is prepared once, waits, and gets
/// its runners later; renewed, it is the next generation of the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which slot.
    pub slot: SlotId,
    /// 1, 2, 3…
    pub generation: u32,
}

/// `0198…-2`: the tail of the name a platform knows it by.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.slot, self.generation)
    }
}

/// A text that names no standing slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no standing slot: expected <uuid>-<generation>")]
pub struct InvalidStanding(String);

impl FromStr for Standing {
    type Err = InvalidStanding;

    fn from_str(text: &str) -> Result<Self, InvalidStanding> {
        let invalid = || InvalidStanding(text.to_owned());
        let (slot, generation) = text.rsplit_once('-').ok_or_else(invalid)?;
        Ok(Self {
            slot: slot.parse().map_err(|_| invalid())?,
            generation: generation.parse().ok().filter(|n| *n > 0).ok_or_else(invalid)?,
        })
    }
}

/// What a runner asks for, and what it may take at most.
///
/// A platform sets aside what is asked for, and holds the runner to its limits: a processor that nobody else wants may be
/// used beyond what was asked for, and memory as well, up to a limit beyond which the runner is ended (`out_of_memory`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a processor that it asks for.
    pub cpu_millis: u32,
    /// Bytes that it asks for.
    pub memory_bytes: u64,
    /// Thousandths of a processor that it may take; absent: what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_millis: Option<u32>,
    /// Bytes that it may take; absent: what it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
}

impl Resources {
    /// Thousandths of a processor that it may take: never less than it asks for.
    #[must_use]
    pub fn cpu_limit(&self) -> u32 {
        self.cpu_limit_millis.unwrap_or(0).max(self.cpu_millis)
    }

    /// Bytes that it may take: never less than it asks for.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit_bytes.unwrap_or(0).max(self.memory_bytes)
    }
}

impl Default for Resources {
    /// Half a processor and 1 GiB; what a browser in a meeting needs at least.
    fn default() -> Self {
        Self { cpu_millis: 500, memory_bytes: 1 << 30, cpu_limit_millis: None, memory_limit_bytes: None }
    }
}

/// What a runner really took, from its start to its end, with everything that it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time in milliseconds, of all processors together.
    pub cpu_ms: u64,
    /// The most memory that it had at a time, in bytes, as far as its platform looked.
    pub peak_memory_bytes: u64,
    /// From its start to its end, in milliseconds.
    pub lasted_ms: u64,
    /// Bytes that came in over its network; absent where the platform does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes that went out; absent where the platform does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
}

impl Usage {
    /// Thousandths of a processor that it took on average; none of what did not last.
    #[must_use]
    pub fn cpu_millis(&self) -> Option<u64> {
        self.cpu_ms.saturating_mul(1000).checked_div(self.lasted_ms)
    }

    /// The most of two looks at the same runner: everything in here only ever grows.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms.max(other.cpu_ms),
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            lasted_ms: self.lasted_ms.max(other.lasted_ms),
            received_bytes: self.received_bytes.max(other.received_bytes),
            sent_bytes: self.sent_bytes.max(other.sent_bytes),
        }
    }
}

/// Everything a platform must know to run a runner: no secret, no meeting address. Those a deployer fetches from the owner
/// at the moment of the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerSpec {
    /// Who it is.
    pub runner: RunnerId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The pool it draws from: an opaque key here.
    pub provider: Provider,
    /// The image, where the platform has images and the provider's own is not wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it may use.
    pub resources: Resources,
    /// How long it may run at most, whatever happens.
    #[serde(with = "millis")]
    pub max_lifetime: Duration,
}

/// Why its platform ended a runner that did nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// The machine under it was wanted for something else: drained, short of memory or disk, given back.
    Evicted,
    /// It ran on capacity that is lent (Fargate Spot), and was asked back.
    Interrupted,
    /// It was older than its spec allows.
    Lifetime,
}

impl ExitCause {
    /// `evicted`, `interrupted` or `lifetime`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Interrupted => "interrupted",
            Self::Lifetime => "lifetime",
        }
    }

    /// The cause of that word; none for others, which a later version may say.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Evicted, Self::Interrupted, Self::Lifetime].into_iter().find(|cause| cause.as_str() == word)
    }

    /// What the bot's attempt ended for.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Evicted => Reason::EVICTED,
            Self::Interrupted => Reason::INTERRUPTED,
            Self::Lifetime => Reason::MAX_DURATION,
        }
    }
}

/// How a runner ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it ran out of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why its platform ended it, where it was the platform's doing and it says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ExitCause>,
}

impl Exit {
    /// It ended by itself, with this code.
    #[must_use]
    pub const fn with_code(code: i32) -> Self {
        Self { code: Some(code), signal: None, out_of_memory: false, cause: None }
    }

    /// This signal ended it.
    #[must_use]
    pub const fn with_signal(signal: i32) -> Self {
        Self { code: None, signal: Some(signal), out_of_memory: false, cause: None }
    }

    /// It ended for want of memory.
    #[must_use]
    pub fn out_of_memory(self) -> Self {
        Self { out_of_memory: true, ..self }
    }

    /// Its platform ended it, for this.
    #[must_use]
    pub fn caused_by(self, cause: ExitCause) -> Self {
        Self { cause: Some(cause), ..self }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_named_for_ever() {
        let runner = RunnerId { kind: OwnerKind::Bot, id: Uuid::from_u128(7), attempt: Attempt(12) };
        let name = runner.to_string();
        assert_eq!(name, "bot-00000000-0000-0000-0000-000000000007-12");
        assert_eq!(name.parse(), Ok(runner));
    }

    #[test]
    fn limits_are_never_below_what_is_asked_for() {
        let asked = Resources::default();
        assert_eq!((asked.cpu_limit(), asked.memory_limit()), (500, 1 << 30), "absent: as asked for");
        let more = Resources { cpu_limit_millis: Some(1000), memory_limit_bytes: Some(3 << 29), ..asked };
        assert_eq!((more.cpu_limit(), more.memory_limit()), (1000, 3 << 29));
        let less = Resources { cpu_limit_millis: Some(1), memory_limit_bytes: Some(1), ..asked };
        assert_eq!((less.cpu_limit(), less.memory_limit()), (500, 1 << 30));
        // As those who knew of no limits said it, and as they read it.
        let before = r#"{"cpuMillis":500,"memoryBytes":1073741824}"#;
        assert_eq!(serde_json::from_str::<Resources>(before).expect("resources"), asked);
        assert_eq!(serde_json::to_string(&asked).expect("plain data"), before);
    }

    #[test]
    fn an_average_needs_time() {
        let usage = Usage { cpu_ms: 30_000, peak_memory_bytes: 1, lasted_ms: 60_000, ..Usage::default() };
        assert_eq!(usage.cpu_millis(), Some(500));
        assert_eq!(Usage { lasted_ms: 0, ..usage }.cpu_millis(), None);
    }

    #[test]
    fn other_texts_name_none() {
        for text in [
            "",
            "bot",
            "bot-7-1",
            "cat-00000000-0000-0000-0000-000000000007-1",
            "bot-00000000-0000-0000-0000-000000000007-0",
        ] {
            assert!(text.parse::<RunnerId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_standing_slot_is_named_with_its_generation() {
        let standing = Standing { slot: SlotId::from_uuid(Uuid::from_u128(7)), generation: 12 };
        let name = standing.to_string();
        assert_eq!(name, "00000000-0000-0000-0000-000000000007-12");
        assert_eq!(name.parse(), Ok(standing));
        for text in ["", "7-1", "00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000007-0"] {
            assert!(text.parse::<Standing>().is_err(), "{text:?}");
        }
    }
}
