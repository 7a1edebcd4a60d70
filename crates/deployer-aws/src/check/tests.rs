use std::collections::BTreeSet;

use greenroom_chassis::Settings;
use greenroom_deployer::Verdict;

use super::*;
use crate::definition::{Container, Logs};

fn config(more: &[(&str, &str)]) -> Config {
    let enough = [
        ("AWS_REGION", "us-east-2"),
        ("AWS_ECS_CLUSTER", "bots"),
        ("AWS_ECS_SUBNETS", "subnet-a"),
        ("AWS_ECS_SECURITY_GROUPS", "sg-a"),
        ("AWS_ECS_TASK_DEF", "bot"),
    ];
    let given = enough.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(&mut Settings::new(given, ""))
}

fn hardened() -> Definition {
    let logs = Logs { group: "/ecs/bots".to_owned(), region: "us-east-2".to_owned(), prefix: "bot".to_owned() };
    Definition {
        arn: "arn:bot:3".to_owned(),
        network: "awsvpc".to_owned(),
        compatible: vec!["FARGATE".to_owned()],
        has_execution_role: true,
        containers: 1,
        container: Container {
            name: "bot".to_owned(),
            image: "bot:1".to_owned(),
            user: Some("10001:10001".to_owned()),
            read_only: true,
            drops_all: true,
            stop_timeout: Some(120),
            logs: Some(logs),
            has_credentials: false,
        },
        ..Definition::default()
    }
}

fn image(needs: &[Need]) -> Image {
    Image { reference: "bot:1".to_owned(), needs: needs.iter().copied().collect::<BTreeSet<_>>(), chrome_flags: None }
}

fn worst(findings: &[Finding]) -> Option<Verdict> {
    findings.iter().map(|finding| finding.verdict).max()
}

#[test]
fn a_cluster_has_to_be_there_with_the_capacity_that_is_set() {
    let cluster = types::Cluster::builder().status("ACTIVE").capacity_providers("FARGATE").build();
    assert_eq!(worst(&clusters(Some(&cluster), &config(&[]))), Some(Verdict::Passed));
    assert_eq!(worst(&clusters(None, &config(&[]))), Some(Verdict::Failed));
    let inactive = types::Cluster::builder().status("INACTIVE").build();
    assert_eq!(worst(&clusters(Some(&inactive), &config(&[]))), Some(Verdict::Failed));
    let spot = clusters(Some(&cluster), &config(&[("AWS_ECS_SPOT", "always")]));
    assert!(spot.iter().any(|finding| finding.detail.contains("FARGATE_SPOT")), "{spot:?}");
    let ours = clusters(Some(&cluster), &config(&[("AWS_ECS_CAPACITY_PROVIDERS", "ours,FARGATE")]));
    assert!(ours.iter().any(|finding| finding.detail.ends_with("with ours")), "{ours:?}");
}

#[test]
fn a_task_definition_is_looked_at_from_all_sides() {
    let look = |definition: &Definition, needs: &[Need]| definitions("x", definition, &image(needs), &config(&[]));
    assert_eq!(worst(&look(&hardened(), &[])), Some(Verdict::Passed));
    let soft = |change: fn(&mut Definition)| {
        let mut definition = hardened();
        change(&mut definition);
        definition
    };
    for (definition, verdict, word) in [
        (soft(|of| of.network = "host".to_owned()), Verdict::Failed, "own network"),
        (soft(|of| of.pid = "host".to_owned()), Verdict::Failed, "own processes"),
        (soft(|of| of.ipc = "host".to_owned()), Verdict::Failed, "own shared memory"),
        (soft(|of| of.host_paths.push("/".to_owned())), Verdict::Failed, "machine's folder /"),
        (soft(|of| of.privileged.push("sidecar".to_owned())), Verdict::Failed, "privileged container sidecar"),
        (soft(|of| of.compatible.clear()), Verdict::Failed, "Fargate"),
        (soft(|of| of.has_execution_role = false), Verdict::Warning, "execution role"),
        (soft(|of| of.container.user = None), Verdict::Warning, "no user"),
        (soft(|of| of.container.user = Some("0:0".to_owned())), Verdict::Warning, "no user"),
        (soft(|of| of.container.read_only = false), Verdict::Warning, "can be written"),
        (soft(|of| of.container.drops_all = false), Verdict::Warning, "capabilities"),
        (soft(|of| of.container.logs = None), Verdict::Warning, "cannot be read"),
        (soft(|of| of.container.stop_timeout = Some(2)), Verdict::Warning, "after 2 s"),
    ] {
        let findings = look(&definition, &[]);
        assert_eq!(worst(&findings), Some(verdict), "{word}: {findings:?}");
        assert!(findings.iter().any(|finding| finding.detail.contains(word)), "{word}: {findings:?}");
        assert!(findings.iter().all(|finding| finding.advice.is_some()), "{word}: {findings:?}");
    }
    let declared = soft(|of| (of.container.user, of.container.read_only) = (None, false));
    assert_eq!(worst(&look(&declared, &[Need::Root, Need::WritableRoot])), Some(Verdict::Passed), "it was declared");
}

#[test]
fn conflicts_between_settings_and_task_definitions_are_reported() {
    let other = Image { reference: "ghcr.io/me/bot:2".to_owned(), ..image(&[]) };
    let said = definitions("x", &hardened(), &other, &config(&[]));
    assert!(said[0].detail.contains("it runs bot:1, and the settings name ghcr.io/me/bot:2"), "{said:?}");
    let set = config(&[("REGISTRY_SERVER", "docker.io"), ("REGISTRY_USERNAME", "me"), ("REGISTRY_PASSWORD", "hush")]);
    let said = definitions("x", &hardened(), &image(&[]), &set);
    assert!(said[0].detail.contains("no credentials for bot:1"), "{said:?}");
    assert!(!format!("{said:?}").contains("hush"));
    let mut named = hardened();
    named.container.has_credentials = true;
    assert_eq!(worst(&definitions("x", &named, &image(&[]), &set)), Some(Verdict::Passed));
}

#[test]
fn a_log_group_has_to_be_there() {
    let logs = hardened().container.logs.expect("it has");
    assert_eq!(log_group(&logs, Ok(true)).verdict, Verdict::Passed);
    assert_eq!(log_group(&logs, Ok(false)).verdict, Verdict::Failed);
    assert_eq!(log_group(&logs, Err(Error::Unauthorized("no".to_owned()))).verdict, Verdict::Warning);
}

#[test]
fn quotas_are_said_in_vcpus() {
    let wanted = Wanted { limit: 50, size: Resources { cpu_millis: 500, ..Resources::default() } };
    let places = config(&[]).places;
    let finding = quota(&places, &wanted);
    assert_eq!(finding.verdict, Verdict::Skipped);
    assert!(finding.detail.contains("50 runners of 512 CPU units and 1024 MiB are 25 vCPUs"), "{finding:?}");
    let giant = Wanted { size: Resources { cpu_millis: 20_000, ..Resources::default() }, ..wanted };
    assert_eq!(quota(&places, &giant).verdict, Verdict::Failed);
    let ours = config(&[("AWS_ECS_CAPACITY_PROVIDERS", "ours")]).places;
    assert_eq!(quota(&ours, &giant).verdict, Verdict::Skipped, "who knows what machines there are");
}
