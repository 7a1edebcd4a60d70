use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ecs::types;
use greenroom_chassis::Settings;
use greenroom_domain::{
    Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerSpec, TenantId, Timestamp,
};

use super::*;
use crate::definition::Container;

fn names(platform: &str) -> Names {
    Names::new(Installation::new("greenroom").expect("valid"), PlatformName::new(platform).expect("valid"))
}

fn config() -> Config {
    let given = [
        ("AWS_REGION", "us-east-2"),
        ("AWS_ECS_CLUSTER", "bots"),
        ("AWS_ECS_SUBNETS", "subnet-a,subnet-b"),
        ("AWS_ECS_SECURITY_GROUPS", "sg-a"),
        ("AWS_ECS_TASK_DEF", "bot"),
    ];
    Config::parse(&mut Settings::new(given.map(|(name, value)| (name.to_owned(), value.to_owned())), ""))
}

fn launch() -> Launch {
    let spec = RunnerSpec {
        runner: RunnerId::of_bot(BotId::generate(), Attempt(2)),
        tenant: TenantId::generate(),
        provider: Provider::new("zoom").expect("valid"),
        image: None,
        resources: Resources { memory_limit_bytes: Some(3 << 30), ..Resources::default() },
        max_lifetime: Duration::from_secs(7200),
    };
    let environment = BTreeMap::from([("GREENROOM_TOKEN".to_owned(), "hush".to_owned())]);
    Launch { spec, environment, start_by: Timestamp::UNIX_EPOCH, standing: None }
}

fn definition(network: &str, containers: usize) -> Definition {
    Definition {
        arn: "arn:bot:3".to_owned(),
        network: network.to_owned(),
        has_execution_role: true,
        containers,
        container: Container { name: "zoom-bot".to_owned(), ..Container::default() },
        ..Definition::default()
    }
}

fn image() -> Image {
    Image { reference: "bot:1".to_owned(), needs: BTreeSet::new(), chrome_flags: Some("--mute-audio".to_owned()) }
}

fn asked(place: &Place, definition: &Definition) -> RunTaskInput {
    run_task(&launch(), &image(), "bot", definition, place, &config(), &names("aws")).expect("it can be asked")
}

fn container(request: &RunTaskInput) -> &types::ContainerOverride {
    request.overrides().and_then(|overrides| overrides.container_overrides().first()).expect("one")
}

#[test]
fn a_fargate_task_is_one_of_a_size_that_is_sold_in_the_subnets_with_a_public_address() {
    let request = asked(&Place::Fargate, &definition("awsvpc", 1));
    assert_eq!(request.launch_type(), Some(&LaunchType::Fargate));
    assert!(request.capacity_provider_strategy().is_empty() && request.placement_strategy().is_empty());
    assert_eq!((request.platform_version(), request.count()), (Some("LATEST"), Some(1)));
    let overrides = request.overrides().expect("some");
    assert_eq!((overrides.cpu(), overrides.memory()), (Some("1024"), Some("3072")));
    assert_eq!((container(&request).cpu(), container(&request).memory()), (Some(1024), Some(3072)));
    let vpc = request.network_configuration().and_then(NetworkConfiguration::awsvpc_configuration).expect("one");
    assert_eq!(vpc.subnets(), ["subnet-a", "subnet-b"]);
    assert_eq!(vpc.assign_public_ip(), Some(&AssignPublicIp::Enabled));
}

#[test]
fn spot_is_a_capacity_provider_of_fargate() {
    let request = asked(&Place::Provider("FARGATE_SPOT".to_owned()), &definition("awsvpc", 2));
    assert_eq!(request.launch_type(), None);
    let strategy: Vec<_> = request.capacity_provider_strategy().iter().map(|item| item.capacity_provider()).collect();
    assert_eq!(strategy, ["FARGATE_SPOT"]);
    assert_eq!(container(&request).memory(), None, "it shares the task with others");
}

