//! The connection, and everything that is not consuming.

use std::fmt;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use greenroom_contracts::streams::{self, Retention, Stream};
use greenroom_contracts::{Envelope, Message, subjects};
use greenroom_domain::{Installation, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::consumer::chain;
use crate::credentials::{is_about_credentials, with_credentials};
use crate::standing::{Again, Refusing, Standing};
use crate::{Error, Outgoing, Parked};

/// How long to wait for the server's word on a message.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream's window for dropping repeats; longer than any relay's retry.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// A server that has acknowledged nothing for so long does not work, whatever its connection looks like: longer than it takes
/// to find out that nothing is published, and to wait for a probe's answer.
const LATELY: Duration = Duration::from_secs(15);
/// Between two looks at whether something has to be probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Where nothing was acknowledged for so long, a probe is published.
const QUIET: Duration = Duration::from_secs(5);

/// When a stream was made: another epoch means that all it held before is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub Timestamp);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_microsecond())
    }
}

/// The server's word that it has a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its place in the stream.
    pub sequence: u64,
    /// It was there already.
    pub duplicate: bool,
}

/// A connection to NATS for one installation. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    client: async_nats::Client,
    jetstream: Context,
    installation: Installation,
    standing: Standing,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("installation", &self.inner.installation).finish_non_exhaustive()
    }
}

