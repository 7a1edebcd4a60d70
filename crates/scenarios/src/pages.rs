//! Meeting pages that misbehave: real runners with a real Chromium on the local platform, in pages that are served here. Each
//! page does it the first time it is loaded and behaves well after that, so every bot has to end as DONE, with a recording that
//! says what it leaves out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Named, State};
use axum::response::Html;
use axum::routing::get;
use greenroom_testkit::checker::Violation;
use greenroom_testkit::story::{User, client};
use greenroom_testkit::{Layout, Sandbox, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// For the whole story. A page that hangs costs its attempt half a minute.
const PATIENCE: Duration = Duration::from_secs(200);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// How a page misbehaves once its meeting is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It loads itself anew, and takes its time to show its lobby.
    Reloads,
    /// It goes to a page without a meeting.
    GoesElsewhere,
    /// It does not respond any more.
    Hangs,
    /// It opens dialogs and windows, and asks whether it may be left.
    OpensDialogs,
    /// It puts the bot back into the waiting room for a while.
    PutsBack,
}

impl Misbehaviour {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Reloads, Self::GoesElsewhere, Self::Hangs, Self::OpensDialogs, Self::PutsBack];

    fn name(self) -> &'static str {
        match self {
            Self::Reloads => "reloads",
            Self::GoesElsewhere => "goes-elsewhere",
            Self::Hangs => "hangs",
            Self::OpensDialogs => "opens-dialogs",
            Self::PutsBack => "puts-back",
        }
    }

    /// What it does, and whether its meeting goes on in the same page.
    fn script(self) -> &'static str {
        match self {
            Self::Reloads => "location.reload(); await never;",
            Self::GoesElsewhere => "location = '/elsewhere'; await never;",
            Self::Hangs => "for (;;) {}",
            Self::OpensDialogs => {
                "alert('one'); confirm('two'); prompt('three'); window.open('/noisy'); window.open('/noisy', '_blank', 'noopener');
                 window.onbeforeunload = (event) => { event.preventDefault(); return 'stay'; };
                 location.reload(); await never;"
            }
            Self::PutsBack => "show('waiting'); await seconds(4); show('joined');",
        }
    }

    /// How many attempts it takes.
    fn attempts(self) -> u64 {
        match self {
            Self::Reloads | Self::OpensDialogs | Self::PutsBack => 1,
            Self::GoesElsewhere | Self::Hangs => 2,
        }
    }
}

const HTML: &str = r#"<!doctype html><title>A meeting</title>
<div id="room" data-greenroom-state="loading" data-greenroom-participants="2">
<button data-greenroom="join">Join</button><button data-greenroom="leave">Leave</button></div>
<script>
const room = document.getElementById("room");
const show = (state) => { room.dataset.greenroomState = state; };
const seconds = (n) => new Promise((go) => setTimeout(go, n * 1000));
const never = new Promise(() => {});
document.querySelector("[data-greenroom=leave]").addEventListener("click", () => show("ended"));
document.querySelector("[data-greenroom=join]").addEventListener("click", async (event) => {
  event.target.disabled = true;
  show("joined");
  await seconds(4);
  if (FIRST) { SCRIPT }
  await seconds(4);
  show("ended");
});
setTimeout(() => show("lobby"), FIRST ? 0 : 4000);
</script>"#;

type Loads = Arc<Mutex<BTreeMap<String, u32>>>;

async fn page(State(loads): State<Loads>, Named(name): Named<String>) -> Html<String> {
    let first = {
        let mut loads = loads.lock().unwrap_or_else(PoisonError::into_inner);
        let count = loads.entry(name.clone()).or_default();
        *count += 1;
        *count == 1
    };
    let script = Misbehaviour::ALL.into_iter().find(|one| one.name() == name).map_or("", Misbehaviour::script);
    Html(HTML.replace("FIRST", if first { "true" } else { "false" }).replace("SCRIPT", script))
}

