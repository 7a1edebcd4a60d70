//! What `greenroom platforms check` finds out about ECS. It looks, and changes nothing.

use std::collections::BTreeMap;

use aws_sdk_ecs::types;
use greenroom_deployer::{Class, Error, Finding, Image, Need, Wanted};
use greenroom_domain::{Provider, Resources};

use crate::config::Config;
use crate::definition::{Container, Definition, Logs};
use crate::driver::Inner;
use crate::place::{FARGATE, FARGATE_SPOT, Places, Spot};
use crate::size::Size;

/// What the settings name where they name nothing.
const DEFAULT_IMAGE: &str = "greenroom-bot:latest";

/// Everything that can be seen with what the verbs need.
pub async fn check(this: &Inner, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cluster = match this.api.describe_cluster().await {
        Ok(cluster) => cluster,
        Err(error) => return vec![unreachable(&error)],
    };
    findings.push(Finding::passed("credentials", format!("ECS answers in {}", this.config.region)));
    findings.extend(clusters(cluster.as_ref(), &this.config));
    let mut groups = BTreeMap::new();
    for (provider, family, image) in families(&this.config) {
        let subject = match provider {
            Some(provider) => format!("task definition {provider}"),
            None => format!("task definition {family}"),
        };
        match this.catalogue.latest(&family).await {
            Ok(definition) => {
                findings.extend(definitions(&subject, &definition, &image, &this.config));
                groups.extend(definition.container.logs.clone().map(|logs| (logs.group.clone(), logs)));
            }
            Err(error) => {
                findings.push(Finding::failed(subject, error.to_string(), definition_advice(&error, &family)))
            }
        }
    }
    for logs in groups.into_values() {
        findings.push(log_group(&logs, this.logs.has_group(&logs.group, &logs.region).await));
    }
    let wanted = Wanted { size: this.config.usual.sized(&wanted.size), ..*wanted };
    findings.push(quota(&this.config.places, &wanted));
    findings
}

fn log_group(logs: &Logs, found: Result<bool, Error>) -> Finding {
    let subject = format!("logs {}", logs.group);
    match found {
        Ok(true) => Finding::passed(subject, "they can be read"),
        Ok(false) => Finding::failed(
            subject,
            "there is no such log group, and tasks that cannot write their lines do not start",
            format!("aws logs create-log-group --log-group-name {}", logs.group),
        ),
        Err(error) => {
            Finding::warning(subject, error.to_string(), "allow logs:GetLogEvents, and check the way to CloudWatch")
        }
    }
}

fn unreachable(error: &Error) -> Finding {
    match error.class() {
        Class::Unauthorized => Finding::failed(
            "credentials",
            error.to_string(),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role, with the policy of deploy/terraform/aws",
        ),
        _ => Finding::failed("reachability", error.to_string(), "check AWS_REGION, AWS_ECS_CLUSTER and the way to AWS"),
    }
}

fn definition_advice(error: &Error, family: &str) -> String {
    match error.class() {
        Class::Unauthorized => "allow ecs:DescribeTaskDefinition".to_owned(),
        _ => format!("register a task definition {family} (deploy/terraform/aws makes one for each provider)"),
    }
}

/// Every family that may be run, with the provider it is for and what its image is said to need.
fn families(config: &Config) -> Vec<(Option<Provider>, String, Image)> {
    let set = &config.definitions;
    let named = |provider: &Provider| config.images.named(None, provider);
    let other = Provider::new("other").expect("a name");
    let mut families: Vec<_> = set
        .providers
        .iter()
        .map(|(provider, family)| (Some(provider.clone()), family.clone(), named(provider)))
        .chain(set.other.iter().map(|family| (None, family.clone(), named(&other))))
        .collect();
    for (image, family) in &set.images {
        families.push((None, family.clone(), config.images.named(Some(image), &other)));
    }
    families
}

fn clusters(cluster: Option<&types::Cluster>, config: &Config) -> Vec<Finding> {
    let name = &config.cluster;
    let Some(cluster) = cluster.filter(|cluster| cluster.status() == Some("ACTIVE")) else {
        return vec![Finding::failed(
            "cluster",
            format!("there is no active cluster {name}"),
            "set AWS_ECS_CLUSTER, or make it",
        )];
    };
    let mut findings = vec![Finding::passed("cluster", format!("{name} is active"))];
    let used = |name: &str| config.places.providers.iter().any(|used| used == name);
    let spot = config.places.providers.is_empty() && config.places.spot != Spot::Never;
    let mut needed: Vec<&str> = config.places.providers.iter().map(String::as_str).collect();
    needed.extend(spot.then_some(FARGATE_SPOT).filter(|spot| !used(spot)));
    let missing: Vec<&str> =
        needed.into_iter().filter(|needed| !cluster.capacity_providers().iter().any(|there| there == needed)).collect();
    findings.push(if missing.is_empty() {
        Finding::passed("capacity providers", "all that are set are the cluster's")
    } else {
        let missing = missing.join(", ");
        Finding::failed(
            "capacity providers",
            format!("{name} is not associated with {missing}"),
            format!("aws ecs put-cluster-capacity-providers --cluster {name} with {missing}, or leave it out"),
        )
    });
    findings
}

