//! What the gateway holds in memory and in file descriptors while callers misbehave, and after they left.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use comfy_table::{Table, presets};
use greenroom_chassis::RunnerToken;
use greenroom_domain::{Attempt, BotId, RunnerId, TenantId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::figures::say;
use crate::house::House;

const HALF_OPEN: usize = 5_000;
const STREAMS: usize = 200;
const WATCHERS: usize = 3_000;
const TENANTS: usize = 3;
/// Longer than any time-out that is measured, and its reaction.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    rss_kib: u64,
    pss_kib: u64,
    descriptors: usize,
}

impl Held {
    fn of(pid: u32) -> Self {
        let kib = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
            line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Self {
            rss_kib: kib("status", "VmRSS:"),
            pss_kib: kib("smaps_rollup", "Pss:"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
        }
    }
}

struct Figures {
    pid: u32,
    table: Table,
}

impl Figures {
    fn note(&mut self, when: &str, note: impl Into<String>) -> Held {
        let held = Held::of(self.pid);
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1_024.0);
        let descriptors = held.descriptors.to_string();
        self.table.add_row([when.to_owned(), mib(held.rss_kib), mib(held.pss_kib), descriptors, note.into()]);
        held
    }
}

pub async fn measure() -> Result<(), Error> {
    say("door: starting Postgres, nats-server and the services");
    let mut house = House::small().await?;
    let measured = figures(&house).await;
    house.stop().await;
    measured
}

async fn figures(house: &House) -> Result<(), Error> {
    let (pid, ..) = house.pids();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["when", "RSS, MiB", "PSS, MiB", "descriptors", "beside"]);
    let mut figures = Figures { pid, table };
    figures.note("at the start", "");
    half_open(house, &mut figures).await?;
    unfinished(house, &mut figures).await?;
    watchers(house, &mut figures).await?;
    println!("{}", figures.table);
    Ok(())
}

async fn connect(house: &House, last: u8) -> Result<TcpStream, Error> {
    let failed = Error::machine("connect to the gateway");
    let address = house.address().parse().map_err(|_| Error::Plain("the gateway's address".to_owned()))?;
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        socket.connect(address).await
    };
    connect.await.map_err(failed)
}

/// How long a request takes that comes now, on a new connection from an address of its own.
async fn answer_time(house: &House) -> Result<Duration, Error> {
    let began = Instant::now();
    let mut stream = connect(house, 99).await?;
    let request =
        format!("GET /v1/bots HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n", house.key);
    let mut answer = String::new();
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    let asked = timeout(PATIENCE, asked).await;
    asked.map_err(|_| Error::Plain("the gateway does not answer".to_owned()))?.map_err(Error::machine("ask"))?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(began.elapsed())
    } else {
        Err(Error::Plain(format!("the gateway answers {}", answer.lines().next().unwrap_or_default())))
    }
}

