//! Every kind of request that the driver makes, said again to Prism, which serves Coolify's own OpenAPI document: none may be
//! against it.
//!
//! Wants `GREENROOM_TEST_PRISM` (Prism's program) and `COOLIFY_OPENAPI` (the document, which is not ours to keep here).

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

// The double with which the driver makes its requests; not all that it can do is wanted here.
#[allow(dead_code)]
#[path = "../double"]
mod double {
    pub mod container;
    pub mod coolify;
    pub mod stage;
}

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use greenroom_deployer::conformance::SCRIPT;
use greenroom_deployer::{Deployer, Launch, Observed, Preparation, Progress, Wanted};
use greenroom_domain::{
    Attempt, BotId, Provider, Resources, RunnerId, RunnerSpec, SlotId, Standing, TenantId, Timestamp,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use double::coolify::{Coolify, Seen, TOKEN};
use double::{container, coolify, stage};

/// Where the document says otherwise than Coolify does, by its source.
const DIFFERENCES: &[(&str, &str, &str)] = &[(
    "POST /applications/dockerimage",
    "environment_uuid",
    "the document requires both environment_name and environment_uuid, Coolify either",
)];

struct Prism {
    url: String,
    _child: Child,
}

async fn prism() -> Prism {
    let wanted = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("this test wants {name}"));
    let (program, document) = (wanted("GREENROOM_TEST_PRISM"), wanted("COOLIFY_OPENAPI"));
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let child = Command::new(program)
        .args(["mock", "-h", "127.0.0.1", "-p", &port.to_string(), "--errors", &document])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prism");
    let url = format!("http://127.0.0.1:{port}");
    let client = reqwest::Client::new();
    stage::until("prism answers", async || client.get(format!("{url}/version")).send().await.is_ok()).await;
    Prism { url, _child: child }
}

/// A slot's and a runner's whole life, with everything that is asked for in it.
async fn life() -> Vec<Seen> {
    let coolify = Coolify::start().await;
    let driver = stage::driver(&coolify).await;
    let soon = Timestamp::now() + SignedDuration::from_secs(60);
    let standing = Standing { slot: SlotId::generate(), generation: 1 };
    let (provider, resources) = (Provider::new("web").expect("valid"), Resources::default());
    let preparation = Preparation {
        standing,
        name: "pool-web-001".to_owned(),
        provider: provider.clone(),
        image: None,
        resources,
        prepare_by: soon,
    };
    driver.prepare(&preparation, &Progress::silent()).await.expect("made");
    driver.describe(standing, "[BUSY] Bot #456 - 2026").await.expect("described");
    for (number, patience) in [(1, true), (2, false)] {
        let mut environment = BTreeMap::from([(SCRIPT.to_owned(), "echo started; sleep 600".to_owned())]);
        // The second one brings other variables along, so that the first one's are deleted.
        environment.insert(format!("TOKEN_{number}"), "a\nsecret".to_owned());
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let spec = RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: provider.clone(),
            image: None,
            resources,
            max_lifetime: Duration::from_secs(600),
        };
        let launch = Launch { spec, environment, start_by: soon, standing: Some(standing) };
        driver.ensure(&launch, &Progress::silent()).await.expect("started");
        if patience {
            stage::until("logs", async || driver.logs(runner, false, Some(5)).await.is_ok_and(|logs| logs.is_some()))
                .await;
        }
        // The second one is stopped while it is being deployed, which cancels that.
        driver.stop(runner, Duration::ZERO).await.expect("asked");
        stage::until("over", async || driver.inspect(runner).await.is_ok_and(|seen| seen != Observed::Running)).await;
        driver.remove(runner).await.expect("removed");
    }
    driver.reset(standing).await.expect("reset");
    driver.check(&Wanted { limit: 20, size: resources }).await;
    driver.retire(standing).await.expect("retired");
    coolify.seen()
}

/// `PATCH /applications/{}/envs`: requests that differ in names alone are of one kind.
fn kind(seen: &Seen) -> String {
    let path = seen.path.trim_start_matches("/api/v1");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let words: Vec<&str> = path.split('/').map(|word| if word.len() == 24 { "{}" } else { word }).collect();
    let names: Vec<&str> =
        query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()).collect();
    let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
    format!("{} {}{query}", seen.method, words.join("/"))
}

