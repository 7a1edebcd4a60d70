//! `greenroom platforms check`: whether Coolify lets us do what we have to do, and what it cannot do for us.

use greenroom_deployer::{Error, Finding, Wanted};

use crate::api::Server;
use crate::driver::Inner;
use crate::request::image_parts;

/// From this version on, start and stop are POST, and restarts are counted and bounded.
const OLDEST: (u32, u32) = (4, 2);

/// One finding a question; nothing is changed.
pub(crate) async fn check(inner: &Inner, wanted: &Wanted) -> Vec<Finding> {
    let version = inner.api.version().await;
    let mut findings = vec![reachability(&version)];
    if matches!(version, Err(Error::Transient(_))) {
        return findings;
    }
    findings.push(credentials(inner.api.applications().await.map(|all| all.len())));
    let place = &inner.place;
    findings.push(thing("project", "COOLIFY_PROJECT_UUID", "project", inner.api.has_project(&place.project).await));
    findings.push(thing(
        "environment",
        "COOLIFY_ENVIRONMENT_NAME",
        "environment of that project",
        inner.api.has_environment(&place.project, &place.environment).await,
    ));
    findings.extend(server(&inner.api.server(&place.server).await, wanted));
    let destination = inner.api.destination(&place.destination).await;
    let elsewhere = matches!(&destination, Ok(Some(there)) if there.server_uuid.as_ref().is_some_and(|server| *server != place.server));
    let network = match &destination {
        Ok(Some(there)) => there.network.clone(),
        _ => None,
    };
    findings.push(if elsewhere {
        Finding::failed(
            "destination",
            "the destination is another server's",
            "set COOLIFY_DESTINATION_UUID to a destination of COOLIFY_SERVER_UUID",
        )
    } else {
        thing("destination", "COOLIFY_DESTINATION_UUID", "destination", destination.map(|there| there.is_some()))
    });
    findings.extend(network.as_deref().map(isolation));
    findings.push(hardening());
    for (provider, image) in inner.config.images.all() {
        let subject = provider.map_or_else(|| "image".to_owned(), |provider| format!("image {provider}"));
        let (name, tag) = image_parts(&image.reference);
        findings.push(Finding::skipped(
            subject,
            format!("{name}:{tag} is pulled by the server, Coolify cannot look at registries"),
            "for a private registry: docker login <registry> once on the server, as the user that Coolify uses there (root); REGISTRY_USERNAME and REGISTRY_PASSWORD are not passed on",
        ));
    }
    findings
}

fn reachability(version: &Result<String, Error>) -> Finding {
    let subject = "reachability";
    match version {
        Ok(version) => match parsed(version) {
            Some(number) if number < OLDEST => Finding::failed(
                subject,
                format!("Coolify {version} answers"),
                "update Coolify to 4.2 or later: before that, start and stop are other requests",
            ),
            Some(_) => Finding::passed(subject, format!("Coolify {version} answers")),
            None => Finding::warning(subject, "it answers, and not with a version", "COOLIFY_API_URL ends in /api/v1"),
        },
        Err(error @ Error::Unauthorized(_)) => Finding::failed(
            subject,
            error.to_string(),
            "enable the API in Coolify's settings, and let this address in there; make a token for COOLIFY_API_TOKEN",
        ),
        Err(error) => Finding::failed(subject, error.to_string(), "COOLIFY_API_URL: its address, with /api/v1"),
    }
}

