//! The doing: listens, answers, refreshes, and speaks. What to think is [`policy`](crate::policy)'s.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use greenroom_bus::{Bus, Outgoing};
use greenroom_chassis::{Clock, Host, InnerChannel};
use greenroom_contracts::messages::RunnerSilent;
use greenroom_contracts::proto::internal::v1::ListExpectedRequest;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::{BadField, Envelope, Origin, runner_of, subjects};
use greenroom_domain::time::before;
use greenroom_domain::{PlatformName, RunnerId, Shard, Timestamp};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::config::Timing;
use crate::error::chain;
use crate::metrics::{Count, Metrics};
use crate::policy::{Held, Moment};
use crate::{Error, Liveness, probe, replicas};

/// Beats taken under one lock.
const CHUNK: usize = 1_024;
/// Runners in one page of whom to expect.
const PAGE: u32 = 5_000;
/// Before listening again after the connection was lost for good.
const AGAIN: Duration = Duration::from_secs(1);

/// The monitor at work.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// Pool-manager has said whom to expect.
    pub listed: AtomicBool,
    liveness: Mutex<Liveness>,
    id: Uuid,
    start: Instant,
    timing: Timing,
    metrics: Metrics,
    bus: Bus,
    clock: Clock,
    origin: Origin,
    pool: InnerChannel,
}

