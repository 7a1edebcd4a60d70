//! What `greenroom platforms check` finds.

use std::collections::BTreeSet;

use greenroom_deployer::conformance::{Fault, Proxy};
use greenroom_deployer::{Deployer, Finding, Image, Images, Need, Verdict, Wanted};
use greenroom_deployer_docker::{Address, HostEntry, Pull};
use greenroom_domain::Resources;

use crate::registry::{Content, Registry};
use crate::stage::{Stage, image, upstream};

pub const WANTED: Wanted = Wanted {
    limit: 1,
    size: Resources { cpu_millis: 100, memory_bytes: 64 << 20, cpu_limit_millis: None, memory_limit_bytes: None },
};

async fn check(stage: &Stage, wanted: &Wanted) -> Vec<Finding> {
    stage.driver().await.check(wanted).await
}

pub fn find<'a>(found: &'a [Finding], subject: &str) -> &'a Finding {
    let finding = found.iter().find(|finding| finding.subject.starts_with(subject));
    finding.unwrap_or_else(|| panic!("{subject} is not in {found:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_works_passes() {
    let stage = Stage::with(|config| {
        let needs = BTreeSet::from([Need::Root]);
        config.images = Images::only(Image { reference: image(), needs, chrome_flags: None });
    });
    let found = check(&stage, &WANTED).await;
    assert!(found.iter().all(|finding| finding.verdict <= Verdict::Warning), "{found:#?}");
    for subject in ["reachability", "network", "image others", "capacity"] {
        assert_eq!(find(&found, subject).verdict, Verdict::Passed, "{found:#?}");
    }
    assert!(find(&found, "image others").detail.contains("it needs root"), "walls that are down are shown");
    assert!(stage.containers().await.is_empty(), "nothing was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_name_the_problem_and_the_action() {
    let registry = Registry::start(Content::default()).await;
    let stage = Stage::with(|config| {
        config.network = Some("no-such-network".to_owned());
        config.images = Images::one(registry.reference("bot:1"));
    });
    let found = check(&stage, &Wanted { limit: 100_000, ..WANTED }).await;
    let network = find(&found, "network");
    assert_eq!(network.verdict, Verdict::Failed);
    assert!(network.advice.as_ref().is_some_and(|advice| advice.contains("docker network create")));
    let image = find(&found, "image");
    assert_eq!(image.verdict, Verdict::Failed);
    assert!(image.advice.as_ref().is_some_and(|advice| advice.contains("REGISTRY_USERNAME")), "{image:?}");
    let capacity = find(&found, "capacity");
    assert_eq!(capacity.verdict, Verdict::Warning);
    assert!(capacity.advice.as_ref().is_some_and(|advice| advice.contains("DOCKER_BOT_LIMIT=")), "{capacity:?}");

    let stage = Stage::with(|config| {
        config.pull = Pull::Never;
        config.images = Images::one(registry.reference("bot:1"));
    });
    let found = check(&stage, &WANTED).await;
    assert!(find(&found, "image").detail.contains("DOCKER_PULL is never"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_is_looked_at_by_itself() {
    let proxy = Proxy::start(upstream()).await.expect("a port");
    let mut stage = Stage::new();
    let away = Address::Tcp(proxy.address().to_string());
    stage.config.hosts[0].name = "here".to_owned();
    stage.config.hosts.push(HostEntry { name: "there".to_owned(), address: away, limit: Some(4) });
    proxy.fault(usize::MAX, Fault::answer(403, "{\"message\":\"not you\"}"), |_| true);
    let found = check(&stage, &WANTED).await;
    assert_eq!(find(&found, "reachability of here").verdict, Verdict::Passed);
    let there = find(&found, "reachability of there");
    assert_eq!((there.verdict, there.detail.contains("not you")), (Verdict::Failed, true), "{there:?}");
}
