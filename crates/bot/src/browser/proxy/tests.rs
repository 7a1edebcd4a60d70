//! 127.0.0.2 is allowed and stands for what is public; 127.0.0.1 is refused.

use std::sync::atomic::AtomicUsize;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;

const PUBLIC: &str = "127.0.0.2";
const INSIDE: &str = "127.0.0.1";

/// A server that keeps the heads of the requests it gets.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers every request with these bytes and closes.
    async fn start(at: &str, answer: &'static str) -> Self {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = heads.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = head(&mut BufReader::new(&mut stream)).await;
                kept.lock().unwrap().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Whoever came before was accepted before this one: waits until this one was.
    async fn assert_nobody_came(&self) {
        let mut own = TcpStream::connect(self.address).await.unwrap();
        own.write_all(b"GET /own HTTP/1.1\r\n\r\n").await.unwrap();
        own.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(self.heads(), ["GET /own HTTP/1.1\r\n\r\n"]);
    }
}

/// A request's or an answer's head.
async fn head(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
    head
}

/// Names, each with the answers it gives one after the other; the last for ever.
struct Names(&'static [(&'static str, &'static [&'static [&'static str]])], AtomicUsize);

impl Resolve for Names {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let asked = self.1.fetch_add(1, Ordering::Relaxed);
        let found = self.0.iter().find(|(known, _)| *known == name);
        let found = found.map(|(_, answers)| answers[asked.min(answers.len() - 1)]);
        let found = found.map(|found| found.iter().map(|address| address.parse().unwrap()).collect());
        std::future::ready(found.ok_or_else(|| io::ErrorKind::NotFound.into())).boxed()
    }
}

async fn proxy(resolver: impl Resolve) -> Proxy {
    Proxy::start(AllowedNetworks::from_words([PUBLIC]), resolver).await.unwrap()
}

/// What the proxy answers to a request with these lines, and how it goes on.
async fn ask(proxy: &Proxy, lines: &str, password: Option<&str>) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let authorization = password.map(|password| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let request = format!("{lines}\r\n{}\r\n", authorization.unwrap_or_default());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    (head(&mut stream).await, stream)
}

async fn connect(proxy: &Proxy, host: &str, port: u16) -> (String, BufReader<TcpStream>) {
    let lines = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}");
    let (answer, stream) = ask(proxy, &lines, Some(&proxy.password)).await;
    (answer.split(' ').nth(1).unwrap_or("none").to_owned(), stream)
}

async fn get(proxy: &Proxy, url: &str) -> (String, String) {
    let lines = format!(
        "GET {url} HTTP/1.1\r\nHost: ignored.example\r\nProxy-Connection: keep-alive\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Kept: 1"
    );
    let (answer, mut stream) = ask(proxy, &lines, Some(&proxy.password)).await;
    let mut body = String::new();
    stream.read_to_string(&mut body).await.unwrap();
    (answer.split(' ').nth(1).unwrap_or("none").to_owned(), body)
}

#[tokio::test]
async fn the_proxy_refuses_requests_without_its_password() {
    let server = Server::start(PUBLIC, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let proxy = proxy(System).await;
    let at = server.address;
    for lines in [format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}"), format!("CONNECT {at} HTTP/1.1\r\nHost: {at}")] {
        for password in [None, Some(""), Some("wrong")] {
            let (answer, _) = ask(&proxy, &lines, password).await;
            assert!(answer.starts_with("HTTP/1.1 407 "), "{lines} {password:?}: {answer}");
            assert!(answer.to_lowercase().contains("proxy-authenticate: basic"), "{answer}");
        }
    }
    assert!(!proxy.signed_in());
    server.assert_nobody_came().await;
}

#[tokio::test]
async fn a_plain_request_is_passed_on_without_what_is_the_proxys() {
    let server = Server::start(PUBLIC, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: x\r\n\r\nhi").await;
    let proxy = proxy(System).await;
    assert_eq!(get(&proxy, &format!("http://{}/a?b=c", server.address)).await, ("200".to_owned(), "hi".to_owned()));
    let heads = server.heads();
    let head = heads[0].to_lowercase();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.address)) && heads[0].contains("X-Kept: 1\r\n"), "{head}");
    assert!(!head.contains("proxy") && !head.contains("x-hop"), "{head}");
}

