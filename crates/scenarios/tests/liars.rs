//! A page that lies to the recorder, with a real Chromium in a whole Greenroom: what becomes of it is a recording of its own
//! sound, and it has found nothing. `GREENROOM_LIARS` of them at once (one, unless that is set).

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::path::PathBuf;
use std::time::Duration;

use greenroom_testkit::simulated::Script;
use greenroom_testkit::story::{User, client};
use greenroom_testkit::{Layout, Sandbox, Settings, until};
use serde_json::{Value, json};

#[path = "../../bot/tests/runner/liar.rs"]
mod liar;

/// For a bot's whole way, with a browser each: against a hang.
const PATIENCE: Duration = Duration::from_secs(180);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Where a runner finds its browser, as this process would, and the settings of a platform that really runs it.
fn settings(folder: &std::path::Path, bots: usize) -> Settings {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node"));
    let runner = program.with_file_name("greenroom-bot");
    assert!(runner.is_file(), "greenroom-bot is not built: cargo build -p greenroom-bot");
    let browser = ["CHROMIUM", "CHROME_FLAGS", "GREENROOM_SANDBOX"];
    let browser = browser.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let ours = [
        ("PLATFORM_PRIORITY", "local".to_owned()),
        ("LOCAL_RUNNER", runner.display().to_string()),
        ("LOCAL_DIR", folder.join("local").display().to_string()),
        ("LOCAL_BOT_LIMIT", bots.to_string()),
        ("MEETING_ADDRESSES_ALLOWED", "loopback".to_owned()),
        ("RECORDING_PART_MS", "1000".to_owned()),
    ];
    let more = browser.chain(ours).map(|(name, value)| (name.to_owned(), value)).collect();
    Settings { program, layout: Layout::Split, slots: 20, time_scale: 1.0, script: Script::default(), more }
}

#[tokio::test]
async fn a_page_that_lies_to_the_recorder_becomes_a_recording_of_its_own_sound() {
    let bots = std::env::var("GREENROOM_LIARS").ok().and_then(|bots| bots.parse().ok()).unwrap_or(1);
    let folder = greenroom_embedded::scratch().expect("a folder");
    let sandbox = Sandbox::start(settings(folder.path(), bots)).await.expect("a sandbox");
    let user = User::new(sandbox.url(), sandbox.key());
    let liars = futures::future::join_all((0..bots).map(|_| liar::Liar::start())).await;
    let attend = async |liar: &liar::Liar| {
        let bot = json!({"meeting": {"provider": "web", "url": liar.url()}});
        let request = client().post(format!("{}/v1/bots", sandbox.url())).bearer_auth(sandbox.key()).json(&bot);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 201);
        let bot = text(&answer.json::<Value>().await.expect("JSON")["id"]);
        let recording = async || user.get(&format!("/v1/bots/{bot}/recording")).await.unwrap_or_default();
        until("some parts are there", PATIENCE, async || recording().await["parts"].as_u64() >= Some(4)).await;
        let leave = client().post(format!("{}/v1/bots/{bot}/leave", sandbox.url())).bearer_auth(sandbox.key());
        assert!(leave.send().await.expect("an answer").status().is_success());
        until("it is joined", PATIENCE, async || {
            let state = text(&recording().await["state"]);
            assert_ne!(state, "failed", "{:?}", recording().await);
            state == "ready"
        })
        .await;
        let recording = recording().await;
        assert!(recording["durationMs"].as_u64() > Some(1_000), "{recording}");
        // The page plays a tone, and what it says instead of it is no sound.
        assert!(recording["meanVolumeDb"].as_f64() > Some(-40.0), "{recording}");
        assert_eq!(recording["detail"].as_str().unwrap_or_default(), "", "{recording}");
    };
    futures::future::join_all(liars.iter().map(attend)).await;
    for liar in &liars {
        assert_eq!(liar.found(), Vec::<String>::new(), "the page found something of the recorder");
    }
    sandbox.stop().await.expect("it stops");
}
