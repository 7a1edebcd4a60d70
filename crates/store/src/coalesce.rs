//! Concurrent callers share one transaction.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Hands requests to a handler in batches: while one batch is in hand, the next one gathers. Nobody waits for company: a
/// lone request goes at once.
///
/// Dropping every clone ends it after the last batch.
pub struct Coalescer<Q, A> {
    requests: mpsc::Sender<(Q, oneshot::Sender<A>)>,
}

impl<Q, A> Clone for Coalescer<Q, A> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Coalescer<Q, A> {
    /// A coalescer of at most `most` requests a batch, with `lanes` batches in hand at once.
    pub fn spawn<F, Fut>(tasks: &TaskTracker, most: usize, lanes: usize, handle: F) -> Self
    where
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<A>> + Send,
    {
        let (requests, receiver) = mpsc::channel::<(Q, oneshot::Sender<A>)>(most * 4);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let handle = Arc::new(handle);
        for _ in 0..lanes.max(1) {
            let (receiver, handle) = (receiver.clone(), handle.clone());
            tasks.spawn(async move {
                loop {
                    let mut waiting = Vec::new();
                    if receiver.lock().await.recv_many(&mut waiting, most).await == 0 {
                        return;
                    }
                    let (batch, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                    for (caller, answer) in callers.into_iter().zip(handle(batch).await) {
                        // A caller that went away does not want its answer.
                        let _ = caller.send(answer);
                    }
                }
            });
        }
        Self { requests }
    }

    /// Asks, and waits for the answer. `None`: it is shutting down, or the handler gave no answer.
    pub async fn ask(&self, request: Q) -> Option<A> {
        let (caller, answer) = oneshot::channel();
        self.requests.send((request, caller)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn requests_that_come_together_share_a_batch() {
        let tasks = TaskTracker::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = sizes.clone();
        let double = Coalescer::spawn(&tasks, 64, 1, move |batch: Vec<u32>| {
            seen.lock().expect("no panic").push(batch.len());
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                batch.into_iter().map(|n| n * 2).collect()
            }
        });
        let answers = join_all((0..50).map(|n| double.ask(n))).await;
        assert_eq!(answers, (0..50).map(|n| Some(n * 2)).collect::<Vec<_>>());
        let sizes = sizes.lock().expect("no panic").clone();
        assert!(sizes.len() <= 3, "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 50);
    }

    #[tokio::test]
    async fn it_ends_with_its_last_caller() {
        let tasks = TaskTracker::new();
        let echo = Coalescer::spawn(&tasks, 8, 2, |batch: Vec<u8>| async move { batch });
        assert_eq!(echo.ask(7).await, Some(7));
        drop(echo);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.expect("it ends");
    }
}
