//! What runners of a provider ought to ask for, of what they have taken.
//!
//! - **Processor**: the 95th of a hundred by average use. A runner that is short of it for a moment is slow for a moment, and
//!   its limit lets it have more where there is some.
//! - **Memory**: the 99th of a hundred by peak. A runner that is short of it is ended.
//!
//! Both with a fifth more, as next week's meetings are not last week's, and rounded up to steps that people use.

use std::time::Duration;

use greenroom_domain::Usage;

use super::{Base, Sizing};

/// How far back.
pub const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// Who did not last so long was in no meeting, or for a moment: starting is all that was measured.
pub const SHORTEST: Duration = Duration::from_secs(60);
/// Fewer say nothing: the 99th of a hundred would be a guess.
pub const SAMPLE: usize = 20;

const CPU_STEP: u32 = 50;
const MEMORY_STEP: u32 = 64;
const MIB: u64 = 1 << 20;

/// What was taken, and what to ask for because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recommendation {
    /// Of so many runners.
    pub sample: usize,
    /// What all but one of twenty took on average, or less.
    pub cpu_millis_p95: u64,
    /// What all but one of a hundred had at most, or less.
    pub peak_memory_bytes_p99: u64,
    /// None: the sample is too small.
    pub base: Option<Base>,
}

/// Recommends, within the bounds. The order of the sample does not matter.
pub fn recommend(sample: &[Usage], sizing: &Sizing) -> Recommendation {
    let cpu_millis_p95 = percentile(sample.iter().filter_map(Usage::cpu_millis).collect(), 95);
    let peak_memory_bytes_p99 = percentile(sample.iter().map(|usage| usage.peak_memory_bytes).collect(), 99);
    let base = (sample.len() >= SAMPLE).then(|| Base {
        cpu_millis: sizing.cpu.hold(with_reserve(cpu_millis_p95, CPU_STEP)),
        memory_mb: sizing.memory.hold(with_reserve(peak_memory_bytes_p99.div_ceil(MIB), MEMORY_STEP)),
    });
    Recommendation { sample: sample.len(), cpu_millis_p95, peak_memory_bytes_p99, base }
}

/// The least value that at least so many of a hundred do not exceed; 0 of nothing.
fn percentile(mut values: Vec<u64>, of_hundred: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * of_hundred).div_ceil(100);
    rank.checked_sub(1).and_then(|index| values.get(index)).copied().unwrap_or(0)
}

fn with_reserve(value: u64, step: u32) -> u32 {
    let with_reserve = value.saturating_mul(6).div_ceil(5);
    let rounded = with_reserve.div_ceil(u64::from(step)).saturating_mul(u64::from(step));
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sizing;
    use super::*;

    fn usage(cpu_millis: u64, peak_mb: u64) -> Usage {
        Usage { cpu_ms: cpu_millis * 600, peak_memory_bytes: peak_mb * MIB, lasted_ms: 600_000, ..Usage::default() }
    }

    fn base(sample: &[Usage]) -> Option<(u32, u32)> {
        recommend(sample, &sizing()).base.map(|base| (base.cpu_millis, base.memory_mb))
    }

    #[test]
    fn most_of_them_would_have_had_enough() {
        for (what, sample, expected) in [
            ("nobody", vec![], None),
            ("too few to say", vec![usage(400, 900); 19], None),
            // 480 and 1080, rounded up.
            ("all the same", vec![usage(400, 900); 20], Some((500, 1088))),
            ("exactly on a step", vec![usage(500, 800); 20], Some((600, 960))),
            ("a byte above", vec![Usage { peak_memory_bytes: 800 * MIB + 1, ..usage(500, 0) }; 20], Some((600, 1024))),
            (
                "one of twenty is forgiven its processor, and not its memory",
                {
                    let mut sample = vec![usage(400, 900); 19];
                    sample.push(usage(2_000, 2_000));
                    sample
                },
                Some((500, 2432)),
            ),
            (
                "one of a hundred is forgiven its memory",
                {
                    let mut sample = vec![usage(400, 900); 99];
                    sample.push(usage(400, 7_000));
                    sample
                },
                Some((500, 1088)),
            ),
            ("less than the least", vec![usage(1, 1); 50], Some((100, 256))),
            ("more than the most", vec![usage(9_000, 90_000); 50], Some((4000, 8192))),
            (
                "nothing that lasted",
                vec![Usage { cpu_ms: 5, peak_memory_bytes: MIB, ..Usage::default() }; 20],
                Some((100, 256)),
            ),
        ] {
            assert_eq!(base(&sample), expected, "{what}");
        }
    }

    #[test]
    fn few_measurements_are_shown_without_recommendation() {
        let seen = recommend(&[usage(100, 300), usage(300, 100)], &sizing());
        assert_eq!((seen.sample, seen.cpu_millis_p95, seen.peak_memory_bytes_p99), (2, 300, 300 * MIB));
        assert_eq!(percentile((1..=100).rev().collect(), 95), 95);
        assert_eq!(percentile((1..=1000).collect(), 99), 990);
        assert_eq!(percentile(Vec::new(), 99), 0);
    }

    proptest::proptest! {
        #[test]
        fn always_within_bounds_and_enough_for_nearly_all(
            sample in proptest::collection::vec((0_u64..20_000, 0_u64..20_000), 20..200)
        ) {
            let sample: Vec<Usage> = sample.into_iter().map(|(cpu, peak)| usage(cpu, peak)).collect();
            let sizing = sizing();
            let base = recommend(&sample, &sizing).base.expect("enough of them");
            assert_eq!(sizing.cpu.hold(base.cpu_millis), base.cpu_millis);
            assert_eq!(sizing.memory.hold(base.memory_mb), base.memory_mb);
            let short = |is: &dyn Fn(&Usage) -> bool| sample.iter().filter(|usage| is(usage)).count();
            if base.memory_mb < sizing.memory.most {
                let without = short(&|usage| usage.peak_memory_bytes > u64::from(base.memory_mb) * MIB);
                assert!(without * 100 <= sample.len(), "{without} of {}", sample.len());
            }
            if base.cpu_millis < sizing.cpu.most {
                let without = short(&|usage| usage.cpu_millis() > Some(u64::from(base.cpu_millis)));
                assert!(without * 20 <= sample.len(), "{without} of {}", sample.len());
            }
        }

        #[test]
        fn the_order_does_not_matter(sample in proptest::collection::vec((0_u64..5_000, 0_u64..9_000), 20..60)) {
            let mut sample: Vec<Usage> = sample.into_iter().map(|(cpu, peak)| usage(cpu, peak)).collect();
            let one = recommend(&sample, &sizing());
            sample.reverse();
            assert_eq!(recommend(&sample, &sizing()), one);
        }
    }
}
