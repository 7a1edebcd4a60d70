//! Uploads that come in at this moment: each is in memory until it is passed on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_domain::RunnerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

/// A runner uploads one part after the other; a second one follows when the first one's connection broke.
const MOST_OF_RUNNER: usize = 4;
/// How long an upload may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(20);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    all: Arc<Semaphore>,
    by_runner: Arc<Mutex<HashMap<RunnerId, usize>>>,
}

impl Uploads {
    pub fn new(most: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), by_runner: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, usize>> {
        self.by_runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of an upload, which has not been read yet.
    ///
    /// # Errors
    /// When the runner has too many under way, or its turn does not come.
    pub async fn begin(&self, runner: RunnerId) -> Result<Upload, Status> {
        let mut of_runner = self.of_runner(runner)?;
        let turn = timeout(TURN_WITHIN, self.all.clone().acquire_owned()).await;
        // It is never closed.
        of_runner.turn = turn.ok().and_then(Result::ok);
        if of_runner.turn.is_none() {
            return Err(Status::unavailable("too many uploads are under way, try again"));
        }
        Ok(of_runner)
    }

    fn of_runner(&self, runner: RunnerId) -> Result<Upload, Status> {
        let mut by_runner = self.lock();
        let count = by_runner.entry(runner).or_default();
        if *count >= MOST_OF_RUNNER {
            let message = format!("this runner has {MOST_OF_RUNNER} uploads under way, the most that it may have");
            return Err(Status::resource_exhausted(message));
        }
        *count += 1;
        drop(by_runner);
        Ok(Upload { uploads: self.clone(), runner, turn: None })
    }
}

/// An upload, until this is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    uploads: Uploads,
    runner: RunnerId,
    turn: Option<OwnedSemaphorePermit>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut by_runner = self.uploads.lock();
        if let Some(count) = by_runner.get_mut(&self.runner) {
            *count -= 1;
            if *count == 0 {
                by_runner.remove(&self.runner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_runner_has_its_share_and_all_wait_their_turn() {
        let uploads = Uploads::new(MOST_OF_RUNNER + 1);
        let (one, two) =
            (RunnerId::of_bot(BotId::generate(), Attempt(1)), RunnerId::of_bot(BotId::generate(), Attempt(1)));
        let mut held = Vec::new();
        for _ in 0..MOST_OF_RUNNER {
            held.push(uploads.begin(one).await.expect("a turn"));
        }
        let refused = uploads.begin(one).await.expect_err("too many");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let last = uploads.begin(two).await.expect("a turn");
        let waited = uploads.begin(two).await.expect_err("nobody ends");
        assert_eq!(waited.code(), tonic::Code::Unavailable);
        let (third, ()) = tokio::join!(uploads.begin(two), async { drop(held.pop()) });
        drop((third.expect("its turn came"), last, held));
        assert_eq!((uploads.all.available_permits(), uploads.lock().len()), (MOST_OF_RUNNER + 1, 0));
    }
}
