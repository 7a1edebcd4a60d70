//! A tenant's events, from a place on, for ever.
//!
//! One reader per gateway reads the public events from the bus and keeps the newest in memory; watchers take them from
//! there. A watcher that comes back after a while reads what it missed from the bus, page by page, a few of them at a time:
//! the bus has few consumers, however many watch.
//!
//! A cursor is `<epoch>-<sequence>`: which making of the event stream, and the place in it. In another making everything
//! starts from its beginning: at least once, and the events' ids tell repeats.

mod recent;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use greenroom_bus::{Bus, Epoch};
use greenroom_chassis::Host;
use greenroom_contracts::{refusal, streams, subjects};
use greenroom_domain::{BotId, TenantId, Timestamp};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) use recent::MostWatchers;
use recent::{Full, Kept, Next, Recent, Watcher};

/// How often we look whether the stream was made again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);
/// How long the opening of a stream may wait for the bus.
const OPEN_WITHIN: Duration = Duration::from_secs(3);
/// What is kept in memory: at a hundred events a second a watcher may be away for minutes before it reads from the bus.
const KEPT: Kept = Kept { events: 16_384, bytes: 16 << 20 };
/// How many watchers may read from the bus at once.
const REPLAYS: usize = 16;
/// How many events a watcher takes at once.
const PAGE: usize = 256;
/// The same warning again at the earliest after so many failures.
const WARN_EACH: u32 = 40;

/// A place in the stream of events: everything up to it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub epoch: Epoch,
    pub sequence: u64,
}

impl Cursor {
    /// The same place; in another making of the stream, its beginning.
    fn within(self, epoch: Epoch) -> Self {
        Self { epoch, sequence: if self.epoch == epoch { self.sequence } else { 0 } }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let what = "must be an event's id, as it was given";
        let (epoch, sequence) = text.rsplit_once('-').ok_or(what)?;
        let epoch = epoch.parse().ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).ok_or(what)?;
        Ok(Self { epoch: Epoch(epoch), sequence: sequence.parse().map_err(|_| what)? })
    }
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// From here on the rest comes.
    pub cursor: Cursor,
    /// The CloudEvent's type.
    pub kind: String,
    /// The CloudEvent, as on the bus.
    pub json: Bytes,
}

/// What a watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Event(Event),
    /// There was no event for a while: everything up to this place was looked at.
    Place(Cursor),
}

/// What decides who may see an event.
#[derive(Debug, PartialEq, Eq)]
struct Public {
    kind: String,
    subject: String,
    tenant: TenantId,
}

/// The attributes of a CloudEvent.
#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    tenantid: Option<TenantId>,
    sequence: Option<i64>,
}

/// Reads the events for clients. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    bus: Bus,
    recent: Recent,
    most: MostWatchers,
    /// Whether the reader reads.
    reading: watch::Sender<bool>,
    replays: Arc<Semaphore>,
    look_every: Duration,
    closing: CancellationToken,
}

impl Events {
    pub fn new(host: &Host, most: MostWatchers, closing: CancellationToken) -> Self {
        Self {
            bus: host.bus.clone(),
            recent: Recent::new(KEPT, most),
            most,
            reading: watch::Sender::new(false),
            replays: Arc::new(Semaphore::new(REPLAYS)),
            look_every: host.scaled(LOOK_EVERY).max(PAUSE),
            closing,
        }
    }

    /// Whether events are read from the bus now.
    pub fn is_reading(&self) -> bool {
        *self.reading.borrow()
    }

