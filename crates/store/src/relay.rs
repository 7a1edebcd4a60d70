//! Publishes what was committed: from memory at once, from the table what was left behind, and the day's events again when
//! JetStream has lost them.

use std::time::Duration;

use greenroom_bus::{Bus, Epoch};
use greenroom_contracts::{streams, subjects};
use greenroom_domain::{MessageId, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::outbox::Row;
use crate::outbox::table::{self, Sent};
use crate::store::Committed;
use crate::{Error, Store};

/// How often, and how old.
#[derive(Debug, Clone)]
pub struct RelayTiming {
    /// Between polls for rows that were left behind.
    pub poll: Duration,
    /// A row younger than this is somebody's in memory.
    pub left_behind: Duration,
    /// Between looks at the stream's epoch.
    pub epoch: Duration,
    /// How long rows are kept.
    pub kept: Duration,
}

impl Default for RelayTiming {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            left_behind: Duration::from_secs(1),
            epoch: Duration::from_secs(5),
            kept: streams::EVENTS_KEPT,
        }
    }
}

/// Marks are written in batches: when so many have come together,
const MARK_AT: usize = 500;
/// or after so long.
const MARK_AFTER: Duration = Duration::from_millis(200);
/// A row that is so much newer than now was written by a clock that was ahead and has been set back: nobody has it in memory.
const AHEAD: Duration = Duration::from_secs(60);
/// Rows in one page.
const PAGE: i64 = 500;

/// The relay of one store.
pub struct Relay {
    store: Store,
    bus: Bus,
    timing: RelayTiming,
    committed: mpsc::UnboundedReceiver<Vec<Row>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    marks: Vec<Sent>,
    /// The making of the event stream that our marks speak of.
    epoch: Option<Epoch>,
    /// Our highest place in it so far.
    highest: u64,
    /// When the partitions were seen to, by the wall clock.
    partitioned: Option<Timestamp>,
    /// A new event got a place that was given before: the stream has lost its tail.
    tail_lost: bool,
}

