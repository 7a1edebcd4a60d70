//! A small meeting room: a page with a lobby, a waiting room and a WebRTC mesh for a handful of people, and the server
//! that introduces them to each other. It carries Greenroom's `data-` attributes (`docs/adding-a-provider.md`), so that
//! bots with the provider `web` can attend.

mod meeting;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use greenroom_bot::browser::AllowedNetwork;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub use meeting::{Id, Meeting, Person, Said, Told};

/// A room with one meeting in it. Dropping it closes the door.
pub struct Room {
    address: SocketAddr,
    code: String,
    key: String,
    _open: DropGuard,
}

struct Shared {
    code: String,
    inside: Mutex<Inside>,
}

struct Inside {
    meeting: Meeting,
    lines: HashMap<Id, mpsc::UnboundedSender<Told>>,
    last: Id,
}

impl Room {
    /// Opens a room at a free port of this machine alone. An empty password is none.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn open(password: &str) -> std::io::Result<Self> {
        Self::open_at(Ipv4Addr::LOCALHOST.into(), password).await
    }

    /// Opens a room at a free port of one of this machine's addresses: whoever reaches that may come to the door.
    ///
    /// # Errors
    /// When it is not an address of this machine, or no port can be had.
    pub async fn open_at(address: IpAddr, password: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let code = Uuid::new_v4().simple().to_string()[..10].to_owned();
        let key = Uuid::new_v4().simple().to_string();
        let inside = Inside { meeting: Meeting::new(password, &key), lines: HashMap::new(), last: 0 };
        let shared = Arc::new(Shared { code: code.clone(), inside: Mutex::new(inside) });
        let router = Router::new()
            .route("/m/{code}", get(page))
            .route("/m/{code}/line", get(line))
            .route("/room.css", get(|| async { asset("text/css; charset=utf-8", include_str!("room/page/room.css")) }))
            .route(
                "/room.js",
                get(|| async { asset("text/javascript; charset=utf-8", include_str!("room/page/room.js")) }),
            )
            .route(
                "/melody.js",
                get(|| async { asset("text/javascript; charset=utf-8", include_str!("room/page/melody.js")) }),
            )
            .fallback(not_found)
            .with_state(shared);
        let open = CancellationToken::new();
        let closed = open.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => drop(served),
                () = closed.cancelled() => {}
            }
        });
        Ok(Self { address, code, key, _open: open.drop_guard() })
    }

    /// The network address that browsers need for it.
    #[must_use]
    pub fn network(&self) -> AllowedNetwork {
        AllowedNetwork::Network(self.address.ip().into())
    }

    /// Where guests, and bots, go.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/m/{}", self.address, self.code)
    }

    /// What a browser calls the room's origin.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the host goes.
    #[must_use]
    pub fn host_url(&self) -> String {
        format!("{}?role=host&key={}", self.url(), self.key)
    }
}

async fn page(State(shared): State<Arc<Shared>>, Path(code): Path<String>) -> Response {
    if code == shared.code { html(StatusCode::OK, "lobby") } else { html(StatusCode::NOT_FOUND, "not-found") }
}

async fn not_found() -> Response {
    html(StatusCode::NOT_FOUND, "not-found")
}

fn html(status: StatusCode, state: &str) -> Response {
    let page = include_str!("room/page/room.html").replace("{{state}}", state);
    // The address is the ticket: it goes to nobody, and the page loads nothing from anywhere else.
    let headers = [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; connect-src 'self' ws:; media-src 'self' blob: mediastream:; style-src 'self'",
        ),
    ];
    (status, headers, Html(page)).into_response()
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

async fn line(State(shared): State<Arc<Shared>>, Path(code): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    if code != shared.code {
        return StatusCode::NOT_FOUND.into_response();
    }
    upgrade.max_message_size(256 * 1024).on_upgrade(move |socket| converse(shared, socket))
}

async fn converse(shared: Arc<Shared>, mut socket: WebSocket) {
    let (line, mut told) = mpsc::unbounded_channel();
    let id = {
        let mut inside = shared.inside();
        inside.last += 1;
        let id = inside.last;
        inside.lines.insert(id, line);
        id
    };
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    // What cannot be read is not ours: a page of another version.
                    if let Ok(said) = serde_json::from_str(&text) {
                        let mut inside = shared.inside();
                        let out = inside.meeting.hear(id, said);
                        inside.tell(out);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            Some(told) = told.recv() => {
                let Ok(text) = serde_json::to_string(&told) else { continue };
                if socket.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
        }
    }
    let mut inside = shared.inside();
    inside.lines.remove(&id);
    let out = inside.meeting.gone(id);
    inside.tell(out);
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inside {
    fn tell(&self, out: Vec<(Id, Told)>) {
        for (id, told) in out {
            if let Some(line) = self.lines.get(&id) {
                let _ = line.send(told);
            }
        }
    }
}
