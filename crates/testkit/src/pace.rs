//! Time as a machine that is busy has it: what others take from us is not counted.
//!
//! A promise about how long something takes is one about work. On a machine whose processors others use as well, the same work
//! takes longer, and a bound in seconds would blame us for it. A thread here does a little work all the time and asks the
//! kernel how much of that time it ran and how much it waited for a processor; of every moment only the share is counted
//! that it would have taken on a machine of our own.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Work, and rest, of one turn: a twentieth of one processor.
const WORK: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(40);

/// Counts from its start on, until it is dropped.
#[derive(Debug)]
pub struct Pace {
    micros: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Pace {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        let (micros, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ends) = (micros.clone(), over.clone());
        thread::spawn(move || {
            let mut last = Sample::take();
            while !ends.load(Ordering::Relaxed) {
                work();
                thread::sleep(REST);
                let now = Sample::take();
                let share = now.since(&last);
                counted.fetch_add(u64::try_from(share.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
                last = now;
            }
        });
        Self { micros, over }
    }

    /// How much time we had.
    #[must_use]
    pub fn had(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Keeps a processor for a moment, as seen by its own clock.
fn work() {
    let began = Instant::now();
    let mut sum = 0_u64;
    while began.elapsed() < WORK {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
}

/// What a thread has had so far.
struct Sample {
    at: Instant,
    ran: u64,
    waited: u64,
}

impl Sample {
    /// This thread's, as the kernel counts it: nanoseconds on a processor, and waiting for one.
    fn take() -> Self {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut fields = text.split_whitespace().map(|field| field.parse().unwrap_or(0));
        Self { at: Instant::now(), ran: fields.next().unwrap_or(0), waited: fields.next().unwrap_or(0) }
    }

    fn since(&self, before: &Self) -> Duration {
        share(self.at - before.at, self.ran.saturating_sub(before.ran), self.waited.saturating_sub(before.waited))
    }
}

/// The share of a time that was ours. Where the kernel does not count, all of it.
fn share(passed: Duration, ran: u64, waited: u64) -> Duration {
    let wanted = ran.saturating_add(waited);
    if wanted == 0 { passed } else { passed.mul_f64(ran as f64 / wanted as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_others_is_not_counted() {
        let second = Duration::from_secs(1);
        assert_eq!(share(second, 500, 0), second, "alone");
        assert_eq!(share(second, 500, 1500), second / 4, "three others beside us");
        assert_eq!(share(second, 0, 0), second, "nobody counts");
    }

    #[test]
    fn it_goes_on_and_never_faster_than_the_clock() {
        let began = Instant::now();
        let pace = Pace::start();
        while pace.had().is_zero() {
            thread::sleep(Duration::from_millis(1));
        }
        let had = pace.had();
        assert!(had <= began.elapsed(), "{had:?}");
    }
}
