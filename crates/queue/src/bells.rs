//! Who is dispatched to now, who is to be next, and what is known to be full.
//!
//! A platform is dispatched to by one task of this process at a time, so that a slow one holds up no other. A task begins
//! when its bell is rung and ends when nobody has rung since it looked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was found full is not asked again for somebody who comes, for so long. Whoever found it full is told when there is
/// room (`pool.capacity_raised`), but the word may have been taken by another replica, before it could see who comes.
const REST: Duration = Duration::from_millis(250);

/// Why a platform is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody came, or came back: not before what is full has rested.
    Came,
    /// There may be room, or it is the time of the sweep: full or not.
    Room,
}

/// All bells.
#[derive(Debug, Default)]
pub struct Bells(Mutex<BTreeMap<String, Bell>>);

#[derive(Debug, Default)]
struct Bell {
    rung: Option<Reason>,
    in_hand: bool,
    /// The platform was found full.
    full: Option<Instant>,
    /// A provider was found to be at its limit there.
    providers: BTreeMap<String, Instant>,
}

/// What a task is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask, but for these providers; come back after so long if some were left out.
    Ask { but: Vec<String>, again: Option<Duration> },
    /// The platform rests, for so long.
    Rest(Duration),
    /// Nobody has rung.
    End,
}

impl Bells {
    /// Rings; true: nobody is in hand of it, so the caller begins a task.
    pub fn ring(&self, platform: &str, reason: Reason) -> bool {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = bells.entry(platform.to_owned()).or_default();
        bell.rung = bell.rung.max(Some(reason));
        !std::mem::replace(&mut bell.in_hand, true)
    }

    /// There may be room for a provider, or for all.
    pub fn room(&self, platform: &str, provider: Option<&str>) {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = bells.entry(platform.to_owned()).or_default();
        bell.full = None;
        match provider {
            Some(provider) => drop(bell.providers.remove(provider)),
            None => bell.providers.clear(),
        }
    }

    /// What the task of a platform does next.
    pub fn next(&self, platform: &str, now: Instant) -> Next {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = bells.entry(platform.to_owned()).or_default();
        let rest =
            |since: &Instant| Some(REST.saturating_sub(now.duration_since(*since))).filter(|rest| !rest.is_zero());
        match bell.rung {
            None => {
                bell.in_hand = false;
                Next::End
            }
            Some(Reason::Came) if let Some(rest) = bell.full.as_ref().and_then(rest) => Next::Rest(rest),
            Some(reason) => {
                bell.rung = None;
                let resting = bell.providers.iter().filter_map(|(name, since)| Some((name.clone(), rest(since)?)));
                let resting: Vec<_> = if reason == Reason::Came { resting.collect() } else { Vec::new() };
                let again = resting.iter().map(|(_, rest)| *rest).min();
                Next::Ask { but: resting.into_iter().map(|(name, _)| name).collect(), again }
            }
        }
    }

    /// Everybody who waits for it was told: full.
    pub fn full(&self, platform: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(platform.to_owned()).or_default().full = Some(now);
    }

    /// A provider is at its limit there.
    pub fn provider_full(&self, platform: &str, provider: &str, now: Instant) {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.entry(platform.to_owned()).or_default().providers.insert(provider.to_owned(), now);
    }

    /// Whether a provider was at its limit there when it was last asked for.
    pub fn is_provider_full(&self, platform: &str, provider: &str) -> bool {
        let bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.get(platform).is_some_and(|bell| bell.providers.contains_key(provider))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Next {
        Next::Ask { but: vec![], again: None }
    }

    #[test]
    fn one_task_for_a_platform_until_nobody_has_rung() {
        let (bells, now) = (Bells::default(), Instant::now());
        assert!(bells.ring("one", Reason::Came));
        assert!(!bells.ring("one", Reason::Came), "it is in hand");
        assert!(bells.ring("two", Reason::Came), "another is not");
        assert_eq!(bells.next("one", now), ask());
        assert!(!bells.ring("one", Reason::Came), "while it asks");
        assert_eq!(bells.next("one", now), ask());
        assert_eq!(bells.next("one", now), Next::End);
        assert!(bells.ring("one", Reason::Came));
    }

    #[test]
    fn a_full_platform_rests_until_capacity_is_raised() {
        let (bells, now) = (Bells::default(), Instant::now());
        bells.full("one", now);
        bells.ring("one", Reason::Came);
        assert_eq!(bells.next("one", now + REST / 2), Next::Rest(REST / 2));
        bells.ring("one", Reason::Room);
        assert_eq!(bells.next("one", now + REST / 2), ask(), "a reason that does not wait");
        bells.ring("one", Reason::Came);
        assert_eq!(bells.next("one", now + REST), ask(), "it has rested");
        bells.full("one", now);
        bells.room("one", None);
        bells.ring("one", Reason::Came);
        assert_eq!(bells.next("one", now), ask(), "there is room");
    }

    #[test]
    fn a_provider_at_its_limit_holds_up_no_other() {
        let (bells, now) = (Bells::default(), Instant::now());
        bells.provider_full("one", "zoom", now);
        bells.ring("one", Reason::Came);
        let but = vec!["zoom".to_owned()];
        assert_eq!(bells.next("one", now), Next::Ask { but, again: Some(REST) });
        assert!(bells.is_provider_full("one", "zoom") && !bells.is_provider_full("one", "web"));
        bells.room("one", Some("web"));
        assert!(bells.is_provider_full("one", "zoom"));
        bells.room("one", Some("zoom"));
        assert!(!bells.is_provider_full("one", "zoom"));
    }
}
