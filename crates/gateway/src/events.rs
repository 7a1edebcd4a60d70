//! A tenant's events, from a place on, for ever.
//!
//! A cursor is `<epoch>-<sequence>`: which making of the event stream, and the place in it. In another making everything
//! starts from its beginning: at least once, and the events' ids tell repeats.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use greenroom_bus::{Bus, Epoch};
use greenroom_chassis::Host;
use greenroom_contracts::{streams, subjects};
use greenroom_domain::{BotId, TenantId, Timestamp};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often we look whether the stream was made again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);
/// How long the opening of a stream may wait for the bus.
const OPEN_WITHIN: Duration = Duration::from_secs(3);

/// A place in the stream of events: everything up to it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub epoch: Epoch,
    pub sequence: u64,
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

/// The attributes that say who may see an event.
#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    tenantid: Option<TenantId>,
    sequence: Option<i64>,
}

/// Reads the events for clients.
#[derive(Debug)]
pub(crate) struct Events {
    bus: Bus,
    epoch: watch::Sender<Option<Epoch>>,
    look_every: Duration,
    closing: CancellationToken,
}

impl Events {
    pub fn new(host: &Host, closing: CancellationToken) -> Self {
        let look_every = host.scaled(LOOK_EVERY).max(PAUSE);
        Self { bus: host.bus.clone(), epoch: watch::Sender::new(None), look_every, closing }
    }

    /// Notices when the stream was made again, until `stop`. (A reader alone would wait for places that do not come.)
    pub async fn look(&self, stop: &CancellationToken) {
        let stream = streams::events(self.bus.installation());
        while !stop.is_cancelled() {
            if self.bus.is_connected()
                && let Ok(epoch) = self.bus.ensure(&stream).await
            {
                self.epoch.send_if_modified(|known| known.replace(epoch) != Some(epoch));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.look_every) => {}
            }
        }
    }

    /// Where a watcher begins who names no place: at what is new from this moment on.
    pub async fn now(&self) -> Result<Cursor, Status> {
        let stream = streams::events(self.bus.installation());
        match timeout(OPEN_WITHIN, self.bus.end_of(&stream)).await {
            Ok(Ok((epoch, sequence))) => Ok(Cursor { epoch, sequence }),
            Ok(Err(_)) | Err(_) => Err(Status::unavailable("the events cannot be read now, try again")),
        }
    }

    /// The tenant's public events after a place. It ends with the process alone; what fails on the way is met by reading
    /// again from where it was.
    pub fn watch(
        &self,
        tenant: TenantId,
        bot: Option<BotId>,
        after: Cursor,
    ) -> impl Stream<Item = Event> + Send + use<> {
        let bus = self.bus.clone();
        let mut epochs = self.epoch.subscribe();
        let closing = self.closing.clone();
        let events = async_stream::stream! {
            let subject = subjects::events(bus.installation());
            let stream = streams::events(bus.installation());
            let bot = bot.map(|bot| bot.to_string());
            let mut place = after;
            loop {
                let Ok(epoch) = bus.ensure(&stream).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                if place.epoch != epoch {
                    place = Cursor { epoch, sequence: 0 };
                }
                match bus.events_from(&subject, Some(place.sequence + 1)).await {
                    Ok(read) => {
                        let mut read = std::pin::pin!(read);
                        loop {
                            let item = tokio::select! {
                                item = read.next() => item,
                                // Its sender lives as long as the process.
                                _ = epochs.wait_for(|known| known.is_some_and(|known| known > epoch)) => None,
                            };
                            let Some(Ok((sequence, json))) = item else { break };
                            place.sequence = sequence;
                            if let Some(kind) = seen_by(&json, tenant, bot.as_deref()) {
                                yield Event { cursor: place, kind, json };
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "cannot read the events, trying again"),
                }
                sleep(PAUSE).await;
            }
        };
        events.take_until(async move { closing.cancelled().await })
    }
}

/// The type of an event that this tenant may see. Only numbered events with a tenant are public.
fn seen_by(json: &[u8], tenant: TenantId, bot: Option<&str>) -> Option<String> {
    let attributes: Attributes = serde_json::from_slice(json).ok()?;
    let public = attributes.tenantid == Some(tenant) && attributes.sequence.is_some();
    (public && bot.is_none_or(|bot| bot == attributes.subject)).then_some(attributes.kind)
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
    fn a_tenant_sees_its_own_numbered_events() {
        let ours = TenantId::generate();
        let event = |tenant: &str, sequence: &str| {
            format!(r#"{{"type":"t","subject":"b"{tenant}{sequence},"data":{{}}}}"#).into_bytes()
        };
        let owned = format!(r#","tenantid":"{ours}""#);
        let others = format!(r#","tenantid":"{}""#, TenantId::generate());
        assert_eq!(seen_by(&event(&owned, r#","sequence":1"#), ours, None).as_deref(), Some("t"));
        assert_eq!(seen_by(&event(&owned, r#","sequence":1"#), ours, Some("b")).as_deref(), Some("t"));
        assert_eq!(seen_by(&event(&owned, r#","sequence":1"#), ours, Some("c")), None);
        assert_eq!(seen_by(&event(&owned, ""), ours, None), None);
        assert_eq!(seen_by(&event(&others, r#","sequence":1"#), ours, None), None);
        assert_eq!(seen_by(&event("", r#","sequence":1"#), ours, None), None);
        assert_eq!(seen_by(b"no json", ours, None), None);
    }
}
