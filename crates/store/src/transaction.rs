//! One handler's work: what changes, and what is said about it.

use std::ops::{Deref, DerefMut};

use greenroom_bus::Outgoing;
use greenroom_contracts::{Envelope, Message, Origin};
use greenroom_domain::Timestamp;
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::mpsc;

use crate::Error;
use crate::outbox::{self, Row};

/// A transaction with its outbox. Dropped, it is rolled back and nothing was said.
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    origin: Origin,
    schema: &'static str,
    relay: mpsc::UnboundedSender<Vec<Row>>,
    rows: Vec<Row>,
}

impl Tx {
    pub(crate) fn new(
        inner: Transaction<'static, Postgres>,
        origin: Origin,
        schema: &'static str,
        relay: mpsc::UnboundedSender<Vec<Row>>,
    ) -> Self {
        Self { inner, origin, schema, relay, rows: Vec::new() }
    }

    /// Says something once the transaction is committed, at least once.
    pub fn say<T: Message>(&mut self, envelope: Envelope<T>) {
        let time = envelope.header.time;
        self.rows.push(Row { created_at: time, message: Outgoing::new(&self.origin.installation, envelope) });
    }

    /// An envelope in this service's name.
    #[must_use]
    pub fn envelope<T: Message>(&self, now: Timestamp, data: T) -> Envelope<T> {
        Envelope::new(&self.origin, now, data)
    }

    /// Commits, and hands what is to be said to the relay.
    ///
    /// # Errors
    /// When Postgres is away or refuses. After [`Error::Away`] nobody knows whether it was committed.
    pub async fn commit(mut self) -> Result<(), Error> {
        if !self.rows.is_empty() {
            outbox::insert(&mut self.inner, self.schema, &self.rows).await?;
        }
        self.inner.commit().await?;
        if !self.rows.is_empty() {
            // No relay (it is stopping): the rows are found by the next one's poll.
            let _ = self.relay.send(self.rows);
        }
        Ok(())
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
