//! One piece of work, by name.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use crate::supervise::Name;
use crate::{Panicked, catch_panic};

tokio::task_local! {
    static CURRENT: Name;
}

/// The name of the task that runs here, for the panic hook.
#[must_use]
pub fn current() -> Option<Name> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs work under a name, and turns a panic in it into an error.
pub(crate) fn named<F: Future>(name: Name, work: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    CURRENT.scope(name, catch_panic(work))
}

/// Spawns one piece of work that somebody waits for, or that nobody misses: a connection, a message, a call to a platform.
///
/// A panic in it is logged with the name and returned to whoever awaits it; the process goes on. Whatever must not be missing
/// belongs to [`Tasks`](crate::Tasks).
pub fn spawn<F>(name: impl Into<Name>, work: F) -> Spawned<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Spawned(on_runtime(named(name.into(), work)))
}

/// Runs work that blocks on a thread for such work.
///
/// # Errors
/// When it panicked, or the runtime is shutting down.
pub async fn blocking<T: Send + 'static>(
    name: impl Into<Name>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let name = name.into();
    #[expect(clippy::disallowed_methods, reason = "this is the function that everybody else calls")]
    let done = tokio::task::spawn_blocking(move || CURRENT.sync_scope(name, work)).await;
    done.map_err(Panicked::from)
}

#[expect(clippy::disallowed_methods, reason = "this is the function that everybody else calls")]
pub(crate) fn on_runtime<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(work)
}

/// A piece of work that runs. Dropped, it goes on.
#[derive(Debug)]
pub struct Spawned<T>(JoinHandle<Result<T, Panicked>>);

impl<T> Spawned<T> {
    /// Ends it where it stands.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T> Future for Spawned<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|joined| joined.unwrap_or_else(|error| Err(error.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_piece_of_work_is_returned_to_its_caller() {
        assert_eq!(spawn("test", async { current() }).await, Ok(Some("test".into())));
        assert_eq!(spawn("test", async { panic!("no more") }).await, Err::<(), _>(Panicked("no more".to_owned())));
        assert_eq!(blocking("test", current).await, Ok(Some("test".into())));
        assert_eq!(blocking("test", || panic!("no more")).await, Err::<(), _>(Panicked("no more".to_owned())));
        assert_eq!(current(), None);
    }
}