/// How many of the connections the gateway still has open.
fn open(streams: &[TcpStream]) -> usize {
    let mut byte = [0];
    streams
        .iter()
        .filter(
            |stream| matches!(stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        )
        .count()
}

async fn until_gone(descriptors: usize, pid: u32) -> Duration {
    let began = Instant::now();
    while Held::of(pid).descriptors > descriptors && began.elapsed() < PATIENCE {
        sleep(PAUSE).await;
    }
    began.elapsed()
}

async fn half_open(house: &House, figures: &mut Figures) -> Result<(), Error> {
    let before = Held::of(figures.pid).descriptors;
    for (many, addresses) in [(false, 1), (true, 50)] {
        say(format!("door: {HALF_OPEN} half-open connections from {addresses} addresses"));
        let began = Instant::now();
        let mut streams = Vec::with_capacity(HALF_OPEN);
        for number in 0..HALF_OPEN {
            let last = 100 + (number % addresses) as u8;
            let mut stream = connect(house, last).await?;
            let _ = stream.write_all(b"GET /v1/bots HTTP/1.1\r\nhost:").await;
            streams.push(stream);
        }
        let answer = answer_time(house).await?;
        let when =
            format!("{HALF_OPEN} half-open connections from {addresses} address{}", if many { "es" } else { "" });
        let note = format!("{} are open; another address is answered in {} ms", open(&streams), answer.as_millis());
        figures.note(&when, note);
        until_gone(before + 10, figures.pid).await;
        let took = began.elapsed().as_secs_f64();
        figures.note("after them", format!("closed by the gateway; {took:.1} s from the first on"));
    }
    Ok(())
}

async fn unfinished(house: &House, figures: &mut Figures) -> Result<(), Error> {
    let runner = RunnerId::of_bot(BotId::generate(), Attempt(1));
    let token = RunnerToken { runner, tenant: TenantId::generate() }.sign(&house.secret()?);
    for (who, token) in [("without a token", None), ("of one runner with a good token", Some(token))] {
        say(format!("door: {STREAMS} unfinished PutPart streams {who}"));
        let began = Instant::now();
        let stream = connect(house, 98).await?;
        let http = |error: h2::Error| Error::Plain(format!("HTTP/2: {error}"));
        let (client, connection) = h2::client::handshake(stream).await.map_err(http)?;
        let connection = tokio::spawn(connection);
        let mut uploads = Vec::new();
        for _ in 0..STREAMS {
            let mut request =
                http::Request::post(format!("http://{}/greenroom.v1.RunnerService/PutPart", house.address()))
                    .header("content-type", "application/grpc");
            if let Some(token) = &token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|error| Error::Plain(error.to_string()))?;
            let client = client.clone();
            uploads.push(tokio::spawn(async move {
                let mut client = client.ready().await.ok()?;
                let (answer, mut body) = client.send_request(request, false).ok()?;
                // As much of 16 MiB as the gateway takes, and never the end.
                let send = async {
                    let mut left = Bytes::from([&[0, 1, 0, 0, 0][..], &vec![b'x'; (16 << 20) - 1]].concat());
                    body.reserve_capacity(left.len());
                    while !left.is_empty() {
                        let Some(Ok(granted)) = std::future::poll_fn(|context| body.poll_capacity(context)).await
                        else {
                            break;
                        };
                        let _ = body.send_data(left.split_to(granted.min(left.len())), false);
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    answer = answer => Some(answer.ok()?.headers().get("grpc-status")?.to_str().ok()?.to_owned()),
                    () = send => None,
                }
            }));
        }
        // At its height: what the gateway takes of them it takes at once.
        let mut height = Held::of(figures.pid);
        for _ in 0..30 {
            sleep(PAUSE).await;
            let now = Held::of(figures.pid);
            if now.rss_kib > height.rss_kib {
                height = now;
            }
        }
        let answer = answer_time(house).await?;
        let refused = uploads.iter().filter(|upload| upload.is_finished()).count();
        let mib = height.rss_kib as f64 / 1_024.0;
        let note = format!(
            "{mib:.1} MiB RSS at most; {refused} answered within 3 s; another address is answered in {} ms",
            answer.as_millis()
        );
        figures.note(&format!("{STREAMS} unfinished uploads {who}, one connection"), note);
        let statuses = timeout(PATIENCE, futures::future::join_all(uploads)).await.unwrap_or_default();
        let answered = statuses.iter().filter(|status| matches!(status, Ok(Some(_)))).count();
        let took = began.elapsed().as_secs_f64();
        drop(client);
        connection.abort();
        sleep(Duration::from_secs(2)).await;
        figures.note("after them", format!("{answered} refused by the gateway within {took:.1} s"));
    }
    Ok(())
}

async fn watchers(house: &House, figures: &mut Figures) -> Result<(), Error> {
    let mut keys = Vec::new();
    for number in 0..TENANTS {
        keys.push(house.tenant(&format!("watcher-{number}")).await?);
    }
    let before = Held::of(figures.pid).descriptors;
    say(format!("door: {WATCHERS} watchers of {TENANTS} tenants"));
    let began = Instant::now();
    let mut watching = Vec::with_capacity(WATCHERS);
    for number in 0..WATCHERS {
        let key = keys[number % TENANTS].clone();
        let mut stream = connect(house, 100 + (number % 10) as u8).await?;
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(Error::machine("ask for events"))?;
        read_until(&mut stream, "from here on").await?;
        watching.push(stream);
    }
    let opened = began.elapsed().as_secs_f64();
    figures.note(&format!("{WATCHERS} watchers"), format!("opened one after the other in {opened:.1} s"));

    let began = Instant::now();
    let client = reqwest::Client::new();
    for key in &keys {
        let body = serde_json::json!({"meeting": {"provider": "web", "url": "https://meeting.example/room"}});
        let made = client.post(format!("{}/v1/bots", house.gateway())).bearer_auth(key).json(&body).send().await;
        let made = made.map_err(|error| Error::Plain(error.to_string()))?;
        if !made.status().is_success() {
            return Err(Error::Plain(format!("a bot was refused: {}", made.status())));
        }
    }
    let seeing = watching.iter_mut().map(|stream| read_until(stream, "dev.greenroom.bot.created"));
    let seen = futures::future::join_all(seeing).await.into_iter().filter(Result::is_ok).count();
    let took = began.elapsed().as_secs_f64();
    figures
        .note("an event for each tenant", format!("{seen} of {WATCHERS} watchers saw theirs, all within {took:.2} s"));

    let began = Instant::now();
    drop(watching);
    until_gone(before + 10, figures.pid).await;
    let took = began.elapsed().as_secs_f64();
    figures.note("just after they left", format!("within {took:.1} s"));
    sleep(Duration::from_secs(10)).await;
    figures.note("ten seconds later", "");
    Ok(())
}

/// Reads until a word has come.
async fn read_until(stream: &mut TcpStream, word: &str) -> Result<(), Error> {
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    let reading = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Err(Error::Plain("the gateway closed an event stream".to_owned())),
                Ok(count) => text.extend_from_slice(&buffer[..count]),
            }
            if text.windows(word.len()).any(|window| window == word.as_bytes()) {
                return Ok(());
            }
        }
    };
    timeout(PATIENCE, reading).await.map_err(|_| Error::Plain(format!("waited too long for {word:?}")))?
}
