//! What only Coolify can get wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_deployer::conformance::{Fault, Proxy, SCRIPT, Upstream};
use greenroom_deployer::{Class, Deployer, Error, Launch, Observed, Preparation, Progress, Verdict, Wanted};
use greenroom_deployer_coolify::CoolifyDeployer;
use greenroom_domain::{
    Attempt, BotId, Exit, Provider, Resources, RunnerId, RunnerSpec, SlotId, Standing, TenantId, Timestamp,
};
use jiff::SignedDuration;

use crate::coolify::{BLIND, Coolify, TOKEN};
use crate::stage::{config, driver, driver_of, until};

pub const POLITE: &str = "trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done";

pub fn soon() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(60)
}

pub async fn slot(driver: &CoolifyDeployer) -> Standing {
    let standing = Standing { slot: SlotId::generate(), generation: 1 };
    let preparation = Preparation {
        standing,
        name: "pool-web-001".to_owned(),
        provider: Provider::new("web").expect("valid"),
        image: None,
        resources: Resources::default(),
        prepare_by: soon(),
    };
    driver.prepare(&preparation, &Progress::silent()).await.expect("made");
    standing
}

pub fn launch(standing: Standing, script: &str) -> Launch {
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
        start_by: soon(),
        standing: Some(standing),
    }
}

pub async fn ensure(driver: &CoolifyDeployer, launch: &Launch) -> Result<(), Error> {
    driver.ensure(launch, &Progress::silent()).await
}

pub async fn seen(driver: &CoolifyDeployer, launch: &Launch) -> Observed {
    driver.inspect(launch.spec.runner).await.expect("it answers")
}

async fn printed(driver: &CoolifyDeployer, launch: &Launch, follow: bool, tail: Option<u32>) -> Option<String> {
    let stream = driver.logs(launch.spec.runner, follow, tail).await.expect("it answers")?;
    let all: Vec<_> = stream.try_collect().await.expect("it goes on");
    Some(all.into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect())
}

