//! What happens between two requests of ours, and what something in front of Coolify says in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenroom_deployer::conformance::{Fault, Proxy, Upstream};
use greenroom_deployer::{Class, Deployer, Error, Launch, Observed};
use greenroom_deployer_coolify::CoolifyDeployer;
use greenroom_domain::{Exit, Standing};
use tokio::task::JoinHandle;

use crate::coolify::{Coolify, Go, TOKEN};
use crate::life::{POLITE, ensure, launch, seen, slot};
use crate::stage::{config, driver, driver_of, until};

/// A driver that waits for an answer for as long as it is held.
async fn patient(coolify: &Coolify) -> Arc<CoolifyDeployer> {
    let mut config = config(&coolify.url(), TOKEN);
    config.timeout = Duration::from_secs(60);
    driver_of(config).await
}

/// A start whose name is there and that is held when it asks for the deployment, having looked at everything.
async fn begun(
    coolify: &Coolify,
    driver: &Arc<CoolifyDeployer>,
    launch: &Launch,
) -> (JoinHandle<Result<(), Error>>, Go) {
    let start = coolify.hold(|method, path, _| method == "POST" && path.ends_with("/start"));
    let (driver, launch) = (driver.clone(), launch.clone());
    let starting = tokio::spawn(async move { ensure(&driver, &launch).await });
    (starting, start.await.expect("it comes to that"))
}

fn stop(driver: &Arc<CoolifyDeployer>, launch: &Launch) -> JoinHandle<Result<(), Error>> {
    let (driver, runner) = (driver.clone(), launch.spec.runner);
    tokio::spawn(async move { driver.stop(runner, Duration::from_secs(5)).await })
}

/// Held: the look for a deployment that comes after the name was written.
fn look_after_the_name(coolify: &Coolify) -> tokio::sync::oneshot::Receiver<Go> {
    let mut written = false;
    coolify.hold(move |method, path, body| {
        written |= method == "PATCH" && body.contains("\"name\"");
        written && method == "GET" && path.contains("/deployments/")
    })
}

