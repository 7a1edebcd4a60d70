//! What a runner takes, from its start to its end: kept in its folder for whoever removes it.
//!
//! - **Memory** is the proportional set size of all its processes: a page that several share counts once, as it does where a
//!   container is weighed, and one that other programs of the machine share counts in part. The kernel walks page tables for
//!   it, so that it is looked at every two seconds only; between these looks what the processes have of their own, which is
//!   what the limit is held against, may raise the peak.
//! - **Processor time** is that of all processes, also of those that ended before somebody looked: whoever waits for a
//!   child inherits its time, and in the end everything is our child.
//! - In a control group of its own the kernel counts both, and is asked.

use std::time::{Duration, Instant};

use greenroom_domain::Usage;

use crate::folder::Folder;
use crate::processes::{self, Entry, Times};
use crate::supervisor::cgroup::Cgroup;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// One runner's.
pub(super) struct Scales {
    began: Instant,
    looked: Option<Instant>,
    peak: u64,
    cpu: Duration,
}

impl Scales {
    pub fn new(began: Instant) -> Self {
        Self { began, looked: None, peak: 0, cpu: Duration::ZERO }
    }

    /// Goes on from what another supervisor had seen.
    pub fn resume(before: Usage) -> Self {
        let now = Instant::now();
        Self {
            began: now.checked_sub(Duration::from_millis(before.lasted_ms)).unwrap_or(now),
            looked: None,
            peak: before.peak_memory_bytes,
            cpu: Duration::from_millis(before.cpu_ms),
        }
    }

    /// Its processes have so much of their own, all together.
    pub fn weighed(&mut self, own: u64) {
        self.peak = self.peak.max(own);
    }

    /// Looks at its processes, when it is time to. What cannot be written now can be in a while.
    pub fn look(&mut self, now: Instant, runners: &[Entry], group: Option<&Cgroup>, folder: &Folder) {
        if self.looked.is_some_and(|at| now.duration_since(at) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let by_process = || runners.iter().map(|entry| processes::proportional_memory(entry.identity.pid)).sum();
        self.peak = self.peak.max(group.and_then(Cgroup::memory).unwrap_or_else(by_process));
        self.time(runners, group);
        let _ = folder.set_usage(&self.usage(now));
    }

    /// Nothing of it is left.
    pub fn end(mut self, group: Option<&Cgroup>, folder: &Folder) {
        self.time(&[], group);
        let _ = folder.set_usage(&self.usage(Instant::now()));
    }

    fn time(&mut self, runners: &[Entry], group: Option<&Cgroup>) {
        if let Some(counted) = group.and_then(Cgroup::cpu) {
            self.cpu = self.cpu.max(counted);
            return;
        }
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        // Of ourselves only what our children have left us; of the living their own as well.
        let left = Times::of(own).waited_for;
        let living: Duration = runners.iter().map(|entry| Times::of(entry.identity.pid)).map(Times::all).sum();
        // Who ended between these two looks counts in neither: time never runs back.
        self.cpu = self.cpu.max(left + living);
    }

    fn usage(&self, now: Instant) -> Usage {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Usage {
            cpu_ms: millis(self.cpu),
            peak_memory_bytes: self.peak,
            lasted_ms: millis(now.duration_since(self.began)),
            // They share the machine's network with everything else.
            ..Usage::default()
        }
    }
}