    /// Reads the events for all watchers, until `stop`.
    pub async fn read(&self, stop: &CancellationToken) {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let read = tokio::select! {
                () = stop.cancelled() => break,
                read = self.read_on() => read,
            };
            let was_reading = self.reading.send_replace(false);
            if let Err(error) = read {
                // One word for an outage, and one now and then while it lasts.
                if was_reading || failures.is_multiple_of(WARN_EACH) {
                    let watchers = self.recent.watchers();
                    tracing::warn!(%error, watchers, "cannot read the events, trying again");
                }
                failures = if was_reading { 1 } else { failures.wrapping_add(1) };
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            }
        }
        self.reading.send_replace(false);
    }

    /// Reads until the stream was made again, or something fails.
    async fn read_on(&self) -> Result<(), greenroom_bus::Error> {
        let stream = streams::events(self.bus.installation());
        let (epoch, end) = self.bus.end_of(&stream).await?;
        let after = self.recent.begin(epoch, end);
        let events = self.bus.events_of(self.subjects(), after + 1).await?;
        let mut events = std::pin::pin!(events);
        self.reading.send_replace(true);
        let mut look = interval(self.look_every);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok((sequence, json))) => self.recent.push(sequence, public(&json), json),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                // A reader alone would wait for places that do not come.
                _ = look.tick() => if self.bus.ensure(&stream).await? != epoch {
                    return Ok(());
                },
            }
        }
    }

    /// Where the events are that a tenant may see.
    fn subjects(&self) -> Vec<String> {
        subjects::public_events(self.bus.installation())
    }

    /// The tenant's public events after a place; without one, those that are new from this moment on. Whenever there was none
    /// for `idle`, the place is told, so that a watcher who comes back does not read everything since its last event again. It
    /// ends with the process alone; what fails on the way is met by reading again from where it was.
    ///
    /// # Errors
    /// When there are too many watchers, or the events cannot be read now.
    pub async fn watch(
        &self,
        tenant: TenantId,
        bot: Option<BotId>,
        after: Option<Cursor>,
        idle: Duration,
    ) -> Result<(Cursor, impl Stream<Item = Seen> + Send + use<>), Status> {
        let watcher = self.recent.watch(tenant).map_err(|full| self.full(full))?;
        let open = async {
            // Its sender lives as long as the process.
            let _ = self.reading.subscribe().wait_for(|reading| *reading).await;
            let place = match after {
                Some(place) => place,
                None => {
                    let stream = streams::events(self.bus.installation());
                    let (epoch, sequence) = self.bus.end_of(&stream).await.map_err(|_| away())?;
                    Cursor { epoch, sequence }
                }
            };
            let bot = bot.map(|bot| bot.to_string());
            // Who cannot be served is told so at once, and not by silence.
            let first = match self.recent.next(tenant, bot.as_deref(), place, PAGE) {
                Next::Behind(place) => {
                    let turn = self.turn().await;
                    self.replay(turn, tenant, bot.as_deref(), place).await.map_err(|_| away())?
                }
                Next::Events(events, place) => (events, place),
                Next::Wait(place) => (Vec::new(), place),
            };
            Ok::<_, Status>((place, bot, first))
        };
        let (place, bot, first) = timeout(OPEN_WITHIN, open).await.map_err(|_| away())??;
        let closing = self.closing.clone();
        let events = self.clone().follow(watcher, tenant, bot, first, idle);
        Ok((place, events.take_until(async move { closing.cancelled().await })))
    }

    fn follow(
        self,
        mut watcher: Watcher,
        tenant: TenantId,
        bot: Option<String>,
        (first, mut place): (Vec<Event>, Cursor),
        idle: Duration,
    ) -> impl Stream<Item = Seen> + Send + use<> {
        async_stream::stream! {
            for event in first {
                yield Seen::Event(event);
            }
            let mut tell_place_at = Instant::now() + idle;
            loop {
                match self.recent.next(tenant, bot.as_deref(), place, PAGE) {
                    Next::Events(events, next) => {
                        place = next;
                        for event in events {
                            yield Seen::Event(event);
                        }
                        tell_place_at = Instant::now() + idle;
                    }
                    Next::Wait(next) => {
                        place = next;
                        if Instant::now() >= tell_place_at {
                            yield Seen::Place(place);
                            tell_place_at = Instant::now() + idle;
                        }
                        // Either way what is new is looked at before the place is told.
                        let _ = timeout_at(tell_place_at, watcher.woken()).await;
                    }
                    Next::Behind(from) => {
                        let turn = self.turn().await;
                        match self.replay(turn, tenant, bot.as_deref(), from).await {
                            Ok((events, next)) => {
                                place = next;
                                for event in events {
                                    yield Seen::Event(event);
                                }
                                tell_place_at = Instant::now() + idle;
                            }
                            Err(error) => {
                                tracing::debug!(%error, "cannot read the events, trying again");
                                sleep(PAUSE).await;
                            }
                        }
                    }
                }
            }
        }
    }

    /// The right to read from the bus.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.replays.clone().acquire_owned().await.ok()
    }

    /// The next page of what is not in memory any more. The right to read ends with it, and not with a slow watcher.
    async fn replay(
        &self,
        _turn: Option<OwnedSemaphorePermit>,
        tenant: TenantId,
        bot: Option<&str>,
        place: Cursor,
    ) -> Result<(Vec<Event>, Cursor), greenroom_bus::Error> {
        let stream = streams::events(self.bus.installation());
        let (epoch, end) = self.bus.end_of(&stream).await?;
        let mut place = place.within(epoch);
        let events = self.bus.events_so_far(self.subjects(), place.sequence + 1).await?;
        let mut events = std::pin::pin!(events);
        let mut found = Vec::new();
        while let Some(event) = events.next().await {
            let (sequence, json) = event?;
            place.sequence = sequence;
            let public = public(&json).filter(|public| public.tenant == tenant);
            if let Some(public) = public.filter(|public| bot.is_none_or(|bot| bot == public.subject)) {
                found.push(Event { cursor: place, kind: public.kind, json });
                if found.len() == PAGE {
                    return Ok((found, place));
                }
            }
        }
        place.sequence = place.sequence.max(end);
        Ok((found, place))
    }

    fn full(&self, full: Full) -> Status {
        match full {
            Full::All => Status::unavailable(format!("this gateway serves {} watchers, and no more", self.most.all)),
            Full::Tenant => {
                let most = self.most.of_tenant;
                let parts = [("limit", "watchers".to_owned()), ("value", most.to_string()), ("used", most.to_string())];
                let parts: HashMap<_, _> = parts.map(|(name, text)| (name.to_owned(), text)).into();
                let mut details = ErrorDetails::with_error_info(refusal::LIMIT, refusal::DOMAIN, parts);
                details.set_retry_info(Some(OPEN_WITHIN));
                let message = format!("the tenant has {most} watchers of events, the most that it may have");
                Status::with_error_details(tonic::Code::ResourceExhausted, message, details)
            }
        }
    }
}

