//! What is asked of an engine for a runner: pure. All the walls are built here.

use std::collections::{BTreeMap, HashMap};

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use greenroom_deployer::{Image, Launch, Names, Need, Registry};
use greenroom_domain::Resources;
use secrecy::ExposeSecret;

use crate::config::{Config, Gpus};
use crate::look::LIFETIME;
use crate::pull::Present;

/// Whoever a runner is when its image does not insist on more: nobody's number on any machine.
const USER: &str = "10001:10001";
/// A tenth of a second in microseconds: what the kernel counts processor time in.
const CPU_PERIOD: i64 = 100_000;
/// Of a processor, in the units that shares are in.
const CPU_SHARES: i64 = 1024;
/// The label with what was run, by digest where the engine knows one.
pub(crate) const IMAGE: &str = "greenroom.dev/image";

/// What a container is made of, beside the settings.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub config: &'a Config,
    /// What stands in the seccomp file.
    pub seccomp: Option<&'a str>,
    pub image: &'a Image,
    /// As it is on that host.
    pub present: &'a Present,
    pub network: &'a str,
    /// The host's own address in that network.
    pub gateway: Option<&'a str>,
    pub resources: Resources,
    pub labels: BTreeMap<String, String>,
    pub environment: BTreeMap<String, String>,
    pub command: Option<Vec<String>>,
    /// It is told what to do later, by its input.
    pub waits: bool,
}

/// The labels of a runner.
pub(crate) fn labels(names: &Names, launch: &Launch) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> =
        names.labels(&launch.spec).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    labels.insert(LIFETIME.to_owned(), launch.spec.max_lifetime.as_millis().to_string());
    labels
}

/// What a runner finds in its environment: what was fetched for it, and what these walls make necessary.
pub(crate) fn environment(
    config: &Config,
    image: &Image,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
    environment.extend(image.chrome_flags.clone().map(|flags| ("CHROME_FLAGS".to_owned(), flags)));
    if !config.sandbox {
        environment.insert("GREENROOM_SANDBOX".to_owned(), "off".to_owned());
    }
    environment.extend(given.clone());
    environment
}

/// The request.
pub(crate) fn create(plan: Plan<'_>) -> ContainerCreateBody {
    let Plan { config, image, resources, .. } = plan;
    let mut labels: HashMap<String, String> = plan.labels.into_iter().collect();
    labels.insert(IMAGE.to_owned(), plan.present.digest.clone());
    // docker inspect shows the environment to whoever has the socket; without a swarm there is no better place.
    let env = plan.environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    ContainerCreateBody {
        image: Some(image.reference.clone()),
        cmd: plan.command,
        env: Some(env),
        labels: Some(labels),
        user: (!image.needs(Need::Root)).then(|| USER.to_owned()),
        open_stdin: Some(plan.waits),
        // Whoever loses the connection in the middle of a line may say it again.
        stdin_once: Some(false),
        host_config: Some(HostConfig {
            network_mode: Some(plan.network.to_owned()),
            extra_hosts: plan.gateway.map(|gateway| vec![format!("host.docker.internal:{gateway}")]),
            tmpfs: Some(HashMap::from([(
                "/tmp".to_owned(),
                format!("rw,nosuid,nodev,exec,mode=1777,size={}", config.tmp_bytes),
            )])),
            shm_size: Some(signed(config.shm_bytes)),
            readonly_rootfs: Some(!image.needs(Need::WritableRoot)),
            security_opt: Some(security(image, plan.seccomp)),
            cap_drop: Some(vec!["ALL".to_owned()]),
            privileged: Some(false),
            pids_limit: Some(i64::from(config.pids)),
            // A first process that takes in orphans and hands signals on, where the image brings none.
            init: Some(!plan.present.has_init),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), format!("{}k", (config.log_bytes / 2 / 1024).max(1))),
                    ("max-file".to_owned(), "2".to_owned()),
                ])),
            }),
            device_requests: config.gpus.as_ref().map(|gpus| vec![device(gpus)]),
            mounts: config.recordings.as_ref().map(|volume| {
                vec![Mount {
                    typ: Some(if volume.source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }),
                    source: Some(volume.source.clone()),
                    target: Some(volume.target.clone()),
                    read_only: Some(false),
                    ..Mount::default()
                }]
            }),
            ..sizes(&resources)
        }),
        ..ContainerCreateBody::default()
    }
}

/// What it may take. More processors than there are is no mistake: it may have them all.
pub(crate) fn sizes(resources: &Resources) -> HostConfig {
    let limit = signed(resources.memory_limit());
    let asked = signed(resources.memory_bytes);
    HostConfig {
        memory: Some(limit),
        // As much with swap as without: no swap.
        memory_swap: Some(limit),
        memory_reservation: (asked < limit).then_some(asked),
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: Some((i64::from(resources.cpu_limit()) * CPU_PERIOD / 1000).max(1000)),
        cpu_shares: Some((i64::from(resources.cpu_millis) * CPU_SHARES / 1000).max(2)),
        ..HostConfig::default()
    }
}

fn security(image: &Image, seccomp: Option<&str>) -> Vec<String> {
    let privileges = (!image.needs(Need::NewPrivileges)).then(|| "no-new-privileges:true".to_owned());
    privileges.into_iter().chain(seccomp.map(|profile| format!("seccomp={profile}"))).collect()
}

