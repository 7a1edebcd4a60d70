//! Stands between a driver and its platform's HTTP API, and makes trouble: answers in its place, loses answers, hangs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where the platform's API really is.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// At a port of this machine.
    Tcp(SocketAddr),
    /// At a socket in its file system.
    Unix(PathBuf),
}

/// What happens to a request instead of what should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This is the answer, and the platform hears nothing of it.
    Answer {
        /// HTTP's status.
        status: u16,
        /// Headers beside those of the body.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// The platform does it, and its answer is lost: the connection ends.
    Lose,
    /// There is no answer, ever.
    Hang,
}

impl Fault {
    /// An answer without more headers.
    #[must_use]
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }
}

/// A request, as far as its head goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

type Matches = Box<dyn Fn(&Request) -> bool + Send + Sync>;

struct Rule {
    fault: Fault,
    matches: Matches,
    left: usize,
}

#[derive(Default)]
struct Book {
    rules: Vec<Rule>,
    seen: Vec<Request>,
}

/// The proxy; dropping it closes its door.
pub struct Proxy {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    stop: CancellationToken,
    /// What is open at present ends with it.
    open: Arc<Mutex<CancellationToken>>,
    _stop: DropGuard,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// No head of a request is as long.
const LONGEST_HEAD: usize = 64 << 10;

impl Proxy {
    /// Begins to pass everything on.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(upstream: Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (stop, book) = (CancellationToken::new(), Arc::<Mutex<Book>>::default());
        let (stopped, shared) = (stop.clone(), book.clone());
        let open = Arc::new(Mutex::new(stop.child_token()));
        let opened = open.clone();
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (upstream, book) = (upstream.clone(), shared.clone());
                let open = opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(async move { open.run_until_cancelled(serve(client, upstream, book)).await });
            }
        });
        Ok(Self { address, book, stop: stop.clone(), open, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// The next so many requests that match get this. What was said first counts first.
    pub fn fault(&self, times: usize, fault: Fault, matches: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        self.book().rules.push(Rule { fault, matches: Box::new(matches), left: times });
    }

    /// No more trouble.
    pub fn calm(&self) {
        self.book().rules.clear();
    }

    /// Ends every connection that is open, as when the platform is started again.
    pub fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *open, self.stop.child_token()).cancel();
    }

    /// Every request so far, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Request> {
        self.book().seen.clone()
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request for each connection: the answer says that it closes, so that every request's head is read here. Whatever comes
/// after the head is passed on as it is, be it a body, a stream, or another protocol.
async fn serve(mut client: TcpStream, upstream: Upstream, book: Arc<Mutex<Book>>) -> io::Result<()> {
    let mut read = Vec::new();
    let length = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if read.len() > LONGEST_HEAD || client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let Some((request, head)) = parse(&read[..length]) else { return Ok(()) };
    let fault = {
        let mut book = lock(&book);
        book.seen.push(request.clone());
        let rule = book.rules.iter_mut().find(|rule| rule.left > 0 && (rule.matches)(&request));
        rule.map(|rule| {
            rule.left -= 1;
            rule.fault.clone()
        })
    };
    match fault {
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::Answer { status, headers, body }) => return answer(client, status, &headers, &body).await,
        Some(Fault::Lose) | None => {}
    }
    let lose = fault.is_some();
    match upstream {
        Upstream::Tcp(address) => pass(client, TcpStream::connect(address).await?, &head, &read[length..], lose).await,
        Upstream::Unix(path) => pass(client, UnixStream::connect(path).await?, &head, &read[length..], lose).await,
    }
}

async fn pass<S>(mut client: TcpStream, mut server: S, head: &str, rest: &[u8], lose: bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    server.write_all(head.as_bytes()).await?;
    server.write_all(rest).await?;
    if !lose {
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    // Its first byte proves that the platform has done it.
    let (mut said, mut answered) = ([0; 4096], [0; 1]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => match read? {
                0 => return Ok(()),
                read => server.write_all(&said[..read]).await?,
            },
            read = server.read(&mut answered) => return read.map(|_| ()),
        }
    }
}

/// The request, and its head as it is passed on; none: it is none.
fn parse(head: &[u8]) -> Option<(Request, String)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next()?;
    let (method, rest) = first.split_once(' ')?;
    let (path, _) = rest.split_once(' ')?;
    let headers: Vec<(&str, &str)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
    let upgrades = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let mut passed = format!("{first}\r\n");
    for (name, value) in &headers {
        if upgrades || !name.eq_ignore_ascii_case("connection") {
            passed.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    passed.push_str(if upgrades { "\r\n" } else { "Connection: close\r\n\r\n" });
    let headers = headers.into_iter().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some((Request { method: method.to_owned(), path: path.to_owned(), headers }, passed))
}

async fn answer(mut client: TcpStream, status: u16, headers: &[(&'static str, String)], body: &str) -> io::Result<()> {
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
    let mut said = format!("HTTP/1.1 {status} Trouble\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        said.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    for (name, value) in headers {
        said.push_str(&format!("{name}: {value}\r\n"));
    }
    said.push_str(&format!("Connection: close\r\n\r\n{body}"));
    client.write_all(said.as_bytes()).await?;
    client.shutdown().await?;
    // A client that is still sending its body would be reset before it has read our answer.
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A platform that says `done` to everything.
    async fn platform() -> (SocketAddr, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, asked) = (listener.local_addr().expect("bound"), Arc::new(Mutex::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut read = [0; 1024];
                let _ = client.read(&mut read).await;
                *count.lock().expect("not poisoned") += 1;
                let _ =
                    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone").await;
            }
        });
        (address, asked)
    }

    async fn ask(proxy: &Proxy) -> String {
        let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
        stream.write_all(b"POST /things?a=b HTTP/1.1\r\nHost: x\r\nX-Target: Run\r\n\r\n").await.expect("sent");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said).await;
        said
    }

    #[tokio::test]
    async fn trouble_comes_as_often_as_it_was_ordered() {
        let (address, asked) = platform().await;
        let proxy = Proxy::start(Upstream::Tcp(address)).await.expect("a port");
        assert!(ask(&proxy).await.ends_with("done"));
        proxy.fault(1, Fault::answer(429, "too fast"), |request| request.header("x-target") == Some("Run"));
        proxy.fault(1, Fault::Lose, |request| request.path == "/things?a=b" && request.method == "POST");
        let said = ask(&proxy).await;
        assert!(said.starts_with("HTTP/1.1 429 ") && said.ends_with("too fast"), "{said}");
        assert_eq!(*asked.lock().expect("not poisoned"), 1, "the platform did not hear of it");
        assert_eq!(ask(&proxy).await, "");
        assert_eq!(*asked.lock().expect("not poisoned"), 2, "it did, and the answer is lost");
        assert!(ask(&proxy).await.ends_with("done"));
        assert_eq!(proxy.seen().len(), 4);
    }
}
