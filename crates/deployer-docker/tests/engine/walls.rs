//! The walls, looked at from inside.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use greenroom_deployer::{Class, Deployer, Image, Images, Need, Progress, Verdict};
use greenroom_domain::Resources;
use tokio::net::TcpStream;

use crate::checking::{WANTED, find};
use crate::stage::{Stage, image, launch, said, start, until};

const LOOK_AROUND: &str = r"
    grep -E '^(Uid|Gid|CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
    touch /written 2>/dev/null && echo root: written || echo root: refused
    touch /etc/written 2>/dev/null && echo etc: written || echo etc: refused
    touch /tmp/written && echo tmp: written
    touch /dev/shm/written && echo shm: written
    for at in /var/run/docker.sock /run/docker.sock; do [ -e $at ] && echo socket: $at; done
    df -k /dev/shm | tail -1 | sed 's/^/shm size: /'
    df -k /tmp | tail -1 | sed 's/^/tmp size: /'
    echo memory: $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null)
    echo swap: $(cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max 2>/dev/null)
    echo pids: $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null)
    echo cpu: $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null)
    echo host: $(grep host.docker.internal /etc/hosts)
    echo home: $HOME, sandbox: $GREENROOM_SANDBOX
    echo links: $(ls /sys/class/net)
";

/// What stands behind a word.
fn field<'a>(said: &'a str, name: &str) -> &'a str {
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is not in:\n{said}")).trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_sees_walls_on_every_side() {
    let stage = Stage::with(|config| {
        (config.shm_bytes, config.tmp_bytes, config.pids) = (32 << 20, 48 << 20, 77);
    });
    let mut launch = launch(LOOK_AROUND);
    launch.spec.resources = Resources { cpu_millis: 300, memory_bytes: 96 << 20, ..Resources::default() };
    let said = said(&stage.driver().await, &launch).await;
    assert!(field(&said, "Uid").split_whitespace().all(|id| id == "10001"), "{said}");
    assert!(field(&said, "Gid").split_whitespace().all(|id| id == "10001"), "{said}");
    for capabilities in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(field(&said, capabilities).trim_start_matches('0'), "", "{said}");
    }
    assert_eq!(field(&said, "NoNewPrivs"), "1", "{said}");
    assert_eq!(field(&said, "Seccomp"), "2", "Docker's own profile filters: {said}");
    assert_eq!((field(&said, "root"), field(&said, "etc")), ("refused", "refused"), "{said}");
    assert_eq!((field(&said, "tmp"), field(&said, "shm")), ("written", "written"), "{said}");
    assert!(!said.contains("socket:"), "{said}");
    assert!(field(&said, "shm size").contains(" 32768 "), "{said}");
    assert!(field(&said, "tmp size").contains(" 49152 "), "{said}");
    assert_eq!(field(&said, "memory"), (96 << 20).to_string(), "{said}");
    let swap = field(&said, "swap");
    assert!(["", "0", &(96 << 20).to_string()].contains(&swap), "no swap on top: {said}");
    assert_eq!(field(&said, "pids"), "77", "{said}");
    assert!(field(&said, "cpu").starts_with("30000"), "{said}");
    assert!(field(&said, "host").split_whitespace().next().is_some_and(|at| at.parse::<IpAddr>().is_ok()), "{said}");
    assert_eq!(field(&said, "home"), "/tmp, sandbox: off", "{said}");
    assert_eq!(field(&said, "links"), "eth0 lo", "a network of its own: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_declares_needs_gets_what_it_needs_and_no_more() {
    let with = |needs: &[Need]| {
        let needs: BTreeSet<Need> = needs.iter().copied().collect();
        Stage::with(|config| {
            config.images =
                Images::only(Image { reference: image(), needs, chrome_flags: Some("--one --two".to_owned()) });
        })
    };
    let stage = with(&[Need::Root, Need::WritableRoot]);
    let said_by = said(&stage.driver().await, &launch(&format!("{LOOK_AROUND}\necho flags: $CHROME_FLAGS"))).await;
    assert_eq!(field(&said_by, "Uid").split_whitespace().next(), Some("0"), "{said_by}");
    assert_eq!(field(&said_by, "root"), "written", "{said_by}");
    assert_eq!(field(&said_by, "CapEff").trim_start_matches('0'), "", "root of nothing: {said_by}");
    assert_eq!(field(&said_by, "NoNewPrivs"), "1", "{said_by}");
    assert_eq!(field(&said_by, "flags"), "--one --two", "{said_by}");

    let stage = with(&[Need::NewPrivileges]);
    let said_by = said(&stage.driver().await, &launch(LOOK_AROUND)).await;
    assert_eq!(field(&said_by, "NoNewPrivs"), "0", "{said_by}");
    assert_eq!(
        (field(&said_by, "root"), field(&said_by, "CapBnd").trim_start_matches('0')),
        ("refused", ""),
        "{said_by}"
    );

    // A bot that brings an image of its own gets no wall taken away.
    let mut own = launch(LOOK_AROUND);
    let there = crate::stage::engine().inspect_image(&image()).await.expect("it is there");
    own.spec.image = there.id;
    let stage = with(&Need::ALL);
    let said_by = said(&stage.driver().await, &own).await;
    assert_eq!((field(&said_by, "root"), field(&said_by, "NoNewPrivs")), ("refused", "1"), "{said_by}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_of_runners_is_one_in_which_none_sees_another() {
    let stage = Stage::new();
    said(&stage.driver().await, &launch("true")).await;
    let network = format!("{}-docker", stage.installation);
    let network = crate::stage::engine().inspect_network(&network, None).await.expect("it is there");
    assert_eq!(network.options.expect("it has")["com.docker.network.bridge.enable_icc"], "false");
    assert_eq!(network.labels.expect("it has")["greenroom.dev/installation"], stage.installation.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_network_of_that_name_is_neither_used_nor_pruned() {
    let stage = Stage::new();
    let (engine, name) = (crate::stage::engine(), format!("{}-docker", stage.installation));
    let theirs = NetworkCreateRequest { name: name.clone(), ..NetworkCreateRequest::default() };
    let id = engine.create_network(theirs).await.expect("made").id;
    let driver = stage.driver().await;
    let refused = driver.ensure(&launch("true"), &Progress::silent()).await.expect_err("not ours");
    assert_eq!(refused.class(), Class::Rejected, "{refused}");
    assert!(refused.to_string().contains(&name), "{refused}");
    assert!(stage.containers().await.is_empty(), "nobody is in it");
    let found = driver.check(&WANTED).await;
    assert_eq!(find(&found, "network").verdict, Verdict::Failed, "{found:?}");
    driver.prune().await.expect("pruned");
    assert_eq!(engine.inspect_network(&name, None).await.expect("it is there").id, Some(id));
}

/// That none sees another is kept by the host's packet filter.
#[ignore = "the tests' own engine keeps no packet filter: run it, with --run-ignored all, on one that does"]
#[tokio::test(flavor = "multi_thread")]
async fn runners_do_not_reach_each_other() {
    let stage = Stage::new();
    let driver = stage.driver().await;
    let one = start(&driver, &launch("while :; do echo hello | nc -l -p 7000; done")).await;
    let container = stage.container(one).await;
    let networks = container.network_settings.and_then(|settings| settings.networks).expect("it has networks");
    assert_eq!(networks.keys().collect::<Vec<_>>(), [&format!("{}-docker", stage.installation)], "one of its own");
    let address = networks.into_values().find_map(|network| network.ip_address).expect("it has an address");
    // The host itself reaches it: somebody listens there.
    until("it listens", || async { TcpStream::connect(format!("{address}:7000")).await.is_ok() }).await;
    let asks = format!("nc -w 3 {address} 7000 </dev/null && echo reached || echo not reached");
    let said = said(&driver, &launch(&asks)).await;
    assert!(said.contains("not reached") && !said.contains("hello"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_has_a_name_inside() {
    let stage = Stage::new();
    let driver = stage.driver().await;
    // Makes the network, whose first address is the host's.
    said(&driver, &launch("true")).await;
    let network = format!("{}-docker", stage.installation);
    let network = crate::stage::engine().inspect_network(&network, None).await.expect("it is there");
    let gateway =
        network.ipam.and_then(|ipam| ipam.config).and_then(|mut pools| pools.remove(0).gateway).expect("an address");
    let listener = tokio::net::TcpListener::bind((gateway.as_str(), 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let accepted = tokio::spawn(async move { listener.accept().await.map(|_| ()) });
    let asks = format!("nc -w 3 host.docker.internal {port} </dev/null && echo reached || echo not reached");
    let said = said(&driver, &launch(&asks)).await;
    assert!(said.contains("reached"), "{said}");
    tokio::time::timeout(Duration::from_secs(180), accepted)
        .await
        .expect("in time")
        .expect("joined")
        .expect("accepted");
}
