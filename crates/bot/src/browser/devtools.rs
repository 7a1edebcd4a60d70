//! The DevTools connection: how the runner commands its browser.
//!
//! The browser is started with `--remote-debugging-pipe`. Its descriptors 3 and 4 are one end of a socket pair whose other
//! end only the runner holds, so there is no port that another user or a page could find. Messages are JSON, each followed by
//! a NUL.
//!
//! chromiumoxide connects to WebSocket addresses and to nothing else. So a WebSocket server in this process stands between:
//! it listens on loopback until the library has come with a path of 128 random bits, and closes its port then.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::{TokioAdapter, accept_hdr_async_with_config};
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use async_tungstenite::tungstenite::http::StatusCode;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::{Handler, HandlerConfig};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rand::RngCore as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

/// How long one connection may take to show the path. The library takes milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Before the next try to accept a connection, when no descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);
/// Read from the browser at a time.
const CHUNK: usize = 64 << 10;

type Socket = WebSocketStream<TokioAdapter<TcpStream>>;

/// The runner's end.
pub(super) struct DevTools {
    from_browser: BufReader<OwnedReadHalf>,
    to_browser: OwnedWriteHalf,
}

impl DevTools {
    /// Makes a connection; the descriptor is the browser's end.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, browsers) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (from_browser, to_browser) = UnixStream::from_std(ours)?.into_split();
        Ok((Self { from_browser: BufReader::with_capacity(CHUNK, from_browser), to_browser }, browsers.into()))
    }

    /// Waits until the browser answers. `false`: it has ended.
    pub async fn answers(&mut self) -> bool {
        let ask = write(&mut self.to_browser, r#"{"id":1,"method":"Browser.getVersion"}"#);
        ask.await.is_ok() && matches!(read(&mut self.from_browser).await, Ok(Some(_)))
    }

    /// Hands the connection to the library. It breaks for the library when it breaks, and the browser's end is closed when
    /// the library drops its own.
    pub async fn connect(self, config: HandlerConfig) -> Result<(chromiumoxide::Browser, Handler), CdpError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut secret = [0_u8; 16];
        rand::rng().fill_bytes(&mut secret);
        let path = format!("/{:032x}", u128::from_be_bytes(secret));
        let address = format!("ws://{}{path}", listener.local_addr()?);
        let library = chromiumoxide::Browser::connect_with_config(address, config);
        let server = async { Ok(accept(listener, &path).await) };
        let (connected, socket) = tokio::try_join!(library, server)?;
        drop(greenroom_tasks::spawn("runner devtools connection", self.forward(socket)));
        Ok(connected)
    }

    /// Forwards both directions until one of them ends. Neither waits for the other: a browser that is slow to read is read
    /// from all the same.
    async fn forward(mut self, socket: Socket) {
        let (mut to_library, mut from_library) = socket.split();
        let commands = async {
            while let Some(Ok(message)) = from_library.next().await {
                if let Message::Text(command) = message {
                    write(&mut self.to_browser, &command).await?;
                }
            }
            io::Result::Ok(())
        };
        let answers = async {
            while let Some(answer) = read(&mut self.from_browser).await? {
                to_library.send(Message::text(answer)).await.map_err(io::Error::other)?;
            }
            io::Result::Ok(())
        };
        tokio::select! {
            _ = commands => {}
            _ = answers => {}
        }
        // Both ends are dropped without a WebSocket close: the library takes only a broken connection for an end, and would
        // wait for ever after a close.
    }
}

/// Waits for the library's connection. Others that connect meanwhile are refused, and do not keep it waiting. The port is
/// closed when this returns.
async fn accept(listener: TcpListener, path: &str) -> Socket {
    let mut handshakes = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => handshakes.push(timeout(HANDSHAKE, handshake(stream, path))),
                Err(_) => sleep(PAUSE).await,
            },
            Some(Ok(Some(socket))) = handshakes.next() => return socket,
        }
    }
}

async fn handshake(stream: TcpStream, path: &str) -> Option<Socket> {
    let _ = stream.set_nodelay(true);
    // The error is the library's type, however large.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        if request.uri().path() == path {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        Err(refusal)
    };
    // Pictures and recorded sound come in one message each.
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    accept_hdr_async_with_config(stream, check, Some(config)).await.ok()
}

async fn write(to: &mut OwnedWriteHalf, command: &str) -> io::Result<()> {
    to.write_all(command.as_bytes()).await?;
    to.write_all(&[0]).await
}

/// The next message; `None`: the browser has ended.
async fn read(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<String>> {
    let mut message = Vec::new();
    from.read_until(0, &mut message).await?;
    // Without its NUL it is half of one.
    if message.pop() != Some(0) {
        return Ok(None);
    }
    String::from_utf8(message).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