async fn is_over_and_leaves_nothing(
    coolify: &Coolify,
    driver: &Arc<CoolifyDeployer>,
    launch: &Launch,
    standing: Standing,
) {
    until("over", async || seen(driver, launch).await == Observed::Exited(Exit::default())).await;
    driver.remove(launch.spec.runner).await.expect("removed");
    assert_eq!(coolify.names(), [format!("pool-web-001 test-slot-{standing} @coolify")]);
    assert_eq!(coolify.values(), Vec::<String>::new());
    let next = self::launch(standing, POLITE);
    ensure(driver, &next).await.expect("the slot is free");
    until("it runs", async || seen(driver, &next).await == Observed::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_start_frees_no_slot_that_is_about_to_be_filled() {
    let coolify = Coolify::start().await;
    let driver = patient(&coolify).await;
    let standing = slot(&driver).await;
    let launch = launch(standing, POLITE);
    let (starting, go) = begun(&coolify, &driver, &launch).await;
    let look = coolify.hold(|method, path, _| method == "GET" && path.contains("/deployments/"));
    let stopping = stop(&driver, &launch);
    look.await.expect("it looks").send(()).expect("it is there");
    // It has seen no deployment. One that does not wait for the slot's turn is through with it after six more requests.
    for _ in 0..50 {
        assert_eq!(seen(&driver, &launch).await, Observed::Gone);
    }
    assert!(coolify.names()[0].contains(&launch.spec.runner.to_string()), "the slot was freed: {:?}", coolify.names());
    go.send(()).expect("it is there");
    starting.await.expect("no panic").expect("it was through first");
    stopping.await.expect("no panic").expect("stopped");
    assert_eq!(coolify.deployed(), 1);
    is_over_and_leaves_nothing(&coolify, &driver, &launch, standing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_of_another_replica_in_a_slot_just_freed_is_ended_under_its_name() {
    let coolify = Coolify::start().await;
    let (one, other) = (patient(&coolify).await, patient(&coolify).await);
    let standing = slot(&one).await;
    let launch = launch(standing, POLITE);
    let (starting, go) = begun(&coolify, &one, &launch).await;
    let look = look_after_the_name(&coolify);
    let mut stopping = stop(&other, &launch);
    let looks = tokio::select! {
        looks = look => looks.expect("it looks"),
        stopped = &mut stopping => panic!("it did not look again: {stopped:?}"),
    };
    assert_eq!(seen(&one, &launch).await, Observed::Gone, "the name is taken away");
    go.send(()).expect("it is there");
    starting.await.expect("no panic").expect("there is a deployment");
    looks.send(()).expect("it is there");
    stopping.await.expect("no panic").expect("stopped");
    is_over_and_leaves_nothing(&coolify, &one, &launch, standing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_just_freed_slot_is_kept() {
    let coolify = Coolify::start().await;
    let (one, other) = (patient(&coolify).await, patient(&coolify).await);
    let standing = slot(&one).await;
    let first = launch(standing, POLITE);
    let (starting, _go) = begun(&coolify, &one, &first).await;
    starting.abort();
    let look = look_after_the_name(&coolify);
    let mut stopping = stop(&other, &first);
    let looks = tokio::select! {
        looks = look => looks.expect("it looks"),
        stopped = &mut stopping => panic!("it did not look again: {stopped:?}"),
    };
    let second = launch(standing, POLITE);
    let third = driver(&coolify).await;
    ensure(&third, &second).await.expect("the slot is free");
    looks.send(()).expect("it is there");
    stopping.await.expect("no panic").expect("stopped");
    assert_eq!(seen(&one, &first).await, Observed::Gone);
    assert_eq!(seen(&one, &second).await, Observed::Running);
    assert!(coolify.names()[0].contains(&second.spec.runner.to_string()), "{:?}", coolify.names());
}

/// As Traefik says it while Coolify is being updated.
fn plain() -> Fault {
    Fault::answer(404, "404 page not found\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_404_ends_nobody() {
    let coolify = Coolify::start().await;
    let proxy = Proxy::start(Upstream::Tcp(coolify.address)).await.expect("a port");
    let mut config = config(&format!("{}/api/v1", proxy.url()), TOKEN);
    // A slow machine must not look like a proxy's answer.
    config.timeout = Duration::from_secs(60);
    let driver = driver_of(config).await;
    let launch = launch(slot(&driver).await, POLITE);
    ensure(&driver, &launch).await.expect("started");
    proxy.fault(usize::MAX, plain(), |request| request.path.contains("/logs"));
    until("a live look", async || {
        coolify.lose_server();
        match driver.inspect(launch.spec.runner).await {
            Ok(observed) => {
                assert_eq!(observed, Observed::Running);
                false
            }
            Err(error) => {
                assert_eq!(error.class(), Class::Transient, "{error}");
                true
            }
        }
    })
    .await;
    coolify.lose_server();
    assert!(driver.remove(launch.spec.runner).await.is_err());
    proxy.calm();
    assert_eq!(seen(&driver, &launch).await, Observed::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_404_is_no_end_either() {
    let coolify = Coolify::start().await;
    let proxy = Proxy::start(Upstream::Tcp(coolify.address)).await.expect("a port");
    let driver = driver_of(config(&format!("{}/api/v1", proxy.url()), TOKEN)).await;
    let standing = slot(&driver).await;
    coolify.haunt();
    // While its end is waited for, that is.
    let stopped = AtomicBool::new(false);
    proxy.fault(usize::MAX, plain(), move |request| {
        let stops = request.path.contains("/stop");
        stopped.fetch_or(stops, Ordering::SeqCst) && !stops
    });
    let reset = driver.reset(standing).await;
    assert_eq!(reset.as_ref().map_err(Error::class), Err(Class::Transient), "{reset:?}");
    assert!(proxy.seen().last().is_some_and(|last| last.method == "GET"), "it was the look that said so");
    proxy.calm();
    driver.reset(standing).await.expect("it is over by now, or is waited for");
}