/// A folder that is removed with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends a bot into each page. Returns what did not come to pass.
///
/// # Errors
/// When the sandbox cannot be made.
pub async fn visit(program: &Path, pages: &[Misbehaviour]) -> io::Result<Vec<Violation>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/elsewhere", get(|| async { Html("<p>Thank you for your visit.</p>") }))
        .route("/noisy", get(|| async { Html("<script>alert('from a window')</script>") }))
        .route("/meeting/{name}", get(page))
        .with_state(Loads::default());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = Folder(std::env::temp_dir().join(format!("greenroom-pages-{}", std::process::id())));
    let more = [
        ("PLATFORM_PRIORITY", "local".to_owned()),
        ("LOCAL_DIR", folder.0.display().to_string()),
        // Two browsers at a time: this may be a small machine.
        ("LOCAL_BOT_LIMIT", "2".to_owned()),
        ("MEETING_ADDRESSES_ALLOWED", "loopback".to_owned()),
        // A page that reloads loses the part that is not whole.
        ("RECORDING_PART_MS", "1000".to_owned()),
        // The pages are our own.
        ("GREENROOM_SANDBOX", "off".to_owned()),
    ];
    let settings = Settings {
        program: program.to_owned(),
        layout: Layout::AllInOne,
        slots: 1,
        // Browsers and pages do not live faster.
        time_scale: 1.0,
        script: greenroom_testkit::simulated::Script::default(),
        more: more.map(|(name, value)| (name.to_owned(), value)).into(),
    };
    let sandbox = Sandbox::start(settings).await?;
    let user = User::at(sandbox.urls(), sandbox.key());
    let mut bots = Vec::new();
    for page in pages {
        bots.push((*page, create(&sandbox, &format!("http://{address}/meeting/{}", page.name())).await?));
    }
    let mut violations = Vec::new();
    let end = Instant::now() + PATIENCE;
    for (page, id) in &bots {
        if let Err(how) = well(&user, *page, id, end).await {
            let how = format!("a page that {}: {how}", page.name().replace('-', " "));
            violations.push(Violation { promise: "pages", how });
        }
    }
    if !violations.is_empty() {
        eprintln!("{}", sandbox.logs(40));
        // Nobody stays behind in a browser.
        for (_, id) in &bots {
            user.cancel(id).await;
        }
    }
    sandbox.stop().await?;
    serving.abort();
    Ok(violations)
}

async fn create(sandbox: &Sandbox, meeting: &str) -> io::Result<String> {
    let body = json!({"meeting": {"provider": "web", "url": meeting}, "maxRetries": 3});
    let request = client().post(format!("{}/v1/bots", sandbox.url())).bearer_auth(sandbox.key()).json(&body);
    let answer = request.send().await.map_err(io::Error::other)?;
    let bot: Value = answer.json().await.map_err(io::Error::other)?;
    let id = bot["id"].as_str().ok_or_else(|| io::Error::other(format!("no bot was made: {bot}")))?;
    Ok(id.to_owned())
}

/// Waits until the bot is over and its recording is settled, and looks at both.
async fn well(user: &User, page: Misbehaviour, id: &str, end: Instant) -> Result<(), String> {
    let over = |bot: &Value| ["DONE", "FATAL", "CANCELLED"].map(Value::from).contains(&bot["state"]);
    let bot = until(user, &format!("/v1/bots/{id}"), end, over).await?;
    if bot["state"] != "DONE" || bot["reason"] != "meeting_ended" || bot["attempt"] != page.attempts() {
        return Err(format!("its bot ended so: {bot}"));
    }
    let settled = |recording: &Value| ["ready", "failed", "none"].map(Value::from).contains(&recording["state"]);
    let recording = until(user, &format!("/v1/bots/{id}/recording"), end, settled).await?;
    let gaps = recording["gaps"].as_array().map_or(0, Vec::len);
    if recording["state"] != "ready" || gaps != 1 {
        return Err(format!("its recording should be ready, with one gap: {recording}"));
    }
    Ok(())
}

async fn until(user: &User, path: &str, end: Instant, enough: impl Fn(&Value) -> bool) -> Result<Value, String> {
    loop {
        let seen = user.get(path).await;
        match seen {
            Ok(seen) if enough(&seen) => return Ok(seen),
            seen if Instant::now() >= end => return Err(format!("in vain waited for: {seen:?}")),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
