//! Every JetStream stream, in one file. The bus makes them, and makes them again whenever they are missing.

use std::time::Duration;

use greenroom_domain::{Installation, PlatformName};

use crate::subjects;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// A message goes when its one consumer has acknowledged it; new ones are refused when it is full.
    WorkQueue,
    /// Messages stay until they are too old.
    Limits,
}

/// A stream as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name: no dots, so they are dashes.
    pub name: String,
    /// What it holds.
    pub subject: String,
    /// How it forgets.
    pub retention: Retention,
    /// Nothing older is kept.
    pub max_age: Duration,
    /// Nothing more is kept.
    pub max_messages: i64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Events live as long as an outbox row, so that both can be compared.
pub const EVENTS_KEPT: Duration = DAY;

/// All events of an installation.
#[must_use]
pub fn events(installation: &Installation) -> Stream {
    Stream {
        name: format!("{installation}-events"),
        subject: subjects::events(installation),
        retention: Retention::Limits,
        max_age: EVENTS_KEPT,
        max_messages: 50_000_000,
    }
}

/// The commands to one service.
#[must_use]
pub fn commands(installation: &Installation, service: &str) -> Stream {
    Stream {
        name: format!("{installation}-cmd-{service}"),
        subject: subjects::commands(installation, service),
        retention: Retention::WorkQueue,
        // Older ones have been asserted again by their sender's sweep.
        max_age: HOUR,
        max_messages: 1_000_000,
    }
}

/// One verb to the deployers of one platform: apart, so that a stop never waits behind starts, nor a start behind slots that are
/// prepared.
#[must_use]
pub fn deploy(installation: &Installation, platform: &PlatformName, verb: &str) -> Stream {
    Stream {
        name: format!("{installation}-deploy-{platform}-{verb}"),
        subject: subjects::deploy(installation, platform, verb),
        retention: Retention::WorkQueue,
        max_age: HOUR,
        max_messages: 100_000,
    }
}

/// What nobody could handle, kept for people.
#[must_use]
pub fn parked(installation: &Installation) -> Stream {
    Stream {
        name: format!("{installation}-parked"),
        subject: subjects::all_parked(installation),
        retention: Retention::Limits,
        max_age: 30 * DAY,
        max_messages: 1_000_000,
    }
}

/// The last message by which it was tried out whether messages are kept.
#[must_use]
pub fn probe(installation: &Installation) -> Stream {
    Stream {
        name: format!("{installation}-probe"),
        subject: subjects::probe(installation),
        retention: Retention::Limits,
        max_age: HOUR,
        max_messages: 1,
    }
}

/// The stream that holds a subject; none for what is not kept.
#[must_use]
pub fn of_subject(installation: &Installation, subject: &str) -> Option<Stream> {
    let rest = subject.strip_prefix(installation.as_str())?.strip_prefix('.')?;
    let mut words = rest.split('.');
    let first = words.next()?;
    if first == "probe" {
        return Some(probe(installation));
    }
    match (first, words.next()?, words.next(), words.next()) {
        ("evt", ..) => Some(events(installation)),
        ("parked", ..) => Some(parked(installation)),
        ("cmd", "deploy", Some(platform), Some(verb)) => {
            Some(deploy(installation, &PlatformName::new(platform).ok()?, verb))
        }
        ("cmd", service, Some(_), None) => Some(commands(installation, service)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_finds_its_stream() {
        let house = Installation::new("house").expect("valid");
        let name = |subject| of_subject(&house, subject).map(|stream| stream.name);
        assert_eq!(name("house.evt.bot.created.7").as_deref(), Some("house-events"));
        assert_eq!(name("house.cmd.queue.enqueue").as_deref(), Some("house-cmd-queue"));
        assert_eq!(name("house.cmd.deploy.k8s-eu.stop").as_deref(), Some("house-deploy-k8s-eu-stop"));
        assert_eq!(name("house.parked.queue").as_deref(), Some("house-parked"));
        assert_eq!(name("house.probe").as_deref(), Some("house-probe"));
        assert_eq!(name("house.hb.7"), None);
        assert_eq!(name("other.evt.bot.created.7"), None);
    }
}
