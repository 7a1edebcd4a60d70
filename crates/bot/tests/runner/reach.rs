//! What a meeting's page can reach: a real Chromium, a page at 127.0.0.2 that tries every way there is to get at 127.0.0.1,
//! and what arrives there. The same page where loopback is allowed shows that each way works.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use greenroom_bot::browser::{AllowedNetworks, Browser, Scratch};
use greenroom_bot::config::BrowserSettings;
use greenroom_contracts::proto::v1::runner_report::Report;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::gateway::Gateway;
use crate::process::Runner;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const INSIDE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A web server that keeps the first path of each connection.
struct Site {
    address: SocketAddr,
    paths: Arc<Mutex<BTreeSet<String>>>,
}

impl Site {
    async fn start(at: Ipv4Addr, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let (address, paths) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(BTreeSet::new())));
        let kept = paths.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                // Something else than HTTP is kept as it came: TLS, TURN.
                let first = stream.fill_buf().await.map(|bytes| bytes.first().copied()).unwrap_or_default();
                if first.is_some_and(|byte| byte.is_ascii_uppercase()) {
                    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.is_ok_and(|read| read > 0) {}
                }
                let path = head.split(' ').nth(1).unwrap_or("(not HTTP)").split('?').next().unwrap_or_default();
                kept.lock().unwrap().insert(path.to_owned());
                let _ = stream.write_all(answer(path).as_bytes()).await;
            }
        });
        Self { address, paths }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Whoever came before is accepted before us.
    async fn arrived(&self) -> BTreeSet<String> {
        let mut own = TcpStream::connect(self.address).await.unwrap();
        own.write_all(b"GET /own HTTP/1.1\r\n\r\n").await.unwrap();
        own.read_to_end(&mut Vec::new()).await.unwrap();
        let mut paths = self.paths.lock().unwrap().clone();
        assert!(paths.remove("/own"));
        paths
    }
}

