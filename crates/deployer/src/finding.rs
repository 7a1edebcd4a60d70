//! What a look at a platform's settings, credentials and limits comes to: `greenroom platforms check`.

use std::fmt;

use greenroom_domain::Resources;

/// What the platform is wanted for: quotas are held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// So many runners at once, by `<PLATFORM>_BOT_LIMIT`.
    pub limit: u32,
    /// Each as large as this.
    pub size: Resources,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Nobody looked, and why.
    Skipped,
    /// It works, and not as far as somebody may think.
    Warning,
    /// Bots will fail.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        })
    }
}

/// One thing that was looked at. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What: `credentials`, `reachability`, `quota`, `image google-meet`, …
    pub subject: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it; none where there is nothing to be done.
    pub advice: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn passed(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Passed, detail: detail.into(), advice: None }
    }

    /// Nobody could look; `how` somebody could.
    #[must_use]
    pub fn skipped(subject: impl Into<String>, why: impl Into<String>, how: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Skipped, detail: why.into(), advice: Some(how.into()) }
    }

    /// It works so far.
    #[must_use]
    pub fn warning(subject: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Warning, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work.
    #[must_use]
    pub fn failed(subject: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Failed, detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// What a quota admits, held against a limit. Absent: the quota says nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Runners at once.
    pub runners: Option<u64>,
    /// Thousandths of a processor that may be asked for.
    pub cpu_millis: Option<u64>,
    /// Bytes that may be asked for.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor that limits may come to.
    pub cpu_limit_millis: Option<u64>,
    /// Bytes that limits may come to.
    pub memory_limit_bytes: Option<u64>,
}

impl Quota {
    /// How many runners of that size it admits, and which part of it says so; none: as many as anybody wants.
    #[must_use]
    pub fn admits(&self, size: &Resources) -> Option<(u64, &'static str)> {
        let parts = [
            (self.runners, 1, "the number of runners"),
            (self.cpu_millis, u64::from(size.cpu_millis), "requested cpu"),
            (self.memory_bytes, size.memory_bytes, "requested memory"),
            (self.cpu_limit_millis, u64::from(size.cpu_limit()), "limits of cpu"),
            (self.memory_limit_bytes, size.memory_limit(), "limits of memory"),
        ];
        let admitted = parts.into_iter().filter_map(|(quota, each, what)| Some((quota?.checked_div(each)?, what)));
        admitted.min_by_key(|(admitted, _)| *admitted)
    }

    /// Says whether what is wanted fits. `setting` is the name of the platform's limit.
    #[must_use]
    pub fn finding(&self, wanted: &Wanted, setting: &str) -> Finding {
        let size = format!("{}m and {} MiB each", wanted.size.cpu_millis, wanted.size.memory_bytes >> 20);
        match self.admits(&wanted.size) {
            None => Finding::passed("quota", "there is none"),
            Some((admitted, _)) if admitted >= u64::from(wanted.limit) => Finding::passed(
                "quota",
                format!("it admits {admitted} runners of {size}, the limit is {}", wanted.limit),
            ),
            Some((admitted, what)) => Finding::warning(
                "quota",
                format!("{what} admits {admitted} runners of {size}, the limit is {}", wanted.limit),
                format!(
                    "raise the quota, ask for less (RUNNER_CPU_MILLIS, RUNNER_MEMORY_MB), or set {setting}={admitted}"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_admits_what_its_tightest_part_admits() {
        let size = Resources { cpu_millis: 500, memory_bytes: 1 << 30, ..Resources::default() };
        // As a guide has it that promises 80.
        let guide = Quota {
            runners: Some(100),
            cpu_millis: Some(14_000),
            memory_bytes: Some(45 << 30),
            cpu_limit_millis: Some(45_000),
            memory_limit_bytes: Some(85 << 30),
        };
        assert_eq!(guide.admits(&size), Some((28, "requested cpu")));
        let finding = guide.finding(&Wanted { limit: 80, size }, "K8S_BOT_LIMIT");
        assert_eq!(finding.verdict, Verdict::Warning);
        assert_eq!(finding.detail, "requested cpu admits 28 runners of 500m and 1024 MiB each, the limit is 80");
        assert!(finding.advice.is_some_and(|advice| advice.contains("K8S_BOT_LIMIT=28")));
        assert_eq!(guide.finding(&Wanted { limit: 28, size }, "").verdict, Verdict::Passed);
        assert_eq!(Quota::default().finding(&Wanted { limit: 80, size }, "").detail, "there is none");
        let none = Resources { cpu_millis: 0, ..size };
        assert_eq!(
            Quota { cpu_millis: Some(1), ..Quota::default() }.admits(&none),
            None,
            "nothing is divided by nothing"
        );
    }
}
