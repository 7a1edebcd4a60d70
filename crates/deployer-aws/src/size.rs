//! How large a task is: what is asked for, rounded up to what AWS sells.

use greenroom_domain::Resources;

/// CPU units in a processor.
const UNITS: u64 = 1024;
const MIB: u64 = 1 << 20;
/// The least that ECS takes for a task on machines of one's own, in CPU units.
const LEAST_UNITS: u32 = 128;
/// The least memory that Docker takes for a container, in MiB.
const LEAST_MEMORY: u32 = 6;

/// What Fargate sells, for each number of CPU units: memory in MiB from, to, and in steps of.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html#task_size>
const FARGATE: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2048, 0),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16_384, 1024),
    (4096, 8192, 30_720, 1024),
    (8192, 16_384, 61_440, 4096),
    (16_384, 32_768, 122_880, 8192),
];
/// The smallest ones double, and have no step.
const SMALLEST: [u32; 3] = [512, 1024, 2048];

/// What tasks of the usual size have here: ECS runs nothing but what a task definition and AWS's price list have, and guides
/// for it set out with these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usual {
    /// What the rest of the installation asks for, in thousandths of a processor and bytes.
    pub asked: (u32, u64),
    /// Instead of the usual processor, in CPU units.
    pub cpu_units: Option<u32>,
    /// Instead of the usual memory, in MiB.
    pub memory_mib: Option<u32>,
}

impl Usual {
    /// What a runner asks for on this platform. One that asks for anything but the usual keeps it.
    #[must_use]
    pub fn sized(&self, asked: &Resources) -> Resources {
        let mut size = *asked;
        if let Some(units) = self.cpu_units.filter(|_| asked.cpu_millis == self.asked.0) {
            size.cpu_millis = u32::try_from(u64::from(units) * 1000 / UNITS).unwrap_or(u32::MAX);
        }
        if let Some(memory) = self.memory_mib.filter(|_| asked.memory_bytes == self.asked.1) {
            size.memory_bytes = u64::from(memory) * MIB;
        }
        size
    }
}

/// The size of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// CPU units, of which a processor has 1024.
    pub cpu_units: u32,
    /// What it may take, in MiB: beyond it is out of memory.
    pub memory_mib: u32,
    /// What is set aside for it, in MiB.
    pub reserved_mib: u32,
}

impl Size {
    /// The smallest that Fargate sells and that is enough; none: it sells no such thing.
    ///
    /// Nobody else's processor can be borrowed there, so the processor is what is asked for. Memory is what may be taken:
    /// less would end a runner that keeps to its limit.
    #[must_use]
    pub fn fargate(resources: &Resources) -> Option<Self> {
        let (units, memory) = (units(resources), mib(resources.memory_limit()));
        let fits = |(sold, from, to, step): (u32, u32, u32, u32)| {
            let enough = match step {
                0 => SMALLEST.into_iter().find(|sold| *sold >= memory)?,
                step => from + memory.saturating_sub(from).div_ceil(step) * step,
            };
            (sold >= units && enough <= to).then_some(Self {
                cpu_units: sold,
                memory_mib: enough,
                reserved_mib: enough,
            })
        };
        FARGATE.into_iter().find_map(fits)
    }

    /// On machines of one's own: what is asked for is set aside, and the limit is where it ends.
    #[must_use]
    pub fn machine(resources: &Resources) -> Self {
        Self {
            cpu_units: units(resources).max(LEAST_UNITS),
            memory_mib: mib(resources.memory_limit()).max(LEAST_MEMORY),
            reserved_mib: mib(resources.memory_bytes).max(LEAST_MEMORY),
        }
    }
}