impl Monitor {
    pub fn new(timing: Timing, host: &Host) -> Self {
        Self {
            listed: AtomicBool::new(false),
            liveness: Mutex::new(Liveness::new(Moment::default())),
            id: Uuid::new_v4(),
            start: Instant::now(),
            timing,
            metrics: Metrics::new(),
            bus: host.bus.clone(),
            clock: host.clock,
            origin: Origin { installation: host.installation.clone(), service: "heartbeat-monitor" },
            pool: host.peers.channel("pool-manager"),
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Held for microseconds, never across an await.
    fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes beats and our own probes.
    pub async fn listen(self: Arc<Self>) {
        loop {
            match self.bus.listen_lossy(subjects::all_beats(self.bus.installation())).await {
                Ok(beats) => {
                    let mut chunks = beats.ready_chunks(CHUNK);
                    while let Some(chunk) = chunks.next().await {
                        self.take(&chunk);
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "cannot listen to beats, trying again"),
            }
            sleep(AGAIN).await;
        }
    }

    fn take(&self, chunk: &[(String, Option<String>, Bytes)]) {
        let now = self.now();
        let mut count = Count::default();
        let mut liveness = self.liveness();
        for (_, _, bytes) in chunk {
            match probe::decode(self.id, bytes) {
                Some(sent) => liveness.probe(sent, &self.timing.limits),
                None => count.add(liveness.beat(bytes, now)),
            }
        }
        drop(liveness);
        self.metrics.beats(&count);
    }

    /// Answers replicas that ask for newer beats.
    pub async fn answer(self: Arc<Self>) {
        loop {
            match self.bus.listen_lossy(subjects::beats_asked(self.bus.installation())).await {
                Ok(mut questions) => {
                    while let Some((_, reply, question)) = questions.next().await {
                        let Some(reply) = reply else { continue };
                        let Some((from, runners)) = replicas::parse_question(&question) else { continue };
                        if from == self.id {
                            continue;
                        }
                        let answer = {
                            let (liveness, now) = (self.liveness(), self.now());
                            replicas::answer(runners.filter_map(|runner| Some((runner, liveness.age(&runner, now)?))))
                        };
                        // An empty answer tells nothing.
                        if !answer.is_empty()
                            && let Err(error) = self.bus.say_lossy(reply, answer.into()).await
                        {
                            tracing::debug!(error = %chain(&error), "cannot answer a replica");
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "cannot listen to replicas, trying again"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Learns whom to expect.
    pub async fn refresh(self: Arc<Self>) {
        let mut failures = 0u32;
        loop {
            let mut pause = self.timing.refresh;
            match self.list().await {
                Ok(runners) => {
                    failures = 0;
                    let now = self.now();
                    self.liveness().expect(runners, now);
                    self.listed.store(true, Ordering::Relaxed);
                }
                // The last list holds on.
                Err(error) => {
                    failures += 1;
                    pause = pause.min(Duration::from_secs(1));
                    if failures.is_power_of_two() {
                        tracing::warn!(error = %chain(&error), failures, "cannot learn whom to expect, trying again");
                    }
                }
            }
            sleep(pause).await;
        }
    }

    async fn list(&self) -> Result<Vec<(RunnerId, PlatformName)>, Error> {
        let mut pool = PoolServiceClient::new(self.pool.clone()).max_decoding_message_size(16 << 20);
        let mut runners = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListExpectedRequest { page_token, page_size: Some(PAGE) };
            let page = pool.list_expected(request).await.map_err(Error::Expected)?.into_inner();
            for expected in &page.runners {
                let platform =
                    PlatformName::new(&expected.platform).map_err(|error| BadField::new("platform", error))?;
                runners.push((runner_of(expected.runner.as_ref())?, platform));
            }
            if page.next_page_token.is_empty() {
                return Ok(runners);
            }
            page_token = page.next_page_token;
        }
    }

    /// Judges and speaks.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = self.ticks();
        let mut held = None;
        loop {
            ticks.tick().await;
            if let Err(error) = self.speak(&mut held).await {
                tracing::warn!(error = %chain(&error), "cannot speak of silent runners, trying again");
            }
        }
    }

    fn ticks(&self) -> Interval {
        let mut ticks = interval(self.timing.limits.tick.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Proves that we hear.
    pub async fn probe(self: Arc<Self>) {
        let mut ticks = self.ticks();
        loop {
            ticks.tick().await;
            let subject = subjects::beats(self.bus.installation(), Shard::of(self.id));
            let probe = Bytes::copy_from_slice(&probe::encode(self.id, self.now()));
            if let Err(error) = self.bus.say_lossy(subject, probe).await {
                tracing::debug!(error = %chain(&error), "cannot send a probe");
            }
        }
    }

    async fn speak(&self, held: &mut Option<Held>) -> Result<(), Error> {
        let limits = &self.timing.limits;
        let (judgement, unspoken, expected) = {
            let (liveness, now) = (self.liveness(), self.now());
            let judgement = liveness.judge(now, limits);
            let unspoken = liveness.unspoken(&judgement.suspects, now, self.timing.repeat);
            (judgement, unspoken, liveness.expected())
        };
        self.metrics.judged(expected, judgement.suspects.len(), judgement.held);
        if *held != judgement.why {
            match judgement.why {
                Some(why) => tracing::warn!(why = why.as_str(), held = judgement.held, expected, "holding verdicts"),
                None => tracing::info!("no longer holding verdicts"),
            }
            *held = judgement.why;
        }
        if unspoken.is_empty() {
            return Ok(());
        }
        self.ask_replicas(&unspoken).await?;
        // Judged again with what they heard, and with what came meanwhile.
        let asked: HashSet<_> = unspoken.into_iter().collect();
        let wall = self.clock.now();
        let silent: Vec<_> = {
            let (liveness, now) = (self.liveness(), self.now());
            let judgement = liveness.judge(now, limits);
            let silent = judgement.suspects.into_iter().filter(|(runner, _)| asked.contains(runner));
            silent.filter_map(|(runner, silence)| Some((runner, silence, liveness.platform(&runner)?))).collect()
        };
        let messages: Vec<_> = silent.iter().map(|silent| self.message(silent, wall)).collect();
        for ((runner, silence, platform), said) in silent.iter().zip(self.bus.publish_all(&messages).await) {
            // What the server has not taken is not spoken, and due at the next tick.
            said?;
            let now = self.now();
            self.liveness().spoken(runner, now);
            self.metrics.spoken();
            tracing::warn!(
                runner = %runner, platform = %platform, silence_ms = silence.as_millis() as u64,
                "a runner is silent"
            );
        }
        Ok(())
    }

    async fn ask_replicas(&self, runners: &[RunnerId]) -> Result<(), Error> {
        let subject = subjects::beats_asked(self.bus.installation());
        for some in runners.chunks(replicas::MOST) {
            let question = replicas::question(self.id, some).into();
            // Ages count from the question, not from the end of the wait: or replicas that have heard the same would make
            // each other's last beat younger with every question.
            let asked = self.now();
            let answers = self.bus.ask_lossy(subject.clone(), question, self.timing.ask).await?;
            let mut liveness = self.liveness();
            for (runner, age) in answers.iter().flat_map(|answer| replicas::parse_answer(answer)) {
                liveness.newer(&runner, age, asked);
            }
        }
        Ok(())
    }

    fn message(&self, (runner, silence, platform): &(RunnerId, Duration, PlatformName), wall: Timestamp) -> Outgoing {
        // Replicas, and a repeat after an ack that was lost, say it in the same words within a period.
        let period = i64::try_from(self.timing.repeat.as_millis()).unwrap_or(i64::MAX).max(1);
        let words = format!("{runner} {}", wall.as_millisecond().div_euclid(period));
        let silent = RunnerSilent { runner: *runner, platform: platform.clone(), last_beat_at: before(wall, *silence) };
        let envelope = Envelope::new(&self.origin, wall, silent).with_deterministic_id(&words);
        Outgoing::new(self.bus.installation(), envelope)
    }
}