fn page(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\n\r\n{body}",
        body.len()
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Magenta, so that a picture of it is known.
async fn inside() -> Site {
    let body = "<!doctype html><title>inside</title><body style='background: #ff00ff; margin: 0'>inside";
    Site::start(INSIDE, move |_| page("text/html", body)).await
}

/// A page that goes every way to `inside`, and when all of them came to an end shows that the bot is let in.
async fn outside(inside: &Site, quic: SocketAddr) -> Site {
    let port = inside.address.port().to_string();
    let quic = quic.port().to_string();
    Site::start(OUTSIDE, move |path| match path {
        "/" => page("text/html", &include_str!("reach.html").replace("PORT", &port).replace("QUIC", &quic)),
        "/worker.js" => page(
            "text/javascript",
            &format!(
                "fetch('http://127.0.0.1:{port}/worker', {{ mode: 'no-cors' }}).catch(() => {{}}).then(() => postMessage('done'))"
            ),
        ),
        "/redirect-frame" => redirect(&format!("http://127.0.0.1:{port}/redirect-frame")),
        "/redirect-fetch" => redirect(&format!("http://127.0.0.1:{port}/redirect-fetch")),
        "/redirect" => redirect(&format!("http://127.0.0.1:{port}/redirect")),
        "/to-file" => redirect("file:///etc/passwd"),
        "/to-data" => redirect("data:text/html,<div data-greenroom>"),
        "/to-chrome" => redirect("chrome://version/"),
        "/script" => page("text/html", &format!("<script>location = 'http://127.0.0.1:{port}/script'</script>")),
        "/refresh" => {
            page("text/html", &format!("<meta http-equiv='refresh' content='0; url=http://127.0.0.1:{port}/refresh'>"))
        }
        _ => page("text/plain", ""),
    })
    .await
}

/// What of the page's tries arrives inside, by TCP and by UDP.
async fn tried(allowed: &[&str]) -> (BTreeSet<String>, bool) {
    let inside = inside().await;
    let quic = UdpSocket::bind((INSIDE, 0)).await.unwrap();
    let outside = outside(&inside, quic.local_addr().unwrap()).await;
    let mut config = crate::config(&outside.url("/"));
    config.allowed_networks = allowed.iter().map(|&word| word.to_owned()).collect();
    let gateway = Gateway::start(config).await;
    let runner = Runner::start(&gateway);
    gateway.reported("all tries", |report| matches!(report, Report::InCall(_))).await;
    assert!(!runner.log().contains(&inside.address.port().to_string()), "{}", runner.log());
    let arrived = inside.arrived().await;
    (arrived, quic.try_recv(&mut [0; 2_048]).is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reaches_nothing_that_is_not_allowed() {
    let ways = [
        "/beacon",
        "/decimal",
        "/eventsource",
        "/fetch",
        "/form",
        "/frame",
        "/image",
        "/localhost",
        "/mapped",
        "/popup",
        "/redirect-fetch",
        "/redirect-frame",
        "/script.js",
        "/socket",
        "/style.css",
        "/worker",
        "/zero",
        "(not HTTP)",
    ];
    let (arrived, quic) = tried(&["127.0.0.2"]).await;
    assert_eq!((arrived, quic), (BTreeSet::new(), false));
    // The other half of the test: all of them work where the address is allowed.
    let (mut arrived, quic) = tried(&["127.0.0.0/8", "0.0.0.0"]).await;
    arrived.remove("/favicon.ico");
    assert_eq!(arrived, ways.map(str::to_owned).into());
    assert!(!quic, "there is no QUIC past a proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_leads_inside_ends_the_bot_with_that_reason() {
    let inside = inside().await;
    let outside = outside(&inside, inside.address).await;
    let port = inside.address.port();
    for url in [
        inside.url("/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        // Chromium goes past a proxy to link-local addresses, unless it is told not to.
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        "https://10.255.255.1/".to_owned(),
        outside.url("/redirect"),
        outside.url("/script"),
        outside.url("/refresh"),
        outside.url("/to-file"),
        outside.url("/to-data"),
        outside.url("/to-chrome"),
    ] {
        let mut config = crate::config(&url);
        config.allowed_networks = vec!["127.0.0.2".to_owned()];
        let gateway = Gateway::start(config).await;
        let mut runner = Runner::start(&gateway);
        assert_eq!(runner.ended().await.code(), Some(0), "{url}: {}", runner.log());
        assert_eq!(gateway.words().last().map(String::as_str), Some("failed:address_refused:false"), "{url}");
        assert!(!runner.log().contains(&port.to_string()), "{}", runner.log());
        runner.assert_nothing_left();
    }
    assert_eq!(inside.arrived().await, BTreeSet::new());
}

/// How many pixels of a PNG are magenta.
fn magenta(png: &[u8]) -> usize {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ffmpeg is needed");
    let (mut stdin, png) = (ffmpeg.stdin.take().unwrap(), png.to_owned());
    let feed = std::thread::spawn(move || stdin.write_all(&png));
    let output = ffmpeg.wait_with_output().unwrap();
    let _ = feed.join();
    assert!(output.status.success() && !output.stdout.is_empty());
    output.stdout.chunks(3).filter(|pixel| pixel[0] > 240 && pixel[1] < 16 && pixel[2] > 240).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_shows_nothing_from_inside() {
    let inside = inside().await;
    let outside = outside(&inside, inside.address).await;
    for (allowed, shown) in [("127.0.0.2", false), ("127.0.0.0/8", true)] {
        let scratch = Scratch::new("picture").unwrap();
        let allowed = AllowedNetworks::from_words([allowed]);
        let browser = Browser::launch(&BrowserSettings::default(), scratch, &allowed).await.unwrap();
        for path in ["/redirect", "/framed"] {
            let tab = browser.tab().await.unwrap();
            let _ = tab.navigate(&outside.url(path)).await.unwrap();
            if path == "/framed" {
                let url = inside.url("/");
                let script = format!(
                    "new Promise((done) => {{ const frame = document.createElement('iframe'); frame.onload = () => done(true); \
                     frame.src = '{url}'; document.body.append(frame); }})"
                );
                assert!(tab.ask::<bool>("frame a page", &script).await.unwrap());
            }
            let pixels = magenta(&tab.screenshot_png().await.unwrap());
            assert_eq!(pixels > 1_000, shown, "{pixels} pixels of {path} with {allowed:?}");
        }
        browser.close().await;
    }
}

/// Where only public addresses are reached, a page does not learn the runner's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_learn_the_runners_addresses() {
    let script = "(async () => { const c = new RTCPeerConnection(); c.createDataChannel('x'); const found = []; \
        const end = new Promise((done) => { c.onicecandidate = (e) => e.candidate ? found.push(e.candidate.candidate) : done(); }); \
        await c.setLocalDescription(await c.createOffer()); await end; return found; })()";
    let mut found = Vec::new();
    for words in [&[][..], &["loopback"]] {
        let scratch = Scratch::new("candidates").unwrap();
        let allowed = AllowedNetworks::from_words(words.iter().copied());
        let browser = Browser::launch(&BrowserSettings::default(), scratch, &allowed).await.unwrap();
        let tab = browser.tab().await.unwrap();
        found.push(tab.ask::<Vec<String>>("gather candidates", script).await.unwrap());
        browser.close().await;
    }
    assert_eq!(found[0], Vec::<String>::new());
    assert!(!found[1].is_empty(), "a room on this machine needs them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_of_the_web_is_refused_before_there_is_a_browser() {
    let file = std::env::current_exe().unwrap();
    for url in [
        format!("file://{}", file.display()),
        "chrome://version".to_owned(),
        "about:blank".to_owned(),
        "view-source:https://example.com/".to_owned(),
        "data:text/html,<body data-greenroom-state=joined>".to_owned(),
        "javascript:void(0)".to_owned(),
        "devtools://devtools/bundled/inspector.html".to_owned(),
        "/meeting".to_owned(),
    ] {
        let gateway = Gateway::start(crate::config(&url)).await;
        let mut runner = Runner::start_with(&gateway, &[("CHROMIUM", "/nowhere")]);
        assert_eq!(runner.ended().await.code(), Some(0), "{url}: {}", runner.log());
        assert_eq!(gateway.words().last().map(String::as_str), Some("failed:address_refused:false"), "{url}");
        assert!(!runner.log().contains(&url), "{}", runner.log());
    }
}
