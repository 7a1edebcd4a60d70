//! What this machine has.

use std::fs;
use std::thread::available_parallelism;

/// Left to Greenroom itself and to the system, in bytes.
const LEFT: u64 = 1 << 30;

/// Processors and memory, as far as this process may use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Processors, by affinity and quota as well. None: not known.
    pub processors: Option<u64>,
    /// Memory in bytes, by the limit of our control group as well. None: not known.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Looks at it.
    #[must_use]
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        // A group without a limit says "max", or more than there is.
        let limits = limits.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
        let memory = read("/proc/meminfo").and_then(|text| total(&text));
        Self {
            processors: available_parallelism().map(|processors| processors.get() as u64).ok(),
            memory_bytes: memory.into_iter().chain(limits).min(),
        }
    }

    /// How many of this size it holds: by its processors, and by its memory but for 1 GiB; at least one. None: it is not known
    /// what it has.
    #[must_use]
    pub fn holds(&self, cpu_millis: u32, memory_bytes: u64) -> Option<u32> {
        let by_processors = self.processors.map(|processors| processors * 1000 / u64::from(cpu_millis.max(1)));
        let by_memory = self.memory_bytes.map(|memory| memory.saturating_sub(LEFT) / memory_bytes.max(1));
        let least = by_processors.into_iter().chain(by_memory).min()?;
        Some(u32::try_from(least.max(1)).unwrap_or(u32::MAX))
    }
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(total("MemTotal:       24640016 kB\nMemFree: 1 kB\n"), Some(24_640_016 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        let here = Machine::look();
        assert!(here.processors.is_some_and(|processors| processors > 0), "{here:?}");
        assert!(here.memory_bytes.is_some_and(|memory| memory > 1 << 20), "{here:?}");
    }

    #[test]
    fn a_machine_holds_as_many_as_the_scarcer_of_the_two() {
        let machine = |processors, gib: u64| Machine { processors: Some(processors), memory_bytes: Some(gib << 30) };
        let usual = |machine: Machine| machine.holds(500, 1 << 30);
        assert_eq!(usual(machine(8, 32)), Some(16), "by processors");
        assert_eq!(usual(machine(8, 9)), Some(8), "by memory, but for what is left to others");
        assert_eq!(usual(machine(1, 1)), Some(1), "at least one, to try it out");
        assert_eq!(usual(Machine { processors: None, ..machine(0, 5) }), Some(4));
        assert_eq!(usual(Machine { processors: None, memory_bytes: None }), None);
        assert_eq!(machine(4, 64).holds(0, 0), Some(4000), "nothing is divided by nothing");
    }
}
