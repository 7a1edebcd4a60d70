//! What runners and slots are called on a platform, and what stands beside them there.

use std::collections::BTreeMap;

use greenroom_domain::{Installation, PlatformName, RunnerId, RunnerSpec, Standing};

/// Names and labels of one installation on one platform. Nothing in them is a secret, and everything can be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    installation: Installation,
    platform: PlatformName,
}

/// The label that says whose it is.
pub const INSTALLATION: &str = "greenroom.dev/installation";
/// The label that says which platform of the installation's it belongs to: two may share an account or an engine.
pub const PLATFORM: &str = "greenroom.dev/platform";
/// The label that names the runner: `bot-0198…-2`.
pub const RUNNER: &str = "greenroom.dev/runner";
/// The label that names a standing slot: `0198…-2`.
pub const SLOT: &str = "greenroom.dev/slot";

impl Names {
    /// Of this installation, on this platform.
    #[must_use]
    pub fn new(installation: Installation, platform: PlatformName) -> Self {
        Self { installation, platform }
    }

    /// `greenroom-bot-0198…-2`.
    #[must_use]
    pub fn runner(&self, runner: RunnerId) -> String {
        format!("{}-{runner}", self.installation)
    }

    /// The runner of that name; none: it is not ours.
    #[must_use]
    pub fn runner_of(&self, name: &str) -> Option<RunnerId> {
        let runner: RunnerId = name.strip_prefix(self.installation.as_str())?.strip_prefix('-')?.parse().ok()?;
        // What can be written in two ways was not written by us.
        (self.runner(runner) == name).then_some(runner)
    }

    /// `greenroom-slot-0198…-2`.
    #[must_use]
    pub fn slot(&self, standing: Standing) -> String {
        format!("{}-slot-{standing}", self.installation)
    }

    /// The standing slot of that name; none: it is not ours.
    #[must_use]
    pub fn slot_of(&self, name: &str) -> Option<Standing> {
        let rest = name.strip_prefix(self.installation.as_str())?.strip_prefix("-slot-")?;
        let standing: Standing = rest.parse().ok()?;
        (self.slot(standing) == name).then_some(standing)
    }

    /// What everything of ours on this platform carries, and nothing else does: to select by.
    #[must_use]
    pub fn ours(&self) -> [(&'static str, String); 2] {
        [(INSTALLATION, self.installation.to_string()), (PLATFORM, self.platform.to_string())]
    }

    /// What stands beside a runner.
    #[must_use]
    pub fn labels(&self, spec: &RunnerSpec) -> BTreeMap<&'static str, String> {
        let runner = spec.runner;
        let mut labels = self.recommended();
        labels.extend([
            (RUNNER, runner.to_string()),
            ("greenroom.dev/kind", runner.kind.as_str().to_owned()),
            ("greenroom.dev/id", runner.id.to_string()),
            ("greenroom.dev/attempt", runner.attempt.to_string()),
            ("greenroom.dev/tenant", spec.tenant.to_string()),
            ("greenroom.dev/provider", spec.provider.to_string()),
        ]);
        labels
    }

    /// What stands beside a standing slot.
    #[must_use]
    pub fn slot_labels(&self, standing: Standing) -> BTreeMap<&'static str, String> {
        let mut labels = self.recommended();
        labels.insert(SLOT, standing.to_string());
        labels
    }

    /// Whose it is, and what Kubernetes recommends for everything.
    #[must_use]
    pub fn recommended(&self) -> BTreeMap<&'static str, String> {
        let mut labels = BTreeMap::from([
            ("app.kubernetes.io/name", "greenroom-runner".to_owned()),
            ("app.kubernetes.io/instance", self.installation.to_string()),
            ("app.kubernetes.io/component", "runner".to_owned()),
            ("app.kubernetes.io/part-of", "greenroom".to_owned()),
            ("app.kubernetes.io/managed-by", "greenroom".to_owned()),
        ]);
        labels.extend(self.ours());
        labels
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, SlotId};

    use super::*;

    #[test]
    fn names_can_be_read_back_and_others_are_nobodys() {
        let name = |name: &str| Installation::new(name).expect("valid");
        let platform = PlatformName::new("docker").expect("valid");
        let (ours, theirs) = (Names::new(name("one"), platform.clone()), Names::new(name("one-bot"), platform));
        let runner = RunnerId::of_bot(BotId::generate(), Attempt(2));
        let slot = Standing { slot: SlotId::generate(), generation: 3 };
        assert_eq!(ours.runner_of(&ours.runner(runner)), Some(runner));
        assert_eq!(ours.slot_of(&ours.slot(slot)), Some(slot));
        assert_eq!(ours.runner_of(&theirs.runner(runner)), None, "another installation's");
        assert_eq!(theirs.runner_of(&ours.runner(runner)), None);
        let other = ours.runner(runner).replace("-2", "-02");
        for foreign in [other.as_str(), "one-bot-1", "one", "", "one-session-x-1"] {
            assert_eq!(ours.runner_of(foreign), None, "{foreign:?}");
        }
    }
}