/// `4.3.11`, `v4.2.0-beta.1`.
fn parsed(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn credentials(seen: Result<usize, Error>) -> Finding {
    match seen {
        Ok(count) => Finding::passed(
            "credentials",
            format!("the token reads; its team has {count} applications (write and deploy show when they are used)"),
        ),
        Err(error) => Finding::failed(
            "credentials",
            error.to_string(),
            "COOLIFY_API_TOKEN: a token of the right team with the permissions read, write and deploy",
        ),
    }
}

fn thing(subject: &str, setting: &str, what: &str, there: Result<bool, Error>) -> Finding {
    match there {
        Ok(true) => Finding::passed(subject, "it is there"),
        Ok(false) => {
            Finding::failed(subject, format!("there is no such {what}"), format!("{setting}: see its page in Coolify"))
        }
        Err(error) => Finding::failed(subject, error.to_string(), format!("{setting} could not be looked at")),
    }
}

fn server(server: &Result<Option<Server>, Error>, wanted: &Wanted) -> Vec<Finding> {
    let Ok(Some(server)) = server else {
        let there = server.as_ref().map(|_| false).map_err(Clone::clone);
        return vec![thing("server", "COOLIFY_SERVER_UUID", "server", there)];
    };
    let name = server.name.as_deref().unwrap_or("the server");
    let works = [server.settings.is_reachable.or(server.is_reachable), server.settings.is_usable.or(server.is_usable)];
    let mut findings = vec![if works.contains(&Some(false)) {
        Finding::failed("server", format!("Coolify cannot use {name}"), "validate the server in Coolify")
    } else {
        Finding::passed("server", format!("Coolify can use {name}"))
    }];
    if let Some(at_once) = server.settings.concurrent_builds {
        let detail = format!("{name} begins {at_once} containers at a time, the limit is {} bots", wanted.limit);
        findings.push(if at_once >= 4 || wanted.limit <= at_once {
            Finding::passed("concurrency", detail)
        } else {
            Finding::warning("concurrency", detail, "raise Concurrent Builds of the server: a burst waits for it")
        });
    }
    let size = wanted.size;
    findings.push(Finding::skipped(
        "quota",
        format!(
            "Coolify has none and does not say how large {name} is: {} bots may take {} processors and {} MiB",
            wanted.limit,
            (u64::from(wanted.limit) * u64::from(size.cpu_limit())).div_ceil(1000),
            (u64::from(wanted.limit) * size.memory_limit()) >> 20,
        ),
        "compare with the server, and set COOLIFY_BOT_LIMIT to what it has room for",
    ));
    findings
}

fn isolation(network: &str) -> Finding {
    if network == "coolify" {
        return Finding::warning(
            "isolation",
            "bots are in the network coolify, with Coolify's proxy and every other application of that destination",
            "make a destination of its own on the server, and set COOLIFY_DESTINATION_UUID to it",
        );
    }
    Finding::passed("isolation", format!("bots are in the network {network}"))
}

/// What no setting changes, so that nobody thinks otherwise.
fn hardening() -> Finding {
    Finding::warning(
        "hardening",
        "capabilities are dropped, memory and cpu limited; Coolify passes on no user, no read-only root, no no-new-privileges and no limit of processes",
        "use images that name a user of their own; on the server, \"no-new-privileges\": true in /etc/docker/daemon.json",
    )
}

#[cfg(test)]
mod tests {
    use greenroom_deployer::Verdict;
    use greenroom_domain::Resources;

    use super::*;
    use crate::api::ServerSettings;

    #[test]
    fn versions_are_told_apart() {
        for (version, verdict) in [
            ("4.3.11", Verdict::Passed),
            ("v4.2.0-beta.1", Verdict::Passed),
            ("4.1.9", Verdict::Failed),
            ("4.0.0-beta.420", Verdict::Failed),
            ("<html>", Verdict::Warning),
        ] {
            assert_eq!(reachability(&Ok(version.to_owned())).verdict, verdict, "{version}");
        }
        let refused = reachability(&Err(Error::Unauthorized("You are not allowed".to_owned())));
        assert!(refused.advice.is_some_and(|advice| advice.contains("enable the API")));
    }

    #[test]
    fn a_server_that_cannot_be_used_fails_and_a_narrow_one_warns() {
        let wanted = Wanted { limit: 20, size: Resources::default() };
        let verdicts = |reachable, at_once| {
            let settings =
                ServerSettings { is_reachable: reachable, is_usable: Some(true), concurrent_builds: Some(at_once) };
            let there = Ok(Some(Server { settings, ..Server::default() }));
            server(&there, &wanted).into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(Some(true), 4), [Verdict::Passed, Verdict::Passed, Verdict::Skipped]);
        assert_eq!(verdicts(Some(true), 2), [Verdict::Passed, Verdict::Warning, Verdict::Skipped]);
        assert_eq!(verdicts(Some(false), 4)[0], Verdict::Failed);
        let none = server(&Ok(None), &wanted);
        assert_eq!(none[0].detail, "there is no such server");
        assert!(none[0].advice.as_ref().is_some_and(|advice| advice.starts_with("COOLIFY_SERVER_UUID")));
    }
}
