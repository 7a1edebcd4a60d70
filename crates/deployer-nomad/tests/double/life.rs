//! What only Nomad can get wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_deployer::conformance::SCRIPT;
use greenroom_deployer::{Deployer, Error, Launch, Observed, Progress, Verdict, Wanted};
use greenroom_domain::{Attempt, BotId, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp};
use jiff::SignedDuration;

use crate::nomad::Nomad;
use crate::stage::driver;

fn launch(script: &str) -> Launch {
    Launch {
        spec: RunnerSpec {
            runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(600),
        },
        environment: BTreeMap::from([
            (SCRIPT.to_owned(), script.to_owned()),
            ("GREENROOM_TOKEN".to_owned(), "a-secret".to_owned()),
        ]),
        start_by: Timestamp::now() + SignedDuration::from_secs(60),
        standing: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_the_jobs_variable_and_go_with_it() {
    let nomad = Nomad::start().await;
    let (driver, launch) = (driver(&nomad.url()).await, launch("exit 0"));
    let runner = launch.spec.runner;
    for _ in 0..2 {
        driver.ensure(&launch, &Progress::silent()).await.expect("started");
    }
    assert_eq!(nomad.registered(), 1);
    let (variables, specs) = nomad.held();
    assert!(variables.contains("a-secret") && !specs.contains("a-secret"));
    while driver.inspect(runner).await.expect("it answers") == Observed::Running {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    driver.remove(runner).await.expect("removed");
    assert_eq!(nomad.held(), ("{}".to_owned(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplaced_job_waits_in_our_queue() {
    let nomad = Nomad::start().await;
    let (driver, launch) = (driver(&nomad.url()).await, launch("exit 0"));
    nomad.fill(true);
    let refused = driver.ensure(&launch, &Progress::silent()).await;
    assert!(matches!(&refused, Err(Error::NoCapacity(why)) if why.contains("memory")), "{refused:?}");
    assert_eq!(driver.inspect(launch.spec.runner).await, Ok(Observed::Gone));
    assert_eq!(nomad.held(), ("{}".to_owned(), String::new()), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_no_evidence() {
    let nomad = Nomad::start().await;
    let (driver, launch) = (driver(&nomad.url()).await, launch("sleep 600"));
    let runner = launch.spec.runner;
    driver.ensure(&launch, &Progress::silent()).await.expect("started");
    nomad.lose(&format!("test-{runner}"));
    assert!(matches!(driver.inspect(runner).await, Err(Error::Transient(_))));
    assert!(driver.remove(runner).await.is_err());
    driver.stop(runner, Duration::ZERO).await.expect("it is told, for when the node comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_looks_at_nomad_and_changes_nothing() {
    let nomad = Nomad::start().await;
    let wanted = Wanted { limit: 20, size: Resources::default() };
    let findings = driver(&nomad.url()).await.check(&wanted).await;
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Failed), "{findings:?}");
    assert_eq!(nomad.registered(), 0);
    let nowhere = driver("http://127.0.0.1:1").await.check(&wanted).await;
    assert!(
        nowhere[0].verdict == Verdict::Failed
            && nowhere[0].advice.as_ref().is_some_and(|how| how.contains("NOMAD_ADDR"))
    );
}
