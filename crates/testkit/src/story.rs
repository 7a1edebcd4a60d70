//! What users do: ask for bots, cancel some, call some back, and listen to what happens. As users do, they say a thing
//! again when there was no answer, with the same key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::evidence::Heard;

/// What is asked of a sandbox.
#[derive(Debug, Clone)]
pub struct Story {
    /// How many bots.
    pub bots: usize,
    /// Over how long they are asked for.
    pub over: Duration,
    /// How many of them are cancelled, of a hundred.
    pub cancels: u32,
    /// How many of them are asked to leave, of a hundred.
    pub leaves: u32,
    /// How long after a bot was made it may be cancelled or asked to leave, at most.
    pub regret: Duration,
    /// How long bots may wait for a slot.
    pub queue_timeout: Duration,
    /// Another seed is another story.
    pub seed: u64,
}

/// The priorities of the story's bots, in turn.
const TIERS: [u32; 3] = [100, 300, 900];

/// A bot that was acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Its id.
    pub id: String,
    /// When it was asked for, in milliseconds since the story began.
    pub asked_ms: u128,
    /// Whether its cancel was acknowledged.
    pub cancelled: bool,
    /// Whether its leave was acknowledged.
    pub called_back: bool,
}

/// A client without TLS, on loopback. It gives up early: its user says it again.
///
/// # Panics
/// Never: the settings are plain.
#[must_use]
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(2))
        .build()
        .expect("plain settings")
}

/// A user of a Greenroom.
#[derive(Clone)]
pub struct User {
    client: reqwest::Client,
    /// Of every gateway.
    urls: Arc<[String]>,
    /// Whom it asks next.
    turn: Arc<AtomicUsize>,
    key: String,
    /// Of tenants for whom it plays stories as well.
    others: Arc<[String]>,
}