#[test]
fn on_machines_of_ones_own_less_is_set_aside_than_may_be_taken() {
    let request = asked(&Place::Provider("ours".to_owned()), &definition("bridge", 1));
    assert_eq!(request.network_configuration(), None, "bridges are the machine's");
    assert_eq!(request.platform_version(), None);
    assert_eq!(request.placement_strategy().len(), 1, "spread over zones");
    let container = container(&request);
    assert_eq!((container.memory_reservation(), container.memory()), (Some(2048), Some(3072)));
    assert_eq!(request.overrides().and_then(TaskOverride::memory), None);
    let request = asked(&Place::Provider("ours".to_owned()), &definition("awsvpc", 1));
    let vpc = request.network_configuration().and_then(NetworkConfiguration::awsvpc_configuration).expect("one");
    assert_eq!(vpc.assign_public_ip(), Some(&AssignPublicIp::Disabled));
}

#[test]
fn secrets_are_in_the_environment_and_nowhere_else() {
    let launch = launch();
    let request = asked(&Place::Fargate, &definition("awsvpc", 1));
    let environment: BTreeMap<_, _> = container(&request)
        .environment()
        .iter()
        .map(|pair| (pair.name().expect("one"), pair.value().expect("one")))
        .collect();
    let expected =
        [("CHROME_FLAGS", "--mute-audio"), ("GREENROOM_SANDBOX", "off"), ("GREENROOM_TOKEN", "hush"), ("HOME", "/tmp")];
    assert_eq!(environment, BTreeMap::from(expected));
    assert!(container(&request).command().is_empty(), "what is run is the image's business");
    for tag in request.tags() {
        let (key, value) = (tag.key().expect("one"), tag.value().expect("one"));
        assert!(!value.contains("hush"), "{key}");
        let letters = key.chars().chain(value.chars());
        assert!(letters.into_iter().all(|c| c.is_alphanumeric() || "+-=._:/@ ".contains(c)), "{key}={value}");
    }
    let tag = |name: &str| request.tags().iter().find(|tag| tag.key() == Some(name)).and_then(types::Tag::value);
    assert_eq!(tag("greenroom.dev/max-lifetime-seconds"), Some("7200"));
    assert_eq!(tag("greenroom.dev/platform"), Some("aws"));
    let started_by = names("aws").runner(launch.spec.runner);
    assert!(started_by.len() <= 128 && started_by.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c)));
}

#[test]
fn oversized_requests_are_reported() {
    let mut launch = launch();
    launch.environment.insert("LONG".to_owned(), "\"".repeat(4200));
    let ask = |launch: &Launch, place: Place| {
        run_task(launch, &image(), "bot", &definition("awsvpc", 1), &place, &config(), &names("aws"))
    };
    assert!(
        matches!(ask(&launch, Place::Fargate), Err(Error::Rejected(why)) if why.contains("8192")),
        "as JSON has it"
    );
    launch.environment.insert("LONG".to_owned(), "x".repeat(7000));
    assert!(ask(&launch, Place::Fargate).is_ok());
    launch.spec.resources.cpu_millis = 17_000;
    assert!(matches!(ask(&launch, Place::Fargate), Err(Error::Unschedulable(why)) if why.contains("17000m")));
    assert!(ask(&launch, Place::Provider("ours".to_owned())).is_ok(), "who knows what machines there are");
}

#[test]
fn a_token_is_for_one_name_on_one_platform() {
    let (one, other) = (launch().spec.runner, launch().spec.runner);
    let (here, there) = (names("aws"), names("aws-us"));
    let tokens = [
        token(&here, one, None),
        token(&here, other, None),
        token(&there, one, None),
        token(&here, one, Some(&Place::Fargate)),
        token(&here, one, Some(&Place::Provider("FARGATE_SPOT".to_owned()))),
    ];
    assert_eq!(tokens[0], token(&here, one, None));
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
    assert!(tokens.iter().all(|token| token.len() == 64));
}
