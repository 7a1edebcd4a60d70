//! A task that panics ends its process by name, whichever task it is, and the next process finds everything as it was.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use greenroom_testkit::checker::check;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::Script;
use greenroom_testkit::story::{Acknowledged, User, client};
use greenroom_testkit::{Layout, Sandbox, Settings, until};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Against a hang, on a machine however busy.
const SOON: Duration = Duration::from_secs(60);
/// So that some bots wait, and the queue dispatches.
const SLOTS: u32 = 2;
const TIME_SCALE: f64 = 0.1;
/// Bots that are asked for while a task is to panic: some tasks run only when there is something to do.
const BOTS: usize = 4;

async fn sandbox() -> Sandbox {
    let more = [
        ("GREENROOM_DRAIN_MS", "2000"),
        // Standing slots are seen to as well.
        ("SIMULATED_POOLED", "true"),
    ];
    Sandbox::start(Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout: Layout::AllInOne,
        slots: SLOTS,
        time_scale: TIME_SCALE,
        script: Script::default(),
        more: more.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    })
    .await
    .expect("a sandbox")
}

async fn status(sandbox: &mut Sandbox) -> Value {
    let url = format!("{}/status", sandbox.node_of("all").operations());
    client().get(url).send().await.expect("an answer").json().await.expect("JSON")
}

fn tasks(status: &Value) -> BTreeSet<String> {
    status["tasks"].as_object().expect("an object").keys().cloned().collect()
}

/// Names of tasks that run now and then, and that a bot which waits brings about.
fn now_and_then(name: &str) -> bool {
    ["queue dispatcher of ", "queue estimate of "].iter().any(|task| name.starts_with(task))
}

#[tokio::test]
async fn each_task_that_panics_ends_the_process_by_name_and_the_next_one_goes_on() {
    let mut sandbox = sandbox().await;
    let user = User::new(sandbox.url(), sandbox.key());
    let mut bots = Vec::new();
    for number in 0..BOTS {
        bots.push(user.create(&format!("before-{number}")).await);
    }
    until("every kind of task has run", SOON, async || {
        let tasks = tasks(&status(&mut sandbox).await);
        ["queue dispatcher of simulated", "queue estimate of a wait"].iter().all(|name| tasks.contains(*name))
    })
    .await;
    let status = status(&mut sandbox).await;
    let names = tasks(&status);
    // One of each kind: a list that has lost most of its tasks proves nothing.
    for name in [
        "clock",
        "gateway",
        "gateway reader of events",
        "scheduler relay",
        "scheduler lane of creates",
        "scheduler consumer of runner and queue events",
        "pool-manager sweep of assignments",
        "recordings relay",
        "heartbeat-monitor verdicts",
        "deployer simulated watch",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let sweeps = status["sweeps"].as_object().expect("an object");
    for name in names.iter().filter(|name| name.contains(" sweep of ")) {
        let sweep = &sweeps[name];
        assert!(sweep["outcome"] == "done" || sweep["runs"] == 0, "{name}: {sweep}");
    }

    sandbox.node_of("all").kill().expect("it is killed");
    for name in &names {
        let (began, what) = (Instant::now(), format!("{name} ends the process"));
        let node = sandbox.node_of("all");
        let before = node.log().len();
        node.set("GREENROOM_TEST_PANIC", Some(name));
        node.start().expect("it starts");
        if now_and_then(name) {
            // Those that are not acknowledged before the end are not missed.
            let asking = async {
                for number in 0..BOTS {
                    bots.push(user.create(&format!("{}-{number}", name.replace(' ', "-"))).await);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = asking => {}
                () = until(&what, SOON, async || sandbox.node_of("all").has_died()) => {}
            }
        }
        until(&what, SOON, async || sandbox.node_of("all").has_died()).await;
        let node = sandbox.node_of("all");
        assert_eq!(node.exit_code(), Some(1), "{name}");
        let log = node.log();
        let lines: Vec<Value> = log[before..].lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let panicked = lines.iter().find(|line| line["message"] == "a panic").expect("it is logged");
        assert!(panicked["task"] == name.as_str() && panicked["location"].is_string(), "{panicked}");
        let ended = lines.iter().find(|line| line["message"] == "a task ended, so the process ends");
        assert_eq!(ended.map(|line| &line["task"]), Some(&Value::from(name.as_str())), "{name}");
        eprintln!("{name}: {:?}", began.elapsed());
    }

    let node = sandbox.node_of("all");
    node.set("GREENROOM_TEST_PANIC", None);
    node.start().expect("it starts");
    sandbox.ready(SOON).await.expect("it is ready");
    let bots = bots.into_iter().map(|id| Acknowledged { id, asked_ms: 0, cancelled: false, called_back: false });
    let listener = user.listen(CancellationToken::new());
    let evidence = Evidence::settled(&sandbox, bots.collect(), &listener, 2 * SOON).await.expect("evidence");
    assert_eq!(check(&evidence), [], "{}", sandbox.logs(30));
    drop(listener);
    sandbox.stop().await.expect("it stops");
}