impl User {
    /// A user with a key.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        Self::at(&[url.to_owned()], key)
    }

    /// A user who asks each of several gateways in turn.
    #[must_use]
    pub fn at(urls: &[String], key: &str) -> Self {
        Self { client: client(), urls: urls.into(), turn: Arc::default(), key: key.to_owned(), others: Arc::default() }
    }

    /// A user who plays stories, and listens, for other tenants as well: bots are everybody's in turn, and have the priority
    /// of their tenant's plan.
    #[must_use]
    pub fn with_tenants(self, keys: &[String]) -> Self {
        Self { others: keys.into(), ..self }
    }

    /// The same user with the key of one of its tenants.
    fn as_tenant(&self, number: usize) -> Self {
        let number = number % (self.others.len() + 1);
        let key = number.checked_sub(1).map_or(&self.key, |other| &self.others[other]);
        Self { key: key.clone(), ..self.clone() }
    }

    fn url(&self, path: &str) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        format!("{}{path}", self.urls[turn % self.urls.len()])
    }

    /// Changes something of the pool's, as an operator does: says it until there is an answer.
    ///
    /// # Panics
    /// When it is refused for good.
    pub async fn operate(&self, method: Method, path: &str, body: Option<Value>) {
        let (status, answer) = self.insist(method.clone(), path, body.as_ref(), None).await;
        assert!((200..300).contains(&status), "{method} {path} was refused: {status} {answer}");
    }

    /// Says something until there is an answer that is no "not now".
    async fn insist(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> (u16, Value) {
        let mut pause = Duration::from_millis(50);
        loop {
            let mut request = self.client.request(method.clone(), self.url(path)).bearer_auth(&self.key);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                // 401 as well: a gateway whose accounts service is being killed may not know the key for a moment.
                if status < 500 && status != 429 && status != 401 {
                    return (status, answer.json().await.unwrap_or(Value::Null));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Asks for something by GET.
    ///
    /// # Errors
    /// When there is no answer, or it is no success.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.key).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        answer.json().await.map_err(|error| error.to_string())
    }

    /// Asks for a bot until there is one, and says its id.
    ///
    /// # Panics
    /// When it is refused for good.
    pub async fn create(&self, name: &str) -> String {
        let body = json!({
            "meeting": {"provider": "web", "url": format!("https://meeting.example/{name}"), "password": "sesame"},
            "displayName": name,
        });
        let (status, bot) = self.insist(Method::POST, "/v1/bots", Some(&body), Some(name)).await;
        assert!(status == 201 || status == 200, "{name} was refused: {status} {bot}");
        bot["id"].as_str().expect("a bot has an id").to_owned()
    }

    /// Cancels a bot.
    ///
    /// # Panics
    /// When it is refused for good.
    pub async fn cancel(&self, id: &str) {
        let (status, answer) = self.insist(Method::POST, &format!("/v1/bots/{id}/cancel"), None, None).await;
        assert_eq!(status, 200, "cancel of {id} was refused: {answer}");
    }

    /// Plays a story to its end: every bot was asked for, and every regret was said.
    ///
    /// # Panics
    /// When a request is refused for good: the story asks for nothing unreasonable.
    pub async fn play(&self, story: &Story) -> Vec<Acknowledged> {
        let begin = Instant::now();
        let mut dice = StdRng::seed_from_u64(story.seed);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..story.bots {
            let at = story.over.mul_f64(number as f64 / story.bots as f64);
            let (luck, regret) = (dice.random_range(0..100), story.regret.mul_f64(dice.random()));
            let (user, story) = (self.as_tenant(number), story.clone());
            tasks.spawn(async move {
                tokio::time::sleep_until((begin + at).into()).await;
                let asked_ms = begin.elapsed().as_millis();
                let mut body = json!({
                    "meeting": {"provider": "web", "url": format!("https://meeting.example/{number}"), "password": "sesame"},
                    "displayName": format!("Bot {number}"),
                    "queueTimeoutMs": story.queue_timeout.as_millis() as u64,
                });
                if user.others.is_empty() {
                    body["priority"] = TIERS[number % TIERS.len()].into();
                }
                let (status, bot) = user.insist(Method::POST, "/v1/bots", Some(&body), Some(&format!("story-{}-{number}", story.seed))).await;
                assert!(status == 201 || status == 200, "bot {number} was refused: {status} {bot}");
                let id = bot["id"].as_str().expect("a bot has an id").to_owned();
                let mut made = Acknowledged { id, asked_ms, cancelled: false, called_back: false };
                let cancels = luck < story.cancels;
                if cancels || luck < story.cancels + story.leaves {
                    tokio::time::sleep(regret).await;
                    let verb = if cancels { "cancel" } else { "leave" };
                    let (status, answer) = user.insist(Method::POST, &format!("/v1/bots/{}/{verb}", made.id), None, None).await;
                    assert!(status == 200, "{verb} of {} was refused: {status} {answer}", made.id);
                    made.cancelled = cancels;
                    made.called_back = !cancels;
                }
                made
            });
        }
        let mut made = Vec::new();
        while let Some(done) = tasks.join_next().await {
            made.push(done.expect("a part of the story failed"));
        }
        made
    }

    /// Listens to the event stream until told to stop, going on where it left off whenever the connection breaks.
    #[must_use]
    pub fn listen(&self, stop: CancellationToken) -> Listener {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let tenants = (0..=self.others.len()).map(|number| self.as_tenant(number));
        let tasks = tenants.map(|tenant| tenant.hear(heard.clone(), stop.clone())).collect();
        Listener { heard, tasks }
    }

    fn hear(self, keep: Arc<Mutex<Vec<Heard>>>, stop: CancellationToken) -> JoinHandle<()> {
        let user = self;
        tokio::spawn(async move {
            // A cursor of no making of the stream: from its beginning.
            let mut cursor: Option<String> = Some("0-0".to_owned());
            let client = reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(2))
                .read_timeout(Duration::from_secs(40))
                .build();
            let client = client.expect("plain settings");
            while !stop.is_cancelled() {
                let mut request = client.get(user.url("/v1/events")).bearer_auth(&user.key);
                if let Some(cursor) = &cursor {
                    request = request.header("last-event-id", cursor);
                }
                let Ok(answer) = request.send().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                if !answer.status().is_success() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                let mut bytes = answer.bytes_stream();
                let mut buffer = String::new();
                loop {
                    let chunk = tokio::select! {
                        () = stop.cancelled() => return,
                        chunk = bytes.next() => chunk,
                    };
                    let Some(Ok(chunk)) = chunk else { break };
                    buffer.push_str(&String::from_utf8_lossy(&chunk));
                    while let Some(end) = buffer.find("\n\n") {
                        let frame: String = buffer.drain(..end + 2).collect();
                        let field = |name: &str| {
                            frame.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
                        };
                        if let Some(id) = field("id:") {
                            cursor = Some(id);
                        }
                        if let Some(event) = field("data:").and_then(|data| serde_json::from_str::<Value>(&data).ok()) {
                            keep.lock().unwrap_or_else(PoisonError::into_inner).push(Heard {
                                id: event["id"].as_str().unwrap_or_default().to_owned(),
                                message_type: event["type"].as_str().unwrap_or_default().to_owned(),
                                subject: event["subject"].as_str().unwrap_or_default().to_owned(),
                                sequence: event["sequence"].as_i64().unwrap_or_default(),
                                state: event["data"]["state"].as_str().map(str::to_owned),
                            });
                        }
                    }
                }
            }
        })
    }
}

/// Somebody who listens to the event stream.
pub struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// One for each tenant.
    tasks: Vec<JoinHandle<()>>,
}

impl Listener {
    /// What was heard up to now.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The highest sequence heard of each bot, as long as there is no gap below it.
    #[must_use]
    pub fn complete_up_to(&self) -> BTreeMap<String, i64> {
        let mut sequences: BTreeMap<String, std::collections::BTreeSet<i64>> = BTreeMap::new();
        for heard in self.heard().into_iter().filter(|heard| heard.message_type.starts_with("dev.greenroom.bot.")) {
            sequences.entry(heard.subject).or_default().insert(heard.sequence);
        }
        let unbroken =
            |heard: &std::collections::BTreeSet<i64>| (1..).take_while(|n| heard.contains(n)).last().unwrap_or(0);
        sequences.iter().map(|(subject, heard)| (subject.clone(), unbroken(heard))).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
