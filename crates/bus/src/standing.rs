//! What the server has said lately about each stream: whether it takes messages.
//!
//! A stream whose disk was full goes on refusing when there is space again, until nats-server opens it anew, and the connection
//! looks well all the while. So what was refused is kept, one message per stream, and published again until it is taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_contracts::streams::Stream;

use crate::Outgoing;

/// What is tried again to find out whether a stream takes messages.
#[derive(Debug, Clone)]
pub(crate) enum Again {
    /// The message that was refused. Twice said is harmless: delivery is at least once anyway.
    Publish(Outgoing),
    /// The stream that could not be made.
    Make(Stream),
}

/// A stream that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusing {
    /// The stream's name.
    pub stream: String,
    /// What the server said, or that it said nothing.
    pub why: String,
    /// When it was seen to refuse first.
    pub since: Instant,
    /// Whether it holds as many messages as it may: opening it anew does not help.
    pub is_full: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    acknowledged: Option<Instant>,
    refusing: BTreeMap<String, (Refusing, Again)>,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream took a message.
    pub(crate) fn takes(&self, stream: &str, now: Instant) {
        let mut state = self.state();
        state.acknowledged = Some(now);
        state.forgive(stream, now);
    }

    /// A stream is there. That says nothing about one that is there and refused a message.
    pub(crate) fn made(&self, stream: &str, now: Instant) {
        let mut state = self.state();
        if matches!(state.refusing.get(stream), Some((_, Again::Make(_)))) {
            state.forgive(stream, now);
        }
    }

    /// A stream did not take a message, or could not be made, although the server is there.
    pub(crate) fn refuses(&self, stream: &str, why: String, again: Again, now: Instant) {
        let mut state = self.state();
        if let Some((refusing, _)) = state.refusing.get_mut(stream) {
            refusing.why = why;
            return;
        }
        tracing::error!(stream, error = why, "a stream refuses messages; look at nats-server's disk and log");
        let is_full = why.contains("maximum messages exceeded") || why.contains("maximum bytes exceeded");
        let refusing = Refusing { stream: stream.to_owned(), why, since: now, is_full };
        state.refusing.insert(stream.to_owned(), (refusing, again));
    }

    pub(crate) fn refusing(&self) -> Vec<Refusing> {
        self.state().refusing.values().map(|(refusing, _)| refusing.clone()).collect()
    }

    pub(crate) fn again(&self) -> Vec<Again> {
        self.state().refusing.values().map(|(_, again)| again.clone()).collect()
    }

    /// Whether a message was acknowledged within this time.
    pub(crate) fn acknowledged_within(&self, time: Duration, now: Instant) -> bool {
        self.state().acknowledged.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }
}

impl State {
    fn forgive(&mut self, stream: &str, now: Instant) {
        if let Some((refusing, _)) = self.refusing.remove(stream) {
            let seconds = now.saturating_duration_since(refusing.since).as_secs();
            tracing::info!(stream, seconds, "stream accepts messages again");
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::streams;
    use greenroom_domain::Installation;

    use super::*;

    #[test]
    fn a_refusing_stream_is_named_until_it_takes_something() {
        let (standing, now) = (Standing::default(), Instant::now());
        let stream = streams::parked(&Installation::new("house").unwrap());
        let refuses = |why: &str, at| {
            standing.refuses(&stream.name, why.to_owned(), Again::Make(stream.clone()), at);
        };
        assert!(!standing.acknowledged_within(Duration::MAX, now), "nothing was acknowledged yet");
        standing.takes("house-events", now);
        refuses("no answer", now);
        refuses("insufficient resources", now + Duration::from_secs(3));
        let [refusing] = standing.refusing().try_into().unwrap();
        assert_eq!((refusing.stream.as_str(), refusing.since), ("house-parked", now), "since the first time");
        assert_eq!((refusing.why.as_str(), refusing.is_full), ("insufficient resources", false));
        assert_eq!(standing.again().len(), 1);
        // Another stream's word says nothing about this one, but that the server works.
        let later = now + Duration::from_secs(9);
        standing.takes("house-events", later);
        assert_eq!(standing.refusing().len(), 1);
        assert!(standing.acknowledged_within(Duration::from_secs(1), later + Duration::from_secs(1)));
        assert!(!standing.acknowledged_within(Duration::from_secs(1), later + Duration::from_secs(2)));
        standing.takes("house-parked", later);
        assert_eq!(standing.refusing(), []);

        refuses("maximum messages exceeded", later);
        assert!(standing.refusing()[0].is_full);
    }
}