impl Relay {
    /// The relay that publishes what `store` commits.
    #[must_use]
    pub fn new(
        store: Store,
        committed: Committed,
        bus: Bus,
        timing: RelayTiming,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            bus,
            timing,
            committed: committed.0,
            clock: Box::new(clock),
            marks: Vec::new(),
            epoch: None,
            highest: 0,
            tail_lost: false,
            partitioned: None,
        }
    }

    /// Publishes until `stop`, then what is in hand. [Watches](Store::watch) the store meanwhile.
    pub async fn run(self, stop: CancellationToken) {
        let store = self.store.clone();
        tokio::join!(self.relay(&stop), store.watch(&stop));
    }

    async fn relay(mut self, stop: &CancellationToken) {
        let ticker = |period| {
            let mut ticker = interval(period);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker
        };
        let mut poll = ticker(self.timing.poll);
        let mut epoch = ticker(self.timing.epoch);
        let mut marked_at = Instant::now();
        // Marks say which making of the stream they speak of: know it before the first.
        let done = self.compare().await;
        self.tell("compare the outbox with the stream", done);
        // Asked each time: with Postgres away every turn takes a question's time, and another one is due after it.
        while !stop.is_cancelled() {
            let mark = tokio::time::sleep_until(marked_at + MARK_AFTER);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(rows) = self.committed.recv() => {
                    let mut rows = rows;
                    while let Ok(more) = self.committed.try_recv() {
                        rows.extend(more);
                        if rows.len() >= 1_000 { break }
                    }
                    self.publish(rows).await;
                }
                () = mark, if !self.marks.is_empty() => {
                    self.mark().await;
                    marked_at = Instant::now();
                }
                _ = poll.tick() => {
                    let done = self.poll().await;
                    self.tell("poll the outbox", done);
                    if self.partitions_are_due() {
                        let done = self.partitions().await;
                        self.tell("keep the outbox's partitions", done);
                    }
                }
                _ = epoch.tick() => {
                    let done = self.compare().await;
                    self.tell("compare the outbox with the stream", done);
                }
            }
            if self.marks.len() >= MARK_AT {
                self.mark().await;
                marked_at = Instant::now();
            }
        }
        self.committed.close();
        while let Ok(rows) = self.committed.try_recv() {
            self.publish(rows).await;
        }
        self.mark().await;
    }

    fn tell(&self, doing: &'static str, done: Result<(), Error>) {
        if let Err(error) = done {
            tracing::warn!(service = self.store.origin().service, error = %error, doing, "relay failed, trying again");
        }
    }

    /// Publishes rows; what fails stays unsent and is found by the poll.
    async fn publish(&mut self, rows: Vec<Row>) -> usize {
        let keys: Vec<_> = rows.iter().map(|row| (row.created_at, row.message.id)).collect();
        let messages: Vec<_> = rows.into_iter().map(|row| row.message).collect();
        let events = subjects::events(self.bus.installation());
        let events = events.trim_end_matches('>');
        let before = self.highest;
        let mut published = 0;
        let answers = self.bus.publish_all(&messages).await;
        for (((created_at, id), message), answer) in keys.into_iter().zip(&messages).zip(answers) {
            match answer {
                Ok(place) => {
                    published += 1;
                    if message.subject.starts_with(events) {
                        self.tail_lost |= !place.duplicate && place.sequence <= before;
                        self.highest = self.highest.max(place.sequence);
                    }
                    let epoch = self.epoch.unwrap_or(Epoch(Timestamp::UNIX_EPOCH));
                    self.marks.push(Sent { created_at, id, epoch, sequence: place.sequence });
                }
                Err(error) => tracing::debug!(error = %error, "not published yet"),
            }
        }
        published
    }

    async fn mark(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        // Lost marks are harmless: the poll publishes again, with the same ids.
        let marks = std::mem::take(&mut self.marks);
        let marked = table::mark_sent(self.store.pool(), self.store.schema(), &marks).await;
        if let Err(error) = self.store.wrote(marked) {
            tracing::debug!(error = %error, "marks are lost; the poll says it again");
        }
    }

    async fn poll(&mut self) -> Result<(), Error> {
        if !self.bus.is_connected() {
            return Ok(());
        }
        self.mark().await;
        loop {
            let now = (self.clock)();
            let (before, ahead) = (now - self.timing.left_behind, now + AHEAD);
            let rows = table::unsent(self.store.pool(), self.store.schema(), before, ahead, PAGE).await?;
            let found = rows.len();
            if found == 0 || self.publish(rows).await == 0 {
                return Ok(());
            }
            self.mark().await;
            if i64::try_from(found).unwrap_or(0) < PAGE {
                return Ok(());
            }
        }
    }

    /// Looks whether the stream still has what we were told it has; if not, says the day's events again. (Commands are the
    /// sweeps' business: most of them are stale by then.)
    async fn compare(&mut self) -> Result<(), Error> {
        let stream = streams::events(self.bus.installation());
        let Ok((epoch, end)) = self.bus.end_of(&stream).await else { return Ok(()) };
        self.mark().await;
        let events = format!("{}.evt.", self.bus.installation());
        let (pool, schema) = (self.store.pool().clone(), self.store.schema());
        let since = (self.clock)() - self.timing.kept;
        let mut lost = self.epoch != Some(epoch);
        if lost {
            (self.highest, self.tail_lost) = (0, false);
        }
        self.epoch = Some(epoch);
        if let Some((id, sequence)) = table::newest_sent(&pool, schema, &events, epoch, since).await? {
            let there = match self.bus.id_at(&stream, sequence).await {
                Ok(Some(there)) => there == id.to_string(),
                // Too old for the stream is no loss; beyond its end is one.
                Ok(None) => sequence <= end,
                // Neither is a server that does not answer now.
                Err(_) => return Ok(()),
            };
            if !there || self.tail_lost {
                tracing::warn!(service = self.store.origin().service, "event stream lost its newest events");
                table::forget(&pool, schema, &events, epoch).await?;
                (self.highest, self.tail_lost) = (0, false);
                lost = true;
            } else {
                self.highest = self.highest.max(sequence);
            }
        }
        if !lost {
            return Ok(());
        }
        let mut after = (since, MessageId::from_uuid(uuid::Uuid::nil()));
        let mut again = 0;
        loop {
            let rows = table::sent_elsewhere(&pool, schema, &events, epoch, after, PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = (last.created_at, last.message.id);
            let found = rows.len();
            let published = self.publish(rows).await;
            self.mark().await;
            again += published;
            if published < found {
                // NATS went away in between: begin again with the next look.
                self.epoch = None;
                break;
            }
        }
        if again > 0 {
            tracing::info!(service = self.store.origin().service, events = again, "republished the day's events");
        }
        Ok(())
    }

    /// An hour after the last time by the wall clock, in either direction: a clock that was set needs other days at once.
    fn partitions_are_due(&self) -> bool {
        let now = (self.clock)();
        self.partitioned.is_none_or(|then| now.duration_since(then).unsigned_abs() >= Duration::from_secs(3600))
    }

    async fn partitions(&mut self) -> Result<(), Error> {
        let now = (self.clock)();
        // Not again at every poll when it fails: until it succeeds the default partition takes what has no other.
        self.partitioned = Some(now);
        table::make_partitions(self.store.pool(), self.store.schema(), now).await?;
        table::drop_partitions(self.store.pool(), self.store.schema(), now, self.timing.kept).await
    }
}
