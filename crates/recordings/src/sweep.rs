//! Finds what is due, claims it, joins it, and writes down what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_bus::trace;
use greenroom_chassis::{Clock, InnerChannel};
use greenroom_contracts::messages::{RecordingFailed, RecordingReady};
use greenroom_contracts::on_behalf_of;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::{ListTimelineRequest, TimelineEntry};
use greenroom_store::Store;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::Instrument;
use uuid::Uuid;

use crate::Error;
use crate::across::{self, Joined};
use crate::config::Timing;
use crate::error::chain;
use crate::join::{self, join};
use crate::media::Media;
use crate::missing;
use crate::policy::{Failure, State, Step, Verdict};
use crate::store::{self, Part, Row};
use crate::vault::Vault;

/// Lines of a timeline asked for at once.
const PAGE: u32 = 1_000;

/// Parts of a recording whose bot is over.
enum Found {
    /// Nothing, and nothing was reported.
    Nothing,
    /// Nothing, although recording was reported: words for a person.
    Lost(String),
    /// Parts, and what came of joining them.
    Parts(Result<(Joined, String), join::Error>),
}

/// The joiner of one process.
#[derive(Debug)]
pub struct Joiner {
    pub store: Store,
    pub vault: Vault,
    pub clock: Clock,
    pub timing: Timing,
    pub media: Media,
    /// Knows when was recorded.
    pub scheduler: InnerChannel,
    /// Rung when something may have become due.
    pub signal: Arc<Notify>,
    pub room: Arc<Semaphore>,
    pub joins: Counter<u64>,
    pub seconds: Histogram<f64>,
}

/// This service's counter of joins, by what came of them.
pub fn joins() -> Counter<u64> {
    global::meter("greenroom")
        .u64_counter("greenroom_recording_joins")
        .with_description("Recordings joined, by outcome")
        .build()
}

/// How long joining takes.
pub fn seconds() -> Histogram<f64> {
    global::meter("greenroom")
        .f64_histogram("greenroom_recording_join_seconds")
        .with_description("Time from claiming a recording to its verdict")
        .with_boundaries(vec![0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0])
        .build()
}

impl Joiner {
    /// One turn of the sweep: claims what there is room for. Returns when to come back, if that is sooner than the period.
    pub async fn turn(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Option<Duration>, Error> {
        loop {
            let room = self.room.available_permits();
            if room == 0 {
                // Whoever is done rings.
                return Ok(None);
            }
            let (lease, now) = (Uuid::new_v4(), self.clock.now());
            let most = i64::try_from(room).unwrap_or(i64::MAX);
            let claimed = across::claim(self.store.pool(), lease, now, now + self.timing.lease, most).await?;
            if claimed.is_empty() {
                break;
            }
            for row in claimed {
                let permit = self.room.clone().try_acquire_owned();
                let (joiner, stop) = (self.clone(), stop.clone());
                let span = tracing::info_span!("join a recording", bot.id = %row.bot_id);
                trace::continue_from(&span, row.traceparent.as_deref());
                let work = async move {
                    joiner.work(row, lease, &stop).await;
                    drop(permit);
                    joiner.signal.notify_one();
                };
                // A panic leaves the recording to whoever claims it when this claim has run out.
                drop(greenroom_tasks::spawn("recordings join", tasks.track_future(work.instrument(span))));
            }
        }
        let next = across::next_due(self.store.pool()).await?;
        Ok(next.map(|at| Duration::try_from(at.duration_since(self.clock.now())).unwrap_or(Duration::from_millis(20))))
    }

    /// Works on a claimed recording as long as the claim holds.
    async fn work(&self, row: Row, lease: Uuid, stop: &CancellationToken) {
        let (bot, started) = (row.bot(), Instant::now());
        let outcome = tokio::select! {
            outcome = self.decide(&row, lease) => outcome,
            () = self.lose(&row, lease) => {
                tracing::warn!(bot.id = %bot, "lost the claim on a recording; another replica joins it");
                self.joins.add(1, &[KeyValue::new("outcome", "lost")]);
                return;
            }
            () = stop.cancelled() => {
                // Handed back at once, so that another replica need not wait for the claim to run out.
                let _ = across::release(self.store.pool(), bot, lease).await;
                return;
            }
        };
        match outcome {
            Ok(outcome) => {
                self.joins.add(1, &[KeyValue::new("outcome", outcome)]);
                self.seconds.record(started.elapsed().as_secs_f64(), &[]);
            }
            // The claim runs out, and somebody tries again.
            Err(error) => tracing::warn!(bot.id = %bot, error = %chain(&error), "cannot join a recording now"),
        }
    }

    /// Renews the claim; comes back when it is lost.
    async fn lose(&self, row: &Row, lease: Uuid) {
        let mut held_until = Instant::now() + self.timing.lease;
        loop {
            tokio::time::sleep(self.timing.lease / 3).await;
            match across::renew(self.store.pool(), row.bot(), lease, self.clock.now() + self.timing.lease).await {
                Ok(true) => held_until = Instant::now() + self.timing.lease,
                Ok(false) => return,
                Err(_) if Instant::now() >= held_until => return,
                Err(_) => {}
            }
        }
    }

    async fn decide(&self, row: &Row, lease: Uuid) -> Result<&'static str, Error> {
        let now = self.clock.now();
        match row.progress()?.step(now, &self.timing.limits) {
            Step::Wait => {
                across::release(self.store.pool(), row.bot(), lease).await?;
                Ok("early")
            }
            Step::SettleEmpty => {
                // A bot that never had a runner has nothing to report.
                let begun = row.progress()?.over.is_some_and(|(_, attempt)| attempt > 0);
                let lost = if begun { missing::everything(&self.timeline(row).await?) } else { None };
                self.finish(row, lease, 0, lost.map_or(Found::Nothing, Found::Lost)).await
            }
            Step::Join => {
                let parts = store::parts(self.store.pool(), row.tenant(), row.bot()).await?;
                let joined = join(&self.media, &self.vault, (row.tenant(), row.bot()), &parts).await;
                let joined = match joined {
                    Ok((joined, detail)) => {
                        let missing = self.missing(row, &parts, joined.duration_ms).await;
                        let words = [detail].into_iter().filter(|detail| !detail.is_empty()).chain(missing);
                        Ok((joined, words.collect::<Vec<_>>().join("; ")))
                    }
                    Err(error) => Err(error),
                };
                self.finish(row, lease, u32::try_from(parts.len()).unwrap_or(u32::MAX), Found::Parts(joined)).await
            }
        }
    }

