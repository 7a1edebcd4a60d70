//! Reading the events, in order.

use async_nats::jetstream;
use bytes::Bytes;
use futures::StreamExt;
use greenroom_contracts::streams;

use crate::{Bus, Error};

impl Bus {
    /// Events from a place on, for ever, for one reader that wants them all in order. The caller makes a new one when an
    /// item is an error.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn events_from(
        &self,
        subject: &str,
        from: Option<u64>,
    ) -> Result<impl futures::Stream<Item = Result<(u64, Bytes), Error>> + Send + use<>, Error> {
        let (_, events) = self.events(vec![subject.to_owned()], from).await?;
        Ok(events)
    }

    /// The same, of several subjects.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn events_of(
        &self,
        subjects: Vec<String>,
        from: u64,
    ) -> Result<impl futures::Stream<Item = Result<(u64, Bytes), Error>> + Send + use<>, Error> {
        let (_, events) = self.events(subjects, Some(from)).await?;
        Ok(events)
    }

    /// Events from a place on, up to those that are there now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn events_so_far(
        &self,
        subjects: Vec<String>,
        from: u64,
    ) -> Result<impl futures::Stream<Item = Result<(u64, Bytes), Error>> + Send + use<>, Error> {
        let (pending, events) = self.events(subjects, Some(from)).await?;
        Ok(events.take(usize::try_from(pending).unwrap_or(usize::MAX)))
    }

    /// How many there are now, and all of them from a place on.
    async fn events(
        &self,
        subjects: Vec<String>,
        from: Option<u64>,
    ) -> Result<(u64, impl futures::Stream<Item = Result<(u64, Bytes), Error>> + Send + use<>), Error> {
        let doing = "read the events";
        self.ensure(&streams::events(self.installation())).await?;
        let stream = self
            .jetstream()
            .get_stream_no_info(streams::events(self.installation()).name)
            .await
            .map_err(|error| Error::ask(doing)(error.into()))?;
        let consumer = stream
            .create_consumer(jetstream::consumer::pull::OrderedConfig {
                filter_subjects: subjects,
                deliver_policy: match from {
                    Some(start_sequence) => {
                        jetstream::consumer::DeliverPolicy::ByStartSequence { start_sequence: start_sequence.max(1) }
                    }
                    None => jetstream::consumer::DeliverPolicy::New,
                },
                ..Default::default()
            })
            .await
            .map_err(|error| Error::ask(doing)(error.into()))?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| Error::ask(doing)(error.into()))?;
        let events = messages.map(move |message| {
            let message = message.map_err(|error| Error::ask(doing)(error.into()))?;
            let sequence = message.info().map_err(Error::ask(doing))?.stream_sequence;
            Ok((sequence, message.payload.clone()))
        });
        Ok((pending, events))
    }
}
