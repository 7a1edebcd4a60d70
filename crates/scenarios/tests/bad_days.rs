//! Days on which something is away, told to end, or talks nonsense: a process says what is the matter, waits, and goes on by
//! itself.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use futures::StreamExt;
use greenroom_bus::{Bus, Outgoing};
use greenroom_contracts::subjects;
use greenroom_domain::{Attempt, MessageId, RunnerId};
use greenroom_testkit::checker::check;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::{Acknowledged, Story, User, client};
use greenroom_testkit::{Layout, Sandbox, Settings, until};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Every deadline and period is a twentieth.
const TIME_SCALE: f64 = 0.05;
/// For what takes a second or two.
const SOON: Duration = Duration::from_secs(180);
/// How long a process may take after SIGTERM, here.
const DRAIN: Duration = Duration::from_secs(5);

fn script() -> Script {
    Script { call_ms: Millis(20_000, 30_000), ..Script::default() }
}

async fn sandbox(layout: Layout, script: Script) -> Sandbox {
    sandbox_that_ends_within(DRAIN, layout, script).await
}

async fn sandbox_that_ends_within(drain: Duration, layout: Layout, script: Script) -> Sandbox {
    let drain = ("GREENROOM_DRAIN_MS".to_owned(), drain.as_millis().to_string());
    let settings = Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout,
        slots: 10,
        time_scale: TIME_SCALE,
        script,
        more: [drain].into(),
    };
    Sandbox::start(settings).await.expect("a sandbox")
}

