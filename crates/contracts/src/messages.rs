//! Everything that is said on the bus. One file for each noun; every type is add-only.

mod bot;
mod deploy;
mod pool;
mod queue;
mod recording;
mod runner;
mod slot;

use std::fmt::Debug;

use greenroom_domain::{PlatformName, Shard};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use bot::{BotCreated, BotProgressed, BotStateChanged};
pub use deploy::{Describe, Prepare, Reset, Retire, Start, Stop};
pub use pool::{BreakerClosed, BreakerOpened, CapacityRaised, PoolExhausted, Release, SlotAssigned, SlotReleased};
pub use queue::{Enqueue, Held, TimedOut, Withdraw, Withdrawn};
pub use recording::{RecordingFailed, RecordingReady};
pub use runner::{RunnerGone, RunnerProgressed, RunnerRefused, RunnerSilent, RunnerStarted, RunnersListed};
pub use slot::{PrepareError, SlotPrepareFailed, SlotPrepared, SlotRetired, SlotsListed};

use crate::subjects::Address;

/// Something that is said on the bus.
pub trait Message: Serialize + DeserializeOwned + Debug + Clone + Send + Sync + 'static {
    /// Its name on the wire, with its version.
    const TYPE: &'static str;
    /// One line for `docs/subjects.md`.
    const ABOUT: &'static str;
    /// Who says it.
    const FROM: &'static str;

    /// Where it goes.
    fn address(&self) -> Address;

    /// The id of what it is about: messages with the same key are folded in order.
    fn key(&self) -> Uuid;

    /// What stands in the CloudEvent's `subject`.
    fn subject(&self) -> String {
        self.key().to_string()
    }

    /// What stands in the CloudEvent's `attempt`.
    fn attempt(&self) -> Option<u32> {
        None
    }
}

/// Declares where a message about a runner goes.
macro_rules! about_runner {
    ($type:ty, $name:literal, from $from:literal, event $noun:literal . $event:literal, $about:literal) => {
        about_runner!(@impl $type, $name, $from, $about, |this: &$type| $crate::subjects::Address::Event {
            noun: $noun,
            event: $event,
            shard: this.runner.shard(),
        });
    };
    ($type:ty, $name:literal, from $from:literal, command $service:literal . $verb:literal, $about:literal) => {
        about_runner!(@impl $type, $name, $from, $about, |_: &$type| $crate::subjects::Address::Command {
            service: $service,
            verb: $verb,
        });
    };
    ($type:ty, $name:literal, from $from:literal, deploy . $verb:literal, $about:literal) => {
        about_runner!(@impl $type, $name, $from, $about, |this: &$type| $crate::subjects::Address::Deploy {
            platform: this.platform.clone(),
            verb: $verb,
        });
    };
    (@impl $type:ty, $name:literal, $from:literal, $about:literal, $address:expr) => {
        impl $crate::messages::Message for $type {
            const TYPE: &'static str = $name;
            const ABOUT: &'static str = $about;
            const FROM: &'static str = $from;

            fn address(&self) -> $crate::subjects::Address {
                ($address)(self)
            }

            fn key(&self) -> uuid::Uuid {
                self.runner.id
            }

            fn attempt(&self) -> Option<u32> {
                Some(self.runner.attempt.0)
            }
        }
    };
}
use about_runner;

/// Declares where an event about a platform goes.
macro_rules! about_platform {
    ($type:ty, $name:literal, from $from:literal, event $noun:literal . $event:literal, $about:literal) => {
        impl $crate::messages::Message for $type {
            const TYPE: &'static str = $name;
            const ABOUT: &'static str = $about;
            const FROM: &'static str = $from;

            fn address(&self) -> $crate::subjects::Address {
                $crate::subjects::Address::Event {
                    noun: $noun,
                    event: $event,
                    shard: $crate::messages::shard(self.key()),
                }
            }

            fn key(&self) -> uuid::Uuid {
                $crate::messages::platform_key(&self.platform)
            }

            fn subject(&self) -> String {
                self.platform.to_string()
            }
        }
    };
}
use about_platform;

