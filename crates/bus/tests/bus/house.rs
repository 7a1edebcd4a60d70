//! A bus, and a handler that does as it is told.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_bus::{BatchHandler, Bus, EachHandler, Failure, Outcome, Published, Subscription};
use greenroom_contracts::messages::Withdraw;
use greenroom_contracts::{Envelope, Header, Message, Origin, streams, subjects};
use greenroom_domain::{Attempt, BotId, Installation, RunnerId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::servers::{Servers, fresh_installation};
use crate::until::{WITHIN, until};

pub struct House {
    _servers: Option<Servers>,
    pub installation: Installation,
    pub bus: Bus,
    pub jetstream: async_nats::jetstream::Context,
    /// What every consumer does.
    pub work: Work,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is to become of a number, and what has become of them so far.
#[derive(Clone)]
pub struct Work {
    /// By number; else done.
    pub verdicts: Arc<Mutex<BTreeMap<u32, Verdict>>>,
    /// Every number that was done, each time, with who did it.
    done: Arc<Mutex<Vec<(u32, &'static str)>>>,
    /// How many times each was seen.
    seen: Arc<Mutex<BTreeMap<u32, usize>>>,
    pub away: Arc<Mutex<bool>>,
    /// Work goes on while this is so.
    pub open: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
pub enum Verdict {
    /// So many times, and then done.
    Retry(usize),
    Park,
    Spoil,
}

impl Work {
    pub fn verdict(&self, number: u32, verdict: Verdict) {
        self.verdicts.lock().expect("no panic").insert(number, verdict);
    }

    pub fn done(&self) -> Vec<u32> {
        self.done.lock().expect("no panic").iter().map(|(number, _)| *number).collect()
    }

    pub fn done_by(&self, who: &str) -> usize {
        self.done.lock().expect("no panic").iter().filter(|(_, by)| *by == who).count()
    }

    pub fn seen(&self, number: u32) -> usize {
        self.seen.lock().expect("no panic").get(&number).copied().unwrap_or(0)
    }

    fn see(&self, number: u32) -> usize {
        let mut seen = self.seen.lock().expect("no panic");
        let times = seen.entry(number).or_default();
        *times += 1;
        *times
    }

    fn outcome(&self, number: u32, times: usize, who: &'static str) -> Outcome {
        match self.verdicts.lock().expect("no panic").get(&number) {
            Some(Verdict::Retry(tries)) if times <= *tries => Outcome::Retry(Duration::from_millis(20)),
            Some(Verdict::Park) => Outcome::Park("as it was told".to_owned()),
            Some(Verdict::Retry(_) | Verdict::Spoil) | None => {
                self.done.lock().expect("no panic").push((number, who));
                Outcome::Done
            }
        }
    }

    async fn wait(&self) {
        self.open.subscribe().wait_for(|open| *open).await.expect("it is there");
    }
}

pub struct Worker {
    pub work: Work,
    pub who: &'static str,
}

fn parse(header: &Header, body: &[u8]) -> Result<Option<u32>, serde_json::Error> {
    if header.message_type != Withdraw::TYPE {
        return Ok(None);
    }
    serde_json::from_slice::<Envelope<Withdraw>>(body).map(|envelope| Some(envelope.data.runner.attempt.0))
}

impl BatchHandler for Worker {
    type Input = u32;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<u32>, serde_json::Error> {
        parse(header, body)
    }

    fn key(&self, number: &u32) -> Uuid {
        Uuid::from_u128(u128::from(*number))
    }

    async fn handle(&self, batch: &[u32]) -> Result<Vec<Outcome>, Failure> {
        let times: Vec<usize> = batch.iter().map(|number| self.work.see(*number)).collect();
        self.work.wait().await;
        if *self.work.away.lock().expect("no panic") {
            return Err(Failure::Away("gone fishing".to_owned()));
        }
        let spoils =
            |number: &&u32| matches!(self.work.verdicts.lock().expect("no panic").get(number), Some(Verdict::Spoil));
        if let Some(spoiler) = batch.iter().find(spoils) {
            return Err(Failure::Data(format!("{spoiler} cannot be")));
        }
        Ok(batch.iter().zip(times).map(|(number, times)| self.work.outcome(*number, times, self.who)).collect())
    }
}

impl EachHandler for Worker {
    type Input = u32;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<u32>, serde_json::Error> {
        parse(header, body)
    }

    async fn handle(&self, number: u32) -> Outcome {
        let times = self.work.see(number);
        self.work.wait().await;
        self.work.outcome(number, times, self.who)
    }
}

/// A consumer at work.
pub struct Consuming {
    pub stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Consuming {
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        stop: &CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = stop.child_token();
        Self { task: tokio::spawn(run(stop.clone())), stop }
    }

    pub async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(WITHIN, self.task).await.expect("it ends").expect("no panic");
    }
}

impl House {
    pub async fn new() -> Self {
        let servers = Servers::get().await;
        let url = servers.nats_url().to_owned();
        Self::at(&url, Some(servers)).await
    }

    /// With a NATS of its own.
    pub async fn at(url: &str, servers: Option<Servers>) -> Self {
        let installation = fresh_installation();
        let nats = greenroom_bus::with_credentials(url).connect(url).await.expect("NATS");
        let work = Work {
            verdicts: Arc::default(),
            done: Arc::default(),
            seen: Arc::default(),
            away: Arc::default(),
            open: watch::Sender::new(true),
        };
        Self {
            bus: Bus::connect(url, installation.clone(), "test").await.expect("a bus"),
            _servers: servers,
            installation,
            jetstream: async_nats::jetstream::new(nats),
            work,
            stop: CancellationToken::new(),
        }
    }

    pub fn stream(&self) -> streams::Stream {
        streams::commands(&self.installation, "queue")
    }

    pub fn subscription(&self) -> Subscription {
        let subjects = vec![subjects::commands(&self.installation, "queue")];
        Subscription::new("queue", "queue", self.stream(), subjects)
    }

    /// A consumer that takes batches.
    pub fn consume(&self, subscription: Subscription, who: &'static str) -> Consuming {
        let (bus, worker) = (self.bus.clone(), Worker { work: self.work.clone(), who });
        Consuming::spawn(&self.stop, |stop| async move { bus.consume(subscription, worker, stop).await })
    }

    /// A consumer that takes messages one by one.
    pub fn consume_each(&self, subscription: Subscription, who: &'static str, drain: Duration) -> Consuming {
        let (bus, worker) = (self.bus.clone(), Arc::new(Worker { work: self.work.clone(), who }));
        Consuming::spawn(
            &self.stop,
            move |stop| async move { bus.consume_each(subscription, worker, stop, drain).await },
        )
    }

    pub fn envelope<T: Message>(&self, data: T) -> Envelope<T> {
        let origin = Origin { installation: self.installation.clone(), service: "test" };
        Envelope::new(&origin, Timestamp::now(), data)
    }

    /// Says a number.
    pub async fn say(&self, number: u32) -> Published {
        self.bus.say(self.envelope(withdraw(number))).await.expect("said")
    }

    pub async fn say_all(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.say(number).await;
        }
    }

    /// Waits until these are done, each once or more.
    pub async fn until_done(&self, numbers: impl IntoIterator<Item = u32>) {
        let wanted: Vec<u32> = numbers.into_iter().collect();
        until("all is done", async || {
            let done = self.work.done();
            wanted.iter().all(|number| done.contains(number)).then_some(())
        })
        .await;
    }

    /// Waits until the work queue holds nothing any more.
    pub async fn until_empty(&self) {
        until("all is acknowledged", async || {
            let mut stream = self.jetstream.get_stream(&self.stream().name).await.ok()?;
            (stream.info().await.ok()?.state.messages == 0).then_some(())
        })
        .await;
    }
}

pub fn withdraw(number: u32) -> Withdraw {
    Withdraw { runner: RunnerId::of_bot(BotId::generate(), Attempt(number)) }
}
