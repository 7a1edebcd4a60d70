//! Several hosts: the same engine behind proxies, which is all that a driver can see of a host.
//!
//! Two names for one engine show each other's containers; what is tested here is where starts are sent and what follows from a
//! host that is away, and that is told by what the proxies saw.

use greenroom_deployer::conformance::{Fault, Proxy};
use greenroom_deployer::{Class, Deployer, Observed, Progress};
use greenroom_deployer_docker::{Address, DockerDeployer, HostEntry};

use futures::TryStreamExt;

use crate::stage::{Stage, launch, new_runner, start, upstream};

struct Hosts {
    stage: Stage,
    proxies: Vec<Proxy>,
    driver: DockerDeployer,
}

impl Hosts {
    async fn with_limits(limits: &[Option<u32>]) -> Self {
        let stage = Stage::new();
        let mut config = stage.config.clone();
        config.hosts.clear();
        let mut proxies = Vec::new();
        for (index, limit) in limits.iter().enumerate() {
            let proxy = Proxy::start(upstream()).await.expect("a port");
            let address = Address::Tcp(proxy.address().to_string());
            config.hosts.push(HostEntry { name: format!("host-{index}"), address, limit: *limit });
            proxies.push(proxy);
        }
        config.timeout = std::time::Duration::from_secs(5);
        let driver = stage.driver_of(config).await;
        Self { stage, proxies, driver }
    }

    /// How many containers were asked for, of each.
    fn made(&self) -> Vec<usize> {
        let made =
            |proxy: &Proxy| proxy.seen().iter().filter(|request| request.path.contains("/containers/create")).count();
        self.proxies.iter().map(made).collect()
    }

    fn away(&self, host: usize) {
        self.proxies[host].fault(usize::MAX, Fault::answer(502, "nobody is there"), |_| true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_go_where_there_is_room_and_never_beyond_a_limit() {
    // Both names show every container: whoever is on the one counts on the other as well.
    let hosts = Hosts::with_limits(&[Some(1), Some(3)]).await;
    for _ in 0..3 {
        start(&hosts.driver, &launch("sleep 600")).await;
    }
    assert_eq!(hosts.made(), [0, 3]);
    let refused = hosts.driver.ensure(&launch("sleep 600"), &Progress::silent()).await;
    assert_eq!(refused.map_err(|error| error.class()), Err(Class::NoCapacity));
    assert_eq!(hosts.stage.containers().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_does_not_pass_a_limit() {
    let hosts = Hosts::with_limits(&[Some(2), Some(4)]).await;
    let launches: Vec<_> = (0..7).map(|_| launch("sleep 600")).collect();
    let silent = Progress::silent();
    let started = futures::future::join_all(launches.iter().map(|launch| hosts.driver.ensure(launch, &silent))).await;
    let full = started.iter().filter(|started| started.as_ref().is_err_and(|error| error.class() == Class::NoCapacity));
    assert_eq!(full.count() + started.iter().filter(|started| started.is_ok()).count(), 7, "{started:?}");
    let there = hosts.stage.containers().await.len();
    assert!((4..=6).contains(&there), "{there} were started, the larger host takes 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_away_is_not_gone_and_keeps_nobody_else_waiting() {
    let hosts = Hosts::with_limits(&[None, None]).await;
    let runner = start(&hosts.driver, &launch("sleep 600")).await;
    hosts.away(0);
    // Found on the other: all is as ever.
    assert_eq!(hosts.driver.inspect(runner).await, Ok(Observed::Running));
    // Found nowhere: it may be on the one that is away.
    let unknown = hosts.driver.inspect(new_runner()).await.map_err(|error| error.class());
    assert_eq!(unknown, Err(Class::Transient));
    let list = hosts.driver.list().try_concat().await.map_err(|error| error.class());
    assert_eq!(list.map(|_| ()), Err(Class::Transient), "a list without it would call its runners lost");
    // New ones start on the other.
    let before = hosts.made();
    start(&hosts.driver, &launch("sleep 600")).await;
    assert_eq!(hosts.made(), [before[0], before[1] + 1]);
    // All of them are away.
    hosts.away(1);
    let nowhere = hosts.driver.ensure(&launch("sleep 600"), &Progress::silent()).await;
    assert_eq!(nowhere.map_err(|error| error.class()), Err(Class::Transient));
    hosts.proxies.iter().for_each(Proxy::calm);
    assert_eq!(hosts.driver.inspect(new_runner()).await, Ok(Observed::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_sent_to_a_host_is_not_sent_to_another() {
    let hosts = Hosts::with_limits(&[Some(9), Some(1)]).await;
    let launch = launch("echo started; sleep 600");
    // Its answer is lost, and the host with it.
    hosts.proxies[0].fault(1, Fault::Lose, |request| request.path.contains("/containers/create"));
    assert!(hosts.driver.ensure(&launch, &Progress::silent()).await.is_err());
    // The other name shows it, as it is the same engine: it is found there, and begun there, not made again.
    hosts.away(0);
    hosts.driver.ensure(&launch, &Progress::silent()).await.expect("found");
    assert_eq!(hosts.made(), [1, 0]);
    assert_eq!(hosts.stage.containers().await.len(), 1);
}
