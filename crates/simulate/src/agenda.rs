//! What is going to happen, by the time of the simulated clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use greenroom_domain::Timestamp;

/// Events by time; those of one time in the order in which they were put down.
#[derive(Debug)]
pub struct Agenda<Event> {
    heap: BinaryHeap<Reverse<Noted<Event>>>,
    noted: u64,
    now: Timestamp,
}

#[derive(Debug)]
struct Noted<Event> {
    at: Timestamp,
    number: u64,
    event: Event,
}

impl<Event> Noted<Event> {
    fn key(&self) -> (Timestamp, u64) {
        (self.at, self.number)
    }
}

impl<Event> PartialEq for Noted<Event> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<Event> Eq for Noted<Event> {}

impl<Event> PartialOrd for Noted<Event> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<Event> Ord for Noted<Event> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<Event> Agenda<Event> {
    pub fn new(now: Timestamp) -> Self {
        Self { heap: BinaryHeap::new(), noted: 0, now }
    }

    /// What the simulated clock shows.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Puts something down; what would have been in the past happens now.
    pub fn note(&mut self, at: Timestamp, event: Event) {
        self.noted += 1;
        self.heap.push(Reverse(Noted { at: at.max(self.now), number: self.noted, event }));
    }

    /// The next thing, if it happens now.
    pub fn next_now(&mut self) -> Option<Event> {
        self.heap.peek().filter(|Reverse(next)| next.at <= self.now)?;
        self.heap.pop().map(|Reverse(next)| next.event)
    }

    /// Moves the clock to the next thing; false: nothing is left.
    pub fn wait(&mut self) -> bool {
        let next = self.heap.peek().map(|Reverse(next)| next.at);
        self.now = next.unwrap_or(self.now);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_their_order() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut agenda = Agenda::new(at(10));
        for (second, name) in [(30, "c"), (20, "a"), (20, "b"), (5, "late")] {
            agenda.note(at(second), name);
        }
        let mut happened = Vec::new();
        while agenda.wait() {
            while let Some(name) = agenda.next_now() {
                happened.push((agenda.now().as_second(), name));
            }
        }
        assert_eq!(happened, [(10, "late"), (20, "a"), (20, "b"), (30, "c")]);
    }
}
