//! What is written down while a day is played: numbers over time, in steps that fit the day.

use std::time::Duration;

use greenroom_domain::Timestamp;

/// The time axis: steps of equal width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Where the first step begins.
    pub origin: Timestamp,
    /// How long a step is.
    pub step: Duration,
}

/// No more steps than this for a trace, so that one of a year fits as well.
const MOST_STEPS: u64 = 20_000;
/// Steps that hours can be divided by, in seconds.
const STEPS: &[u64] = &[10, 60, 300, 900, 3_600];

impl Axis {
    /// For what begins there and takes about so long.
    #[must_use]
    pub fn new(origin: Timestamp, length: Duration) -> Self {
        let fits = STEPS.iter().find(|step| length.as_secs() / **step <= MOST_STEPS);
        Self { origin, step: Duration::from_secs(*fits.unwrap_or(&3_600)) }
    }

    /// The step in which a time lies.
    #[must_use]
    pub fn index(&self, at: Timestamp) -> usize {
        let since = at.duration_since(self.origin).as_millis().max(0).unsigned_abs();
        usize::try_from(since / self.step.as_millis().max(1)).unwrap_or(usize::MAX)
    }

    /// When a step begins.
    #[must_use]
    pub fn at(&self, index: usize) -> Timestamp {
        self.origin + self.step * u32::try_from(index).unwrap_or(u32::MAX)
    }
}

/// A number over time.
#[derive(Debug, Clone)]
pub struct Gauge {
    axis: Axis,
    value: u32,
    since: Timestamp,
    /// The most in each step.
    most: Vec<u32>,
    peak: u32,
    seconds: f64,
}

impl Gauge {
    /// Nothing, from the beginning.
    #[must_use]
    pub fn new(axis: Axis) -> Self {
        Self { axis, value: 0, since: axis.origin, most: Vec::new(), peak: 0, seconds: 0.0 }
    }

    /// Its steps.
    #[must_use]
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// From now on it is this.
    pub fn set(&mut self, value: u32, now: Timestamp) {
        self.pass(now);
        self.value = value;
        self.peak = self.peak.max(value);
        let last = self.axis.index(now);
        self.reach(last);
        self.most[last] = self.most[last].max(value);
    }

    /// One more, or one less.
    pub fn add(&mut self, more: bool, now: Timestamp) {
        let value = if more { self.value + 1 } else { self.value.saturating_sub(1) };
        self.set(value, now);
    }

    fn pass(&mut self, now: Timestamp) {
        self.seconds += f64::from(self.value) * now.duration_since(self.since).as_secs_f64().max(0.0);
        self.since = now.max(self.since);
        self.reach(self.axis.index(now));
    }

    /// Has the steps up to that one.
    fn reach(&mut self, last: usize) {
        if self.most.len() <= last {
            self.most.resize(last + 1, self.value);
        }
    }

    /// The most in each step, the peak, and the sum over time in hours.
    #[must_use]
    pub fn finish(mut self, now: Timestamp) -> Curve {
        self.pass(now);
        Curve { most: self.most, peak: self.peak, hours: self.seconds / 3_600.0 }
    }
}

/// How a number went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// The most in each step of the axis; nothing after the last.
    pub most: Vec<u32>,
    /// The most of all.
    pub peak: u32,
    /// The sum over time, in hours.
    pub hours: f64,
}

impl Curve {
    /// The most in some steps.
    #[must_use]
    pub fn most_in(&self, steps: std::ops::Range<usize>) -> u32 {
        let end = steps.end.min(self.most.len());
        self.most.get(steps.start.min(end)..end).and_then(|most| most.iter().max().copied()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_keeps_the_most_of_each_step_and_the_sum() {
        let axis = Axis::new(Timestamp::UNIX_EPOCH, Duration::from_secs(86_400));
        assert_eq!(axis.step, Duration::from_secs(10));
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut gauge = Gauge::new(axis);
        gauge.set(5, at(3));
        gauge.add(false, at(4));
        gauge.add(true, at(25));
        gauge.set(0, at(26));
        let curve = gauge.finish(at(40));
        assert_eq!((curve.most.as_slice(), curve.peak), (&[5, 4, 5, 0, 0][..], 5));
        assert!((curve.hours * 3_600.0 - (5.0 + 4.0 * 21.0 + 5.0)).abs() < 1e-9);
        assert_eq!((curve.most_in(1..2), curve.most_in(3..99), curve.most_in(99..100)), (4, 0, 0));
        let year = Axis::new(Timestamp::UNIX_EPOCH, Duration::from_secs(365 * 86_400));
        assert_eq!((year.step, year.index(at(7_200))), (Duration::from_secs(3_600), 2));
    }
}
