//! What a launch looks like to the API: one Job, and one Secret that belongs to it. Pure.
//!
//! The Job comes first. Its pod names a Secret that is not there yet, and a node starts no container without it: so nothing
//! runs before the Secret is made, which is made as the Job's own from the beginning and goes with it. The other way round a
//! process that dies in between would leave a Secret behind, and finding those takes the right to read every Secret of the
//! namespace. A Job that never got its Secret ends by its deadline, and is refused before that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use greenroom_deployer::{Image, Launch, Names, Need, Registry};
use greenroom_domain::{OwnerKind, Resources, RunnerId};
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvFromSource, LocalObjectReference, PodSecurityContext, PodSpec,
    PodTemplateSpec, ResourceRequirements, Secret, SecretEnvSource, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use secrecy::ExposeSecret;

use crate::config::{Config, Sizes};
use crate::placing::Seccomp;

/// The container that a runner is.
pub const RUNNER: &str = "runner";
/// Keeps an ended pod from vanishing before its exit code has been read: a pod that is deleted (by us, by whoever drains its
/// node, by the Job's deadline or its time to live) loses it otherwise.
pub const FINALIZER: &str = "greenroom.dev/remains";
/// Nobody, and in no group of the image's.
const USER: i64 = 10_001;
/// What the pods of a runner are selected by, beside what all of ours are.
#[must_use]
pub fn selector(names: &Names, runner: Option<RunnerId>) -> String {
    let ours = names.ours();
    let own = runner.map(|runner| (greenroom_deployer::RUNNER, runner.to_string()));
    let labels = ours.into_iter().chain(own).map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// The Job.
#[must_use]
pub fn job(config: &Config, names: &Names, launch: &Launch) -> Job {
    let spec = &launch.spec;
    let labels: BTreeMap<String, String> =
        names.labels(spec).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let name = names.runner(spec.runner);
    let pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            // An autoscaler that tidies up would end a meeting.
            annotations: Some(BTreeMap::from([(
                "cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(),
                "false".to_owned(),
            )])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(config, names, launch, &name)),
    };
    Job {
        metadata: ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            // Whether there is another attempt is its owner's decision, and that one has another name.
            backoff_limit: Some(0),
            // It counts from the Job's making (looking for a node and pulling are part of it) and from a time without
            // fractions: one second more, and nobody is ended early.
            active_deadline_seconds: Some(seconds(spec.max_lifetime).saturating_add(1)),
            ttl_seconds_after_finished: Some(i32::try_from(config.ttl.as_secs()).unwrap_or(i32::MAX)),
            template: pod,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Whole seconds, and never none of them.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

fn pod(config: &Config, names: &Names, launch: &Launch, name: &str) -> PodSpec {
    let image = config.images.of(&launch.spec);
    let kind = launch.spec.runner.kind;
    let runner = container(config, launch, &image, name);
    let volumes = vec![
        memory("shm", config.walls.shm_bytes),
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource { medium: None, size_limit: Some(bytes(config.walls.tmp_bytes)) }),
            ..Volume::default()
        },
    ];
    let registry = config.images.credentials(&image.reference).map(|_| registry_name(name));
    let pull_secrets: Vec<_> =
        config.pull_secrets.iter().cloned().chain(registry).map(|name| LocalObjectReference { name }).collect();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        containers: match kind {
            OwnerKind::Bot => vec![runner],
            OwnerKind::Session => config.session.containers(runner),
        },
        volumes: Some(volumes),
        image_pull_secrets: some(pull_secrets),
        // A runner has no business with the cluster: no token, and no list of its services.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: config.walls.service_account.clone(),
        host_network: Some(false),
        termination_grace_period_seconds: Some(seconds(config.grace)),
        security_context: Some(pod_security(config, &image)),
        node_selector: some(config.placing.node_selector.clone()),
        tolerations: some(config.placing.tolerations.iter().map(|toleration| toleration.spec()).collect::<Vec<_>>()),
        priority_class_name: config.placing.priority_class.clone(),
        scheduler_name: config.placing.scheduler.clone(),
        runtime_class_name: config.walls.runtime_class.clone(),
        topology_spread_constraints: some(spread(config, names)),
        ..PodSpec::default()
    }
}

/// None where there is nothing: the API leaves such out, too.
fn some<T: IntoIterator>(all: T) -> Option<T>
where
    for<'a> &'a T: IntoIterator,
{
    let empty = (&all).into_iter().next().is_none();
    (!empty).then_some(all)
}

fn spread(config: &Config, names: &Names) -> Vec<TopologySpreadConstraint> {
    let ours = || names.ours().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let over = |key: &String| TopologySpreadConstraint {
        topology_key: key.clone(),
        max_skew: 1,
        // A full node is no reason to wait for a meeting.
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector { match_labels: Some(ours()), ..LabelSelector::default() }),
        ..TopologySpreadConstraint::default()
    };
    config.placing.spread.iter().map(over).collect()
}

fn pod_security(config: &Config, image: &Image) -> PodSecurityContext {
    let root = image.needs(Need::Root);
    PodSecurityContext {
        run_as_non_root: Some(!root),
        run_as_user: (!root).then_some(USER),
        run_as_group: (!root).then_some(USER),
        fs_group: (!root).then_some(USER),
        seccomp_profile: Some(config.walls.seccomp.spec()),
        ..PodSecurityContext::default()
    }
}

