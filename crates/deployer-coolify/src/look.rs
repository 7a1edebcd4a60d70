//! What an application of Coolify's looks like, and what that says about the runner in it.
//!
//! Coolify tells three things: the status of the application, which it gathers about once a minute (and sets to `exited` when
//! it cannot reach the server at all); how often Docker has restarted the container since it was deployed; and how the last
//! deployment went. A live look at the container is a request for its last line: the only evidence that nothing runs.

use greenroom_deployer::{Error, Observed};
use greenroom_domain::Exit;

use crate::api::{Application, Deployment};
use crate::title::Inside;

/// What the status says about the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// None, as far as Coolify knows.
    Over,
    /// It has ended, and Docker begins it anew.
    Again,
    /// There is one.
    Up,
}

/// Reads `running:healthy`, `exited`, `restarting:unknown`, …
pub(crate) fn container(application: &Application) -> Container {
    let status = application.status.as_deref().unwrap_or_default();
    match status.split([':', ' ', '(']).next().unwrap_or_default() {
        "" | "exited" | "stopped" | "dead" => Container::Over,
        "restarting" => Container::Again,
        // running, starting, created, paused, degraded, and whatever comes later.
        _ => Container::Up,
    }
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// This is how it is.
    Is(Observed),
    /// It may be over: ask for the container itself.
    Ask,
}

/// Whether the runner has been started: there is a deployment that was not there when it got the slot.
pub(crate) fn started(inside: &Inside, latest: Option<&Deployment>) -> bool {
    latest.map(|latest| latest.deployment_uuid.as_str()) != inside.after.as_deref() && latest.is_some()
}

/// Whether that deployment is still on its way.
pub(crate) fn under_way(deployment: &Deployment) -> bool {
    matches!(deployment.status.as_str(), "queued" | "in_progress")
}

/// What the runner in it is.
pub(crate) fn look(application: &Application, inside: &Inside, latest: Option<&Deployment>) -> Look {
    let Some(latest) = latest.filter(|latest| started(inside, Some(latest))) else {
        return match container(application) {
            Container::Over => Look::Is(Observed::Gone),
            // Somebody did something by hand.
            Container::Again | Container::Up => Look::Ask,
        };
    };
    if under_way(latest) {
        return Look::Is(Observed::Running);
    }
    let ended = Look::Is(Observed::Exited(Exit::default()));
    match (container(application), latest.status.as_str()) {
        (Container::Again, _) => ended,
        // The one that runs now is another one, which its owner does not admit.
        (Container::Up, _) if application.restart_count.unwrap_or(0) > 0 => ended,
        (Container::Up, _) => Look::Is(Observed::Running),
        (Container::Over, "failed") => Look::Is(Observed::Refused(failure(latest.logs.as_deref()))),
        (Container::Over, _) => Look::Ask,
    }
}

/// Words of Docker's and of registries about images that cannot be had, in lower case.
const NO_IMAGE: &[&str] = &[
    "manifest unknown",
    "manifest for",
    "pull access denied",
    "repository does not exist",
    "no such image",
    "not found: manifest",
    "failed to resolve reference",
    "unauthorized: authentication required",
    "error response from daemon: unauthorized",
    "denied: requested access",
    "no matching manifest",
    "invalid reference format",
];

