//! Whether the kernel ended processes of this runner because it took more memory than it may.
//!
//! In a container the kernel ends the process that takes most, which is one of the browser's, and the platform sees a runner
//! that ends in good order. The container's counter tells the truth.

use crate::policy::{Ending, Failure};

/// Where a container sees its counter: control groups of version 2, and of version 1.
const COUNTERS: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// Returns how many processes the kernel has ended for want of memory, where it counts them.
#[must_use]
pub fn kills() -> Option<u64> {
    COUNTERS.iter().find_map(|path| counted(&std::fs::read_to_string(path).ok()?))
}

fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Returns the ending with its cause: a browser that failed while the counter rose ran out of memory, so the next attempt gets
/// more.
#[must_use]
pub fn explained(ending: Ending, before: Option<u64>, after: Option<u64>) -> Ending {
    match ending {
        Ending::Failed(failure) if failure.reason == "browser_failed" && before < after && before.is_some() => {
            Ending::Failed(Failure::passing("out_of_memory", "the browser took more memory than its runner may take"))
        }
        ending => ending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_both_versions_is_read() {
        assert_eq!(counted("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\n"), None, "kernels before 4.13");
    }

    #[test]
    fn only_a_browser_that_failed_while_it_rose_ran_out_of_memory() {
        let failed = |reason| Ending::Failed(Failure::passing(reason, "it died"));
        for (ending, before, after, expected) in [
            (failed("browser_failed"), Some(0), Some(1), "out_of_memory"),
            (failed("browser_failed"), Some(1), Some(1), "browser_failed"),
            (failed("browser_failed"), None, Some(1), "browser_failed"),
            (failed("browser_failed"), Some(1), None, "browser_failed"),
            (failed("page_unreachable"), Some(0), Some(1), "page_unreachable"),
            (Ending::Finished("meeting_ended"), Some(0), Some(1), "meeting_ended"),
        ] {
            assert_eq!(explained(ending, before, after).reason(), expected);
        }
    }
}
