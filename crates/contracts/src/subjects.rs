//! Every subject on the bus, in one file.
//!
//! ```text
//! <installation>.cmd.<service>.<verb>             one service must do something
//! <installation>.cmd.deploy.<platform>.<verb>     a deployer must do something
//! <installation>.evt.<noun>.<event>.<shard>       something happened
//! <installation>.parked.<service>                 what could not be handled
//! <installation>.probe                            whether messages are kept: nobody listens
//! <installation>.hb.<shard>                       beats: core NATS, lossy by design
//! <installation>.hb-ask                           a monitor asks its replicas for newer beats
//! ```

use greenroom_domain::{Installation, PlatformName, Shard};

/// Where a message goes, apart from the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A command to a service.
    Command {
        /// Who has to do it.
        service: &'static str,
        /// What.
        verb: &'static str,
    },
    /// A command to the deployers of a platform.
    Deploy {
        /// Which platform.
        platform: PlatformName,
        /// `start`, `stop`; of standing slots `prepare`, `reset`, `retire`, `describe`.
        verb: &'static str,
    },
    /// An event.
    Event {
        /// About what.
        noun: &'static str,
        /// What happened.
        event: &'static str,
        /// The shard of what it is about.
        shard: Shard,
    },
}

impl Address {
    /// The NATS subject.
    #[must_use]
    pub fn subject(&self, installation: &Installation) -> String {
        match self {
            Self::Command { service, verb } => format!("{installation}.cmd.{service}.{verb}"),
            Self::Deploy { platform, verb } => format!("{installation}.cmd.deploy.{platform}.{verb}"),
            Self::Event { noun, event, shard } => format!("{installation}.evt.{noun}.{event}.{shard}"),
        }
    }

    /// Whether it goes to the limits stream of events (and not to a work queue).
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

/// All commands to one service.
#[must_use]
pub fn commands(installation: &Installation, service: &str) -> String {
    format!("{installation}.cmd.{service}.*")
}

/// One command to one service.
#[must_use]
pub fn command(installation: &Installation, service: &str, verb: &str) -> String {
    format!("{installation}.cmd.{service}.{verb}")
}

/// One verb to the deployers of one platform.
#[must_use]
pub fn deploy(installation: &Installation, platform: &PlatformName, verb: &str) -> String {
    format!("{installation}.cmd.deploy.{platform}.{verb}")
}

/// All events.
#[must_use]
pub fn events(installation: &Installation) -> String {
    format!("{installation}.evt.>")
}

/// The events of those nouns that tenants hear of. Each is public when it has a tenant and a number.
#[must_use]
pub fn public_events(installation: &Installation) -> Vec<String> {
    ["bot", "recording"].map(|noun| format!("{installation}.evt.{noun}.>")).into()
}

/// One kind of event, from every shard.
#[must_use]
pub fn event(installation: &Installation, noun: &str, event: &str) -> String {
    format!("{installation}.evt.{noun}.{event}.*")
}

/// What a service could not handle.
#[must_use]
pub fn parked(installation: &Installation, service: &str) -> String {
    format!("{installation}.parked.{service}")
}

/// All that is parked.
#[must_use]
pub fn all_parked(installation: &Installation) -> String {
    format!("{installation}.parked.*")
}

/// Where it is tried out whether messages are kept.
#[must_use]
pub fn probe(installation: &Installation) -> String {
    format!("{installation}.probe")
}

/// Beats of one shard.
#[must_use]
pub fn beats(installation: &Installation, shard: Shard) -> String {
    format!("{installation}.hb.{shard}")
}

/// All beats.
#[must_use]
pub fn all_beats(installation: &Installation) -> String {
    format!("{installation}.hb.*")
}

/// Where a monitor asks its replicas for newer beats before it speaks.
#[must_use]
pub fn beats_asked(installation: &Installation) -> String {
    format!("{installation}.hb-ask")
}
