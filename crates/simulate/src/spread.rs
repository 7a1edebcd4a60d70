//! How long something takes: a distribution, and draws from it that do not depend on anything else.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A lognormal distribution, said by what people know of it: half take no longer than the one, nineteen of twenty no longer
/// than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Half take no longer.
    pub median: Duration,
    /// Nineteen of twenty take no longer; not less than the median.
    pub p95: Duration,
}

/// The 95th percentile of the standard normal distribution.
const Z95: f64 = 1.644_853_626_951_472_2;

/// Beyond so many standard deviations nobody has measured anything.
const FARTHEST: f64 = 4.0;

impl Spread {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(median: u64, p95: u64) -> Self {
        Self { median: Duration::from_millis(median), p95: Duration::from_millis(p95) }
    }

    /// Always the same.
    #[must_use]
    pub const fn fixed(always: Duration) -> Self {
        Self { median: always, p95: always }
    }

    /// The duration that lies so many standard deviations from the middle, in whole milliseconds.
    #[must_use]
    pub fn at(&self, z: f64) -> Duration {
        let (median, p95) = (self.median.as_secs_f64(), self.p95.as_secs_f64());
        if median <= 0.0 || p95 <= median {
            return self.median;
        }
        let seconds = median * ((p95 / median).ln() / Z95 * z.clamp(-FARTHEST, FARTHEST)).exp();
        // Whole milliseconds: the last bits of a logarithm are not the same on every machine.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some hours of milliseconds, above 0"
        )]
        Duration::from_millis((seconds * 1000.0).round() as u64)
    }
}

/// What chance has in store for an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fate {
    /// Its start, in standard deviations.
    pub start: f64,
    /// Its way into the meeting, in standard deviations.
    pub join: f64,
    /// Its start fails where at least this part of all starts do: 0 to 1.
    pub fails: f64,
}

/// Chance. What becomes of an attempt follows from the seed and its name alone, and not from what else happens: so that the
/// same day with other limits is the same day.
#[derive(Debug, Clone)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The same seed, the same day.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// What becomes of a bot's attempt.
    #[must_use]
    pub fn of(&self, bot: u32, attempt: u32) -> Fate {
        let mut random = self.0.clone();
        // Stream 0 makes days (`generate.rs`).
        random.set_stream(u64::from(bot) + 1);
        random.set_word_pos(u128::from(attempt) * 64);
        let (start, join) = normal(&mut random);
        Fate { start, join, fails: random.random() }
    }
}

/// Two independent draws from the standard normal distribution (Box and Muller).
fn normal(random: &mut impl Rng) -> (f64, f64) {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * random.random::<f64>();
    (radius * angle.cos(), radius * angle.sin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_nineteen_of_twenty_take_no_longer() {
        let (spread, chance) = (Spread::millis(8_000, 20_000), Chance::new(1));
        let mut drawn: Vec<_> = (0..20_000).map(|bot| spread.at(chance.of(bot, 1).start)).collect();
        drawn.sort_unstable();
        let near = |found: Duration, wanted: f64| (found.as_secs_f64() / wanted - 1.0).abs() < 0.03;
        assert!(near(drawn[10_000], 8.0) && near(drawn[19_000], 20.0), "{:?} {:?}", drawn[10_000], drawn[19_000]);
        assert_eq!(Spread::fixed(Duration::from_secs(3)).at(2.0), Duration::from_secs(3));
        assert_eq!(Spread::fixed(Duration::ZERO).at(2.0), Duration::ZERO);
    }

    #[test]
    fn fates_are_their_own() {
        let chance = Chance::new(7);
        assert_eq!(chance.of(3, 2), Chance::new(7).of(3, 2));
        let others = [chance.of(3, 1), chance.of(4, 2), Chance::new(8).of(3, 2)];
        assert!(others.iter().all(|other| *other != chance.of(3, 2)));
        let failing = (0..10_000).filter(|bot| chance.of(*bot, 1).fails < 0.1).count();
        assert!((900..1_100).contains(&failing), "{failing}");
    }
}
