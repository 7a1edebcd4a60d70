//! A message that is ready to go.

use bytes::Bytes;
use greenroom_contracts::{Envelope, Message};
use greenroom_domain::{Installation, MessageId};

use crate::trace;

/// A message in the form in which it is kept in an outbox and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The same for every repeat; JetStream drops repeats within its window.
    pub id: MessageId,
    /// Where to.
    pub subject: String,
    /// The CloudEvent.
    pub body: Bytes,
}

impl Outgoing {
    /// Gets a message ready. It carries the trace it belongs to: its own, else the current span's.
    #[must_use]
    pub fn new<T: Message>(installation: &Installation, mut envelope: Envelope<T>) -> Self {
        if envelope.header.traceparent.is_none() {
            envelope.header.traceparent = trace::current();
        }
        Self {
            id: envelope.header.id,
            subject: envelope.data.address().subject(installation),
            body: envelope.to_bytes().into(),
        }
    }
}