/// Status and body of what stands at an address.
async fn look(url: String) -> (u16, String) {
    match client().get(url).send().await {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

/// What a process that is not ready waits for.
async fn until_it_waits_for(sandbox: &mut Sandbox, service: &str, missing: &str) {
    let url = format!("{}/health/ready", sandbox.node_of(service).operations());
    until(&format!("{service} waits for {missing}"), SOON, async || {
        let (status, body) = look(url.clone()).await;
        status == 503 && body.contains(missing)
    })
    .await;
    let live = format!("{}/health/live", sandbox.node_of(service).operations());
    assert_eq!(look(live).await.0, 200, "it is not ready, and alive");
}

fn warnings(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == "WARN").collect()
}

/// What a story has to come to.
async fn assert_kept(sandbox: Sandbox, user: &User, bots: Vec<Acknowledged>) {
    let listener = user.listen(CancellationToken::new());
    let evidence = Evidence::settled(&sandbox, bots, &listener, 2 * SOON).await.expect("evidence");
    assert_eq!(check(&evidence), [], "{}", sandbox.logs(30));
    drop(listener);
    sandbox.stop().await.expect("it stops");
}

fn acknowledged(id: String) -> Acknowledged {
    Acknowledged { id, asked_ms: 0, cancelled: false, called_back: false }
}

#[tokio::test]
async fn postgres_may_come_later_than_we_do() {
    let mut sandbox = sandbox_that_ends_within(SOON, Layout::AllInOne, script()).await;
    sandbox.node_of("all").kill().expect("it is killed");
    sandbox.postgres.stop().await.expect("it stops");
    sandbox.node_of("all").start().expect("it starts");
    until_it_waits_for(&mut sandbox, "all", "database").await;
    until("it says so", SOON, async || {
        let warnings = warnings(&sandbox.node_of("all").log());
        warnings.iter().any(|line| line["message"] == "waiting for the database")
    })
    .await;
    // Waiting, it can be told to end: it gives Postgres the five seconds of a question, and not all that it may take.
    let code = sandbox.node_of("all").terminate(SOON / 2).await.expect("it ends");
    assert_eq!(code, Some(0));
    sandbox.node_of("all").start().expect("it starts");
    until_it_waits_for(&mut sandbox, "all", "database").await;

    sandbox.postgres.restart().await.expect("it starts");
    sandbox.ready(SOON).await.expect("it becomes ready by itself");
    assert!(!sandbox.node_of("all").has_died());
    let user = User::new(sandbox.url(), sandbox.key());
    let bots = vec![acknowledged(user.create("after").await)];
    assert_kept(sandbox, &user, bots).await;
}

#[tokio::test]
async fn nats_may_come_later_than_we_do() {
    let mut sandbox = sandbox(Layout::AllInOne, script()).await;
    sandbox.node_of("all").kill().expect("it is killed");
    sandbox.nats.stop().await.expect("it stops");
    let before = sandbox.node_of("all").log().len();
    sandbox.node_of("all").start().expect("it starts");
    until_it_waits_for(&mut sandbox, "all", "nats").await;
    until("it says so", SOON, async || {
        let log = sandbox.node_of("all").log();
        warnings(&log[before..]).iter().any(|line| line["message"] == "cannot subscribe, trying again")
    })
    .await;
    let code = sandbox.node_of("all").terminate(DRAIN + Duration::from_secs(2)).await.expect("it ends");
    assert_eq!(code, Some(0));
    sandbox.node_of("all").start().expect("it starts");
    until_it_waits_for(&mut sandbox, "all", "nats").await;

    sandbox.nats.restart().await.expect("it starts");
    sandbox.ready(SOON).await.expect("it becomes ready by itself");
    assert!(!sandbox.node_of("all").has_died());
    let user = User::new(sandbox.url(), sandbox.key());
    let bots = vec![acknowledged(user.create("after").await)];
    assert_kept(sandbox, &user, bots).await;
}

/// One try, without insisting.
async fn ask_for_a_bot(sandbox: &Sandbox, name: &str) -> reqwest::Response {
    let body = json!({"meeting": {"provider": "web", "url": "https://meeting.example/outage"}});
    let request = client().post(format!("{}/v1/bots", sandbox.url())).bearer_auth(sandbox.key());
    let request = request.header("idempotency-key", name).timeout(SOON).json(&body);
    request.send().await.expect("the gateway answers whatever is away")
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_postgres_and_nats_go_for_longer() {
    let mut sandbox = sandbox(Layout::AllInOne, script()).await;
    let user = User::new(sandbox.url(), sandbox.key());
    let story = Story {
        bots: 30,
        over: Duration::from_secs(8),
        cancels: 10,
        leaves: 10,
        regret: Duration::from_secs(4),
        queue_timeout: Duration::from_secs(120),
        seed: 5,
    };
    let playing = tokio::spawn({
        let user = user.clone();
        async move { user.play(&story).await }
    });
    until("some are at work", SOON, async || sandbox.platform.left("simulated").len() > 3).await;

    sandbox.postgres.stop().await.expect("it stops");
    until_it_waits_for(&mut sandbox, "all", "database").await;
    let answer = ask_for_a_bot(&sandbox, "without-postgres").await;
    assert_eq!(answer.status().as_u16(), 503);
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    assert!(header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{:?}", answer.headers());
    assert_eq!(header("content-type").as_deref(), Some("application/problem+json"));
    let problem: Value = answer.json().await.expect("a problem document");
    assert_eq!(problem["status"], 503, "{problem}");
    // Longer than the bus waits for a word.
    tokio::time::sleep(greenroom_testkit::ACK_WAIT + Duration::from_secs(1)).await;
    sandbox.postgres.restart().await.expect("it starts");
    sandbox.ready(SOON).await.expect("it is ready again");

    sandbox.nats.kill().await.expect("it is killed");
    until_it_waits_for(&mut sandbox, "all", "nats").await;
    // A bot needs Postgres alone: what is to be said about it is said later.
    let answer = ask_for_a_bot(&sandbox, "without-nats").await;
    assert_eq!(answer.status().as_u16(), 201);
    let bot: Value = answer.json().await.expect("a bot");
    tokio::time::sleep(greenroom_testkit::ACK_WAIT + Duration::from_secs(1)).await;
    sandbox.nats.restart().await.expect("it starts");
    sandbox.ready(SOON).await.expect("it is ready again");

    let mut bots = playing.await.expect("the story is played");
    bots.push(acknowledged(bot["id"].as_str().expect("an id").to_owned()));
    assert!(!sandbox.node_of("all").has_died());
    assert_kept(sandbox, &user, bots).await;
}

#[tokio::test]
async fn a_deployer_told_to_end_in_the_middle_of_a_start_hands_it_on() {
    // Eight seconds on the platform: longer than the deployer may take to end.
    let slow = Script { ensure_ms: Millis(160_000, 160_000), ..script() };
    let mut sandbox = sandbox(Layout::Split, slow).await;
    let user = User::new(sandbox.url(), sandbox.key());
    let id = user.create("handed-on").await;
    let runner = RunnerId::of_bot(id.parse().expect("an id"), Attempt::FIRST);
    until("it is in hand", SOON, async || sandbox.platform.tries("simulated", runner) > 0).await;
    let ended = sandbox.node_of("deployer").terminate(DRAIN + Duration::from_secs(2)).await;
    assert_eq!(ended.expect("it ends"), Some(0));
    sandbox.platform.set_script(Script { time_scale: TIME_SCALE, ..script() });
    sandbox.node_of("deployer").start().expect("it starts");
    until("its successor does it", SOON, async || sandbox.platform.tries("simulated", runner) > 1).await;
    until("the bot is done", SOON, async || {
        user.get(&format!("/v1/bots/{id}")).await.is_ok_and(|bot| bot["state"] == "DONE" && bot["attempt"] == 1)
    })
    .await;
    assert_kept(sandbox, &user, vec![acknowledged(id)]).await;
}

#[tokio::test]
async fn every_service_ends_in_good_order_in_the_middle_of_its_work() {
    let mut sandbox = sandbox(Layout::Split, script()).await;
    let user = User::new(sandbox.url(), sandbox.key());
    let story = Story {
        bots: 60,
        over: Duration::from_secs(6),
        cancels: 10,
        leaves: 10,
        regret: Duration::from_secs(4),
        queue_timeout: Duration::from_secs(120),
        seed: 9,
    };
    let playing = tokio::spawn({
        let user = user.clone();
        async move { user.play(&story).await }
    });
    until("some are at work", SOON, async || sandbox.platform.left("simulated").len() > 3).await;
    for number in 0..sandbox.nodes.len() {
        let node = &mut sandbox.nodes[number];
        assert!(!node.has_died(), "{} died by itself", node.name);
        let ended = node.terminate(DRAIN + Duration::from_secs(2)).await;
        assert_eq!(ended.expect("it ends"), Some(0), "{}", node.name);
        assert!(!node.log().contains("some tasks did not finish in time"), "{} drains:\n{}", node.name, node.log());
        node.start().expect("it starts");
    }
    let bots = playing.await.expect("the story is played");
    assert_kept(sandbox, &user, bots).await;
}

/// `greenroom parked …`
async fn parked(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::from(sandbox.command());
    let Output { status, stdout, stderr } = command.arg("parked").args(arguments).output().await.expect("it runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

/// The numbers of what is parked.
async fn numbers(sandbox: &Sandbox) -> Vec<String> {
    let list = parked(sandbox, &["ls"]).await;
    list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn unparsable_messages_are_parked_without_delay() {
    let sandbox = sandbox(Layout::AllInOne, script()).await;
    let user = User::new(sandbox.url(), sandbox.key());
    let bus = Bus::connect(&sandbox.nats.url(), sandbox.installation().clone(), "test").await.expect("a bus");
    let subject = subjects::command(sandbox.installation(), "queue", "enqueue");
    let no_data = json!({
        "specversion": "1.0", "id": MessageId::generate(), "source": "/greenroom/nobody/nobody",
        "type": "dev.greenroom.queue.enqueue.v1", "subject": "nothing", "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json", "data": {"runner": "nobody"},
    });
    let garbage = ["not even JSON".to_owned(), "{\"a\": 1}".to_owned(), no_data.to_string()];
    let say = async |body: &str| {
        let message = Outgoing { id: MessageId::generate(), subject: subject.clone(), body: body.to_owned().into() };
        bus.publish(&message).await.expect("nats is there");
    };
    for body in &garbage {
        say(body).await;
    }
    // The one behind is not held up.
    let id = user.create("behind").await;
    until("the bot is done", SOON, async || {
        user.get(&format!("/v1/bots/{id}")).await.is_ok_and(|bot| bot["state"] == "DONE")
    })
    .await;

    until("all of it is parked", SOON, async || numbers(&sandbox).await.len() == garbage.len()).await;
    let list = parked(&sandbox, &["ls"]).await;
    assert_eq!(list.matches(&subject).count(), 3, "{list}");
    assert_eq!(list.matches("cannot be parsed").count(), 3, "{list}");

    // Sent again, it is heard again; nobody understands it any better, so it is parked again and not lost.
    let mut heard = bus.listen_lossy(subject.clone()).await.expect("it listens");
    bus.flush().await.expect("nats is there");
    let before = numbers(&sandbox).await;
    let said = parked(&sandbox, &["replay", &before[0]]).await;
    assert!(said.contains(&format!("sent {} again to {subject}", before[0])), "{said}");
    let (_, _, body) = tokio::time::timeout(SOON, heard.next()).await.expect("in time").expect("it listens on");
    assert_eq!(String::from_utf8_lossy(&body), garbage[0]);
    until("it is parked again", SOON, async || {
        let now = numbers(&sandbox).await;
        now.len() == garbage.len() && !now.contains(&before[0])
    })
    .await;
    parked(&sandbox, &["replay", "--all"]).await;
    until("all of it is parked again", SOON, async || {
        let now = numbers(&sandbox).await;
        now.len() == garbage.len() && before.iter().all(|number| !now.contains(number))
    })
    .await;
    assert_kept(sandbox, &user, vec![acknowledged(id)]).await;
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs() {
    let mut sandbox = sandbox(Layout::AllInOne, script()).await;
    let url = format!("{}/log-level", sandbox.node_of("all").operations());
    let put = async |level: &'static str| {
        client().put(&url).body(level).send().await.expect("the door is open").status().as_u16()
    };
    assert_eq!(put("info").await, 200);
    assert_eq!(put("info,no=such=level").await, 400);
    assert_eq!(look(url.clone()).await, (200, "info\n".to_owned()));
    let before = sandbox.node_of("all").log();

    // A library that says something with every call; without a word for it, libraries say what is wrong alone.
    assert_eq!(put("info,h2=debug").await, 200);
    assert_eq!(look(url.clone()).await, (200, "info,h2=debug\n".to_owned()));
    let debug = |line: &str| line.contains("\"level\":\"DEBUG\"");
    assert!(!before.lines().any(debug));
    let user = User::new(sandbox.url(), sandbox.key());
    let id = user.create("debugged").await;
    until("there is more in the log", SOON, async || sandbox.node_of("all").log().lines().any(debug)).await;
    // Not at the door for clients.
    assert_eq!(look(format!("{}/log-level", sandbox.url())).await.0, 404);
    assert_kept(sandbox, &user, vec![acknowledged(id)]).await;
}