impl Bus {
    /// Begins to connect, and goes on in the background for as long as it takes: NATS may be away at the start. Credentials that
    /// the server refuses are logged as an error and tried again, because the server may get to know them.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub async fn connect(url: &str, installation: Installation, service: &str) -> Result<Self, Error> {
        // The last reason that was logged. Each reason is logged once, however often a connection is tried.
        let said = Arc::new(Mutex::new(String::new()));
        let client = with_credentials(url)
            .name(format!("greenroom-{installation}-{service}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            // The default grows to four seconds; a restart of NATS should not cost more than it must.
            .reconnect_delay_callback(|attempts| Duration::from_millis((25 * attempts as u64).min(1_000)))
            .ping_interval(Duration::from_secs(10))
            .event_callback(move |event| {
                let said = said.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => {
                            said.lock().unwrap_or_else(PoisonError::into_inner).clear();
                            tracing::info!("connected to nats");
                        }
                        async_nats::Event::ClientError(error) => {
                            let text = error.to_string();
                            let before =
                                std::mem::replace(&mut *said.lock().unwrap_or_else(PoisonError::into_inner), text);
                            if before == error.to_string() {
                                tracing::debug!(%error, "nats connection event");
                            } else if is_about_credentials(&error) {
                                tracing::error!(%error, "nats refuses the user and password of NATS_URL, trying again");
                            } else {
                                tracing::warn!(%error, "cannot connect to nats, trying again");
                            }
                        }
                        async_nats::Event::Disconnected => tracing::warn!("lost the connection to nats, reconnecting"),
                        other => tracing::debug!(event = %other, "nats connection event"),
                    }
                }
            })
            .connect(url)
            .await
            .map_err(|error| Error::Connect(error.into()))?;
        let jetstream = jetstream::ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(4_096)
            .build(client.clone());
        Ok(Self { inner: Arc::new(Inner { client, jetstream, installation, standing: Standing::default() }) })
    }

    /// Whose bus it is.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.inner.installation
    }

    /// Whether NATS is there now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Whether NATS is there, and has acknowledged a message lately. [`watch`](Self::watch) sees to it that there is one.
    #[must_use]
    pub fn works(&self) -> bool {
        self.is_connected() && self.inner.standing.acknowledged_within(LATELY, Instant::now())
    }

    /// The streams that did not take the last message that was published to them, though NATS is there.
    #[must_use]
    pub fn refusing(&self) -> Vec<Refusing> {
        self.inner.standing.refusing()
    }

    /// Finds out until `stop` whether messages are acknowledged: by those that are published anyway, by a probe where none are,
    /// and by publishing again what a stream refused.
    pub async fn watch(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.probe() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PROBE_EVERY) => {}
            }
        }
    }

    async fn probe(&self) {
        if !self.is_connected() {
            return;
        }
        // What comes of it is noted where it is published.
        let again = self.inner.standing.again().into_iter().map(|again| async move {
            match again {
                Again::Publish(message) => drop(self.publish(&message).await),
                Again::Make(stream) => drop(self.ensure(&stream).await),
            }
        });
        futures::future::join_all(again).await;
        if !self.inner.standing.acknowledged_within(QUIET, Instant::now()) {
            let probe = Outgoing {
                id: greenroom_domain::MessageId::generate(),
                subject: subjects::probe(self.installation()),
                body: Bytes::from_static(b"{}"),
            };
            let _ = self.publish(&probe).await;
        }
    }

    pub(crate) fn jetstream(&self) -> &Context {
        &self.inner.jetstream
    }

    // --- JetStream ------------------------------------------------------------------------------------------------

    /// Publishes a message and awaits the server's word. A missing stream is made.
    ///
    /// # Errors
    /// When the server does not say in time that it has it. It may have it all the same: say it again with the same id.
    pub async fn publish(&self, message: &Outgoing) -> Result<Published, Error> {
        let answer = match self.try_publish(message).await {
            // Where somebody else listens to the subject (`nats sub`), a missing stream shows as silence alone.
            Err(error)
                if error.kind() == PublishErrorKind::StreamNotFound
                    || (error.kind() == PublishErrorKind::TimedOut && self.is_connected()) =>
            {
                if let Some(stream) = streams::of_subject(self.installation(), &message.subject) {
                    self.ensure(&stream).await?;
                }
                self.try_publish(message).await
            }
            answer => answer,
        };
        if let Err(error) = &answer
            && self.is_connected()
            && let Some(why) = refusal(error)
            && let Some(stream) = streams::of_subject(self.installation(), &message.subject)
        {
            self.inner.standing.refuses(&stream.name, why, Again::Publish(message.clone()), Instant::now());
        }
        answer.map_err(|source| Error::Publish { subject: message.subject.clone(), source: source.into() })
    }

    async fn try_publish(&self, message: &Outgoing) -> Result<Published, jetstream::context::PublishError> {
        let outgoing = PublishMessage::build().payload(message.body.clone()).message_id(message.id.to_string());
        let pending = self.inner.jetstream.send_publish(message.subject.clone(), outgoing).await?;
        let ack = pending.into_future().await?;
        self.inner.standing.takes(&ack.stream, Instant::now());
        Ok(Published { sequence: ack.sequence, duplicate: ack.duplicate })
    }

    /// Says something on behalf of a service without a store.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn say<T: Message>(&self, envelope: Envelope<T>) -> Result<Published, Error> {
        self.publish(&Outgoing::new(self.installation(), envelope)).await
    }

    /// Publishes many, pipelined; the answers come in the messages' order.
    pub async fn publish_all(&self, messages: &[Outgoing]) -> Vec<Result<Published, Error>> {
        let publishing = messages.iter().cloned().map(|message| {
            let bus = self.clone();
            async move { bus.publish(&message).await }
        });
        stream::iter(publishing.collect::<Vec<_>>()).buffered(256).collect().await
    }

    /// Makes a stream if it is missing, and brings it up to date if it is not as it has to be.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn ensure(&self, stream: &Stream) -> Result<Epoch, Error> {
        // Seldom, and large: it is not to be a part of everybody who publishes.
        let made = Box::pin(self.make(stream)).await;
        match &made {
            Ok(_) => self.inner.standing.made(&stream.name, Instant::now()),
            Err(error) if self.is_connected() => {
                self.inner.standing.refuses(&stream.name, chain(error), Again::Make(stream.clone()), Instant::now());
            }
            Err(_) => {}
        }
        made
    }

    async fn make(&self, stream: &Stream) -> Result<Epoch, Error> {
        let failed = |source: async_nats::Error| Error::Make { what: "stream", name: stream.name.clone(), source };
        let config = Config {
            name: stream.name.clone(),
            subjects: vec![stream.subject.clone()],
            retention: match stream.retention {
                Retention::WorkQueue => RetentionPolicy::WorkQueue,
                Retention::Limits => RetentionPolicy::Limits,
            },
            discard: match stream.retention {
                // Better refused, and said again by the sender's sweep, than lost.
                Retention::WorkQueue => DiscardPolicy::New,
                Retention::Limits => DiscardPolicy::Old,
            },
            max_age: stream.max_age,
            max_messages: stream.max_messages,
            storage: StorageType::File,
            duplicate_window: DUPLICATE_WINDOW.min(stream.max_age),
            num_replicas: 1,
            allow_direct: true,
            ..Config::default()
        };
        let info = match self.inner.jetstream.create_stream(config.clone()).await {
            Ok(made) => made.cached_info().clone(),
            Err(error) if matches!(error.kind(), CreateStreamErrorKind::JetStream(_)) => {
                // There with other settings (an operator's replicas, say): bring up to date only what is ours to say.
                let mut current =
                    self.inner.jetstream.get_stream(&stream.name).await.map_err(|error| failed(error.into()))?;
                let info = current.info().await.map_err(|error| failed(error.into()))?.clone();
                let wanted = Config {
                    num_replicas: info.config.num_replicas,
                    placement: info.config.placement.clone(),
                    ..config
                };
                if (wanted.max_age, wanted.max_messages, &wanted.subjects)
                    != (info.config.max_age, info.config.max_messages, &info.config.subjects)
                {
                    self.inner.jetstream.update_stream(wanted).await.map_err(|error| failed(error.into()))?;
                }
                info
            }
            Err(error) => return Err(failed(error.into())),
        };
        Ok(epoch_of(&info))
    }

    /// Which making of a stream this is, and its last place so far: from there on everything is new.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end_of(&self, stream: &Stream) -> Result<(Epoch, u64), Error> {
        self.ensure(stream).await?;
        let current = self
            .inner
            .jetstream
            .get_stream(&stream.name)
            .await
            .map_err(|error| Error::ask("look at a stream")(error.into()))?;
        let info = current.cached_info();
        Ok((epoch_of(info), info.state.last_sequence))
    }

    /// The message id at a place in a stream; none when there is no message (any more).
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn id_at(&self, stream: &Stream, sequence: u64) -> Result<Option<String>, Error> {
        let doing = "look up a message";
        let current = self
            .inner
            .jetstream
            .get_stream_no_info(&stream.name)
            .await
            .map_err(|error| Error::ask(doing)(error.into()))?;
        match current.direct_get(sequence).await {
            Ok(message) => Ok(message.headers.get(async_nats::header::NATS_MESSAGE_ID).map(|id| id.to_string())),
            Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::ask(doing)(error.into())),
        }
    }

    // --- parked messages ------------------------------------------------------------------------------------------

    /// `place` is the message's in its stream: parked twice it is a repeat, but replayed it is another, and parked again.
    pub(crate) async fn park(&self, service: &str, parked: &Parked, place: u64) -> Result<(), Error> {
        let body = serde_json::to_vec(parked).expect("plain data");
        let words = format!("{} {} {place} {}", parked.consumer, parked.subject, parked.body);
        let message = Outgoing {
            id: greenroom_domain::MessageId::deterministic(&words),
            subject: subjects::parked(self.installation(), service),
            body: body.into(),
        };
        self.publish(&message).await.map(|_| ())
    }

    /// What is parked, oldest first.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn parked(&self) -> Result<Vec<Parked>, Error> {
        let doing = "list parked messages";
        let stream = streams::parked(self.installation());
        self.ensure(&stream).await?;
        let mut current =
            self.inner.jetstream.get_stream(&stream.name).await.map_err(|error| Error::ask(doing)(error.into()))?;
        let state = current.info().await.map_err(|error| Error::ask(doing)(error.into()))?.state.clone();
        let current = &current;
        stream::iter((state.messages > 0).then_some(state.first_sequence..=state.last_sequence).into_iter().flatten())
            .map(|sequence| async move {
                match current.direct_get(sequence).await {
                    Ok(message) => Ok(serde_json::from_slice::<Parked>(&message.payload)
                        .ok()
                        .map(|parked| Parked { sequence, ..parked })),
                    Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::ask(doing)(error.into())),
                }
            })
            .buffered(32)
            .try_filter_map(|parked| async move { Ok(parked) })
            .try_collect()
            .await
    }

    /// Sends a parked message again, to where it was sent before, and removes it from the parked ones.
    ///
    /// # Errors
    /// When the server does not take it; then it stays parked.
    pub async fn replay(&self, parked: &Parked) -> Result<(), Error> {
        let doing = "remove a parked message";
        let message = Outgoing {
            // A new id: the old one may still be within the window for repeats.
            id: greenroom_domain::MessageId::generate(),
            subject: parked.subject.clone(),
            body: parked.body.clone().into_bytes().into(),
        };
        self.publish(&message).await?;
        let stream = self
            .inner
            .jetstream
            .get_stream_no_info(streams::parked(self.installation()).name)
            .await
            .map_err(|error| Error::ask(doing)(error.into()))?;
        stream.delete_message(parked.sequence).await.map_err(|error| Error::ask(doing)(error.into()))?;
        Ok(())
    }

    // --- core NATS, lossy by design -------------------------------------------------------------------------------

    /// Says something that may be lost.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn say_lossy(&self, subject: String, body: Bytes) -> Result<(), Error> {
        self.inner.client.publish(subject, body).await.map_err(|error| Error::ask("publish")(error.into()))
    }

    /// Listens to what may be lost: subject, where to answer, and body.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn listen_lossy(
        &self,
        subject: String,
    ) -> Result<impl futures::Stream<Item = (String, Option<String>, Bytes)> + Send + Unpin + use<>, Error> {
        let subscriber =
            self.inner.client.subscribe(subject).await.map_err(|error| Error::ask("subscribe")(error.into()))?;
        Ok(subscriber.map(|message| {
            (message.subject.to_string(), message.reply.map(|reply| reply.to_string()), message.payload)
        }))
    }

    /// Asks whoever listens and takes what comes within a while.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn ask_lossy(&self, subject: String, body: Bytes, wait: Duration) -> Result<Vec<Bytes>, Error> {
        let inbox = self.inner.client.new_inbox();
        let answers = self.listen_lossy(inbox.clone()).await?;
        self.inner
            .client
            .publish_with_reply(subject, inbox, body)
            .await
            .map_err(|error| Error::ask("ask")(error.into()))?;
        let answers = answers.map(|(_, _, body)| body).take_until(tokio::time::sleep(wait));
        Ok(answers.collect().await)
    }

    /// Sends out what is buffered.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn flush(&self) -> Result<(), Error> {
        self.inner.client.flush().await.map_err(|error| Error::ask("flush")(error.into()))
    }
}

/// Why the server did not take a message; none where that is the message's own fault, or nobody is there.
fn refusal(error: &jetstream::context::PublishError) -> Option<String> {
    match error.kind() {
        PublishErrorKind::TimedOut => Some(format!("no answer within {ACK_TIMEOUT:?}")),
        PublishErrorKind::Other | PublishErrorKind::StreamNotFound => Some(error.to_string()),
        PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence => None,
    }
}

pub(crate) fn epoch_of(info: &jetstream::stream::Info) -> Epoch {
    // In whole microseconds, as it is written down: what is read back must be equal.
    let micros = i64::try_from(info.created.unix_timestamp_nanos() / 1_000).ok();
    Epoch(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()).unwrap_or(Timestamp::MIN))
}
