//! The deployer at the end of the way: notes when a start command arrived, and says that the platform took the runner.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_bus::{BatchHandler, Bus, Failure, Outcome, Outgoing, Subscription};
use greenroom_contracts::messages::{Message, RunnerStarted, Start};
use greenroom_contracts::{Envelope, Header, Origin, streams, subjects};
use greenroom_domain::{PlatformName, RunnerId, Timestamp};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::house::{self, House};

/// Who is to be started, where, and when that was known here.
pub type Arrived = (RunnerId, PlatformName, Instant);

/// Ends with its drop.
pub struct BenchDeployer {
    arrived: Arc<Mutex<HashMap<Uuid, Instant>>>,
    starts: broadcast::Sender<Arrived>,
    stop: CancellationToken,
}

impl BenchDeployer {
    pub async fn start(house: &House) -> Result<Self, Error> {
        let bus = house.bus("bench-deployer").await?;
        let arrived = Arc::new(Mutex::new(HashMap::new()));
        let stop = CancellationToken::new();
        let starts = broadcast::Sender::new(4_096);
        let (accept, accepted) = mpsc::unbounded_channel();
        tokio::spawn(say_started(bus.clone(), accepted));
        for (platform, _) in house::platforms() {
            let stream = streams::deploy(&house.installation, &platform, "start");
            let subjects = vec![subjects::deploy(&house.installation, &platform, "start")];
            let subscription = Subscription::new("deployer", format!("deployer-{platform}-start"), stream, subjects);
            let handler = Handler { arrived: arrived.clone(), starts: starts.clone(), accept: accept.clone() };
            let (bus, stop) = (bus.clone(), stop.clone());
            tokio::spawn(async move { bus.consume(subscription, handler, stop).await });
        }
        Ok(Self { arrived, starts, stop })
    }

    /// What arrives from now on, each once.
    pub fn starts(&self) -> broadcast::Receiver<Arrived> {
        self.starts.subscribe()
    }

    fn arrivals(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until these have arrived, but not for ever; what has not is missing from the answer.
    pub async fn arrivals_of(&self, runners: &[Uuid], patience: Duration) -> Vec<Option<Instant>> {
        let began = Instant::now();
        loop {
            let found: Vec<_> = {
                let arrivals = self.arrivals();
                runners.iter().map(|id| arrivals.get(id).copied()).collect()
            };
            if began.elapsed() > patience || found.iter().all(Option::is_some) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for BenchDeployer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Handler {
    arrived: Arc<Mutex<HashMap<Uuid, Instant>>>,
    starts: broadcast::Sender<Arrived>,
    accept: mpsc::UnboundedSender<Start>,
}

impl BatchHandler for Handler {
    type Input = Start;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Start>, serde_json::Error> {
        if header.message_type != Start::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Start>>(body).map(|envelope| Some(envelope.data))
    }

    fn key(&self, start: &Start) -> Uuid {
        start.runner.id
    }

    async fn handle(&self, batch: &[Start]) -> Result<Vec<Outcome>, Failure> {
        let now = Instant::now();
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        for start in batch {
            if let Entry::Vacant(first) = arrived.entry(start.runner.id) {
                first.insert(now);
                // Nobody may be looking.
                let _ = self.starts.send((start.runner, start.platform.clone(), now));
            }
            // Said after the acknowledgement, as the real one does it: the platform's answer takes its time.
            let _ = self.accept.send(start.clone());
        }
        Ok(vec![Outcome::Done; batch.len()])
    }
}

/// The platform takes everybody at once.
async fn say_started(bus: Bus, mut accepted: mpsc::UnboundedReceiver<Start>) {
    let origin = Origin { installation: bus.installation().clone(), service: "deployer" };
    let mut starts = Vec::new();
    while accepted.recv_many(&mut starts, 256).await > 0 {
        let messages = starts.drain(..).map(|start| {
            let started = RunnerStarted { runner: start.runner, platform: start.platform };
            let words = started.runner.to_string();
            let envelope = Envelope::new(&origin, Timestamp::now(), started).with_deterministic_id(&words);
            Outgoing::new(bus.installation(), envelope)
        });
        let messages: Vec<_> = messages.collect();
        for said in bus.publish_all(&messages).await {
            if let Err(error) = said {
                crate::figures::say(format!("runner.started was not said: {error}"));
            }
        }
    }
}
