//! How much a recorder may hand out: what 64 kbit/s of sound can be, and room to spare. More than that is not a recording.

use std::time::Duration;

/// Parts at once, and in each second: the last part comes right after the one before, and tests ask for one a second.
const PARTS: (u64, u64) = (20, 4);
/// Bytes at once, and in each second: eight times what the recorder is told to use, as Opus may exceed its target.
const BYTES: (u64, u64) = (4 << 20, 64 << 10);

/// What was taken so far.
#[derive(Debug, Default)]
pub struct Budget {
    parts: u64,
    bytes: u64,
}

impl Budget {
    /// Takes one more part, unless it is too much for the time since the recorder began.
    pub fn take(&mut self, elapsed: Duration, size: usize) -> bool {
        self.parts = self.parts.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        // The second that has begun counts.
        let seconds = elapsed.as_secs().saturating_add(1);
        let within =
            |taken: u64, (at_once, each): (u64, u64)| taken <= each.saturating_mul(seconds).saturating_add(at_once);
        within(self.parts, PARTS) && within(self.bytes, BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_sound_fits_and_a_flood_does_not() {
        let mut day = Budget::default();
        for part in 1..=8_640_u64 {
            assert!(day.take(Duration::from_secs(part * 10), 160_000), "part {part}");
        }
        let mut hurried = Budget::default();
        for part in 1..=3_600_u64 {
            assert!(hurried.take(Duration::from_secs(part), 16_000), "part {part}");
        }
        let now = Duration::ZERO;
        let mut many = Budget::default();
        assert_eq!((0..1_000).filter(|_| many.take(now, 1)).count(), 24);
        let mut large = Budget::default();
        assert!(large.take(now, 4 << 20));
        assert!(!large.take(now, 1 << 20));
    }
}
