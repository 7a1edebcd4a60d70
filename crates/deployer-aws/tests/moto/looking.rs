//! `greenroom platforms check`, and what the policy of a deployer has to allow.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_deployer::{Deployer, Observed, Verdict, Wanted};
use greenroom_domain::Resources;
use greenroom_testkit::fargate::LOG_GROUP;
use serde_json::json;

use crate::stage::{Stage, ensure, launch, seen};

const WANTED: Wanted = Wanted {
    limit: 50,
    size: Resources { cpu_millis: 500, memory_bytes: 1 << 30, cpu_limit_millis: None, memory_limit_bytes: None },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_there_and_what_is_wrong() {
    let stage = Stage::set().await;
    let found = stage.driver(&[]).await.check(&WANTED).await;
    let of = |subject: &str| found.iter().filter(|finding| finding.subject == subject).collect::<Vec<_>>();
    assert_eq!(of("credentials")[0].verdict, Verdict::Passed, "{found:?}");
    assert_eq!(of("cluster")[0].verdict, Verdict::Passed, "{found:?}");
    let web = of("task definition web");
    assert!(web.iter().all(|finding| finding.verdict <= Verdict::Warning), "{web:?}");
    assert!(web.iter().any(|finding| finding.detail.contains("killed after 2 s")), "{web:?}");
    assert!(found.iter().all(|finding| finding.verdict != Verdict::Failed), "{found:?}");

    let soft = json!({ "family": "soft", "networkMode": "host", "containerDefinitions": [
        { "name": "bot", "image": "bot:1", "memory": 512, "essential": true }] });
    stage.fargate.ask("ecs", "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition", &soft).await;
    let soft = stage.driver(&[("AWS_ECS_TASK_DEF", "soft"), ("AWS_ECS_TASK_DEF_ZOOM", "nobodys")]).await;
    let found = soft.check(&WANTED).await;
    let failed =
        |subject: &str| found.iter().any(|finding| finding.subject == subject && finding.verdict == Verdict::Failed);
    assert!(failed("task definition soft") && failed("task definition zoom"), "{found:?}");
    let logs = format!("logs {LOG_GROUP}");
    assert!(found.iter().any(|finding| finding.subject == logs && finding.verdict == Verdict::Passed), "{found:?}");
    let elsewhere = stage.driver(&[("AWS_ECS_CLUSTER", "nobodys")]).await.check(&WANTED).await;
    assert!(elsewhere.iter().any(|finding| finding.subject == "cluster" && finding.verdict == Verdict::Failed));
    let nobody = stage.driver(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).await.check(&WANTED).await;
    assert_eq!((nobody[0].subject.as_str(), nobody[0].verdict), ("reachability", Verdict::Failed));
}

/// The policy that Terraform gives to the deployer allows what the driver asks for, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_allows_what_is_asked_for_and_nothing_else() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[]).await;
    let launch = launch(1, "echo hello; sleep 300");
    let runner = launch.spec.runner;
    ensure(&driver, &launch).await;
    seen(&driver, runner, "it runs", |observed| *observed == Observed::Running).await;
    let _: Vec<_> = driver.list().try_concat().await.expect("ECS answers");
    let logs = driver.logs(runner, false, None).await.expect("CloudWatch answers").expect("there are some");
    let _: Vec<_> = logs.try_collect().await.expect("lines");
    let _ = driver.check(&WANTED).await;
    driver.stop(runner, Duration::ZERO).await.expect("ECS answers");
    seen(&driver, runner, "it ended", |observed| matches!(observed, Observed::Exited(_))).await;
    driver.remove(runner).await.expect("it ended");
    let mut asked = stage.fargate.actions();
    // What this test itself set up.
    for own in ["ecs:CreateCluster", "ecs:RegisterTaskDefinition", "logs:CreateLogGroup"] {
        assert!(!asked.contains(own), "setting up does not come by here");
    }
    // RunTask does these in our name: it tags what it makes, and hands the task its roles.
    asked.extend(["ecs:TagResource".to_owned(), "iam:PassRole".to_owned()]);

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/terraform/aws/deployer.tf");
    let policy = fs::read_to_string(path).expect("the policy");
    let services = ["ecs", "logs", "iam", "ec2", "ecr", "ssm", "secretsmanager", "sts"];
    let allowed: BTreeSet<String> = policy
        .split('"')
        .filter(|word| word.split_once(':').is_some_and(|(service, _)| services.contains(&service)))
        .filter(|word| !word.contains("${"))
        // What a condition names is no action.
        .filter(|word| !["ecs:cluster", "ecs:CreateAction", "iam:PassedToService"].contains(word))
        .map(str::to_owned)
        .collect();
    assert_eq!(allowed, asked, "deploy/terraform/aws/deployer.tf");
}
