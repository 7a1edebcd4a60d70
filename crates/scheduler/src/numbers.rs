//! The numbers of bots that are not made yet.
//!
//! What is said of a new bot names its number, and is written by the statement that makes the bot. So the number has to be
//! known before: numbers are taken from the column's own sequence, a block at a time, and kept in memory.
//!
//! They are names for people, and promise neither an order nor a count: what a process has not given out when it ends is left
//! out for ever, as is the number of a bot whose idempotency key was another's; and two replicas give out numbers of two blocks
//! at the same time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_store::{Error, Store};
use tokio::sync::Notify;

use crate::rpc::CREATES;
use crate::store;

/// How many are fetched at once: so many that the half of it lasts for the largest batch, while the next block is on its
/// way.
const BLOCK: usize = 2 * CREATES;

/// The numbers in hand.
pub struct Numbers {
    store: Store,
    kept: Mutex<VecDeque<i64>>,
    /// Says that less than half a block is left.
    pub low: Notify,
}

impl Numbers {
    /// None in hand yet.
    pub fn new(store: Store) -> Self {
        Self { store, kept: Mutex::default(), low: Notify::new() }
    }

    /// Takes so many. Those that are not in hand are fetched, and the caller waits for that.
    pub async fn take(&self, count: usize) -> Result<Vec<i64>, Error> {
        let mut taken = self.draw(count);
        let missing = count - taken.len();
        if missing > 0 {
            let mut fetched = store::numbers(self.store.pool(), BLOCK.max(missing)).await?.into_iter();
            taken.extend(fetched.by_ref().take(missing));
            self.kept().extend(fetched);
        }
        Ok(taken)
    }

    /// Fetches a block if less than half of one is left. Nobody waits meanwhile: the lock is not held.
    pub async fn refill(&self) -> Result<(), Error> {
        if self.kept().len() < BLOCK / 2 {
            let fetched = store::numbers(self.store.pool(), BLOCK).await?;
            self.kept().extend(fetched);
        }
        Ok(())
    }

    /// As many of so many as are in hand.
    fn draw(&self, count: usize) -> Vec<i64> {
        let mut kept = self.kept();
        let drawn = kept.len().min(count);
        let drawn = kept.drain(..drawn).collect();
        if kept.len() < BLOCK / 2 {
            self.low.notify_one();
        }
        drawn
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<i64>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
