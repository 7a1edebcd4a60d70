//! Tasks whose end is somebody's business.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::spawn::{named, on_runtime};
use crate::{Panicked, Status, SweepStatus};

/// A task's name, in plain English: the service, then the work.
pub type Name = Cow<'static, str>;

/// A task that ended when it should not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task} ended: {why}")]
pub struct Failed {
    /// Its name.
    pub task: String,
    /// Why.
    pub why: String,
}

/// How a task ended.
pub trait Outcome: Send + 'static {
    /// Why it failed; `None`: it did not.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl Outcome for Result<(), String> {
    fn failure(self) -> Option<String> {
        self.err()
    }
}

/// The tasks of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
    /// Those of one group, if they are waited for apart from the others.
    group: TaskTracker,
}

#[derive(Default)]
struct Shared {
    all: TaskTracker,
    running: Mutex<Running>,
    failed: OnceLock<Failed>,
    has_failed: CancellationToken,
    sweeps: Mutex<BTreeMap<String, SweepStatus>>,
    #[cfg(debug_assertions)]
    told_to_panic: tokio::sync::watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    tasks: HashMap<u64, (Name, Option<AbortHandle>)>,
    /// Every name there was since the process began.
    seen: BTreeSet<Name>,
}

/// Keeps a task among those that run.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.running().tasks.remove(&self.id);
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, task: &Name, why: String) {
        let failed = Failed { task: task.to_string(), why };
        tracing::error!(task = failed.task, error = failed.why, "a task ended, so the process ends");
        let _ = self.failed.set(failed);
        self.has_failed.cancel();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.names()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// The same process, with a [`wait`](Self::wait) for those tasks alone that are started here.
    #[must_use]
    pub fn group(&self) -> Self {
        Self { shared: self.shared.clone(), group: TaskTracker::new() }
    }

    /// Runs a task that must not end before `stop`. If it does, fails or panics, the process ends with its name.
    pub fn supervise<F>(&self, name: impl Into<Name>, stop: &CancellationToken, work: F) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.start(name.into(), Some(stop.clone()), work)
    }

    /// Runs a task that may end. If it panics, the process ends with its name.
    pub fn run<F>(&self, name: impl Into<Name>, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name.into(), None, work)
    }

    /// Supervises a task with a stop of its own, such as a relay, which goes on until the handlers have committed their last.
    pub fn supervise_with_stop<F>(&self, name: impl Into<Name>, start: impl FnOnce(CancellationToken) -> F) -> WithStop
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = self.supervise(name, &stop, start(stop.clone()));
        WithStop { task, stop: stop.drop_guard() }
    }

    /// Runs the parts of a service side by side within the caller's task, so that they may borrow, until all have ended. None
    /// of them may end before `stop`; if one does, or panics, the process ends with its name.
    pub async fn run_all<'a>(&self, stop: &CancellationToken, parts: impl IntoIterator<Item = Part<'a>>) {
        let parts = parts.into_iter().map(|Part { name, work }| {
            let entry = self.enter(&name);
            async move {
                let ended = self.guarded(&name, work).await;
                self.settle(&name, Some(stop), ended);
                drop(entry);
            }
        });
        parts.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    fn start<F>(&self, name: Name, stop: Option<CancellationToken>, work: F) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let (tasks, entry) = (self.clone(), self.enter(&name));
        let id = entry.id;
        let task = on_runtime(self.group.track_future(self.shared.all.track_future(async move {
            let ended = tasks.guarded(&name, work).await;
            tasks.settle(&name, stop.as_ref(), ended);
            drop(entry);
        })));
        if let Some((_, abort)) = self.shared.running().tasks.get_mut(&id) {
            *abort = Some(task.abort_handle());
        }
        task
    }

    fn enter(&self, name: &Name) -> Entry {
        let mut running = self.shared.running();
        let id = running.next;
        running.next += 1;
        running.tasks.insert(id, (name.clone(), None));
        if !running.seen.contains(name) {
            running.seen.insert(name.clone());
        }
        Entry { shared: self.shared.clone(), id }
    }

    fn settle<T: Outcome>(&self, name: &Name, stop: Option<&CancellationToken>, ended: Result<T, Panicked>) {
        let why = match ended.map(Outcome::failure) {
            Err(panicked) => panicked.to_string(),
            Ok(Some(why)) => why,
            Ok(None) if stop.is_none_or(CancellationToken::is_cancelled) => return,
            Ok(None) => "without being told to".to_owned(),
        };
        self.shared.fail(name, why);
    }

    async fn guarded<F: Future>(&self, name: &Name, work: F) -> Result<F::Output, Panicked> {
        #[cfg(debug_assertions)]
        let work = async {
            let mut told = self.shared.told_to_panic.subscribe();
            tokio::select! {
                Ok(_) = told.wait_for(|told| told.as_deref() == Some(name.as_ref())) => panic!("a test asked for it"),
                done = work => done,
            }
        };
        named(name.clone(), work).await
    }

    /// Has every task of this name panic, now and from now on. Only for tests of what follows: release builds do not have it.
    #[cfg(debug_assertions)]
    pub fn panic_in(&self, name: &str) {
        self.shared.told_to_panic.send_replace(Some(name.to_owned()));
    }

    /// Waits for the first failure.
    pub async fn failed(&self) -> Failed {
        self.shared.has_failed.cancelled().await;
        self.shared.failed.get().cloned().expect("set before the token is cancelled")
    }

    /// Waits until the tasks of this group have ended, or all tasks of the process if this is not a [group](Self::group).
    pub async fn wait(&self) {
        self.group.close();
        self.group.wait().await;
    }

    /// Waits until all tasks of the process have ended.
    pub async fn wait_for_all(&self) {
        self.shared.all.close();
        self.shared.all.wait().await;
    }

    /// Ends all tasks where they stand.
    pub fn abort_all(&self) {
        let running: Vec<_> = self.shared.running().tasks.values().filter_map(|(_, task)| task.clone()).collect();
        // Not under the lock: a task may be dropped right here, and takes it to leave the list.
        running.iter().for_each(AbortHandle::abort);
    }

    /// The names of what runs now, and how many tasks have each.
    #[must_use]
    pub fn names(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for (name, _) in self.shared.running().tasks.values() {
            *names.entry(name.to_string()).or_default() += 1;
        }
        names
    }

    /// Returns the tasks that run or ran, and the last turn of each sweep.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut tasks: BTreeMap<_, _> = self.shared.running().seen.iter().map(|name| (name.to_string(), 0)).collect();
        tasks.extend(self.names());
        Status { tasks, sweeps: self.sweeps().clone() }
    }

    pub(crate) fn sweeps(&self) -> MutexGuard<'_, BTreeMap<String, SweepStatus>> {
        self.shared.sweeps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a service, for [`Tasks::run_all`].
