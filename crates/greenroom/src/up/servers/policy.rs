//! When a server is started again. Pure: no I/O, and no clock of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many restarts within [`WINDOW`] are the most: then it is no accident, and a person must look.
const MOST: usize = 8;
const WINDOW: Duration = Duration::from_secs(600);
/// Before the first restart; doubles with each one within the window.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A server that went on refusing for so long, with room on its disk, will not stop by itself. Longer than a message that was
/// refused takes to be published again.
const STUCK_AFTER: Duration = Duration::from_secs(15);
/// A server that was reopened is given time to show that it helped: it reads its streams, and clients connect. Doubles each time
/// that it did not.
const FIRST_REOPENING: Duration = Duration::from_secs(60);
const LONGEST_REOPENING: Duration = Duration::from_secs(1_800);

/// The restarts of one server.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    at: VecDeque<Instant>,
}

impl Restarts {
    /// How long to wait before the next one; none when there were too many.
    pub(super) fn next(&mut self, now: Instant) -> Option<Duration> {
        while self.at.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            self.at.pop_front();
        }
        if self.at.len() >= MOST {
            return None;
        }
        let doublings = u32::try_from(self.at.len()).unwrap_or(u32::MAX);
        self.at.push_back(now);
        Some(FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE))
    }
}

/// Whether a server that refuses is to be opened anew.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    stuck_since: Option<Instant>,
    reopened: Option<Instant>,
    /// In vain, one after the other.
    times: u32,
}

impl Reopening {
    /// Folds in what was seen now.
    pub(super) fn is_due(&mut self, refuses: bool, has_room: bool, now: Instant) -> bool {
        if !(refuses && has_room) {
            self.stuck_since = None;
            if has_room && self.reopened.is_some_and(|at| now.saturating_duration_since(at) >= FIRST_REOPENING) {
                self.times = 0;
            }
            return false;
        }
        let since = *self.stuck_since.get_or_insert(now);
        let is_stuck = now.saturating_duration_since(since) >= STUCK_AFTER;
        let doublings = self.times.saturating_sub(1);
        let pause = FIRST_REOPENING.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_REOPENING);
        let is_early = self.reopened.is_some_and(|at| now.saturating_duration_since(at) < pause);
        if !is_stuck || is_early {
            return false;
        }
        (self.stuck_since, self.reopened) = (None, Some(now));
        self.times = self.times.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_take_longer_each_time_and_have_an_end() {
        let (mut restarts, begin) = (Restarts::default(), Instant::now());
        let mut now = begin;
        let mut pauses = Vec::new();
        while let Some(pause) = restarts.next(now) {
            pauses.push(pause);
            now += pause + Duration::from_secs(1);
        }
        assert_eq!(pauses.len(), MOST);
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        // Those of long ago do not count.
        assert_eq!(restarts.next(now + WINDOW), Some(FIRST_PAUSE));
    }

    #[test]
    fn one_that_ends_now_and_then_is_always_started_again() {
        let (mut restarts, begin) = (Restarts::default(), Instant::now());
        for n in 0..1_000_u32 {
            assert!(restarts.next(begin + WINDOW / 5 * n).is_some(), "{n}");
        }
    }

    #[test]
    fn a_server_is_opened_anew_when_it_refuses_with_room() {
        let (mut reopening, begin) = (Reopening::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!reopening.is_due(true, false, at(0)), "a full disk is no reason");
        assert!(!reopening.is_due(true, false, at(100)));
        assert!(!reopening.is_due(true, true, at(101)), "it may recover by itself");
        assert!(!reopening.is_due(false, true, at(110)), "as it did");
        assert!(!reopening.is_due(true, true, at(111)));
        assert!(!reopening.is_due(true, true, at(125)));
        assert!(reopening.is_due(true, true, at(126)), "it has refused for 15 s");
        for second in 127..186 {
            assert!(!reopening.is_due(true, true, at(second)), "{second}: it was reopened a moment ago");
        }
        assert!(reopening.is_due(true, true, at(186)), "that did not help: again");
        for second in 187..306 {
            assert!(!reopening.is_due(true, true, at(second)), "{second}: and less and less often");
        }
        assert!(reopening.is_due(true, true, at(306)));
        assert!(!reopening.is_due(false, true, at(370)), "it helped at last");
        assert!(!reopening.is_due(true, true, at(400)));
        assert!(reopening.is_due(true, true, at(415)), "so the next time is a first one");
    }
}