fn units(resources: &Resources) -> u32 {
    u32::try_from((u64::from(resources.cpu_millis) * UNITS).div_ceil(1000)).unwrap_or(u32::MAX)
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(cpu_millis: u32, memory_mib: u64) -> Resources {
        Resources { cpu_millis, memory_bytes: memory_mib << 20, ..Resources::default() }
    }

    /// All there is to buy, spelled out.
    fn sold() -> Vec<(u32, u32)> {
        let mut sold: Vec<(u32, u32)> = vec![(256, 512), (256, 1024), (256, 2048)];
        sold.extend((1..=4).map(|gib| (512, gib * 1024)));
        sold.extend((2..=8).map(|gib| (1024, gib * 1024)));
        sold.extend((4..=16).map(|gib| (2048, gib * 1024)));
        sold.extend((8..=30).map(|gib| (4096, gib * 1024)));
        sold.extend((16..=60).step_by(4).map(|gib| (8192, gib * 1024)));
        sold.extend((32..=120).step_by(8).map(|gib| (16_384, gib * 1024)));
        sold
    }

    #[test]
    fn sizes_are_rounded_up_to_what_is_sold() {
        for (cpu, memory, expected) in [
            (250, 128, Some((256, 512))),
            (250, 513, Some((256, 1024))),
            (250, 1025, Some((256, 2048))),
            (250, 2049, Some((512, 3072))),
            (500, 1024, Some((512, 1024))),
            (501, 1024, Some((1024, 2048))),
            (1000, 2048, Some((1024, 2048))),
            (1000, 2049, Some((1024, 3072))),
            (500, 5000, Some((1024, 5120))),
            (2000, 16_385, Some((4096, 17_408))),
            (4000, 30_721, Some((8192, 32_768))),
            (16_000, 122_880, Some((16_384, 122_880))),
            (16_001, 1024, None),
            (100, 122_881, None),
        ] {
            let size = Size::fargate(&asked(cpu, memory)).map(|size| (size.cpu_units, size.memory_mib));
            assert_eq!(size, expected, "{cpu}m and {memory} MiB");
        }
        let more = Resources { cpu_limit_millis: Some(4000), memory_limit_bytes: Some(3 << 30), ..asked(500, 1024) };
        let size = Size::fargate(&more).expect("it is sold");
        assert_eq!((size.cpu_units, size.memory_mib), (512, 3072), "memory may be taken up to its limit");
        assert_eq!(Size::machine(&more), Size { cpu_units: 512, memory_mib: 3072, reserved_mib: 1024 });
        assert_eq!(Size::machine(&asked(1, 1)), Size { cpu_units: 128, memory_mib: 6, reserved_mib: 6 });
    }

    #[test]
    fn one_of_the_usual_size_has_the_size_of_the_platform() {
        let usual = Usual { asked: (500, 1024 * MIB), cpu_units: Some(1024), memory_mib: Some(2048) };
        let fargate = |resources: &Resources| {
            Size::fargate(&usual.sized(resources)).map(|size| (size.cpu_units, size.memory_mib, size.reserved_mib))
        };
        assert_eq!(fargate(&asked(500, 1024)), Some((1024, 2048, 2048)));
        assert_eq!(fargate(&asked(700, 1536)), Some((1024, 2048, 2048)), "sold with as much");
        assert_eq!(usual.sized(&asked(700, 1536)), asked(700, 1536), "somebody asked for that");
        let roomy = Resources { memory_limit_bytes: Some(4096 * MIB), ..asked(500, 1024) };
        assert_eq!(fargate(&roomy), Some((1024, 4096, 4096)), "a larger limit is kept");
        assert_eq!(Usual::default().sized(&roomy), roomy);
    }

    proptest! {
        #[test]
        fn never_less_than_asked_for_and_nothing_smaller_would_do(cpu in 0u32..20_000, memory in 0u64..150_000) {
            let enough = |(units, mib): &(u32, u32)| {
                u64::from(*units) * 1000 >= u64::from(cpu) * UNITS && u64::from(*mib) >= memory
            };
            let enough: Vec<(u32, u32)> = sold().into_iter().filter(enough).collect();
            match Size::fargate(&asked(cpu, memory)) {
                None => prop_assert!(enough.is_empty(), "{enough:?} would do"),
                Some(size) => {
                    let chosen = (size.cpu_units, size.memory_mib);
                    prop_assert!(enough.contains(&chosen), "{chosen:?} is not sold or is not enough");
                    let smaller = enough.iter().find(|(units, mib)| {
                        (*units, *mib) != chosen && *units <= chosen.0 && *mib <= chosen.1
                    });
                    prop_assert_eq!(smaller, None);
                    prop_assert_eq!(enough.iter().min(), Some(&chosen), "the fewest units, then the least memory");
                }
            }
        }
    }
}