fn away() -> Status {
    Status::unavailable("the events cannot be read now, try again")
}

/// Who may see an event. Only numbered events with a tenant are public.
fn public(json: &[u8]) -> Option<Public> {
    let Attributes { kind, subject, tenantid, sequence } = serde_json::from_slice(json).ok()?;
    sequence?;
    Some(Public { kind, subject, tenant: tenantid? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor =
            Cursor { epoch: Epoch(Timestamp::from_microsecond(1_795_000_000_000_001).expect("a time")), sequence: 7 };
        assert_eq!(cursor.to_string(), "1795000000000001-7");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "7", "x-7", "7-x", "-", "99999999999999999999-1", "7--1"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbered_events_of_a_tenant_are_public() {
        let tenant = TenantId::generate();
        let event = |more: &str| public(format!(r#"{{"type":"t","subject":"b"{more},"data":{{}}}}"#).as_bytes());
        let owned = format!(r#","tenantid":"{tenant}""#);
        let expected = Public { kind: "t".to_owned(), subject: "b".to_owned(), tenant };
        assert_eq!(event(&format!(r#"{owned},"sequence":1"#)), Some(expected));
        assert_eq!(event(&owned), None);
        assert_eq!(event(r#","sequence":1"#), None);
        assert_eq!(public(b"not JSON"), None);
    }
}