/// Declares where a message about a standing slot goes: commands come from the pool manager, events from deployers.
macro_rules! about_slot {
    ($type:ty, $name:literal, deploy . $verb:literal, $about:literal) => {
        about_slot!(@impl $type, $name, "pool-manager", $about, |this: &$type| $crate::subjects::Address::Deploy {
            platform: this.platform.clone(),
            verb: $verb,
        });
    };
    ($type:ty, $name:literal, event $noun:literal . $event:literal, $about:literal) => {
        about_slot!(@impl $type, $name, "deployer", $about, |this: &$type| $crate::subjects::Address::Event {
            noun: $noun,
            event: $event,
            shard: $crate::messages::shard(this.standing.slot.uuid()),
        });
    };
    (@impl $type:ty, $name:literal, $from:literal, $about:literal, $address:expr) => {
        impl $crate::messages::Message for $type {
            const TYPE: &'static str = $name;
            const ABOUT: &'static str = $about;
            const FROM: &'static str = $from;

            fn address(&self) -> $crate::subjects::Address {
                ($address)(self)
            }

            fn key(&self) -> uuid::Uuid {
                self.standing.slot.uuid()
            }
        }
    };
}
use about_slot;

/// The shard of messages about a platform, which has a name and no id.
pub(crate) fn platform_key(platform: &PlatformName) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, platform.as_str().as_bytes())
}

/// A line of `docs/subjects.md`.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// The type on the wire.
    pub message_type: &'static str,
    /// The subject, with placeholders.
    pub subject: &'static str,
    /// Who says it.
    pub from: &'static str,
    /// What it says.
    pub about: &'static str,
}

macro_rules! described {
    ($($type:ty => $subject:literal,)*) => {
        /// Every message there is.
        pub const ALL: &[Described] = &[$(Described {
            message_type: <$type as Message>::TYPE,
            subject: $subject,
            from: <$type as Message>::FROM,
            about: <$type as Message>::ABOUT,
        }),*];
    };
}

described! {
    Enqueue => "cmd.queue.enqueue",
    Withdraw => "cmd.queue.withdraw",
    Release => "cmd.pool-manager.release",
    Start => "cmd.deploy.<platform>.start",
    Stop => "cmd.deploy.<platform>.stop",
    Prepare => "cmd.deploy.<platform>.prepare",
    Reset => "cmd.deploy.<platform>.reset",
    Retire => "cmd.deploy.<platform>.retire",
    Describe => "cmd.deploy.<platform>.describe",
    BotCreated => "evt.bot.created.<shard>",
    BotStateChanged => "evt.bot.state_changed.<shard>",
    BotProgressed => "evt.bot.progressed.<shard>",
    Held => "evt.queue.held.<shard>",
    TimedOut => "evt.queue.timed_out.<shard>",
    Withdrawn => "evt.queue.withdrawn.<shard>",
    SlotAssigned => "evt.slot.assigned.<shard>",
    SlotReleased => "evt.slot.released.<shard>",
    SlotPrepared => "evt.slot.prepared.<shard>",
    SlotPrepareFailed => "evt.slot.prepare_failed.<shard>",
    SlotRetired => "evt.slot.retired.<shard>",
    SlotsListed => "evt.slot.listed.<shard>",
    CapacityRaised => "evt.pool.capacity_raised.<shard>",
    PoolExhausted => "evt.pool.exhausted.<shard>",
    BreakerOpened => "evt.pool.breaker_opened.<shard>",
    BreakerClosed => "evt.pool.breaker_closed.<shard>",
    RunnerStarted => "evt.runner.started.<shard>",
    RunnerProgressed => "evt.runner.progressed.<shard>",
    RunnerRefused => "evt.runner.refused.<shard>",
    RunnerGone => "evt.runner.gone.<shard>",
    RunnersListed => "evt.runner.listed.<shard>",
    RunnerSilent => "evt.runner.silent.<shard>",
    RecordingReady => "evt.recording.ready.<shard>",
    RecordingFailed => "evt.recording.failed.<shard>",
}

/// The shard of an id, for addresses.
pub(crate) fn shard(id: Uuid) -> Shard {
    Shard::of(id)
}
