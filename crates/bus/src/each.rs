//! Handling messages one by one, many at a time: for work that takes long and cannot be batched.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use greenroom_contracts::Header;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::consumer::{AFTER_FAILURE, TRIES, chain, hand_back, header, park};
use crate::{Bus, Outcome, Subscription, catch_panic, trace};

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

    /// Handles one message that the server delivers again: another replica may have begun with it, or still be at it.
    fn handle_again(&self, input: Self::Input) -> impl Future<Output = Outcome> + Send {
        self.handle(input)
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
                        tasks.spawn(async move {
                            one.await;
                            drop(permit);
                        });
                    }
                    if stop.is_cancelled() {
                        hand_back(messages).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(consumer = subscription.consumer, error = %chain(&error), "cannot listen, trying again");
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
    let first = message.info().is_ok_and(|info| info.delivered == 1);
    let handling = async { if first { handler.handle(input).await } else { handler.handle_again(input).await } };
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
    fn a_message_whose_handler_panics_is_tried_again_and_then_parked() {
        assert_eq!(after_panic(1, "panicked: boo"), Outcome::Retry(AFTER_FAILURE));
        assert_eq!(after_panic(4, "panicked: boo"), Outcome::Retry(AFTER_FAILURE));
        assert_eq!(after_panic(5, "panicked: boo"), Outcome::Park("delivered 5 times: panicked: boo".to_owned()));
    }
}
