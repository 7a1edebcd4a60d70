//! What nobody may overhear: after a story with everything in it that can go wrong, no log, no message and no metric holds a
//! meeting's address or password, a token, a key or the secret.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use greenroom_bus::Bus;
use greenroom_testkit::checker::check;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::{Story, User, client};
use greenroom_testkit::{Layout, Sandbox, Settings};
use serde_json::json;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

/// Every deadline and period is a twentieth.
const TIME_SCALE: f64 = 0.05;

/// What and its name: a failure shows the name.
const SECRETS: [(&str, &str); 5] = [
    ("a meeting's address", "https://meeting.example"),
    ("a meeting's password", "sesame"),
    ("a runner's token", "gr1_"),
    ("an API key", "grk_"),
    ("the secret", "a secret of nobody but this sandbox"),
];

fn script() -> Script {
    Script {
        seed: 3,
        call_ms: Millis(10_000, 20_000),
        no_capacity: 0.1,
        rejected: 0.05,
        transient: 0.1,
        lost_answers: 0.05,
        doubled_starts: 0.1,
        crash_before_admission: 0.1,
        crash_after_admission: 0.1,
        crash_in_call: 0.1,
        ..Script::default()
    }
}

/// Which secrets stand in a text, and around what.
fn found(place: &str, text: &str) -> Vec<String> {
    let around = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        text[line..].lines().next().unwrap_or_default().to_owned()
    };
    let named = |(name, secret): &(&str, &str)| text.find(secret).map(|at| format!("{place}: {name}: {}", around(at)));
    SECRETS.iter().filter_map(named).collect()
}

/// What clients say that is wrong, each with a secret in it.
async fn say_what_is_wrong(sandbox: &Sandbox) {
    let (client, url) = (client(), sandbox.url());
    let meeting = json!({"provider": "web", "url": "https://meeting.example/private", "password": "sesame"});
    let broken = format!("{{\"meeting\": {meeting}");
    let requests = [
        (sandbox.key(), broken, 400),
        (
            sandbox.key(),
            json!({"meeting": meeting, "queueTimeoutMs": "https://meeting.example/private"}).to_string(),
            422,
        ),
        (
            sandbox.key(),
            json!({"meeting": {"provider": "sesame", "url": "sesame https://meeting.example"}}).to_string(),
            422,
        ),
        ("grk_a-key-that-nobody-has-0000000000000000000000", json!({"meeting": meeting}).to_string(), 401),
    ];
    for (key, body, expected) in requests {
        let request = client.post(format!("{url}/v1/bots")).bearer_auth(key).header("content-type", "application/json");
        let answer = request.body(body.clone()).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert!(status == expected || (expected == 422 && status == 400), "{status}, not {expected}: {body}: {text}");
        assert_eq!(found("an answer", &text), Vec::<String>::new());
    }
    let admit = client.post(format!("{url}/runner/v1/admit")).bearer_auth("gr1_bot-no-runner_of-nobody_00");
    let status = admit.json(&json!({})).send().await.expect("an answer").status();
    assert!(status.is_client_error(), "{status}");
}

#[tokio::test]
async fn secrets_do_not_leak() {
    let mut sandbox = Sandbox::start(Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout: Layout::Split,
        slots: 10,
        time_scale: TIME_SCALE,
        script: script(),
        // Everything that can be said is said.
        more: [("LOG_LEVEL".to_owned(), "trace".to_owned())].into(),
    })
    .await
    .expect("a sandbox");
    // Every message, wherever it goes: this nats-server is the sandbox's alone.
    let bus = Bus::connect(&sandbox.nats.url(), sandbox.installation().clone(), "test").await.expect("a bus");
    let mut said = bus.listen_lossy(">".to_owned()).await.expect("it listens");
    bus.flush().await.expect("nats is there");
    let overheard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let keep = overheard.clone();
    tokio::spawn(async move {
        while let Some((subject, _, body)) = said.next().await {
            keep.lock().expect("nobody panics").push((subject, String::from_utf8_lossy(&body).into_owned()));
        }
    });

    let user = User::new(sandbox.url(), sandbox.key());
    let listener = user.listen(CancellationToken::new());
    let story = Story {
        bots: 40,
        over: Duration::from_secs(3),
        cancels: 15,
        leaves: 15,
        regret: Duration::from_secs(3),
        queue_timeout: Duration::from_secs(120),
        seed: 3,
    };
    let playing = tokio::spawn({
        let user = user.clone();
        async move { user.play(&story).await }
    });
    say_what_is_wrong(&sandbox).await;
    // What fails is logged, and errors like to quote.
    sandbox.postgres.stop().await.expect("it stops");
    tokio::time::sleep(Duration::from_secs(1)).await;
    sandbox.postgres.restart().await.expect("it starts");
    sandbox.node_of("scheduler").kill().expect("it is killed");
    sandbox.node_of("scheduler").start().expect("it starts");
    let bots = playing.await.expect("the story is played");
    let evidence = Evidence::settled(&sandbox, bots, &listener, Duration::from_secs(90)).await.expect("evidence");
    assert_eq!(check(&evidence), [], "{}", sandbox.logs(20));

    let mut leaks = Vec::new();
    let logs: Vec<_> = std::fs::read_dir(sandbox.folder())
        .expect("the sandbox's folder")
        .map(|file| file.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    for path in &logs {
        let log = String::from_utf8_lossy(&std::fs::read(path).expect("a log")).into_owned();
        leaks.extend(found(&path.display().to_string(), &log));
    }
    let messages = overheard.lock().expect("nobody panics").clone();
    for (subject, body) in &messages {
        leaks.extend(found(subject, body));
    }
    let mut metrics = String::new();
    for node in &sandbox.nodes {
        let answer = client().get(format!("{}/metrics", node.operations())).send().await.expect("it is open");
        let text = answer.text().await.expect("text");
        leaks.extend(found(&format!("metrics of {}", node.name), &text));
        metrics.push_str(&text);
    }
    assert_eq!(leaks, Vec::<String>::new());

    // There was something to find, and something to find it in.
    assert!(logs.len() >= sandbox.nodes.len() && sandbox.nodes.iter().all(|node| !node.log().is_empty()));
    assert!(sandbox.node_of("deployer").log().contains("\"level\":\"DEBUG\""), "more than usual was said");
    let id = &evidence.bots[0].id;
    assert!(messages.iter().any(|(subject, body)| subject.contains(".evt.bot.created.") && body.contains(id)));
    assert!(messages.iter().any(|(subject, _)| subject.ends_with(".cmd.deploy.simulated.start")));
    assert!(metrics.contains("greenroom_deployer_starts_total") && metrics.contains("greenroom_http"));
    let mut database = sqlx::PgConnection::connect(&sandbox.database_url()).await.expect("postgres");
    let count = "SELECT count(*) FROM scheduler.bots b WHERE b::text LIKE '%https://meeting.example/%'";
    let kept: i64 = sqlx::query_scalar(count).fetch_one(&mut database).await.expect("an answer");
    assert_eq!(kept, 40, "the story's bots have addresses");
    drop(database);
    sandbox.stop().await.expect("it stops");
}

#[test]
fn the_secret_search_finds_planted_secrets() {
    let line = "fine\n{\"body\": \"gr1_bot-1\"}\nfine";
    assert_eq!(found("a log", line), ["a log: a runner's token: {\"body\": \"gr1_bot-1\"}"]);
    assert_eq!(found("a log", "fine"), Vec::<String>::new());
}
