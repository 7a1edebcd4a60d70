//! How tasks end, and what is told of it.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use greenroom_deployer::{Deployer, Observed};
use greenroom_domain::ExitCause;

use crate::stage::{Stage, ensure, launch, seen};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_too_old_is_ended_by_whoever_lists_it_and_says_so() {
    let stage = Stage::set().await;
    let mut launch = launch(1, "sleep 300");
    launch.spec.max_lifetime = Duration::from_secs(1);
    ensure(&*stage.driver(&[]).await, &launch).await;
    // Another process than the one that started it.
    let driver = stage.driver(&[]).await;
    let runner = launch.spec.runner;
    greenroom_testkit::until("it is listed as ended", crate::stage::WITHIN, async || {
        let listed: Vec<_> = driver.list().try_concat().await.expect("ECS answers");
        listed.iter().any(|listed| listed.runner == runner && !listed.running)
    })
    .await;
    match seen(&driver, runner, "it ended", |observed| *observed != Observed::Running).await {
        Observed::Exited(exit) => assert_eq!(exit.cause, Some(ExitCause::Lifetime)),
        other => panic!("expected an exit, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_task_stays_removed_while_ecs_lists_it() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[]).await;
    let launch = launch(1, "exit 3");
    let runner = launch.spec.runner;
    ensure(&driver, &launch).await;
    seen(&driver, runner, "it ended", |observed| matches!(observed, Observed::Exited(_))).await;
    driver.remove(runner).await.expect("it ended");
    let listed: Vec<_> = driver.list().try_concat().await.expect("ECS answers");
    assert!(listed.iter().all(|listed| listed.runner != runner), "{listed:?}");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
    driver.stop(runner, Duration::ZERO).await.expect("it is gone");
    let logs = driver.logs(runner, false, None).await.expect("CloudWatch answers");
    assert!(logs.is_some(), "what it printed is there as long as ECS knows it");
    // Whoever has not heard of it finds its remains, and takes them away again.
    let restarted = stage.driver(&[]).await;
    let found = restarted.inspect(runner).await;
    assert!(matches!(found, Ok(Observed::Exited(exit)) if exit.code == Some(3)), "{found:?}");
    restarted.remove(runner).await.expect("it ended");
    assert_eq!(restarted.inspect(runner).await, Ok(Observed::Gone));
    assert_eq!(stage.started(runner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_many_is_told_by_watching() {
    let stage = Stage::set().await;
    let driver = stage.driver(&[]).await;
    let launches: Vec<_> = (0..12).map(|number| launch(1, &format!("sleep 0.{number}; exit {number}"))).collect();
    let mut changes = driver.watch().expect("it watches");
    let mut left: Vec<_> = launches.iter().map(|launch| launch.spec.runner).collect();
    let starting = async {
        for launch in &launches {
            ensure(&driver, launch).await;
        }
    };
    let watching = async {
        while !left.is_empty() {
            let runner = changes.next().await.expect("it goes on");
            assert!(matches!(driver.inspect(runner).await, Ok(Observed::Exited(_))));
            left.retain(|waiting| *waiting != runner);
        }
    };
    let both = futures::future::join(starting, watching);
    tokio::time::timeout(crate::stage::WITHIN * 2, both).await.expect("every end is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_nobody_knows_are_looked_for_together_and_once() {
    let stage = Stage::set().await;
    let ended = launch(1, "exit 3");
    let first = stage.driver(&[]).await;
    ensure(&first, &ended).await;
    seen(&first, ended.spec.runner, "it ended", |observed| matches!(observed, Observed::Exited(_))).await;
    let before = stage.fargate.looks_through_stopped();
    let looks = || stage.fargate.looks_through_stopped() - before;

    // Another process than the one that started it.
    let driver = stage.driver(&[]).await;
    let unknown: Vec<_> = (0..20).map(|_| launch(1, "").spec.runner).collect();
    let inspected = join_all(unknown.iter().map(|runner| driver.inspect(*runner))).await;
    assert!(inspected.iter().all(|found| *found == Ok(Observed::Gone)), "{inspected:?}");
    assert!((1..20).contains(&looks()), "{} looks for 20 that came together", looks());
    let found = driver.inspect(ended.spec.runner).await;
    assert!(matches!(&found, Ok(Observed::Exited(exit)) if exit.code == Some(3)), "{found:?}");

    let _: Vec<_> = driver.list().try_concat().await.expect("ECS answers");
    let until_now = looks();
    for runner in &unknown {
        driver.stop(*runner, Duration::ZERO).await.expect("it is gone");
        assert_eq!(driver.inspect(*runner).await, Ok(Observed::Gone));
    }
    assert_eq!(looks(), until_now, "all that stopped was listed since they were asked for");
    let another = launch(1, "").spec.runner;
    assert_eq!(driver.inspect(another).await, Ok(Observed::Gone));
    assert_eq!(looks(), until_now + 1, "it may have stopped since");

    // Who was not there and is started after all, by somebody else, is known from the next list on.
    let late = greenroom_deployer::Launch {
        spec: greenroom_domain::RunnerSpec { runner: another, ..launch(1, "").spec },
        ..launch(1, "exit 4")
    };
    ensure(&first, &late).await;
    seen(&first, another, "it ended", |observed| matches!(observed, Observed::Exited(_))).await;
    let _: Vec<_> = driver.list().try_concat().await.expect("ECS answers");
    let found = driver.inspect(another).await;
    assert!(matches!(&found, Ok(Observed::Exited(exit)) if exit.code == Some(4)), "{found:?}");
}
