//! Handling messages one by one, many at a time: for work that takes long and cannot be batched.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use greenroom_contracts::Header;
use greenroom_domain::Timestamp;
use greenroom_tasks::catch_panic;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::consumer::{AFTER_FAILURE, TRIES, chain, hand_back, header, park};
use crate::{Bus, Outcome, Subscription, trace};

/// Takes messages one by one. May take long: the server is told that work goes on.
pub trait EachHandler: Send + Sync + 'static {
    /// A parsed message.
    type Input: Send;

    /// Parses a message, as [`BatchHandler::parse`](crate::BatchHandler::parse) does.
    ///
    /// # Errors
    /// When it is ours and cannot be understood: it is parked.
    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error>;

    /// Handles one message.
    fn handle(&self, input: Self::Input) -> impl Future<Output = Outcome> + Send;

    /// Handles one message, for whom it matters whether another replica may have it too.
    fn handle_delivered(&self, input: Self::Input, _delivery: Delivery) -> impl Future<Output = Outcome> + Send {
        self.handle(input)
    }
}

/// How a message came here.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// Whether this is the server's first delivery of it.
    first: bool,
    /// When the server stored it, by the server's clock; `None`: not known.
    published: Option<Timestamp>,
    received: Instant,
    /// How long the server waits for a word before it delivers a message again.
    ack_wait: Duration,
}

impl Delivery {
    /// Whether the server cannot have delivered this message to anybody else by `now`. A process that was frozen, or that
    /// left the message in its buffer, is not the first for ever: the server delivers again after `ack_wait`, and no earlier
    /// than that after it stored the message. Half of it is left for clocks that differ.
    #[must_use]
    pub fn is_only(&self, now: Timestamp) -> bool {
        let fresh = |age: Duration| age < self.ack_wait / 2;
        self.first
            && fresh(self.received.elapsed())
            && self.published.is_some_and(|at| fresh(now.duration_since(at).unsigned_abs()))
    }
}

impl Bus {
    /// Takes messages, at most `subscription.batch` at a time, until `stop`; then what is in hand is finished, at most for
    /// `drain`, and the rest is handed back.
    pub async fn consume_each<H: EachHandler>(
        &self,
        subscription: Subscription,
        handler: Arc<H>,
        stop: CancellationToken,
        drain: Duration,
    ) {
        let subscription = Arc::new(subscription);
        let room = Arc::new(Semaphore::new(subscription.batch));
        let tasks = TaskTracker::new();
        let give_up = CancellationToken::new();
        let mut pause = Duration::from_millis(50);
        while !stop.is_cancelled() {
            let messages = tokio::select! {
                () = stop.cancelled() => break,
                messages = self.messages(&subscription) => messages,
            };
            match messages {
                Ok(mut messages) => {
                    pause = Duration::from_millis(50);
                    loop {
                        let permit = tokio::select! {
                            biased;
                            () = stop.cancelled() => break,
                            permit = room.clone().acquire_owned() => permit.expect("never closed"),
                        };
                        let message = tokio::select! {
                            biased;
                            () = stop.cancelled() => break,
                            message = messages.next() => message,
                        };
                        let Some(Ok(message)) = message else { break };
                        let one = one(self.clone(), subscription.clone(), handler.clone(), message, give_up.clone());
                        let handling = tasks.track_future(async move {
                            one.await;
                            drop(permit);
                        });
                        // A panic outside of the handler leaves the message to its next delivery.
                        drop(greenroom_tasks::spawn(subscription.consumer.clone(), handling));
                    }
                    if stop.is_cancelled() {
                        hand_back(messages).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(consumer = subscription.consumer, error = %chain(&error), "cannot subscribe, trying again");
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
            give_up.cancel();
            tasks.wait().await;
        }
    }
}

async fn one<H: EachHandler>(
    bus: Bus,
    subscription: Arc<Subscription>,
    handler: Arc<H>,
    message: jetstream::Message,
    give_up: CancellationToken,
) {
    let parsed =
        header(&message).and_then(|header| Ok(handler.parse(&header, &message.payload)?.map(|input| (header, input))));
    let (header, input) = match parsed {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            let _ = message.ack().await;
            return;
        }
        Err(why) => return park(&bus, &subscription, &message, &format!("cannot be parsed: {why}")).await,
    };
    let span = tracing::debug_span!(
        "consume",
        otel.kind = "consumer",
        consumer = subscription.consumer,
        message.type = header.message_type,
        subject.id = header.subject,
        attempt = header.attempt,
    );
    trace::continue_from(&span, header.traceparent.as_deref());
    let mut progress = tokio::time::interval(subscription.ack_wait / 3);
    progress.tick().await;
    let info = message.info().ok();
    let delivery = Delivery {
        first: info.as_ref().is_some_and(|info| info.delivered == 1),
        published: info.and_then(|info| Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok()),
        received: Instant::now(),
        ack_wait: subscription.ack_wait,
    };
    let handling = handler.handle_delivered(input, delivery);
    let mut handling = std::pin::pin!(catch_panic(handling.instrument(span)));
    let outcome = loop {
        tokio::select! {
            handled = &mut handling => break handled.unwrap_or_else(|panicked| {
                let deliveries = message.info().map_or(1, |info| info.delivered);
                after_panic(deliveries, &panicked.to_string())
            }),
            () = give_up.cancelled() => break Outcome::Retry(Duration::ZERO),
            _ = progress.tick() => {
                let _ = message.ack_with(AckKind::Progress).await;
            }
        }
    };
    let _ = match outcome {
        Outcome::Done => message.ack().await,
        Outcome::Retry(after) => message.ack_with(AckKind::Nak(Some(after))).await,
        Outcome::Park(why) => return park(&bus, &subscription, &message, &why).await,
    };
}

/// What becomes of a message whose handler panicked, after so many deliveries.
fn after_panic(deliveries: i64, why: &str) -> Outcome {
    if deliveries >= i64::from(TRIES) {
        Outcome::Park(format!("delivered {deliveries} times: {why}"))
    } else {
        Outcome::Retry(AFTER_FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_first_delivery_is_the_only_one() {
        let stored: Timestamp = "2027-01-01T10:00:00Z".parse().expect("a time");
        let at = |seconds: i64| stored + jiff::SignedDuration::from_secs(seconds);
        let received = Instant::now();
        let ack_wait = Duration::from_secs(30);
        let delivery = Delivery { first: true, published: Some(stored), received, ack_wait };
        // A clock that is behind the server's by as much says nothing either.
        for (seconds, only) in [(0, true), (14, true), (15, false), (3_600, false), (-14, true), (-15, false)] {
            assert_eq!(delivery.is_only(at(seconds)), only, "after {seconds} s");
        }
        assert!(!Delivery { first: false, ..delivery }.is_only(stored));
        assert!(!Delivery { published: None, ..delivery }.is_only(stored));
        let Some(long_ago) = received.checked_sub(Duration::from_secs(15)) else { return };
        assert!(!Delivery { received: long_ago, ..delivery }.is_only(stored));
    }

    #[test]
    fn a_message_whose_handler_panics_is_tried_again_and_then_parked() {
        assert_eq!(after_panic(1, "panicked: boo"), Outcome::Retry(AFTER_FAILURE));
        assert_eq!(after_panic(4, "panicked: boo"), Outcome::Retry(AFTER_FAILURE));
        assert_eq!(after_panic(5, "panicked: boo"), Outcome::Park("delivered 5 times: panicked: boo".to_owned()));
    }
}
