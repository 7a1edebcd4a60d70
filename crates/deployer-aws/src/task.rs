//! A task of ECS, as far as it matters here, and what it says about its runner.
//!
//! A stopped task says why in three places: `stopCode`, `stoppedReason`, and each container's `exitCode` and `reason`.
//! Their words: [stop codes], [stopped task errors], [Fargate Spot], [maintenance].
//!
//! [stop codes]: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html#ECS-Type-Task-stopCode
//! [stopped task errors]: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
//! [Fargate Spot]: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html
//! [maintenance]: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-maintenance.html

use std::time::Duration;

use aws_sdk_ecs::types;
use greenroom_deployer::{Error, INSTALLATION, Names, Observed, PLATFORM};
use greenroom_domain::{Exit, ExitCause, RunnerId, Timestamp};

/// The tag that says how long it may run at most, in seconds: whoever lists it holds it to that.
pub const LIFETIME: &str = "greenroom.dev/max-lifetime-seconds";
/// Why we stop one that is older, as it stands in `stoppedReason`.
pub const TOO_OLD: &str = "greenroom: older than its lifetime";

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name at AWS, for ever.
    pub arn: String,
    /// Its runner; none: it is not ours.
    pub runner: Option<RunnerId>,
    /// The revision that it was made of.
    pub definition: String,
    /// `RUNNING`: how far it is.
    pub last_status: String,
    /// It has been running, at some time.
    pub ran: bool,
    /// When it is too old; none: it has no tag for that, or ECS does not say yet when it was made.
    pub ends_by: Option<Timestamp>,
    /// Why it stopped: AWS's word.
    pub stop_code: Option<String>,
    /// Why, in words.
    pub stopped_reason: String,
    /// How our container in it ended.
    pub exit_code: Option<i32>,
    /// What is said about our container.
    pub container_reason: String,
    /// Our container's name.
    pub container: String,
}

impl Task {
    /// Reads one. It is ours when its `startedBy` is a name of ours and its tags say so as well: a name alone can be anybody's.
    #[must_use]
    pub fn read(task: &types::Task, names: &Names) -> Option<Self> {
        let tag = |key: &str| task.tags().iter().find(|tag| tag.key() == Some(key)).and_then(types::Tag::value);
        let ours = names.ours().iter().all(|(key, value)| tag(key) == Some(value.as_str()));
        debug_assert!(names.ours().iter().map(|(key, _)| *key).eq([INSTALLATION, PLATFORM]));
        let overridden = task.overrides().and_then(|overrides| overrides.container_overrides().first());
        let named = overridden.and_then(types::ContainerOverride::name);
        let mut containers = task.containers().iter();
        let container = match named {
            Some(name) => containers.find(|container| container.name() == Some(name)),
            None => containers.next(),
        };
        let lifetime = tag(LIFETIME).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let created = task.created_at().and_then(|at| Timestamp::from_millisecond(at.to_millis().ok()?).ok());
        Some(Self {
            arn: task.task_arn()?.to_owned(),
            runner: task.started_by().filter(|_| ours).and_then(|name| names.runner_of(name)),
            definition: task.task_definition_arn().unwrap_or_default().to_owned(),
            last_status: task.last_status().unwrap_or_default().to_owned(),
            ran: task.started_at().is_some(),
            ends_by: created.zip(lifetime).and_then(|(created, lifetime)| created.checked_add(lifetime).ok()),
            stop_code: task.stop_code().map(|code| code.as_str().to_owned()),
            stopped_reason: task.stopped_reason().unwrap_or_default().to_owned(),
            exit_code: container.and_then(types::Container::exit_code),
            container_reason: container.and_then(types::Container::reason).unwrap_or_default().to_owned(),
            container: container.and_then(types::Container::name).or(named).unwrap_or_default().to_owned(),
        })
    }

    /// Nothing of it runs any more. Until ECS says this of the whole task, its container may still be on its way.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.last_status == "STOPPED"
    }

    /// Whether it should have ended by itself.
    #[must_use]
    pub fn is_too_old(&self, now: Timestamp) -> bool {
        !self.stopped() && self.ends_by.is_some_and(|by| by < now)
    }

    /// What it says about its runner.
    #[must_use]
    pub fn observed(&self) -> Observed {
        if !self.stopped() {
            return Observed::Running;
        }
        if self.ran || self.exit_code.is_some() { Observed::Exited(self.exit()) } else { self.never_ran() }
    }

    fn says(&self, words: &[&str]) -> bool {
        [&self.stopped_reason, &self.container_reason]
            .into_iter()
            .any(|said| words.iter().any(|word| said.contains(word)))
    }

    fn exit(&self) -> Exit {
        Exit {
            // 128 and the signal's number, where a signal ended it: which of both it was, ECS does not say.
            code: self.exit_code,
            signal: None,
            out_of_memory: self.says(&["OutOfMemory"]),
            cause: self.cause(),
        }
    }

    /// Why AWS ended it, where it did.
    fn cause(&self) -> Option<ExitCause> {
        match self.stop_code.as_deref() {
            Some("SpotInterruption" | "TerminationNotice") => Some(ExitCause::Interrupted),
            Some("InfrastructureHealth" | "ServiceSchedulerInitiated") => Some(ExitCause::Evicted),
            Some("UserInitiated") if self.says(&[TOO_OLD]) => Some(ExitCause::Lifetime),
            _ if self.says(&["Spot Task was interrupted"]) => Some(ExitCause::Interrupted),
            _ if self.says(&["Host EC2 (instance", "performing maintenance", "Task is retired"]) => {
                Some(ExitCause::Evicted)
            }
            _ => None,
        }
    }

    fn never_ran(&self) -> Observed {
        let said = match (self.stopped_reason.as_str(), self.container_reason.as_str()) {
            (task, "") => task.to_owned(),
            ("", container) => container.to_owned(),
            (task, container) if task.contains(container) => task.to_owned(),
            (task, container) => format!("{task} ({container})"),
        };
        let refused = |error: fn(String) -> Error| Observed::Refused(error(said.clone()));
        if self.stop_code.as_deref() == Some("UserInitiated") {
            // Somebody did not want it any more. That is no refusal.
            return Observed::Exited(self.exit());
        }
        if self.says(&["CannotPullContainer", "pull secrets or registry auth"]) {
            refused(Error::Image)
        } else if self.says(&["reached the limit", "LimitExceeded"]) {
            refused(Error::Quota)
        } else if self.cause().is_some()
            || self.says(&[
                "apacity is unavailable",
                "network interface",
                "Network Interface",
                "InsufficientFreeAddresses",
            ])
        {
            refused(Error::NoCapacity)
        } else if self.says(&[
            "CannotStartContainer",
            "CannotCreateContainer",
            "CannotCreateVolume",
            "ResourceInitialization",
        ]) {
            refused(Error::Rejected)
        } else {
            // Whatever it is: not here, not now.
            refused(Error::Unschedulable)
        }
    }
}

/// What several tasks of one name say: mostly there is one. While any of them may run, it runs.
#[must_use]
pub fn observed<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Option<Observed> {
    let rank = |observed: &Observed| match observed {
        Observed::Running => 0,
        Observed::Exited(_) => 1,
        Observed::Refused(_) => 2,
        Observed::Gone => 3,
    };
    tasks.into_iter().map(Task::observed).min_by_key(rank)
}

#[cfg(test)]
mod tests;