/// What Prism has against it.
async fn say(prism: &Prism, one: &Seen, body: &str) -> Result<(), String> {
    let method = reqwest::Method::from_bytes(one.method.as_bytes()).expect("a method");
    let path = one.path.trim_start_matches("/api/v1");
    let mut request = reqwest::Client::new().request(method, format!("{}{path}", prism.url)).bearer_auth(TOKEN);
    if !body.is_empty() {
        request = request.header("content-type", "application/json").body(body.to_owned());
    }
    let answer = request.send().await.expect("prism answers");
    let status = answer.status();
    let violations = answer.headers().get("sl-violations").and_then(|value| value.to_str().ok());
    let violations = violations.unwrap_or_default().to_owned();
    let text = answer.text().await.unwrap_or_default();
    // Violations of its own made-up answers are none of ours.
    if status.is_success() && !violations.contains("\"request\"") {
        return Ok(());
    }
    Err(format!("{status} {violations} {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_against_coolifys_own_document() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let prism = prism().await;
    let seen = life().await;
    let kinds: BTreeSet<String> = seen.iter().map(kind).collect();
    for needed in [
        "DELETE /applications/{}/envs/{}",
        "DELETE /applications/{}?delete_configurations&delete_volumes&docker_cleanup",
        "GET /applications",
        "GET /applications/{}",
        "GET /applications/{}/envs",
        "GET /applications/{}/logs?lines&show_timestamps",
        "GET /deployments/applications/{}?skip&take",
        "GET /destinations/destination",
        "GET /projects/project",
        "GET /projects/project/production",
        "GET /servers/server",
        "GET /version",
        "PATCH /applications/{}",
        "PATCH /applications/{}/envs/bulk",
        "POST /applications/dockerimage",
        "POST /applications/{}/start",
        "POST /applications/{}/stop?docker_cleanup",
        "POST /deployments/{}/cancel",
    ] {
        assert!(kinds.contains(needed), "nobody asked for {needed}: {kinds:#?}");
    }

    let (mut said, mut wrong, mut known) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for one in &seen {
        let kind = kind(one);
        // One of a kind, but every body.
        if !said.insert((kind.clone(), one.body.clone())) {
            continue;
        }
        let Err(refused) = say(&prism, one, &one.body).await else { continue };
        // Where it differs in that alone, it does not differ any more when that is put right.
        let difference = DIFFERENCES.iter().find(|(of, field, _)| kind == *of && refused.contains(field));
        let put_right = match difference {
            Some((_, field, _)) => {
                let mut body: Value = serde_json::from_str(&one.body).expect("it is JSON");
                body[*field] = json!("cm37r6cqj000008jm0veg5tkm");
                say(&prism, one, &body.to_string()).await
            }
            None => Err(refused),
        };
        match (put_right, difference) {
            (Ok(()), Some((_, _, why))) => _ = known.insert(format!("{kind}: {why}")),
            (Ok(()), None) => {}
            (Err(refused), _) => wrong.push(format!("{kind}: {refused} of {}", one.body)),
        }
    }
    println!("{} kinds of requests, known differences: {known:#?}", kinds.len());
    assert!(wrong.is_empty(), "against the document:\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn violations_of_the_openapi_document_are_found() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let prism = prism().await;
    let client = reqwest::Client::new();
    let ask = |method: reqwest::Method, path: &str, body: &'static str| {
        let request = client.request(method, format!("{}{path}", prism.url)).bearer_auth(TOKEN);
        request.header("content-type", "application/json").body(body).send()
    };
    let uuid = "cm37r6cqj000008jm0veg5tkm";
    let started = ask(reqwest::Method::GET, &format!("/applications/{uuid}/start"), "").await.expect("it answers");
    assert_eq!(started.status(), 405, "start is POST");
    let set = ask(reqwest::Method::PATCH, &format!("/applications/{uuid}/envs/bulk"), r#"{"variables":[]}"#).await;
    let set = set.expect("it answers");
    assert_eq!(set.status(), 400, "it wants data");
    assert!(set.headers().contains_key("sl-violations"));
    let elsewhere = ask(reqwest::Method::POST, "/applications/image", "{}").await.expect("it answers");
    assert!([404, 405].contains(&elsewhere.status().as_u16()), "{}", elsewhere.status());
}
