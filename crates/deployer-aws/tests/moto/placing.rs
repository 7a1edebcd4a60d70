//! Where tasks go, how many there are, and what is asked of AWS for it.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_deployer::{Deployer, Error, Observed, Progress};
use greenroom_domain::{Attempt, ExitCause, Provider};
use serde_json::{Value, json};

use crate::stage::{Stage, ensure, launch, name_of, seen};

const WAITS: &str = "sleep 300";

#[tokio::test(flavor = "multi_thread")]
async fn spot_comes_first_and_on_demand_is_the_fall_back_of_the_same_task() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[("AWS_ECS_SPOT", "first-attempt")]).await;
    stage.fargate.behave(|behaviour| behaviour.spot_room = Some(1));
    let runners = [launch(1, WAITS), launch(1, WAITS), launch(2, WAITS)];
    for launch in &runners {
        ensure(&driver, launch).await;
    }
    let capacity = |launch: &greenroom_deployer::Launch| stage.fargate.capacity_of(&name_of(launch.spec.runner));
    let placed: Vec<_> = runners.iter().map(capacity).collect();
    assert_eq!(placed, [["FARGATE_SPOT"], ["FARGATE"], ["FARGATE"]], "the second found no room, the third may not");

    // After a restart Spot has room again: who runs on demand is not started once more.
    stage.fargate.behave(|behaviour| behaviour.spot_room = None);
    let restarted = stage.driver(&[("AWS_ECS_SPOT", "first-attempt")]).await;
    ensure(&restarted, &runners[1]).await;
    assert_eq!(stage.started(runners[1].spec.runner), 1);
    assert_eq!(capacity(&runners[1]), ["FARGATE"]);

    // What was lent is asked back.
    stage.fargate.interrupt(&name_of(runners[0].spec.runner));
    match seen(&driver, runners[0].spec.runner, "it ended", |observed| *observed != Observed::Running).await {
        Observed::Exited(exit) => assert_eq!(exit.cause, Some(ExitCause::Interrupted)),
        other => panic!("expected an exit, got {other:?}"),
    }
    let again = launch(2, WAITS);
    assert_eq!(again.spec.runner.attempt, Attempt(2));
    ensure(&driver, &again).await;
    assert_eq!(capacity(&again), ["FARGATE"], "the next attempt is not lent anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_capacity_is_reported_and_leaves_no_task() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[("AWS_ECS_SPOT", "always")]).await;
    stage.fargate.behave(|behaviour| (behaviour.room, behaviour.spot_room) = (Some(0), Some(0)));
    let launch = launch(1, WAITS);
    let said = driver.ensure(&launch, &Progress::silent()).await;
    assert!(matches!(&said, Err(Error::NoCapacity(why)) if why.contains("Capacity is unavailable")), "{said:?}");
    assert_eq!(driver.inspect(launch.spec.runner).await, Ok(Observed::Gone));
    stage.fargate.behave(|behaviour| behaviour.room = Some(1));
    ensure(&driver, &launch).await;
    assert_eq!(stage.started(launch.spec.runner), 1, "there is room now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ecs_does_not_list_yet_is_not_gone() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[("AWS_ECS_SETTLE_MS", "60000")]).await;
    let unseen = Duration::from_secs(2);
    stage.fargate.behave(|behaviour| behaviour.unseen = unseen);
    let launch = launch(1, WAITS);
    let runner = launch.spec.runner;
    ensure(&driver, &launch).await;
    let began = std::time::Instant::now();
    let looked = driver.inspect(runner).await;
    let listed: Vec<_> = futures::TryStreamExt::try_concat(driver.list()).await.expect("ECS answers");
    if began.elapsed() < unseen / 2 {
        assert_eq!(looked, Ok(Observed::Running));
        assert!(listed.iter().any(|listed| listed.runner == runner && listed.running), "{listed:?}");
    }
    ensure(&driver, &launch).await;
    ensure(&*stage.driver(&[]).await, &launch).await;
    assert_eq!(stage.started(runner), 1);
    seen(&driver, runner, "it runs", |observed| *observed == Observed::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_started_within_the_limits_and_each_once() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[("AWS_ECS_STARTS_PER_SECOND", "100")]).await;
    let launches: Vec<_> = (0..30).map(|_| launch(1, WAITS)).collect();
    let silent = Progress::silent();
    // Everybody twice at the same time, as two replicas would.
    let replica = stage.driver(&[]).await;
    let both = launches.iter().flat_map(|launch| [driver.ensure(launch, &silent), replica.ensure(launch, &silent)]);
    for ensured in futures::future::join_all(both).await {
        ensured.expect("there is room");
    }
    assert!(launches.iter().all(|launch| stage.started(launch.spec.runner) == 1));
    let runners: BTreeSet<_> = launches.iter().map(|launch| launch.spec.runner).collect();
    let listed: Vec<_> = futures::TryStreamExt::try_concat(driver.list()).await.expect("ECS answers");
    let listed: BTreeSet<_> = listed.iter().filter(|listed| listed.running).map(|listed| listed.runner).collect();
    assert_eq!(listed, runners);
    let looks = futures::future::join_all(runners.iter().map(|runner| driver.inspect(*runner))).await;
    assert!(looks.iter().all(|look| *look == Ok(Observed::Running)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_spent_on_nothing_is_no_end_and_starts_no_second() {
    let stage = Stage::set().await;
    let settings = [("AWS_ECS_SPOT", "always")];
    let driver = stage.driver(&settings).await;
    stage.fargate.behave(|behaviour| (behaviour.spot_room, behaviour.spends_tokens) = (Some(0), true));
    let launch = launch(1, WAITS);
    ensure(&driver, &launch).await;
    assert_eq!(stage.fargate.capacity_of(&name_of(launch.spec.runner)), ["FARGATE"]);
    // Spot has room again, and its token is spent all the same.
    stage.fargate.behave(|behaviour| behaviour.spot_room = None);
    for _ in 0..2 {
        ensure(&*stage.driver(&settings).await, &launch).await;
    }
    assert_eq!(stage.started(launch.spec.runner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_waits_here_and_not_in_their_errors() {
    let stage = Stage::set().await;
    let (per_second, burst) = (10, 5);
    let began = std::time::Instant::now();
    let driver = stage.driver(&[("AWS_ECS_STARTS_PER_SECOND", "10"), ("AWS_ECS_START_BURST", "5")]).await;
    let silent = Progress::silent();
    let launches: Vec<_> = (0..20).map(|_| launch(1, WAITS)).collect();
    let ensures = launches.iter().map(|launch| driver.ensure(launch, &silent));
    for ensured in futures::future::join_all(ensures).await {
        ensured.expect("there is room");
    }
    // At no time had more come than the limit allows until then. Held up on their way, they come later and never earlier.
    let mut came = stage.fargate.came().await;
    came.sort_unstable();
    assert!(came.len() >= launches.len(), "{came:?}");
    for (earlier, came) in came.iter().enumerate() {
        let allowed =
            Duration::from_secs(1) * u32::try_from((earlier + 1).saturating_sub(burst)).expect("few") / per_second;
        assert!(*came - began >= allowed, "number {} came after {:?}", earlier + 1, *came - began);
    }

    // One that thinks too much of itself learns from what it is told, as the service asks again.
    stage.fargate.behave(|behaviour| behaviour.too_fast = 8);
    let hasty = stage.driver(&[("AWS_ECS_STARTS_PER_SECOND", "500"), ("AWS_ECS_START_BURST", "500")]).await;
    let launches: Vec<_> = (0..30).map(|_| launch(1, WAITS)).collect();
    let ensures = launches.iter().map(async |launch| {
        while let Err(error) = hasty.ensure(launch, &silent).await {
            assert!(matches!(&error, Error::Transient(why) if why.contains("Rate exceeded")), "{error}");
        }
    });
    tokio::time::timeout(Duration::from_secs(600), futures::future::join_all(ensures)).await.expect("all are made");
    assert_eq!(stage.fargate.refused().await, 8);
    assert!(launches.iter().all(|launch| stage.started(launch.spec.runner) == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_starts_are_refused_without_calling_aws() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[]).await;
    let refused = async |change: fn(&mut greenroom_deployer::Launch)| {
        let mut launch = launch(1, WAITS);
        change(&mut launch);
        driver.ensure(&launch, &Progress::silent()).await.expect_err("it is refused")
    };
    assert!(matches!(refused(|launch| launch.spec.resources.cpu_millis = 17_000).await, Error::Unschedulable(_)));
    let own = refused(|launch| launch.spec.image = Some("own:1".to_owned())).await;
    assert!(matches!(&own, Error::Image(why) if why.contains("own:1=FAMILY")), "{own:?}");
    let zoom = refused(|launch| launch.spec.provider = Provider::new("zoom").expect("valid")).await;
    assert!(matches!(&zoom, Error::Rejected(why) if why.contains("zoom")), "{zoom:?}");
    assert!(!stage.fargate.actions().contains("ecs:RunTask"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_definition_with_a_way_out_to_its_machine_is_refused_before_aws_is_asked() {
    let stage = Stage::set().await;
    let container = |name: &str, privileged: bool| json!({ "name": name, "image": "bot:1", "memory": 512, "essential": true, "privileged": privileged });
    let host: [(&str, Value, &str); 5] = [
        ("network", json!({ "networkMode": "host" }), "own network"),
        ("pid", json!({ "pidMode": "host" }), "own processes"),
        ("ipc", json!({ "ipcMode": "host" }), "own shared memory"),
        (
            "volume",
            json!({ "volumes": [{ "name": "docker", "host": { "sourcePath": "/var/run" } }] }),
            "folder /var/run",
        ),
        (
            "sidecar",
            json!({ "containerDefinitions": [container("bot", false), container("sidecar", true)] }),
            "privileged container sidecar",
        ),
    ];
    for (family, what, word) in host {
        let mut definition = json!({ "family": family, "containerDefinitions": [container("bot", false)] });
        let whole = definition.as_object_mut().expect("an object");
        whole.extend(what.as_object().cloned().expect("an object"));
        stage.fargate.ask("ecs", "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition", &definition).await;
        // What its image is said to need makes no difference.
        let needs = ("RUNNER_IMAGE_WEB_NEEDS", "root,writable-root,new-privileges");
        let driver = stage.driver(&[("AWS_ECS_TASK_DEF_WEB", family), needs]).await;
        let said = driver.ensure(&launch(1, WAITS), &Progress::silent()).await;
        assert!(matches!(&said, Err(Error::Rejected(why)) if why.contains(word)), "{family}: {said:?}");
    }
    assert!(!stage.fargate.actions().contains("ecs:RunTask"));
}