async fn until_printed(driver: &CoolifyDeployer, launch: &Launch, words: &str) {
    until(words, async || printed(driver, launch, false, None).await.is_some_and(|all| all.contains(words))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_is_said_there_is_one_deployment() {
    let coolify = Coolify::start().await;
    let drivers: Vec<Arc<CoolifyDeployer>> = vec![driver(&coolify).await, driver(&coolify).await];
    let launch = launch(slot(&drivers[0]).await, POLITE);
    for _ in 0..3 {
        let all = futures::future::join_all(drivers.iter().map(|driver| ensure(driver, &launch))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }
    until_printed(&drivers[0], &launch, "started").await;
    ensure(&drivers[1], &launch).await.expect("it runs");
    assert_eq!(coolify.deployed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_runner_is_over_and_leaves_nothing() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let standing = slot(&driver).await;
    let launch = launch(standing, "echo started; exit 0");
    ensure(&driver, &launch).await.expect("started");
    assert!(coolify.values().contains(&"a-secret".to_owned()), "it has what it needs");
    until("over", async || seen(&driver, &launch).await == Observed::Exited(Exit::default())).await;
    driver.remove(launch.spec.runner).await.expect("removed");
    assert_eq!(coolify.values(), Vec::<String>::new(), "no secret stays, nor in the copies for previews");
    assert_eq!(seen(&driver, &launch).await, Observed::Gone);
    let name = format!("pool-web-001 test-slot-{standing} @coolify");
    assert_eq!(coolify.names(), [name.as_str()], "the slot is as it was made");
    assert_eq!(coolify.field(&name, "max_restart_count"), Some(1.into()));
    assert_eq!(coolify.field(&name, "autogenerate_domain"), Some(false.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_ends_a_container_in_a_free_slot() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let launch = launch(slot(&driver).await, POLITE);
    coolify.haunt();
    ensure(&driver, &launch).await.expect("it has the slot");
    until_printed(&driver, &launch, "started").await;
    assert!(!printed(&driver, &launch, false, None).await.expect("it runs").contains("ghost"));
    assert_eq!(coolify.deployed(), 1);
}

/// Nobody may ever see that it was begun anew; its owner releases it when its bot is done, and that is final.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_final_where_nobody_counts_restarts() {
    let coolify = Coolify::start().await;
    coolify.install_sentinel();
    let driver = driver(&coolify).await;
    let standing = slot(&driver).await;
    let first = launch(standing, "echo started; sleep 0.2; exit 0");
    ensure(&driver, &first).await.expect("started");
    until("begun anew", async || {
        printed(&driver, &first, false, None).await.is_some_and(|all| all.matches("started").count() > 1)
    })
    .await;
    driver.stop(first.spec.runner, Duration::ZERO).await.expect("asked");
    until("over", async || {
        seen(&driver, &first).await == Observed::Exited(Exit::default())
            && driver.remove(first.spec.runner).await.is_ok()
    })
    .await;
    let second = launch(standing, POLITE);
    ensure(&driver, &second).await.expect("the slot is free");
    until_printed(&driver, &second, "started").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_lost_ends_nobody() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let launch = launch(slot(&driver).await, POLITE);
    ensure(&driver, &launch).await.expect("started");
    until_printed(&driver, &launch, "started").await;
    for _ in 0..50 {
        coolify.lose_server();
        assert_eq!(seen(&driver, &launch).await, Observed::Running);
    }
    coolify.lose_server();
    assert!(driver.remove(launch.spec.runner).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_not_queued_is_no_start() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let standing = slot(&driver).await;
    let first = launch(standing, POLITE);
    coolify.fill_queue(true);
    let refused = ensure(&driver, &first).await;
    assert!(matches!(&refused, Err(Error::NoCapacity(why)) if why.contains("queue is full")), "{refused:?}");
    assert_eq!(seen(&driver, &first).await, Observed::Gone);
    assert_eq!(coolify.values(), Vec::<String>::new(), "its secrets went with it");
    coolify.fill_queue(false);
    let second = launch(standing, POLITE);
    ensure(&driver, &second).await.expect("the slot is free");
}

/// Every request of a start is the last one in turn, and its answer never comes: whoever looks next sees what is true, and goes
/// on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_may_break_off_anywhere() {
    let coolify = Coolify::start().await;
    let proxy = Proxy::start(Upstream::Tcp(coolify.address)).await.expect("a port");
    let url = format!("{}/api/v1", proxy.url());
    let steady = driver(&coolify).await;
    for step in 0..20 {
        for fault in [Fault::Lose, Fault::answer(502, "")] {
            let standing = slot(&steady).await;
            let broken = driver_of(config(&url, TOKEN)).await;
            let done = proxy.seen().len();
            let launch = launch(standing, POLITE);
            let counted = std::sync::atomic::AtomicUsize::new(0);
            let at = move |_: &_| counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= step;
            proxy.fault(usize::MAX, fault.clone(), at);
            let said = ensure(&broken, &launch).await;
            proxy.calm();
            if said.is_ok() {
                assert!(step > 5, "it was through after {} requests", proxy.seen().len() - done);
                return;
            }
            assert_eq!(said.as_ref().map_err(Error::class), Err(Class::Transient), "step {step}");
            let before = coolify.deployed();
            match seen(&steady, &launch).await {
                // Nothing runs: somebody else gets the slot, or the same one goes on.
                Observed::Gone if step % 2 == 0 => {
                    let other = self::launch(standing, POLITE);
                    ensure(&steady, &other).await.expect("the slot is free");
                    assert_eq!(seen(&steady, &launch).await, Observed::Gone);
                    assert!(matches!(ensure(&steady, &launch).await, Err(Error::NoCapacity(_))), "it is taken");
                }
                Observed::Gone => {
                    ensure(&steady, &launch).await.expect("it goes on");
                    assert_eq!(coolify.deployed(), before + 1);
                }
                Observed::Running => {
                    ensure(&steady, &launch).await.expect("it is there");
                    assert_eq!(coolify.deployed(), before, "it was started already");
                }
                other => panic!("step {step}: {other:?}"),
            }
        }
    }
    panic!("it was never through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_overtakes_a_deployment() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let launch = launch(slot(&driver).await, POLITE);
    ensure(&driver, &launch).await.expect("queued");
    driver.stop(launch.spec.runner, Duration::from_secs(5)).await.expect("cancelled");
    until("over", async || seen(&driver, &launch).await == Observed::Exited(Exit::default())).await;
    assert_eq!(printed(&driver, &launch, false, None).await, None, "it never ran");
    driver.remove(launch.spec.runner).await.expect("removed");
    assert_eq!(coolify.values(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_available_while_a_runner_runs() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let words = "two words, a $sign, a \"quote\" and 'another'; é";
    let mut launch = launch(
        slot(&driver).await,
        "echo \"[$WORDS]\"; echo [$GREENROOM_SANDBOX $HOME]; sleep 1; echo last; sleep 600",
    );
    launch.environment.insert("WORDS".to_owned(), words.to_owned());
    ensure(&driver, &launch).await.expect("started");
    until_printed(&driver, &launch, "last").await;
    let all = printed(&driver, &launch, false, None).await.expect("it runs");
    assert_eq!(all, format!("[{words}]\n[off /tmp]\nlast\n"));
    assert_eq!(printed(&driver, &launch, false, Some(1)).await.as_deref(), Some("last\n"));
    let followed = {
        let (driver, launch) = (driver.clone(), launch.clone());
        tokio::spawn(async move { printed(&driver, &launch, true, Some(2)).await })
    };
    driver.stop(launch.spec.runner, Duration::ZERO).await.expect("it ends");
    assert_eq!(followed.await.expect("it comes to an end").as_deref(), Some("[off /tmp]\nlast\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deployment_says_why_to_those_who_may_see_it() {
    let coolify = Coolify::start().await;
    for (token, image_is_named) in [(TOKEN, true), (BLIND, false)] {
        let driver = driver_of(config(&coolify.url(), token)).await;
        let mut launch = launch(slot(&driver).await, POLITE);
        launch.spec.image = Some("registry.example/missing:1".to_owned());
        ensure(&driver, &launch).await.expect("queued");
        until("known", async || seen(&driver, &launch).await != Observed::Running).await;
        match seen(&driver, &launch).await {
            Observed::Refused(Error::Image(_)) if image_is_named => {}
            Observed::Refused(Error::NoCapacity(why)) if !image_is_named => {
                assert!(why.contains("read:sensitive"), "{why}")
            }
            other => panic!("{other:?}"),
        }
        driver.remove(launch.spec.runner).await.expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_respected() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let launch = launch(slot(&driver).await, POLITE);
    coolify.limit(Some(4));
    assert_eq!(ensure(&driver, &launch).await.map_err(|error| error.class()), Err(Class::Transient));
    coolify.limit(None);
    // What was saved up is gone, and for a second nothing is asked: then it goes on from where it was.
    until("started", async || ensure(&driver, &launch).await.is_ok()).await;
    assert_eq!(coolify.deployed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_missing() {
    let coolify = Coolify::start().await;
    let wanted = Wanted { limit: 20, size: Resources::default() };
    let findings = driver(&coolify).await.check(&wanted).await;
    let failed: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(findings.iter().any(|finding| finding.subject == "reachability" && finding.detail.contains("4.3.11")));
    assert!(findings.iter().any(|finding| finding.subject == "hardening"));

    let mut wrong = config(&coolify.url(), TOKEN);
    wrong.project = Some("nowhere".to_owned());
    wrong.destination = Some("nowhere".to_owned());
    let findings = driver_of(wrong).await.check(&wanted).await;
    let failed: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).collect();
    let advised =
        |name: &str| failed.iter().any(|finding| finding.advice.as_ref().is_some_and(|advice| advice.contains(name)));
    assert!(advised("COOLIFY_PROJECT_UUID") && advised("COOLIFY_DESTINATION_UUID"), "{failed:?}");

    let findings = driver_of(config(&coolify.url(), "wrong")).await.check(&wanted).await;
    let refused = findings.iter().find(|finding| finding.subject == "credentials").expect("they were looked at");
    assert_eq!(refused.verdict, Verdict::Failed);
    assert!(!format!("{findings:?}").contains("wrong"), "no token is shown");
}

/// Of 200 requests a minute: so many bots can be started and ended in one.
#[tokio::test(flavor = "multi_thread")]
async fn a_bots_life_takes_few_requests() {
    let coolify = Coolify::start().await;
    let driver = driver(&coolify).await;
    let standing = slot(&driver).await;
    let mut counts = Vec::new();
    for _ in 0..2 {
        let launch = launch(standing, POLITE);
        let before = coolify.seen().len();
        ensure(&driver, &launch).await.expect("started");
        let started = coolify.seen().len() - before;
        until_printed(&driver, &launch, "started").await;
        let before = coolify.seen().len();
        driver.stop(launch.spec.runner, Duration::from_secs(5)).await.expect("asked");
        let stopped = coolify.seen().len() - before;
        until("over", async || seen(&driver, &launch).await != Observed::Running).await;
        // A status that lags and says "restarting" costs a removal three requests more: another look at what is there.
        until("gathered", async || coolify.statuses().iter().all(|status| status.starts_with("exited"))).await;
        let before = coolify.seen().len();
        driver.remove(launch.spec.runner).await.expect("removed");
        counts.push((started, stopped, coolify.seen().len() - before));
    }
    // As many at its first time as at every other: variables that come again are not deleted and made, but changed.
    let (started, stopped, removed) = counts[0];
    assert!(started <= 10 && stopped <= 4 && removed <= 7, "{counts:?}");
    assert!(counts[1].0 <= started + 4, "{counts:?}: copies for previews are deleted at most once");
    println!("requests for start, stop, removal: {counts:?}");
}
