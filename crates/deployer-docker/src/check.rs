//! `greenroom platforms check`: what is found on the engines, and what to do about it.

use std::collections::BTreeMap;

use bollard::models::SystemInfo;
use futures::future::join_all;
use greenroom_deployer::{Error, Finding, Image, Quota, Wanted};

use crate::address::Address;
use crate::config::Pull;
use crate::driver::Inner;
use crate::engine::Engine;
use crate::{body, network, pull};

/// The oldest API that knows all that is asked of it: Docker 20.10.
const OLDEST: (usize, usize) = (1, 41);

pub(crate) async fn check(inner: &Inner, wanted: &Wanted) -> Vec<Finding> {
    let hosts = join_all(inner.fleet.engines.iter().map(|engine| host(inner, engine))).await;
    let mut found = Vec::new();
    let mut there = Vec::new();
    for (findings, info) in hosts {
        found.extend(findings);
        there.extend(info);
    }
    if !there.is_empty() {
        found.push(room(inner, &there, wanted));
    }
    found
}

/// `reachability`, or whose: only where there are several hosts is a host named.
fn about(inner: &Inner, engine: &Engine, what: &str) -> String {
    if inner.fleet.engines.len() == 1 { what.to_owned() } else { format!("{what} of {}", engine.entry.name) }
}

async fn host(inner: &Inner, engine: &Engine) -> (Vec<Finding>, Option<(SystemInfo, Option<u32>)>) {
    let subject = |what: &str| about(inner, engine, what);
    let info = match engine.info().await.map_err(Error::from) {
        Ok(info) => info,
        Err(error) => return (vec![unreachable(subject("reachability"), &engine.entry.address, &error)], None),
    };
    let mut found = vec![reached(subject("reachability"), engine, &info).await];
    found.extend(in_the_clear(subject("encryption"), engine, inner.config.certificates.is_some()));
    found.push(walls(subject("isolation"), &info));
    found.push(network_of(inner, engine, subject("network")).await);
    let mut images: BTreeMap<&str, (&Image, Vec<&str>)> = BTreeMap::new();
    for (provider, image) in inner.config.images.all() {
        let entry = images.entry(&image.reference).or_insert((image, Vec::new()));
        entry.1.push(provider.map_or("others", |provider| provider.as_str()));
    }
    for (image, providers) in images.into_values() {
        found.push(image_of(inner, engine, image, subject(&format!("image {}", providers.join(", ")))).await);
    }
    (found, Some((info, engine.entry.limit)))
}

fn unreachable(subject: String, address: &Address, error: &Error) -> Finding {
    let advice = match (error, address) {
        (Error::Unauthorized(_), _) => {
            "let this user through: a plugin or proxy of the engine turns it down".to_owned()
        }
        (_, Address::Unix(path)) => {
            format!("is Docker started, and may this user open {}? See DOCKER_HOST", path.display())
        }
        (_, Address::Ssh(at)) => format!("try: ssh {at} docker version"),
        (_, Address::Https(at) | Address::Tcp(at)) => {
            format!("does Docker listen at {at}, and with TLS if DOCKER_CERT_PATH is set?")
        }
    };
    Finding::failed(subject, format!("{address}: {}", error.detail()), advice)
}

async fn reached(subject: String, engine: &Engine, info: &SystemInfo) -> Finding {
    let version = info.server_version.as_deref().unwrap_or("of no version");
    let spoken = engine.client().await.map(bollard::Docker::client_version);
    let Ok(spoken) = spoken else { return Finding::passed(subject, format!("Docker {version}")) };
    let detail =
        format!("Docker {version} at {}, API {}.{}", engine.entry.address, spoken.major_version, spoken.minor_version);
    if (spoken.major_version, spoken.minor_version) < OLDEST {
        return Finding::warning(subject, detail, "use Docker 20.10 or later, which is what this was tried with");
    }
    Finding::passed(subject, detail)
}

fn in_the_clear(subject: String, engine: &Engine, certificates: bool) -> Option<Finding> {
    let Address::Tcp(at) = &engine.entry.address else { return None };
    let here = ["127.", "localhost:", "[::1]:"].iter().any(|own| at.starts_with(own));
    (!certificates && !here).then(|| {
        let detail = format!("{at} is spoken to in the clear: whoever reaches it is root on that machine");
        Finding::warning(subject, detail, "use TLS (DOCKER_CERT_PATH) or ssh://")
    })
}

/// Whether the machine can build the walls that are asked for.
fn walls(subject: String, info: &SystemInfo) -> Finding {
    let missing: Vec<&str> = [
        (info.memory_limit, "limits of memory"),
        (info.pids_limit, "limits of processes"),
        (info.cpu_cfs_quota, "limits of cpu"),
        (info.swap_limit, "limits of swap"),
    ]
    .into_iter()
    .filter_map(|(can, what)| (can == Some(false)).then_some(what))
    .collect();
    let options = info.security_options.as_deref().unwrap_or_default();
    let seccomp = options.iter().any(|option| option.contains("seccomp"));
    if missing.is_empty() && seccomp {
        return Finding::passed(subject, "limits of memory, swap, cpu and processes, and seccomp");
    }
    let filters = (!seccomp).then_some("seccomp");
    let missing: Vec<&str> = missing.into_iter().chain(filters).collect();
    let detail = format!("this machine has no {}", missing.join(", no "));
    Finding::warning(subject, detail, "enable it in the kernel; until then a runner may take more than it should")
}