#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_noticed() {
    let listener = TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let proxy = proxy(System).await;
    let port = listener.local_addr().unwrap().port();
    let (_, _here) = connect(&proxy, PUBLIC, port).await;
    let (_there, _) = listener.accept().await.unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let timers: Vec<_> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == "01")
        .map(|fields| fields[5].split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(timers, ["02"], "the timer of keep-alives");
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_ends_with_the_proxy() {
    let listener = TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let proxy = proxy(System).await;
    let (answer, mut here) = connect(&proxy, PUBLIC, listener.local_addr().unwrap().port()).await;
    assert_eq!(answer, "200");
    let (mut there, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4];
    here.write_all(b"ping").await.unwrap();
    there.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    there.write_all(b"pong").await.unwrap();
    here.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"pong");
    drop(proxy);
    // An end or a reset.
    assert!(matches!(here.read(&mut bytes).await, Ok(0) | Err(_)));
    assert!(matches!(there.read(&mut bytes).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_address_that_is_not_allowed_gets_no_connection_in_any_spelling() {
    let server = Server::start(INSIDE, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let port = server.address.port();
    let proxy = proxy(System).await;
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0.0.0.0",
        // A browser would have made 127.0.0.1 of these; the system's resolver does.
        "2130706433",
        "0x7f.1",
        "127.1",
    ] {
        assert_eq!(connect(&proxy, host, port).await.0, "403", "CONNECT {host}");
        assert!(matches!(proxy.trouble(host, port), Some(Trouble::Refused(_))), "{host}");
        // The connection ends: what the proxy said would be taken for the page's own.
        assert_eq!(get(&proxy, &format!("http://{host}:{port}/")).await, ("none".to_owned(), String::new()), "{host}");
    }
    server.assert_nobody_came().await;
}

#[tokio::test]
async fn a_redirect_leads_no_further_than_a_page() {
    let inside = Server::start(INSIDE, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n";
    let public = Server::start(PUBLIC, answer).await;
    let proxy = proxy(System).await;
    // It is the browser that follows it, with a request of its own.
    assert_eq!(get(&proxy, &format!("http://{}/", public.address)).await.0, "302");
    assert_eq!(get(&proxy, &format!("http://{}/", inside.address)).await.0, "none");
    inside.assert_nobody_came().await;
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_checked_each_time() {
    let inside = Server::start(INSIDE, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let port = inside.address.port();
    let listener = TcpListener::bind((PUBLIC, port)).await.unwrap();
    let names = Names(&[("rebind.example", &[&[PUBLIC], &[INSIDE]])], AtomicUsize::new(0));
    let proxy = proxy(names).await;
    let (answer, _first) = connect(&proxy, "rebind.example", port).await;
    assert_eq!(answer, "200");
    let (_accepted, _) = listener.accept().await.unwrap();
    assert_eq!(proxy.trouble("rebind.example", port), None);
    assert_eq!(connect(&proxy, "rebind.example", port).await.0, "403");
    assert_eq!(get(&proxy, &format!("http://rebind.example:{port}/")).await.0, "none");
    assert_eq!(proxy.trouble("REBIND.example", port), Some(Trouble::Refused(SpecialAddress::Loopback)));
    inside.assert_nobody_came().await;
}

#[tokio::test]
async fn only_allowed_addresses_of_a_name_are_tried() {
    let inside = Server::start(INSIDE, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let port = inside.address.port();
    let names = [("both.example", &[&[INSIDE, "::1", PUBLIC] as &[_]] as &[_])];
    let proxy = proxy(Names(Box::leak(Box::new(names)), AtomicUsize::new(0))).await;
    // Nobody listens at the one that is allowed.
    assert_eq!(connect(&proxy, "both.example", port).await.0, "502");
    assert_eq!(proxy.trouble("both.example", port), Some(Trouble::Unreachable));
    inside.assert_nobody_came().await;
    let listener = TcpListener::bind((PUBLIC, port)).await.unwrap();
    let (answer, _tunnel) = connect(&proxy, "both.example", port).await;
    assert_eq!(answer, "200");
    listener.accept().await.unwrap();
    assert_eq!(proxy.trouble("both.example", port), None);
}

#[tokio::test]
async fn a_name_without_an_address_is_told_apart() {
    let proxy = proxy(Names(&[("empty.example", &[&[]])], AtomicUsize::new(0))).await;
    for host in ["no-such-host.invalid", "empty.example"] {
        assert_eq!(connect(&proxy, host, 443).await.0, "502");
        assert_eq!(proxy.trouble(host, 443), Some(Trouble::NoAddress));
    }
    assert_eq!(proxy.trouble("never-asked.example", 443), None);
}

#[tokio::test]
async fn remembered_hosts_are_bounded() {
    let proxy = proxy(System).await;
    for port in 1..=2 * u16::try_from(REMEMBERED).unwrap() {
        assert_eq!(connect(&proxy, INSIDE, port).await.0, "403");
    }
    assert_eq!(proxy.shared.troubles.lock().unwrap().len(), REMEMBERED);
    assert_eq!(proxy.trouble(INSIDE, 1), None);
    assert!(proxy.trouble(INSIDE, 2 * u16::try_from(REMEMBERED).unwrap()).is_some());
}