pub struct Part<'a> {
    name: Name,
    work: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

/// Names a part of a service.
pub fn part<'a>(name: impl Into<Name>, work: impl Future<Output = ()> + Send + 'a) -> Part<'a> {
    Part { name: name.into(), work: Box::pin(work) }
}

/// A task with a stop of its own. Dropped, it is told to stop.
#[derive(Debug)]
pub struct WithStop {
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl WithStop {
    /// Tells it to stop and waits until it has finished what is in hand.
    pub async fn finish(self) {
        drop(self.stop);
        // A failure is known to the supervisor.
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::current;

    fn failed(task: &str, why: &str) -> Failed {
        Failed { task: task.to_owned(), why: why.to_owned() }
    }

    #[tokio::test]
    async fn a_task_that_ends_before_its_stop_is_a_failure_with_its_name() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.supervise("queue relay", &stop, async {});
        assert_eq!(tasks.failed().await, failed("queue relay", "without being told to"));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_a_failure_with_its_name() {
        let tasks = Tasks::default();
        tasks.run("queue dispatcher", async { panic!("no more") });
        assert_eq!(tasks.failed().await, failed("queue dispatcher", "panicked: no more"));
    }

    #[tokio::test]
    async fn a_task_that_fails_is_a_failure_even_after_its_stop() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        stop.cancel();
        tasks.supervise("servers", &stop, async { Err("they end".to_owned()) });
        assert_eq!(tasks.failed().await, failed("servers", "they end"));
    }

    #[tokio::test]
    async fn ends_in_good_order_are_no_failures() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let group = tasks.group();
        group.run("dispatcher", async {});
        group.wait().await;
        let own = tasks.supervise_with_stop("relay", |stop| async move { stop.cancelled().await });
        tasks.supervise("clock", &stop, stop.clone().cancelled_owned());
        assert_eq!(tasks.names().into_keys().collect::<Vec<_>>(), ["clock", "relay"]);
        stop.cancel();
        own.finish().await;
        tasks.wait_for_all().await;
        assert!(tasks.names().is_empty());
        let seen = [("clock", 0), ("dispatcher", 0), ("relay", 0)].map(|(name, running)| (name.to_owned(), running));
        assert_eq!(tasks.status().tasks, seen.into());
        assert_eq!(tasks.shared.failed.get(), None);
    }

    #[tokio::test]
    async fn parts_of_a_service_fail_by_their_own_names() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let seen = Mutex::new(None);
        let watching = async {
            let failed = tasks.failed().await;
            *seen.lock().unwrap() = Some((failed, current()));
            stop.cancel();
        };
        let parts = [part("watcher", watching), part("consumer", async { panic!("no more") })];
        tasks.run_all(&stop, parts).await;
        let expected = (failed("consumer", "panicked: no more"), Some("watcher".into()));
        assert_eq!(*seen.lock().unwrap(), Some(expected));
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_part_that_comes_back_early_is_a_failure() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let forever = tasks.run_all(&stop, [part("consumer", async {}), part("sweep", stop.cancelled())]);
        tokio::select! {
            () = forever => panic!("the sweep has not ended"),
            seen = tasks.failed() => assert_eq!(seen, failed("consumer", "without being told to")),
        }
    }

    #[tokio::test]
    async fn a_test_can_have_a_task_panic() {
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.supervise("relay", &stop, std::future::pending::<()>());
        tasks.panic_in("relay");
        assert_eq!(tasks.failed().await, failed("relay", "panicked: a test asked for it"));
        let late = Tasks::default();
        late.panic_in("dispatcher");
        late.run("dispatcher", std::future::pending());
        assert_eq!(late.failed().await.task, "dispatcher");
    }
}
