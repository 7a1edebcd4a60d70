//! The loop that fetches, hands over, and acknowledges.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use greenroom_contracts::Header;
use greenroom_contracts::streams::Stream;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::batch::{Settled, settle};
use crate::{BatchHandler, Bus, Error, Outcome, Parked, trace};

/// After so many failures of its own a message is parked.
pub(crate) const TRIES: u32 = 5;
/// Between its tries.
pub(crate) const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Longest pause while something is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a service listens to.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Who: the durable consumer's name, shared by the replicas of a service.
    pub consumer: String,
    /// The service, for parking.
    pub service: &'static str,
    /// The stream.
    pub stream: Stream,
    /// Which of its subjects.
    pub subjects: Vec<String>,
    /// Most messages in one batch.
    pub batch: usize,
    /// After this long without a word the server brings a message to another replica.
    pub ack_wait: Duration,
}

impl Subscription {
    /// With the batch size and time-out that fit most.
    #[must_use]
    pub fn new(service: &'static str, consumer: impl Into<String>, stream: Stream, subjects: Vec<String>) -> Self {
        Self { consumer: consumer.into(), service, stream, subjects, batch: 256, ack_wait: Duration::from_secs(30) }
    }

    /// Most messages in one batch.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Time until redelivery.
    #[must_use]
    pub fn ack_wait(mut self, ack_wait: Duration) -> Self {
        self.ack_wait = ack_wait;
        self
    }
}

/// The attributes alone.
#[derive(Deserialize)]
struct Attributes {
    #[serde(flatten)]
    header: Header,
}

