//! A meeting page that does what a test wants: asked to join, it runs the test's script, step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// In the script: `load` counts how many times the page was loaded, `show(state)` shows a state, and `await step()` goes on
/// when the test calls [`Page::step`].
const HTML: &str = r#"<!doctype html><title>A page</title>BODY
<div id="room" data-greenroom-state="lobby" data-greenroom-participants="2">
<button data-greenroom="join">Join</button><button data-greenroom="leave">Leave</button></div>
<script>
const load = LOAD, room = document.getElementById("room");
const show = (state) => { room.dataset.greenroomState = state; };
const step = async () => { await fetch("/step"); };
const tell = async (what) => { await fetch("/told/" + what); };
document.querySelector("[data-greenroom=leave]").addEventListener("click", () => show("ended"));
document.querySelector("[data-greenroom=join]").addEventListener("click", async (event) => {
  event.target.disabled = true;
  SCRIPT
});
</script>"#;

#[derive(Clone)]
pub struct Page {
    url: String,
    inside: Arc<Inside>,
}

struct Inside {
    script: String,
    loads: AtomicU32,
    steps: Semaphore,
    told: tokio::sync::watch::Sender<Vec<String>>,
}

impl Page {
    /// Serves a page with this script; what stands before `</body>` in it is more of the page.
    pub async fn open(script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let inside = Arc::new(Inside {
            script: script.to_owned(),
            loads: AtomicU32::new(0),
            steps: Semaphore::new(0),
            told: tokio::sync::watch::Sender::default(),
        });
        let router = Router::new()
            .route("/", get(page))
            .route("/step", get(step))
            .route("/told/{what}", get(told))
            .route("/elsewhere", get(|| async { Html("<p>Thank you for your visit.</p>") }))
            .route("/noisy", get(|| async { Html("<script>alert('hear, hear')</script>") }))
            .route("/slow", get(std::future::pending::<()>))
            .route("/signs-in", get(signs_in))
            .route("/asks-for/{scheme}", get(asks_for))
            .with_state(inside.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inside }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How many times it was loaded.
    pub fn loads(&self) -> u32 {
        self.inside.loads.load(Ordering::Relaxed)
    }

    /// Lets its script go on, now or when it comes to its next step.
    pub fn step(&self) {
        self.inside.steps.add_permits(1);
    }

    /// Waits until its script told something.
    pub async fn told(&self, what: &str) {
        let mut told = self.inside.told.subscribe();
        let heard = told.wait_for(|told| told.iter().any(|one| one == what));
        let heard = tokio::time::timeout(Duration::from_secs(180), heard).await;
        assert!(heard.is_ok(), "the page never told {what}: {:?}", self.inside.told.borrow());
    }
}

async fn page(State(inside): State<Arc<Inside>>) -> Html<String> {
    let load = inside.loads.fetch_add(1, Ordering::Relaxed) + 1;
    let (body, script) = inside.script.split_once("</body>").unwrap_or(("", &inside.script));
    Html(HTML.replace("BODY", body).replace("LOAD", &load.to_string()).replace("SCRIPT", script))
}

async fn step(State(inside): State<Arc<Inside>>) {
    inside.steps.acquire().await.unwrap().forget();
}

async fn told(State(inside): State<Arc<Inside>>, axum::extract::Path(what): axum::extract::Path<String>) {
    inside.told.send_modify(|told| told.push(what));
}

/// A server that lets in whoever authenticates so.
async fn asks_for(Path(scheme): Path<String>) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, scheme)], "").into_response()
}

async fn signs_in() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"meeting\"")]).into_response()
}
