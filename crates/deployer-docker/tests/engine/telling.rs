//! What an engine tells: ends as they happen, and what runners take.

use std::pin::pin;

use bollard::query_parameters::KillContainerOptionsBuilder;
use futures::{Stream, StreamExt};
use greenroom_deployer::conformance::{Fault, Proxy};
use greenroom_deployer::{Deployer, Observed};
use greenroom_deployer_docker::Address;
use greenroom_domain::RunnerId;
use tokio::time::timeout;

use crate::stage::{IN_THE_END, Stage, engine, exit, launch, printed, start, until, upstream};

/// Waits until it is told that this one may have ended. What ended before may be told more than once.
async fn told(ends: &mut (impl Stream<Item = RunnerId> + Unpin), runner: RunnerId) {
    let told = async {
        while let Some(told) = ends.next().await {
            if told == runner {
                return;
            }
        }
        panic!("the stream ended");
    };
    timeout(IN_THE_END, told).await.expect("told in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_told_by_the_engine_itself() {
    let stage = Stage::new();
    let driver = stage.driver().await;
    let mut ends = driver.watch().expect("engines tell");
    // After the first one nothing is looked at any more: what comes then, the engine tells.
    let first = start(&driver, &launch("exit 0")).await;
    told(&mut ends, first).await;
    let runner = start(&driver, &launch("echo started; sleep 600")).await;
    let crash = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    engine().kill_container(&stage.names().runner(runner), Some(crash)).await.expect("killed");
    told(&mut ends, runner).await;
    assert!(matches!(driver.inspect(runner).await, Ok(Observed::Exited(exit)) if exit.signal == Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_during_an_outage_are_reported_afterwards() {
    let proxy = Proxy::start(upstream()).await.expect("a port");
    let stage = Stage::new();
    let direct = stage.driver().await;
    let mut config = stage.config.clone();
    config.hosts[0].address = Address::Tcp(proxy.address().to_string());
    let driver = stage.driver_of(config).await;
    let mut ends = pin!(driver.watch().expect("engines tell"));
    let first = start(&direct, &launch("exit 3")).await;
    told(&mut ends, first).await;
    direct.remove(first).await.expect("removed");

    // As when the engine is started again.
    proxy.fault(3, Fault::answer(500, "the engine is being started"), |request| request.path.contains("/events"));
    proxy.cut();
    let second = start(&direct, &launch("exit 4")).await;
    exit(&direct, second).await;
    told(&mut ends, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_known_during_and_after_a_run() {
    let stage = Stage::new();
    let driver = stage.driver().await;
    // Some processor time, some memory, some network.
    let script = "x=0; while [ $x -lt 200000 ]; do x=$((x+1)); done; dd if=/dev/zero of=/dev/shm/x bs=1M count=16 2>/dev/null; \
                  nc -w 1 host.docker.internal 9 </dev/null; echo ready; sleep 600";
    let runner = start(&driver, &launch(script)).await;
    until("it is ready", || async { printed(&driver, runner).await.contains("ready") }).await;
    let samples = driver.samples().await.expect("asked");
    let [(who, usage)] = samples[..] else { panic!("one runner, {samples:?}") };
    assert_eq!(who, runner);
    assert!(usage.cpu_ms > 0 && usage.lasted_ms > 0, "{usage:?}");
    assert!(usage.peak_memory_bytes >= 16 << 20 && usage.peak_memory_bytes <= 64 << 20, "{usage:?}");
    assert!(usage.received_bytes.is_some() && usage.sent_bytes.is_some_and(|sent| sent > 0), "{usage:?}");

    driver.stop(runner, std::time::Duration::ZERO).await.expect("stopped");
    exit(&driver, runner).await;
    assert_eq!(driver.samples().await, Ok(Vec::new()), "the dead take nothing");
    let last = driver.usage(runner).await.expect("asked").expect("looked at before its end");
    assert!(last.cpu_ms >= usage.cpu_ms && last.peak_memory_bytes >= 16 << 20, "{last:?}");
    // Another process of ours does not know.
    assert_eq!(stage.driver().await.usage(runner).await, Ok(None));
}