    /// What its runner recorded and could not hand in: on a full disk, for example.
    async fn missing(&self, row: &Row, parts: &[Part], duration_ms: u64) -> Vec<String> {
        let mut missing = missing::gaps(parts);
        match self.timeline(row).await {
            Ok(timeline) => {
                let recorded = missing::recorded(&timeline);
                missing.extend(missing::tail(recorded, Duration::from_millis(duration_ms)));
            }
            // The recording is no worse for it.
            Err(error) => tracing::warn!(
                bot.id = %row.bot(), error = %chain(&error),
                "the scheduler does not say how long was recorded, so nobody knows whether the end is missing"
            ),
        }
        missing
    }

    /// A bot's timeline, oldest line first. That of a bot which its owner does not know is empty.
    async fn timeline(&self, row: &Row) -> Result<Vec<TimelineEntry>, Error> {
        let mut client = BotServiceClient::new(self.scheduler.clone());
        let (mut entries, mut page_token) = (Vec::new(), String::new());
        loop {
            let list = ListTimelineRequest { bot_id: row.bot_id.to_string(), page_size: Some(PAGE), page_token };
            let request = on_behalf_of(row.tenant(), list);
            let page = match client.list_timeline(request).await {
                Ok(page) => page.into_inner(),
                Err(error) if error.code() == Code::NotFound => break,
                Err(error) => return Err(Error::Scheduler(error.message().to_owned())),
            };
            entries.extend(page.entries.into_iter().filter(missing::matters));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// One transaction: what came of it, and what is said about it.
    async fn finish(&self, claimed: &Row, lease: Uuid, parts: u32, found: Found) -> Result<&'static str, Error> {
        let (tenant, bot) = (claimed.tenant(), claimed.bot());
        let (now, limits) = (self.clock.now(), &self.timing.limits);
        let mut tx = self.store.begin().await?;
        let Some(row) = across::take_back(&mut tx, bot, lease).await? else { return Ok("lost") };
        let mut progress = row.progress()?;
        let mut sequence = row.sequence;
        let outcome = match found {
            Found::Nothing => {
                progress.settle(Verdict::None, parts);
                across::settle(&mut tx, bot, None, "", sequence).await?;
                "none"
            }
            Found::Lost(detail) => {
                progress.settle(Verdict::Failed, parts);
                sequence += 1;
                let envelope =
                    tx.envelope(now, RecordingFailed { bot, detail: detail.clone() }).public(tenant, sequence);
                tx.say(envelope);
                tracing::warn!(bot.id = %bot, detail, "nothing of a recording arrived");
                across::settle(&mut tx, bot, None, &detail, sequence).await?;
                "lost"
            }
            Found::Parts(Ok((joined, detail))) => {
                progress.settle(Verdict::Ready, parts);
                // With a part that came meanwhile it is joined again before anybody is told.
                let told = progress.state() == State::Settled(Verdict::Ready);
                if told {
                    sequence += 1;
                    let ready = RecordingReady {
                        bot,
                        duration_ms: joined.duration_ms,
                        size_bytes: joined.size_bytes,
                        media_type: joined.media_type.clone(),
                        mean_volume_db: joined.mean_volume_db,
                    };
                    let envelope = tx.envelope(now, ready).public(tenant, sequence);
                    tx.say(envelope);
                    tracing::info!(bot.id = %bot, duration_ms = joined.duration_ms, size_bytes = joined.size_bytes, parts, "a recording is ready");
                }
                if !detail.is_empty() {
                    tracing::warn!(bot.id = %bot, detail, "something was left out of a recording");
                }
                across::settle(&mut tx, bot, Some(&joined), &detail, sequence).await?;
                if told { "ready" } else { "reopened" }
            }
            Found::Parts(Err(error)) => {
                let words = error.to_string();
                let detail = self.vault.without_paths(&words);
                let failure = error.failure();
                let over = progress.fail(failure, parts, now, limits);
                if over {
                    sequence += 1;
                    let envelope =
                        tx.envelope(now, RecordingFailed { bot, detail: detail.clone() }).public(tenant, sequence);
                    tx.say(envelope);
                    tracing::error!(bot.id = %bot, error = words, parts, "a recording cannot be joined; its parts are kept");
                } else if failure == Failure::Away {
                    tracing::error!(bot.id = %bot, error = words, "recordings cannot be joined, trying again");
                } else {
                    tracing::warn!(bot.id = %bot, error = words, try_ = progress.tries, "a recording could not be joined, trying again");
                }
                across::settle(&mut tx, bot, None, &detail, sequence).await?;
                match (over, failure) {
                    (true, _) => "failed",
                    (false, Failure::Ours) => "retry",
                    (false, Failure::Away) => "away",
                }
            }
        };
        store::save(&mut tx, &[(tenant, bot, progress)], limits).await?;
        tx.commit().await?;
        Ok(outcome)
    }
}
