//! What is asked of ECS to start a runner.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_sdk_ecs::operation::run_task::RunTaskInput;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, KeyValuePair, LaunchType,
    NetworkConfiguration, PlacementStrategy, PlacementStrategyType, Tag, TaskOverride,
};
use greenroom_deployer::{Error, Image, Launch, Names};
use greenroom_domain::RunnerId;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::definition::Definition;
use crate::place::Place;
use crate::size::Size;
use crate::task::LIFETIME;

/// How long the JSON of all overrides may be:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>.
const LONGEST_OVERRIDES: usize = 8192;

/// By this a repeated request is recognised, for 24 hours or until an hour after the task ended, whatever comes first: 64
/// characters for each name on each platform. Where a name's token was spent on nothing, `again` makes another.
#[must_use]
pub fn token(names: &Names, runner: RunnerId, again: Option<&Place>) -> String {
    let mut hash = Sha256::new();
    for part in names.ours().iter().map(|(_, value)| value.as_str()).chain([runner.to_string().as_str()]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    if let Some(place) = again {
        hash.update(place.name().as_bytes());
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut token, byte| {
        let _ = write!(token, "{byte:02x}");
        token
    })
}

/// What a runner finds in its environment: what its owner gave it, and what its image needs to know about this platform.
#[must_use]
pub fn environment(launch: &Launch, image: &Image, sandbox: bool) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
    if !sandbox {
        environment.insert("GREENROOM_SANDBOX".to_owned(), "off".to_owned());
    }
    environment.extend(image.chrome_flags.clone().map(|flags| ("CHROME_FLAGS".to_owned(), flags)));
    // What its owner says is said last.
    environment.extend(launch.environment.clone());
    environment
}

/// The whole request, but for its token.
///
/// # Errors
/// `Unschedulable` where AWS sells nothing as large, `Rejected` where its environment is too long for ECS.
pub fn run_task(
    launch: &Launch,
    image: &Image,
    family: &str,
    definition: &Definition,
    place: &Place,
    config: &Config,
    names: &Names,
) -> Result<RunTaskInput, Error> {
    let spec = &launch.spec;
    let asked = config.usual.sized(&spec.resources);
    let size = if place.is_fargate() {
        Size::fargate(&asked).ok_or_else(|| {
            let asked = (asked.cpu_millis, asked.memory_limit() >> 20);
            Error::Unschedulable(format!("Fargate sells nothing as large as {}m and {} MiB", asked.0, asked.1))
        })?
    } else {
        Size::machine(&asked)
    };
    let environment = environment(launch, image, config.sandbox);
    let length = overrides_length(&environment, &definition.container.name);
    if length > LONGEST_OVERRIDES {
        return Err(Error::Rejected(format!(
            "its environment takes {length} characters in a request, ECS takes {LONGEST_OVERRIDES}"
        )));
    }
    let mut request = RunTaskInput::builder()
        .cluster(&config.cluster)
        .task_definition(family)
        .count(1)
        .started_by(names.runner(spec.runner))
        .set_tags(Some(tags(launch, names)))
        .overrides(overrides(environment, size, definition, place.is_fargate()));
    request = match place {
        Place::Fargate => request.launch_type(LaunchType::Fargate),
        Place::Provider(name) => {
            let item = CapacityProviderStrategyItem::builder().capacity_provider(name).weight(1).build();
            request.capacity_provider_strategy(item.map_err(|error| Error::Rejected(error.to_string()))?)
        }
    };
    if place.is_fargate() {
        // Fargate spreads over the zones of the subnets by itself.
        request = request.platform_version(&config.platform_version);
    } else {
        let zones =
            PlacementStrategy::builder().r#type(PlacementStrategyType::Spread).field("attribute:ecs.availability-zone");
        request = request.placement_strategy(zones.build());
    }
    if definition.network == "awsvpc" {
        request = request.network_configuration(network(config, place.is_fargate())?);
    }
    request.build().map_err(|error| Error::Rejected(error.to_string()))
}

fn tags(launch: &Launch, names: &Names) -> Vec<Tag> {
    let lifetime = (LIFETIME, launch.spec.max_lifetime.as_secs().max(1).to_string());
    let tags = names.labels(&launch.spec).into_iter().chain([lifetime]);
    tags.map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn overrides(
    environment: BTreeMap<String, String>,
    size: Size,
    definition: &Definition,
    fargate: bool,
) -> TaskOverride {
    let pairs = environment.into_iter().map(|(name, value)| KeyValuePair::builder().name(name).value(value).build());
    let mut container =
        ContainerOverride::builder().name(&definition.container.name).set_environment(Some(pairs.collect()));
    let mut task = TaskOverride::builder().cpu(size.cpu_units.to_string()).memory(size.memory_mib.to_string());
    let mib = |mib: u32| i32::try_from(mib).unwrap_or(i32::MAX);
    if definition.containers == 1 {
        // Alone in its task it has all of it, whatever the task definition says of the container.
        container = container.cpu(mib(size.cpu_units)).memory(mib(size.memory_mib));
        if !fargate {
            container = container.memory_reservation(mib(size.reserved_mib));
            // The task's own would be set aside as a whole.
            task = TaskOverride::builder();
        }
    }
    task.container_overrides(container.build()).build()
}

fn network(config: &Config, fargate: bool) -> Result<NetworkConfiguration, Error> {
    // Machines of one's own give no public addresses to tasks.
    let public = if config.network.public_ip && fargate { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(config.network.subnets.clone()))
        .set_security_groups(Some(config.network.security_groups.clone()))
        .assign_public_ip(public)
        .build()
        .map_err(|error| Error::Rejected(error.to_string()))?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
}

/// As long as ECS counts it, or a little longer.
fn overrides_length(environment: &BTreeMap<String, String>, container: &str) -> usize {
    let pairs: Vec<_> =
        environment.iter().map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect();
    let sizes = [("cpu", 196_608), ("memory", 1_000_000), ("memoryReservation", 1_000_000)];
    let mut override_ = serde_json::json!({ "name": container, "environment": pairs });
    for (name, most) in sizes {
        override_[name] = most.into();
    }
    let whole = serde_json::json!({ "containerOverrides": [override_], "cpu": "196608", "memory": "1000000" });
    whole.to_string().chars().count()
}

#[cfg(test)]
mod tests;
