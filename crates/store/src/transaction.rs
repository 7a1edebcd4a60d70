//! One handler's work: what changes, and what is said about it.

use std::ops::{Deref, DerefMut};

use greenroom_contracts::{Envelope, Message};
use greenroom_domain::Timestamp;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::outbox::table;
use crate::{Error, Outbox, Store};

/// A transaction with its outbox. Dropped, it is rolled back and nothing was said.
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    store: Store,
    outbox: Outbox,
}

impl Tx {
    pub(crate) fn new(inner: Transaction<'static, Postgres>, store: &Store) -> Self {
        Self { inner, store: store.clone(), outbox: Outbox::new(store) }
    }

    /// Says something once the transaction is committed, at least once.
    pub fn say<T: Message>(&mut self, envelope: Envelope<T>) {
        self.outbox.say(envelope);
    }

    /// An envelope in this service's name.
    #[must_use]
    pub fn envelope<T: Message>(&self, now: Timestamp, data: T) -> Envelope<T> {
        self.outbox.envelope(now, data)
    }

    /// What is said so far, for whoever says the same without a transaction.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Commits, and hands what is to be said to the relay.
    ///
    /// # Errors
    /// When Postgres is away or refuses. After [`Error::Away`] nobody knows whether it was committed.
    pub async fn commit(mut self) -> Result<(), Error> {
        if !self.outbox.is_empty() {
            let inserted = table::insert(&mut self.inner, self.store.schema(), &self.outbox).await;
            self.store.wrote(inserted)?;
        }
        self.store.wrote(self.inner.commit().await.map_err(Error::from))?;
        self.outbox.committed();
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