/// Why a deployment failed, as far as its log says; tokens without `read:sensitive` see none.
pub(crate) fn failure(logs: Option<&str>) -> Error {
    let Some(logs) = logs.filter(|logs| !logs.is_empty()) else {
        return Error::NoCapacity(
            "Coolify could not deploy it; its deployment log says why (with read:sensitive the token could see it)"
                .to_owned(),
        );
    };
    let text = logs.to_lowercase();
    if NO_IMAGE.iter().any(|words| text.contains(words)) {
        return Error::Image("Coolify could not pull it: see the deployment's log".to_owned());
    }
    if ["no space left on device", "cannot allocate memory"].iter().any(|words| text.contains(words)) {
        return Error::NoCapacity("Coolify's server is full".to_owned());
    }
    Error::NoCapacity("Coolify could not deploy it: see the deployment's log".to_owned())
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, RunnerId};

    use super::*;

    fn application(status: &str, restarts: u32) -> Application {
        Application { status: Some(status.to_owned()), restart_count: Some(restarts), ..Application::default() }
    }

    fn deployment(uuid: &str, status: &str) -> Deployment {
        Deployment { deployment_uuid: uuid.to_owned(), status: status.to_owned(), logs: None }
    }

    #[test]
    fn statuses_are_read_in_all_their_spellings() {
        for (status, expected) in [
            ("running:healthy", Container::Up),
            ("running:unhealthy", Container::Up),
            ("running:unknown", Container::Up),
            ("running (healthy)", Container::Up),
            ("starting:unknown", Container::Up),
            ("created:unknown", Container::Up),
            ("paused:unknown", Container::Up),
            ("degraded:unhealthy", Container::Up),
            ("something:new", Container::Up),
            ("restarting:unknown", Container::Again),
            ("exited", Container::Over),
            ("exited:unhealthy", Container::Over),
            ("", Container::Over),
        ] {
            assert_eq!(container(&application(status, 0)), expected, "{status}");
        }
    }

    #[test]
    fn application_status_maps_to_runner_state() {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let inside = Inside { runner, after: Some("before".to_owned()) };
        let (gone, running) = (Look::Is(Observed::Gone), Look::Is(Observed::Running));
        let ended = Look::Is(Observed::Exited(Exit::default()));
        let refused = Look::Is(Observed::Refused(failure(None)));
        for (status, restarts, latest, expected) in [
            // It has the slot, and nobody has said "start": whoever crashed in between, nothing runs.
            ("exited", 0, Some(("before", "finished")), &gone),
            ("exited", 0, Some(("before", "failed")), &gone),
            // Its deployments were tidied away, and nothing came since.
            ("exited", 0, None, &gone),
            ("running:unknown", 0, None, &Look::Ask),
            // It is on its way, whatever the status still says of before.
            ("exited", 0, Some(("own", "queued")), &running),
            ("exited", 0, Some(("own", "in_progress")), &running),
            ("starting:unknown", 0, Some(("own", "in_progress")), &running),
            ("running:unknown", 0, Some(("own", "finished")), &running),
            ("degraded:unhealthy", 0, Some(("own", "finished")), &running),
            // Docker has begun it anew: the runner itself is over.
            ("running:unknown", 1, Some(("own", "finished")), &ended),
            ("restarting:unknown", 0, Some(("own", "finished")), &ended),
            // Statuses are old, and `exited` is also what Coolify says of a server that it cannot reach.
            ("exited", 0, Some(("own", "finished")), &Look::Ask),
            ("exited", 3, Some(("own", "finished")), &Look::Ask),
            ("exited", 0, Some(("own", "cancelled-by-user")), &Look::Ask),
            ("exited", 0, Some(("own", "something-new")), &Look::Ask),
            ("exited", 0, Some(("own", "failed")), &refused),
            ("running:unknown", 0, Some(("own", "failed")), &running),
        ] {
            let latest = latest.map(|(uuid, status)| deployment(uuid, status));
            let seen = look(&application(status, restarts), &inside, latest.as_ref());
            assert_eq!(seen, *expected, "{status} {restarts} {latest:?}");
        }
        let first = Inside { runner, after: None };
        assert_eq!(look(&application("exited", 0), &first, None), gone);
        assert_eq!(look(&application("exited", 0), &first, Some(&deployment("own", "queued"))), running);
    }

    #[test]
    fn a_failed_deployment_says_why() {
        for logs in [
            "Error response from daemon: manifest for x:y not found: manifest unknown: manifest unknown",
            "Error response from daemon: pull access denied for nobody/nothing, repository does not exist",
            "failed to resolve reference \"ghcr.io/a/b:c\"",
        ] {
            assert!(matches!(failure(Some(logs)), Error::Image(_)), "{logs}");
        }
        for logs in [None, Some(""), Some("no space left on device"), Some("Something broke")] {
            assert!(matches!(failure(logs), Error::NoCapacity(_)), "{logs:?}");
        }
    }
}
