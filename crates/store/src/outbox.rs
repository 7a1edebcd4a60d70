//! What is said about a change, on its way from the handler to the table and to the relay.

pub(crate) mod table;

use greenroom_bus::Outgoing;
use greenroom_contracts::{Envelope, Message, Origin};
use greenroom_domain::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{SqlTimestamp, Store};

/// A row: a message, and when it was written.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub created_at: Timestamp,
    pub message: Outgoing,
}

/// What is to be said about a change that is one SQL statement, without a transaction around it ([`Tx`](crate::Tx) has one
/// inside).
///
/// The rows stand in the order in which they were said. The statement takes them as arrays, one for each column, and inserts
/// them into `<schema>.outbox (created_at, id, subject, body)` beside its change. Where it finds out only by itself what comes
/// about (who won a key, who got a slot), [`whose`](Self::whose) is one more column: it inserts the rows of those alone and
/// returns them.
///
/// After the statement the rows go to the relay. Dropped, nothing is said by this process; what was committed nevertheless
/// (after [`Error::Away`](crate::Error::Away) nobody knows) is found by the relay's poll.
#[derive(Debug)]
pub struct Outbox {
    origin: Origin,
    relay: mpsc::UnboundedSender<Vec<Row>>,
    rows: Vec<Row>,
    whose: Vec<Uuid>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { origin: store.origin().clone(), relay: store.relay(), rows: Vec::new(), whose: Vec::new() }
    }

    /// An envelope in this service's name.
    #[must_use]
    pub fn envelope<T: Message>(&self, now: Timestamp, data: T) -> Envelope<T> {
        Envelope::new(&self.origin, now, data)
    }

    /// Says something once it is committed, at least once. It is its own key's: the bot's, the runner's owner's.
    pub fn say<T: Message>(&mut self, envelope: Envelope<T>) {
        self.say_for(envelope.data.key(), envelope);
    }

    /// Says something if what becomes of `whose` is made.
    pub fn say_for<T: Message>(&mut self, whose: Uuid, envelope: Envelope<T>) {
        let created_at = envelope.header.time;
        self.rows.push(Row { created_at, message: Outgoing::new(&self.origin.installation, envelope) });
        self.whose.push(whose);
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whose each row is.
    #[must_use]
    pub fn whose(&self) -> &[Uuid] {
        &self.whose
    }

    /// The column `created_at`.
    #[must_use]
    pub fn created_at(&self) -> Vec<SqlTimestamp> {
        self.rows.iter().map(|row| row.created_at.into()).collect()
    }

    /// The column `id`.
    #[must_use]
    pub fn ids(&self) -> Vec<Uuid> {
        self.rows.iter().map(|row| row.message.id.uuid()).collect()
    }

    /// The column `subject`.
    #[must_use]
    pub fn subjects(&self) -> Vec<&str> {
        self.rows.iter().map(|row| row.message.subject.as_str()).collect()
    }

    /// The column `body`.
    #[must_use]
    pub fn bodies(&self) -> Vec<&[u8]> {
        self.rows.iter().map(|row| row.message.body.as_ref()).collect()
    }

    /// Hands every row to the relay: all of them are committed.
    pub fn committed(self) {
        if !self.rows.is_empty() {
            // No relay (it is stopping): the rows are found by the next one's poll.
            let _ = self.relay.send(self.rows);
        }
    }

    /// Hands to the relay the rows of those for whom `made` is true: theirs are committed, and the others' were not written.
    pub fn committed_for(mut self, made: impl Fn(Uuid) -> bool) {
        let mut whose = std::mem::take(&mut self.whose).into_iter();
        self.rows.retain(|_| whose.next().is_some_and(&made));
        self.committed();
    }
}
