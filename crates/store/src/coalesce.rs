//! Concurrent callers share one transaction.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenroom_tasks::{Name, Tasks, catch_panic};
use tokio::sync::{mpsc, oneshot};

/// Hands requests to a handler in batches: while one batch is in hand, the next one gathers. Nobody waits for company: a
/// lone request goes at once.
///
/// A handler that panics is called again with the halves of its batch, until the request that it cannot bear is alone: that
/// caller hears [`Unanswered::Panicked`], the others get their answers, and the lane goes on. Ending the process instead
/// would let one row that is read again after every start take all services down for good.
///
/// Dropping every clone ends it after the last batch.
pub struct Coalescer<Q, A> {
    requests: mpsc::Sender<(Q, oneshot::Sender<Result<A, Unanswered>>)>,
    lanes: Lanes,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It is shutting down, or the handler gave no answer.
    #[error("it is shutting down")]
    Stopping,
    /// The handler panicked on this request alone. It would again.
    #[error("the handler panicked")]
    Panicked,
}

/// Whether the lanes of a [`Coalescer`] are at work, for a service's health. Does not keep the coalescer alive.
#[derive(Debug, Clone)]
pub struct Lanes {
    alive: Arc<AtomicUsize>,
    all: usize,
}

impl Lanes {
    /// Whether every lane is there to take a batch.
    #[must_use]
    pub fn are_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed) == self.all
    }
}

/// Counts its lane for as long as it lives.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(lanes: &Lanes) -> Self {
        lanes.alive.fetch_add(1, Ordering::Relaxed);
        Self(lanes.alive.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<Q, A> Clone for Coalescer<Q, A> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), lanes: self.lanes.clone() }
    }
}

impl<Q: Clone + Send + Sync + 'static, A: Send + 'static> Coalescer<Q, A> {
    /// A coalescer of at most `most` requests a batch, with `lanes` batches in hand at once, each in a task of this name. The
    /// handler answers each request of its batch, in order.
    pub fn spawn<F, Fut>(tasks: &Tasks, name: impl Into<Name>, most: usize, lanes: usize, handle: F) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<A>> + Send,
    {
        let (requests, receiver) = mpsc::channel::<(Q, oneshot::Sender<Result<A, Unanswered>>)>(most * 4);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let (handle, name) = (Arc::new(handle), name.into());
        let lanes = Lanes { alive: Arc::default(), all: lanes.max(1) };
        for _ in 0..lanes.all {
            let (receiver, handle, alive) = (receiver.clone(), handle.clone(), Alive::new(&lanes));
            tasks.run(name.clone(), async move {
                let _alive = alive;
                loop {
                    let mut waiting = Vec::new();
                    if receiver.lock().await.recv_many(&mut waiting, most).await == 0 {
                        return;
                    }
                    let (batch, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                    for (caller, answer) in callers.into_iter().zip(answer(handle.as_ref(), &batch).await) {
                        // A caller that went away does not want its answer.
                        let _ = caller.send(answer);
                    }
                }
            });
        }
        Self { requests, lanes }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&self, request: Q) -> Result<A, Unanswered> {
        let (caller, answer) = oneshot::channel();
        self.requests.send((request, caller)).await.map_err(|_| Unanswered::Stopping)?;
        answer.await.unwrap_or(Err(Unanswered::Stopping))
    }

    /// Its lanes, for the service's health.
    #[must_use]
    pub fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }
}

/// Answers a batch: in one go, or, when the handler panics, in halves until the culprit is alone. A panic has left nothing
/// half done: its transaction is rolled back, and what a statement had committed before it is harmless to repeat, as it is
/// for a caller that asks again.
async fn answer<Q, A, F, Fut>(handle: &F, batch: &[Q]) -> Vec<Result<A, Unanswered>>
where
    Q: Clone,
    F: Fn(Vec<Q>) -> Fut,
    Fut: Future<Output = Vec<A>>,
{
    let mut answers = Vec::with_capacity(batch.len());
    // The parts that are left, the first one last.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match catch_panic(async { handle(part.to_vec()).await }).await {
            Ok(given) => {
                let missing = part.len().saturating_sub(given.len());
                answers.extend(given.into_iter().take(part.len()).map(Ok));
                answers.extend(std::iter::repeat_with(|| Err(Unanswered::Stopping)).take(missing));
            }
            Err(panicked) if part.len() == 1 => {
                tracing::error!(error = %panicked, "a request made its handler panic and was refused");
                answers.push(Err(Unanswered::Panicked));
            }
            Err(panicked) => {
                tracing::error!(error = %panicked, requests = part.len(), "a batch made its handler panic, trying its halves");
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn requests_that_come_together_share_a_batch() {
        let tasks = Tasks::default();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let double = Coalescer::spawn(&tasks, "test", 64, 1, move |batch: Vec<u32>| {
            seen.lock().expect("no panic").push(batch.len());
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                batch.into_iter().map(|n| n * 2).collect()
            }
        });
        let answers = join_all((0..50).map(|n| double.ask(n))).await;
        assert_eq!(answers, (0..50).map(|n| Ok(n * 2)).collect::<Vec<_>>());
        let sizes = sizes.lock().expect("no panic").clone();
        assert!(sizes.len() <= 3, "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 50);
    }

    #[tokio::test]
    async fn a_panic_in_a_batch_leaves_the_lane_alive() {
        let tasks = Tasks::default();
        let fragile = Coalescer::spawn(&tasks, "test", 8, 1, |batch: Vec<u8>| async move {
            assert!(!batch.contains(&13), "13 is bad luck");
            batch
        });
        assert_eq!(fragile.ask(13).await, Err(Unanswered::Panicked));
        assert!(fragile.lanes().are_alive());
        assert_eq!(fragile.ask(7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_request_that_makes_the_handler_panic_costs_nobody_else_an_answer() {
        let fragile = |batch: Vec<u8>| {
            // Not only in the future that the handler makes.
            assert!(!batch.contains(&13), "13 is bad luck");
            async move { batch }
        };
        let answers = answer(&fragile, &[1, 2, 13, 4, 5]).await;
        assert_eq!(answers, [Ok(1), Ok(2), Err(Unanswered::Panicked), Ok(4), Ok(5)]);
    }

    #[tokio::test]
    async fn it_ends_with_its_last_caller() {
        let tasks = Tasks::default();
        let echo = Coalescer::spawn(&tasks, "test", 8, 2, |batch: Vec<u8>| async move { batch });
        assert_eq!(echo.ask(7).await, Ok(7));
        let lanes = echo.lanes();
        assert!(lanes.are_alive());
        drop(echo);
        tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.expect("it ends");
        assert!(!lanes.are_alive());
    }
}