impl Bus {
    /// Takes what is waiting, batch by batch, until `stop`. Comes back when what was in hand is acknowledged. Everything
    /// that fails on the way (NATS away, stream wiped, consumer deleted) is met by making it again.
    pub async fn consume<H: BatchHandler>(&self, subscription: Subscription, handler: H, stop: CancellationToken) {
        let mut run = Run::new(self, &subscription);
        let mut pause = Duration::from_millis(50);
        while !stop.is_cancelled() {
            let messages = tokio::select! {
                () = stop.cancelled() => return,
                messages = self.messages(&subscription) => messages,
            };
            match messages {
                Ok(messages) => {
                    pause = Duration::from_millis(50);
                    let mut chunks = messages.ready_chunks(subscription.batch);
                    loop {
                        let chunk = tokio::select! {
                            biased;
                            () = stop.cancelled() => return hand_back(chunks.flat_map(futures::stream::iter)).await,
                            chunk = chunks.next() => chunk,
                        };
                        let Some(chunk) = chunk else { break };
                        let mut broken = false;
                        let mut batch = Vec::with_capacity(chunk.len());
                        for message in chunk {
                            match message {
                                Ok(message) => batch.push(message),
                                Err(error) => {
                                    tracing::debug!(consumer = subscription.consumer, %error, "fetch failed, trying again");
                                    broken = true;
                                }
                            }
                        }
                        run.take(batch, &handler, &stop).await;
                        if broken {
                            break;
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(consumer = subscription.consumer, error = %chain(&error), "cannot subscribe, trying again");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    pub(crate) async fn messages(&self, subscription: &Subscription) -> Result<consumer::pull::Stream, Error> {
        let failed =
            |source: async_nats::Error| Error::Make { what: "consumer", name: subscription.consumer.clone(), source };
        self.ensure(&subscription.stream).await?;
        let in_hand = i64::try_from(subscription.batch * 4).unwrap_or(i64::MAX).max(1_000);
        let config = consumer::pull::Config {
            durable_name: Some(subscription.consumer.clone()),
            filter_subjects: subscription.subjects.clone(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: subscription.ack_wait,
            // Who was never there hears it all: nothing is lost between a stream's making and a consumer's.
            deliver_policy: DeliverPolicy::All,
            max_ack_pending: in_hand,
            max_deliver: -1,
            ..Default::default()
        };
        let consumer = self
            .jetstream()
            .create_consumer_on_stream(config, &subscription.stream.name)
            .await
            .map_err(|error| failed(error.into()))?;
        consumer
            .stream()
            .max_messages_per_batch(subscription.batch.max(2))
            .expires(Duration::from_secs(20))
            // Two missed ones are an error item, and the stream is made again.
            .heartbeat(Duration::from_secs(2))
            .messages()
            .await
            .map_err(|error| failed(error.into()))
    }
}

/// What a loop remembers between batches.
struct Run<'a> {
    bus: &'a Bus,
    subscription: &'a Subscription,
    /// Failures of their own, by place in the stream.
    failures: HashMap<u64, u32>,
    handled: Counter<u64>,
}

impl<'a> Run<'a> {
    fn new(bus: &'a Bus, subscription: &'a Subscription) -> Self {
        let handled = global::meter("greenroom")
            .u64_counter("greenroom_bus_messages")
            .with_description("Messages taken from the bus, by consumer and outcome")
            .build();
        Self { bus, subscription, failures: HashMap::new(), handled }
    }

    fn count(&self, outcome: &'static str) {
        self.handled.add(
            1,
            &[KeyValue::new("consumer", self.subscription.consumer.clone()), KeyValue::new("outcome", outcome)],
        );
    }

    /// Handles a batch to its end: every message is acknowledged, handed back or parked.
    async fn take<H: BatchHandler>(
        &mut self,
        messages: Vec<jetstream::Message>,
        handler: &H,
        stop: &CancellationToken,
    ) {
        let mut parsed = Vec::with_capacity(messages.len());
        for message in messages {
            match parse(handler, &message) {
                Ok(Some((header, input))) => parsed.push((message, header, input)),
                Ok(None) => {
                    self.count("not_ours");
                    self.acknowledge(&message, AckKind::Ack).await;
                }
                Err(why) => self.park(&message, &format!("cannot be parsed: {why}")).await,
            }
        }
        parsed.sort_by_key(|(_, _, input)| handler.key(input));
        let mut spans = Vec::with_capacity(parsed.len());
        let mut inputs = Vec::with_capacity(parsed.len());
        let mut taken = Vec::with_capacity(parsed.len());
        for (message, header, input) in parsed {
            let span = self.span(&header);
            if let Some(first) = spans.first() {
                trace::link(&span, first);
            }
            spans.push(span);
            inputs.push(input);
            taken.push(message);
        }
        let mut pause = Duration::from_millis(100);
        loop {
            // Every message has a span in its own story, which ends when it is settled. What the handler does for all of
            // them is in the first's; the others point to it.
            let span = spans.first().cloned().unwrap_or_else(tracing::Span::none);
            let (settled, away) = settle(handler, &inputs).instrument(span).await;
            let mut again = Vec::new();
            for (((message, input), span), settled) in taken.into_iter().zip(inputs).zip(spans).zip(settled) {
                match settled {
                    Settled::Outcome(Outcome::Done) => {
                        self.forget_failures(&message);
                        self.acknowledge(&message, AckKind::Ack).await;
                    }
                    Settled::Outcome(Outcome::Retry(after)) => {
                        self.count("retry");
                        self.acknowledge(&message, AckKind::Nak(Some(after))).await;
                    }
                    Settled::Outcome(Outcome::Park(why)) => self.park(&message, &why).await,
                    Settled::Culprit(why) => self.failed(&message, &why).await,
                    Settled::Away => again.push((message, input, span)),
                }
            }
            let Some(why) = away else { return };
            if stop.is_cancelled() {
                for (message, ..) in again {
                    self.acknowledge(&message, AckKind::Nak(None)).await;
                }
                return;
            }
            // What is in hand stays in hand, and nothing more is fetched, until the store is back.
            tracing::warn!(
                consumer = self.subscription.consumer,
                waiting = again.len(),
                error = why,
                "store unavailable, waiting"
            );
            self.count("away");
            for (message, ..) in &again {
                self.acknowledge(message, AckKind::Progress).await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE).min(self.subscription.ack_wait / 3);
            (taken, inputs, spans) = again.into_iter().collect();
        }
    }

    /// Debug: traces have it whatever the log level is, and without traces it costs nothing.
    fn span(&self, header: &Header) -> tracing::Span {
        let span = tracing::debug_span!(
            "consume",
            otel.kind = "consumer",
            consumer = self.subscription.consumer,
            message.type = header.message_type,
            subject.id = header.subject,
            attempt = header.attempt,
        );
        trace::continue_from(&span, header.traceparent.as_deref());
        span
    }

    async fn failed(&mut self, message: &jetstream::Message, why: &str) {
        let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { return };
        let failures = self.failures.entry(sequence).or_default();
        *failures += 1;
        if *failures >= TRIES {
            self.failures.remove(&sequence);
            self.park(message, &format!("failed {TRIES} times: {why}")).await;
        } else {
            tracing::warn!(
                consumer = self.subscription.consumer,
                error = why,
                try_ = *failures,
                "a message failed, trying again"
            );
            self.count("failed");
            self.acknowledge(message, AckKind::Nak(Some(AFTER_FAILURE))).await;
        }
    }

    /// It failed before, perhaps, and has not after all.
    fn forget_failures(&mut self, message: &jetstream::Message) {
        if !self.failures.is_empty()
            && let Ok(info) = message.info()
        {
            self.failures.remove(&info.stream_sequence);
        }
    }

    async fn park(&self, message: &jetstream::Message, why: &str) {
        park(self.bus, self.subscription, message, why).await;
        self.count("parked");
    }

    async fn acknowledge(&self, message: &jetstream::Message, kind: AckKind) {
        if matches!(kind, AckKind::Ack) {
            self.count("done");
        }
        // Not awaiting the server's word on an acknowledgement is right here: lost, the message comes again, harmlessly.
        if let Err(error) = message.ack_with(kind).await {
            tracing::debug!(consumer = self.subscription.consumer, %error, "cannot acknowledge a message");
        }
    }
}

/// Hands back at once what was fetched and not begun, so that another replica need not wait until it is missed.
pub(crate) async fn hand_back<E>(fetched: impl futures::Stream<Item = Result<jetstream::Message, E>>) {
    // What the server has sent may still be on its way: quiet for so long, there is nothing more. What is handed back comes
    // again only when we are gone.
    const QUIET: Duration = Duration::from_millis(150);
    const AGAIN: Duration = Duration::from_millis(500);
    // Where messages never cease there is no quiet: an end before the first of them come again.
    const LONGEST: Duration = Duration::from_millis(400);
    let mut fetched = std::pin::pin!(fetched.take_until(tokio::time::sleep(LONGEST)));
    while let Ok(Some(message)) = tokio::time::timeout(QUIET, fetched.next()).await {
        if let Ok(message) = message {
            let _ = message.ack_with(AckKind::Nak(Some(AGAIN))).await;
        }
    }
}

/// Sets a message aside; only then is it acknowledged.
pub(crate) async fn park(bus: &Bus, subscription: &Subscription, message: &jetstream::Message, why: &str) {
    let parked = Parked {
        sequence: 0,
        consumer: subscription.consumer.clone(),
        subject: message.subject.to_string(),
        reason: why.to_owned(),
        at: jiff::Timestamp::now(),
        body: String::from_utf8_lossy(&message.payload).into_owned(),
    };
    let place = message.info().map_or(0, |info| info.stream_sequence);
    let kind = match bus.park(subscription.service, &parked, place).await {
        Ok(()) => {
            tracing::error!(
                consumer = parked.consumer,
                message.subject = parked.subject,
                reason = why,
                "a message was parked"
            );
            AckKind::Ack
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot park a message yet");
            AckKind::Nak(Some(AFTER_FAILURE))
        }
    };
    let _ = message.ack_with(kind).await;
}

pub(crate) fn header(message: &jetstream::Message) -> Result<Header, serde_json::Error> {
    serde_json::from_slice::<Attributes>(&message.payload).map(|attributes| attributes.header)
}

fn parse<H: BatchHandler>(
    handler: &H,
    message: &jetstream::Message,
) -> Result<Option<(Header, H::Input)>, serde_json::Error> {
    let header = header(message)?;
    Ok(handler.parse(&header, &message.payload)?.map(|input| (header, input)))
}

/// An error with its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
