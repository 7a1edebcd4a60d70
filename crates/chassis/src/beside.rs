//! Tasks that a service runs beside its main future.

use std::future::Future;

use greenroom_bus::panic_message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A task beside a service's main future, with a stop of its own: a relay goes on until the handlers have committed their
/// last. If it ends before it is told to, the service ends too, and with it the process.
#[derive(Debug)]
pub struct Beside {
    name: &'static str,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Beside {
    /// Spawns the task with its stop.
    pub fn spawn<Fut>(name: &'static str, start: impl FnOnce(CancellationToken) -> Fut) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self { name, task: tokio::spawn(start(stop.clone())), stop }
    }

    /// Runs the service's work.
    ///
    /// # Panics
    /// When the task ends before the work does, with the task's name: the process ends, and says why.
    pub async fn watch<T>(&mut self, work: impl Future<Output = T>) -> T {
        let ended = tokio::select! {
            done = work => return done,
            ended = &mut self.task => ended,
        };
        let why = match ended.map_err(tokio::task::JoinError::try_into_panic) {
            Err(Ok(payload)) => format!("panicked: {}", panic_message(payload.as_ref())),
            Ok(()) | Err(Err(_)) => "without being told to".to_owned(),
        };
        // Not a second report by the panic hook: the first has the place.
        std::panic::resume_unwind(Box::new(format!("its task {} ended: {why}", self.name)))
    }

    /// Tells the task to stop and waits until it has finished what is in hand.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use greenroom_bus::{Panicked, catch_panic};

    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_task_ends_the_service_with_the_tasks_name() {
        let mut relay = Beside::spawn("relay", |_| async { panic!("no more") });
        let ended = catch_panic(relay.watch(std::future::pending::<()>())).await;
        assert_eq!(ended, Err(Panicked("its task relay ended: panicked: no more".to_owned())));
    }

    #[tokio::test]
    async fn a_task_that_comes_back_early_ends_the_service_too() {
        let mut relay = Beside::spawn("relay", |_| async {});
        let ended = catch_panic(relay.watch(std::future::pending::<()>())).await;
        assert_eq!(ended, Err(Panicked("its task relay ended: without being told to".to_owned())));
    }

    #[tokio::test]
    async fn the_task_outlives_the_work_and_ends_when_told_to() {
        let mut relay = Beside::spawn("relay", |stop| async move { stop.cancelled().await });
        assert_eq!(relay.watch(async { 7 }).await, 7);
        assert!(!relay.task.is_finished());
        relay.finish().await;
    }
}