fn container(config: &Config, launch: &Launch, image: &Image, name: &str) -> Container {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    Container {
        name: RUNNER.to_owned(),
        image: Some(image.reference.clone()),
        image_pull_policy: Some(config.pull_policy.as_str().to_owned()),
        command: some(config.command.clone()),
        env_from: Some(vec![EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: name.to_owned(), optional: Some(false) }),
            ..EnvFromSource::default()
        }]),
        resources: Some(requirements(&sized(&config.sizes, &launch.spec.resources))),
        volume_mounts: Some(vec![mount("shm", "/dev/shm"), mount("tmp", "/tmp")]),
        security_context: Some(SecurityContext {
            privileged: Some(false),
            allow_privilege_escalation: Some(image.needs(Need::NewPrivileges)),
            read_only_root_filesystem: Some(!image.needs(Need::WritableRoot)),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn memory(name: &str, size: u64) -> Volume {
    let memory = EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: Some(bytes(size)) };
    Volume { name: name.to_owned(), empty_dir: Some(memory), ..Volume::default() }
}

fn bytes(bytes: u64) -> Quantity {
    Quantity(bytes.to_string())
}

fn requirements(size: &Resources) -> ResourceRequirements {
    let of = |cpu: u32, memory: u64| {
        BTreeMap::from([("cpu".to_owned(), Quantity(format!("{cpu}m"))), ("memory".to_owned(), bytes(memory))])
    };
    ResourceRequirements {
        requests: Some(of(size.cpu_millis, size.memory_bytes)),
        limits: Some(of(size.cpu_limit(), size.memory_limit())),
        claims: None,
    }
}

/// What a runner asks for on this platform: one of the usual size may have another one here.
#[must_use]
pub fn sized(sizes: &Sizes, asked: &Resources) -> Resources {
    let small = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
    let mut size = *asked;
    if asked.cpu_millis == sizes.usual.0 {
        if let Some(request) = sizes.cpu_request {
            size.cpu_millis = small(request.millis());
            // As far above it as before.
            size.cpu_limit_millis = asked
                .cpu_limit_millis
                .map(|limit| small(u64::from(limit) * u64::from(size.cpu_millis) / u64::from(asked.cpu_millis.max(1))));
        }
        size.cpu_limit_millis = sizes.cpu_limit.map(|limit| small(limit.millis())).or(size.cpu_limit_millis);
    }
    if asked.memory_bytes == sizes.usual.1 {
        if let Some(request) = sizes.memory_request {
            size.memory_bytes = request.whole();
            let scaled = |limit: u64| {
                let limit = u128::from(limit) * u128::from(size.memory_bytes) / u128::from(asked.memory_bytes.max(1));
                u64::try_from(limit).unwrap_or(u64::MAX)
            };
            size.memory_limit_bytes = asked.memory_limit_bytes.map(scaled);
        }
        let usual = sizes.usual_limit.filter(|(elsewhere, _)| asked.memory_limit() == *elsewhere).map(|(_, here)| here);
        size.memory_limit_bytes = sizes.memory_limit.map(|limit| limit.whole()).or(usual).or(size.memory_limit_bytes);
    }
    size
}

/// What a runner finds in its environment: what its owner gives it, and what this kind of place takes.
#[must_use]
pub fn environment(config: &Config, launch: &Launch) -> BTreeMap<String, String> {
    let image = config.images.of(&launch.spec);
    let mut own = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
    own.extend(image.chrome_flags.clone().map(|flags| ("CHROME_FLAGS".to_owned(), flags)));
    // A sandbox of Chromium's takes namespaces of its own, which that profile has no calls for, or a set-user-id program.
    if config.walls.seccomp == Seccomp::RuntimeDefault && !image.needs(Need::NewPrivileges) {
        own.insert("GREENROOM_SANDBOX".to_owned(), "off".to_owned());
    }
    own.extend(launch.environment.clone());
    own
}

/// What belongs to a Job and goes with it.
fn owned(names: &Names, launch: &Launch, name: String, uid: &str) -> ObjectMeta {
    let labels = names.labels(&launch.spec).into_iter().map(|(key, value)| (key.to_owned(), value));
    ObjectMeta {
        name: Some(name),
        labels: Some(labels.collect()),
        owner_references: Some(vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: names.runner(launch.spec.runner),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    }
}

/// The Secrets of a Job: its registry's where it has one, and its environment, which the runner waits for and which comes last.
#[must_use]
pub fn secrets(config: &Config, names: &Names, launch: &Launch, uid: &str) -> Vec<Secret> {
    let name = names.runner(launch.spec.runner);
    let data = environment(config, launch).into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
    let environment = Secret {
        metadata: owned(names, launch, name.clone(), uid),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    };
    let image = config.images.of(&launch.spec);
    let registry = config.images.credentials(&image.reference).map(|registry| Secret {
        metadata: owned(names, launch, registry_name(&name), uid),
        immutable: Some(true),
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(docker_config(registry)))])),
        ..Secret::default()
    });
    registry.into_iter().chain([environment]).collect()
}

fn registry_name(name: &str) -> String {
    format!("{name}-registry")
}

fn docker_config(registry: &Registry) -> Vec<u8> {
    let (user, password) = (&registry.username, registry.password.expose_secret());
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let auths =
        serde_json::json!({ "auths": { &registry.server: { "username": user, "password": password, "auth": auth } } });
    auths.to_string().into_bytes()
}

/// The strictest level of pod security that admits an image's pods: `restricted`, `baseline` or `privileged`.
#[must_use]
pub fn level(config: &Config, needs: &BTreeSet<Need>) -> &'static str {
    match config.walls.seccomp {
        Seccomp::Unconfined => "privileged",
        Seccomp::RuntimeDefault | Seccomp::Localhost(_) => {
            let walls = [Need::Root, Need::NewPrivileges];
            if walls.iter().any(|need| needs.contains(need)) { "baseline" } else { "restricted" }
        }
    }
}

#[cfg(test)]
mod tests;
