//! The proxy that the browser reaches everything through: it resolves names itself, checks every address by the rule of
//! [`greenroom_domain::network`], and connects to the addresses that it checked and to no others.
//!
//! That is what holds against redirects, frames, scripts, WebSockets, workers and names that change their addresses: a page
//! has no other way to open a TCP connection. WebRTC's UDP does not come through here (`docs/bots.md`).
//!
//! It speaks HTTP/1.1: CONNECT for TLS and WebSockets, plain requests for `http://`. It listens on loopback, and only the
//! browser that it was made for has its password. An operator's own proxy would be dialled in `Shared::connect`.

mod forward;
mod resolve;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use greenroom_domain::network::{AllowedNetworks, SpecialAddress};
use rand::RngCore as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use resolve::{Resolve, System};

/// A request for this address tells whether the proxy knows the browser: 204. Nothing leaves the machine for it.
pub(super) const SIGN_IN: &str = "http://greenroom-proxy.invalid/";
const SIGN_IN_HOST: &str = "greenroom-proxy.invalid";
const USER: &str = "greenroom";
/// How long a connection may take. Shorter than a page may take to show itself, so that the reason is known in time.
const CONNECT: Duration = Duration::from_secs(20);
/// A server that is gone without a word is noticed after a minute, as Chromium would notice it without the proxy: a page that only
/// waits on a WebSocket sends nothing by itself.
const KEEP_ALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
/// Between two addresses of one name (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// Connections at once. Chromium opens 32 to a proxy, and 255 WebSockets.
const CONNECTIONS: usize = 512;
/// Hosts whose last trouble is remembered.
const REMEMBERED: usize = 64;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Every address is of a kind that is not allowed.
    #[error("a {0} address is not allowed")]
    Refused(SpecialAddress),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// Nothing answers.
    #[error("no connection")]
    Unreachable,
}

/// A running proxy. Dropping it ends it, with all its connections.
pub struct Proxy {
    address: SocketAddr,
    password: String,
    shared: Arc<Shared>,
    _running: DropGuard,
}

struct Shared {
    allowed: AllowedNetworks,
    resolver: Box<dyn Resolve>,
    /// What `Proxy-Authorization` has to be.
    authorization: String,
    signed_in: AtomicBool,
    /// `host:port` and what went wrong there last, the newest at the end.
    troubles: Mutex<VecDeque<(String, Trouble)>>,
    refused: AtomicBool,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts a proxy at a free port of this machine.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(allowed: AllowedNetworks, resolver: impl Resolve) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut password = [0_u8; 16];
        rand::rng().fill_bytes(&mut password);
        let password = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(password);
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            allowed,
            resolver: Box::new(resolver),
            authorization: format!("Basic {encoded}"),
            signed_in: AtomicBool::new(false),
            troubles: Mutex::default(),
            refused: AtomicBool::new(false),
            stop: stop.clone(),
        });
        shared.spawn("runner proxy", accept(listener, shared.clone()));
        Ok(Self { address, password, shared, _running: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// User and password.
    #[must_use]
    pub fn credentials(&self) -> (&'static str, &str) {
        (USER, &self.password)
    }

    /// Whether somebody came with the password.
    #[must_use]
    pub(super) fn signed_in(&self) -> bool {
        self.shared.signed_in.load(Ordering::Relaxed)
    }

    /// What went wrong with the last connection to a host; `None`: it works, or was never asked for, or long ago.
    #[must_use]
    pub fn trouble(&self, host: &str, port: u16) -> Option<Trouble> {
        let authority = authority(host, port);
        let troubles = self.shared.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().find(|(known, _)| *known == authority).map(|(_, trouble)| *trouble)
    }
}

fn authority(host: &str, port: u16) -> String {
    format!("{}:{port}", host.to_ascii_lowercase())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = forward::serve(stream, shared.clone());
                shared.spawn("runner proxy connection", async move {
                    connection.await;
                    drop(permit);
                });
            }
            // No descriptor is free: a moment later one may be.
            Err(_) => sleep(STAGGER).await,
        }
    }
}

impl Shared {
    /// Runs something for as long as the proxy is there.
    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        drop(greenroom_tasks::spawn(name, stop.run_until_cancelled_owned(work)));
    }

    /// Connects to a host by its checked addresses, and remembers what went wrong.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let connected = match timeout(CONNECT, self.dial(host, port)).await {
            Ok(connected) => connected,
            Err(_) => Err(Trouble::Unreachable),
        };
        if let Err(Trouble::Refused(kind)) = connected
            && !self.refused.swap(true, Ordering::Relaxed)
        {
            // Once: a page can ask for as many as it likes.
            tracing::warn!(event = "address.refused", kind = %kind, "refused a connection of the page to an address that is not allowed");
        }
        self.remember(authority(host, port), connected.as_ref().err().copied());
        connected
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let found = resolve::addresses(&*self.resolver, host).await?;
        let checked = |address: &IpAddr| self.allowed.check(*address);
        if let Some(Err(kind)) = found.iter().map(checked).find(Result::is_err)
            && !found.iter().any(|address| checked(address).is_ok())
        {
            return Err(Trouble::Refused(kind));
        }
        let permitted = found.into_iter().filter(|address| checked(address).is_ok());
        let stream = first_of(permitted.map(|address| SocketAddr::new(address, port)).collect()).await;
        let stream = stream.ok_or(Trouble::Unreachable)?;
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEP_ALIVE);
        Ok(stream)
    }

    fn remember(&self, authority: String, trouble: Option<Trouble>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.retain(|(known, _)| *known != authority);
        if let Some(trouble) = trouble {
            if troubles.len() >= REMEMBERED {
                troubles.pop_front();
            }
            troubles.push_back((authority, trouble));
        }
    }
}

/// Tries one address after the other, without waiting for long for any of them; the first that answers is taken.
async fn first_of(addresses: VecDeque<SocketAddr>) -> Option<TcpStream> {
    let mut addresses = addresses;
    let mut tried = FuturesUnordered::new();
    loop {
        match addresses.pop_front() {
            Some(address) => tried.push(TcpStream::connect(address)),
            None if tried.is_empty() => return None,
            None => {}
        }
        tokio::select! {
            Some(connected) = tried.next() => {
                if let Ok(stream) = connected {
                    return Some(stream);
                }
            }
            () = sleep(STAGGER), if !addresses.is_empty() => {}
            else => {}
        }
    }
}

#[cfg(test)]
mod tests;