fn definitions(subject: &str, definition: &Definition, image: &Image, config: &Config) -> Vec<Finding> {
    let container = &definition.container;
    let mut findings = Vec::new();
    let mut add = |ok: bool, bad: Finding| findings.extend((!ok).then_some(bad));
    if let Some(why) = definition.refusal() {
        let advice =
            "network mode awsvpc, no pidMode or ipcMode host, no volume with host.sourcePath, nothing privileged";
        add(false, Finding::failed(subject, why, advice));
    }
    let fargate = config.places.providers.is_empty()
        || config.places.providers.iter().any(|name| [FARGATE, FARGATE_SPOT].contains(&name.as_str()));
    let compatible = !fargate || definition.compatible.iter().any(|kind| kind == FARGATE);
    add(
        compatible && (!fargate || definition.network == "awsvpc"),
        Finding::failed(
            subject,
            format!("{} cannot run on Fargate", definition.arn),
            "register it with requiresCompatibilities FARGATE and networkMode awsvpc",
        ),
    );
    add(
        definition.has_execution_role || !fargate,
        Finding::warning(
            subject,
            "it has no execution role",
            "private images and logs need one: executionRoleArn (deploy/terraform/aws makes it)",
        ),
    );
    for hole in holes(definition, image) {
        add(
            false,
            Finding::warning(
                subject,
                hole,
                "deploy/terraform/aws shows a hardened one, or declare it: RUNNER_IMAGE_…_NEEDS",
            ),
        );
    }
    add(
        container.logs.is_some(),
        Finding::warning(
            subject,
            "what its runners print cannot be read",
            "logConfiguration awslogs with awslogs-group, awslogs-region and awslogs-stream-prefix",
        ),
    );
    for (strange, advice) in strange_images(container, image, config) {
        add(false, Finding::warning(subject, strange, advice));
    }
    let grace = container.stop_timeout.unwrap_or(30);
    add(
        grace >= 30,
        Finding::warning(
            subject,
            format!("a runner that is stopped is killed after {grace} s"),
            "stopTimeout up to 120 s gives it time to finish its upload",
        ),
    );
    let good = findings.is_empty();
    if good {
        findings.push(Finding::passed(subject, format!("{} runs {}", definition.arn, container.image)));
    }
    findings
}

/// Where the settings say one thing of images, and the task definition, which is what counts, another.
fn strange_images(container: &Container, image: &Image, config: &Config) -> Vec<(String, &'static str)> {
    let mut strange = Vec::new();
    if image.reference != DEFAULT_IMAGE && !image.reference.eq_ignore_ascii_case(&container.image) {
        let detail = format!("it runs {}, and the settings name {}", container.image, image.reference);
        strange.push((detail, "ECS runs what the task definition names: register a revision with that image"));
    }
    if config.images.credentials(&container.image).is_some() && !container.has_credentials {
        let detail = format!("it names no credentials for {}", container.image);
        strange.push((
            detail,
            "ECS pulls with repositoryCredentials of the task definition, and not with REGISTRY_USERNAME",
        ));
    }
    strange
}

/// What a task definition leaves open without its image being said to need it.
fn holes(definition: &Definition, image: &Image) -> Vec<String> {
    let container = &definition.container;
    let user = container.user.as_deref().unwrap_or_default();
    let root = matches!(user.split(':').next(), Some("" | "0" | "root"));
    let mut holes = Vec::new();
    if root && !image.needs(Need::Root) {
        holes.push("it names no user, so that its image's own counts, which may be root".to_owned());
    }
    if !container.read_only && !image.needs(Need::WritableRoot) {
        holes.push("its root file system can be written".to_owned());
    }
    if !container.drops_all {
        holes.push("it does not drop all capabilities".to_owned());
    }
    holes
}

/// Quotas are another service's: all that can be said is what to compare.
fn quota(places: &Places, wanted: &Wanted) -> Finding {
    let Resources { cpu_millis, .. } = wanted.size;
    let fargate = [FARGATE, FARGATE_SPOT];
    if !places.providers.is_empty() && !places.providers.iter().any(|name| fargate.contains(&name.as_str())) {
        let why = "on machines of one's own it is their number that counts";
        return Finding::skipped("quota", why, "look at what their auto scaling group may grow to");
    }
    let Some(size) = Size::fargate(&wanted.size) else {
        return Finding::failed(
            "quota",
            format!("Fargate sells nothing as large as {cpu_millis}m and {} MiB", wanted.size.memory_limit() >> 20),
            "ask for less (AWS_ECS_BOT_CPU and AWS_ECS_BOT_MEMORY, or RUNNER_CPU_MILLIS and RUNNER_MEMORY_MB)",
        );
    };
    let units = u64::from(size.cpu_units) * u64::from(wanted.limit);
    let processors = units.div_ceil(1024);
    let spot = match places.spot {
        Spot::Never => "",
        Spot::FirstAttempt | Spot::Always => ", and L-36FBB829 for Spot",
    };
    Finding::skipped(
        "quota",
        format!(
            "AWS_BOT_LIMIT={} runners of {} CPU units and {} MiB are {processors} vCPUs, and ECS does not tell the account's quota",
            wanted.limit, size.cpu_units, size.memory_mib
        ),
        format!(
            "aws service-quotas get-service-quota --service-code fargate --quota-code L-3032A538 (on demand{spot})"
        ),
    )
}

#[cfg(test)]
mod tests;