fn device(gpus: &Gpus) -> DeviceRequest {
    let (count, device_ids) = match gpus {
        Gpus::All => (Some(-1), None),
        Gpus::Count(count) => (Some(i64::from(*count)), None),
        Gpus::Devices(ids) => (None, Some(ids.clone())),
    };
    DeviceRequest { count, device_ids, capabilities: Some(vec![vec!["gpu".to_owned()]]), ..DeviceRequest::default() }
}

/// Who pulls it.
pub(crate) fn credentials(registry: &Registry) -> DockerCredentials {
    DockerCredentials {
        username: Some(registry.username.clone()),
        password: Some(registry.password.expose_secret().to_owned()),
        serveraddress: Some(registry.server.clone()),
        ..DockerCredentials::default()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::address::Address;

    fn config() -> Config {
        Config::of(Address::Unix("/x".into()), "runner:1")
    }

    fn image(needs: &[Need]) -> Image {
        Image {
            reference: "runner:1".into(),
            needs: needs.iter().copied().collect::<BTreeSet<_>>(),
            chrome_flags: None,
        }
    }

    fn made(config: &Config, image: &Image, seccomp: Option<&str>) -> ContainerCreateBody {
        create(Plan {
            config,
            seccomp,
            image,
            present: &Present { digest: "runner@sha256:1".into(), labels: BTreeMap::new(), has_init: false },
            network: "greenroom-docker",
            gateway: Some("172.18.0.1"),
            resources: Resources {
                cpu_millis: 250,
                memory_bytes: 1 << 28,
                cpu_limit_millis: Some(4000),
                memory_limit_bytes: Some(1 << 30),
            },
            labels: BTreeMap::from([("greenroom.dev/runner".to_owned(), "bot-1".to_owned())]),
            environment: environment(config, image, &BTreeMap::from([("BOT_ID".to_owned(), "7".to_owned())])),
            command: None,
            waits: false,
        })
    }

    #[test]
    fn every_wall_stands() {
        let body = made(&config(), &image(&[]), None);
        let host = body.host_config.expect("there");
        assert_eq!(body.user.as_deref(), Some("10001:10001"));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
        assert_eq!(
            (host.memory, host.memory_swap, host.memory_reservation),
            (Some(1 << 30), Some(1 << 30), Some(1 << 28))
        );
        assert_eq!((host.cpu_period, host.cpu_quota, host.cpu_shares), (Some(100_000), Some(400_000), Some(256)));
        assert_eq!((host.pids_limit, host.init, host.privileged), (Some(1024), Some(true), Some(false)));
        assert_eq!(host.network_mode.as_deref(), Some("greenroom-docker"));
        assert_eq!((host.binds, host.mounts, host.devices), (None, None, None), "nothing of the host's");
        let env = body.env.expect("there");
        for expected in ["BOT_ID=7", "HOME=/tmp", "GREENROOM_SANDBOX=off"] {
            assert!(env.iter().any(|line| line == expected), "{expected} is not in {env:?}");
        }
        assert_eq!(body.labels.expect("there").get(IMAGE).map(String::as_str), Some("runner@sha256:1"));
    }

    #[test]
    fn each_need_takes_away_its_own_wall() {
        let walls = |needs: &[Need]| {
            let body = made(&config(), &image(needs), None);
            let host = body.host_config.expect("there");
            (
                body.user.is_some(),
                host.readonly_rootfs == Some(true),
                host.security_opt.is_some_and(|options| !options.is_empty()),
            )
        };
        assert_eq!(walls(&[Need::Root]), (false, true, true));
        assert_eq!(walls(&[Need::WritableRoot]), (true, false, true));
        assert_eq!(walls(&[Need::NewPrivileges]), (true, true, false));
        assert_eq!(
            made(&config(), &image(&Need::ALL), None).host_config.expect("there").cap_drop,
            Some(vec!["ALL".to_owned()]),
            "always"
        );
    }

    #[test]
    fn settings_add_what_they_say() {
        let mut config = config();
        config.sandbox = true;
        config.gpus = Some(Gpus::Devices(vec!["a".into()]));
        config.recordings = "parts:/app/storage/recordings".parse().ok();
        let own = Image { chrome_flags: Some("--a".into()), ..image(&[]) };
        let body = made(&config, &own, Some("{\"defaultAction\":\"x\"}"));
        let (host, env) = (body.host_config.expect("there"), body.env.expect("there"));
        assert!(
            env.contains(&"CHROME_FLAGS=--a".to_owned())
                && !env.iter().any(|line| line.starts_with("GREENROOM_SANDBOX"))
        );
        assert!(host.security_opt.expect("there").contains(&"seccomp={\"defaultAction\":\"x\"}".to_owned()));
        assert_eq!(host.device_requests.expect("there")[0].device_ids, Some(vec!["a".to_owned()]));
        assert_eq!(host.mounts.expect("there")[0].typ, Some(MountType::VOLUME));
    }

    #[test]
    fn the_runners_environment_overrides_defaults() {
        let given = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
        assert_eq!(environment(&config(), &image(&[]), &given)["HOME"], "/home/me");
    }
}