async fn network_of(inner: &Inner, engine: &Engine, subject: String) -> Finding {
    let name = inner.config.network.as_deref().unwrap_or(&inner.own_network);
    let there = match network::find(engine, name).await.map_err(Error::from) {
        Ok(there) => there,
        Err(error) => return Finding::failed(subject, error.detail(), "see what the engine's log says"),
    };
    match (there.first(), &inner.config.network) {
        (None, None) => Finding::passed(subject, format!("{name} is made with the first runner")),
        (None, Some(_)) => {
            let advice = format!("docker network create -o com.docker.network.bridge.enable_icc=false {name}");
            Finding::failed(subject, format!("there is no network {name}"), advice)
        }
        (Some(_), None) if !there.iter().all(|network| network::is_ours(network, &inner.fleet.names)) => {
            let advice = format!("docker network rm {name}, or name one that is there for runners: DOCKER_NETWORK");
            Finding::failed(subject, format!("the name {name} is taken by a network that is not ours"), advice)
        }
        (Some(found), _) if network::sees_others(found) => {
            let advice = "make it with -o com.docker.network.bridge.enable_icc=false, or leave DOCKER_NETWORK out";
            Finding::warning(subject, format!("runners in {name} reach each other"), advice)
        }
        (Some(_), _) => Finding::passed(subject, format!("{name}, in which runners do not reach each other")),
    }
}

async fn image_of(inner: &Inner, engine: &Engine, image: &Image, subject: String) -> Finding {
    let reference = &image.reference;
    let needs: Vec<&str> = image.needs.iter().map(|need| need.as_str()).collect();
    let walls = if needs.is_empty() {
        String::new()
    } else {
        format!("; it has fewer walls, as it needs {}", needs.join(", "))
    };
    match pull::there(engine, reference).await {
        Ok(Some(present)) => {
            return Finding::passed(subject, format!("{reference} is there, {}{walls}", present.digest));
        }
        Ok(None) => {}
        Err(error) => return Finding::failed(subject, error.detail(), "see what the engine's log says"),
    }
    if inner.config.pull == Pull::Never {
        let advice = format!("docker pull {reference} there, or set DOCKER_PULL=missing");
        return Finding::failed(subject, format!("{reference} is not there, and DOCKER_PULL is never"), advice);
    }
    let credentials = inner.config.images.credentials(reference).map(body::credentials);
    let asked = engine.ask(|docker| async move { docker.inspect_registry_image(reference, credentials).await }).await;
    match asked.map_err(Error::from) {
        Ok(_) => Finding::passed(subject, format!("{reference} can be pulled{walls}")),
        Err(error @ (Error::Image(_) | Error::Unauthorized(_))) => Finding::failed(
            subject,
            format!("{reference}: {}", error.detail()),
            "is its name right, and may REGISTRY_USERNAME (at REGISTRY_SERVER) pull it?",
        ),
        Err(error) => {
            let advice = "can the engine reach the registry? Otherwise load the image there: docker load";
            Finding::failed(subject, format!("{reference} is not there: {}", error.detail()), advice)
        }
    }
}

/// What the machines have, held against what is wanted.
fn room(inner: &Inner, hosts: &[(SystemInfo, Option<u32>)], wanted: &Wanted) -> Finding {
    let sum = |of: fn(&SystemInfo) -> Option<i64>| {
        hosts.iter().filter_map(|(info, _)| u64::try_from(of(info)?).ok()).sum::<u64>()
    };
    let limits: Option<u64> = hosts.iter().map(|(_, limit)| limit.map(u64::from)).sum();
    let quota = Quota {
        runners: limits,
        cpu_millis: Some(sum(|info| info.ncpu) * 1000),
        memory_bytes: Some(sum(|info| info.mem_total)),
        ..Quota::default()
    };
    let [_, (_, platform)] = inner.fleet.names.ours();
    let setting = format!("{}_BOT_LIMIT", platform.to_uppercase().replace('-', "_"));
    let mut finding = quota.finding(wanted, &setting);
    finding.subject = "capacity".to_owned();
    finding.advice = finding.advice.map(|_| {
        let admitted = quota.admits(&wanted.size).map_or(0, |(admitted, _)| admitted);
        format!(
            "add hosts (DOCKER_HOSTS), ask for less (RUNNER_CPU_MILLIS, RUNNER_MEMORY_MB), or set {setting}={admitted}"
        )
    });
    finding
}

#[cfg(test)]
mod tests {
    use greenroom_deployer::Verdict;

    use super::*;

    #[test]
    fn missing_walls_are_named() {
        let all = SystemInfo {
            memory_limit: Some(true),
            pids_limit: Some(true),
            cpu_cfs_quota: Some(true),
            swap_limit: Some(true),
            security_options: Some(vec!["name=seccomp,profile=default".to_owned()]),
            ..SystemInfo::default()
        };
        assert_eq!(walls("isolation".into(), &all).verdict, Verdict::Passed);
        let less = SystemInfo { swap_limit: Some(false), security_options: None, ..all };
        let finding = walls("isolation".into(), &less);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert_eq!(finding.detail, "this machine has no limits of swap, no seccomp");
    }

    #[test]
    fn unreachable_hosts_have_advice() {
        let advice = |address: &str, error: Error| {
            let address = address.parse().expect("an address");
            unreachable("reachability".into(), &address, &error).advice.expect("there is one")
        };
        let away = || Error::Transient("away".into());
        assert!(advice("unix:///run/docker.sock", away()).contains("/run/docker.sock"));
        assert_eq!(advice("ssh://me@there", away()), "try: ssh me@there docker version");
        assert!(advice("tcp://there:2376", away()).contains("TLS"));
        assert!(advice("tcp://there:2376", Error::Unauthorized("no".into())).contains("turns it down"));
    }
}
