//! The verbs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Deployer, Error, Finding, Launch, Listed, LogStream, Observed, Progress, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId, Usage};
use opentelemetry::global;
use opentelemetry::metrics::Counter;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::account::{self, Accounts};
use crate::changes::Changes;
use crate::folder::{Folder, State, is_full};
use crate::supervisor::{Answer, Order, Task, is_stale};
use crate::{Config, check, logs, processes};

/// What of our own environment a runner gets; its home and temporary folder are its own.
const PASSED_ON: &[&str] = &["PATH", "LANG", "CHROMIUM", "CHROME_FLAGS", "GREENROOM_SANDBOX", "RUST_BACKTRACE"];
/// A supervisor has this long to come to the point; it is a matter of milliseconds.
const ANSWER: Duration = Duration::from_secs(15);
/// After this long a supervisor that lives has read its note: it is told of it, or looks four times a second.
const NOTE_READ: Duration = Duration::from_secs(1);
/// Between two looks at everything, for whoever watches where this machine does not tell of files.
const LOOK: Duration = Duration::from_millis(200);
/// The same where it does: a supervisor that was killed writes no file.
const LOOK_SLOWEST: Duration = Duration::from_secs(5);

static ADOPTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    let about = "Local runners whose supervisor was killed and that another one watches since.";
    global::meter("greenroom").u64_counter("greenroom_local_runners_adopted").with_description(about).build()
});

/// Runs runners as processes of this machine. It remembers nothing: any number of them may work on one folder.
#[derive(Debug, Clone)]
pub struct LocalDeployer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    clock: Clock,
    runners: PathBuf,
    logs: PathBuf,
    accounts: OnceCell<Accounts>,
}

fn transient(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Transient(format!("cannot {doing}: {error}"))
}

impl LocalDeployer {
    /// A driver for one platform of an installation; nothing is touched yet.
    #[must_use]
    pub fn build(config: Config, installation: &Installation, platform: &PlatformName, clock: Clock) -> Self {
        let place = config.dir.join(installation.as_str()).join(platform.as_str());
        let place = std::path::absolute(&place).unwrap_or(place);
        let (runners, logs) = (place.join("runners"), place.join("logs"));
        Self { inner: Arc::new(Inner { config, clock, runners, logs, accounts: OnceCell::new() }) }
    }

    /// Stops every runner there is, and waits until nothing runs any more, for as long as the grace and five seconds. For
    /// `greenroom up` and the demo, which leave nothing behind; a deployer that only ends leaves its runners running.
    ///
    /// # Errors
    /// When the runners cannot be found, or some run still.
    pub async fn stop_all(&self, grace: Duration) -> Result<(), Error> {
        let running = || async {
            let listed = self.scan().await?.into_iter().filter(|(_, observed)| *observed == Observed::Running);
            Ok::<Vec<_>, Error>(listed.map(|(runner, _)| runner).collect())
        };
        for runner in running().await? {
            self.stop(runner, grace).await?;
        }
        let until = tokio::time::Instant::now() + grace + Duration::from_secs(5);
        loop {
            let left = running().await?;
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(Error::Transient(format!("{} runners do not end", left.len())));
            }
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    fn folder(&self, runner: RunnerId) -> Folder {
        Folder(self.inner.runners.join(runner.to_string()))
    }

    fn log(&self, runner: RunnerId) -> PathBuf {
        self.inner.logs.join(format!("{runner}.log"))
    }

    /// There for as long as its log is kept, once its remains are removed.
    fn ended(&self, runner: RunnerId) -> PathBuf {
        self.inner.logs.join(format!("{runner}.ended"))
    }

    fn observe(&self, runner: RunnerId) -> Result<Observed, Error> {
        self.folder(runner).look().map(State::observed).map_err(transient("look at the runner"))
    }

    async fn accounts(&self) -> Result<Accounts, Error> {
        let choose = || async {
            let config = self.inner.config.clone();
            greenroom_tasks::blocking("deployer local accounts", move || account::choose(&config))
                .await
                .map_err(|error| Error::Transient(error.to_string()))?
        };
        self.inner.accounts.get_or_try_init(choose).await.copied()
    }

    /// All there is, and how it is. Whatever runs without a supervisor gets another one.
    async fn scan(&self) -> Result<Vec<(RunnerId, Observed)>, Error> {
        let inner = self.inner.clone();
        let scanned = greenroom_tasks::blocking("deployer local list", move || scan(&inner.runners)).await;
        let found =
            scanned.map_err(|error| Error::Transient(error.to_string()))?.map_err(transient("list the runners"))?;
        let unsupervised = found.iter().filter(|(_, state)| *state == State::Unsupervised);
        self.adopt_all(unsupervised.map(|(runner, _)| *runner).collect()).await;
        Ok(found.into_iter().map(|(runner, state)| (runner, state.observed())).collect())
    }

    /// Has another supervisor watch a runner whose own was killed: that one keeps it to its limits, reads its notes and ends
    /// what it leaves behind.
    async fn adopt(&self, runner: RunnerId) -> Result<(), Error> {
        let task = Task::Adopt { folder: self.folder(runner).0, log: self.log(runner) };
        let supervisor = self.inner.config.supervisor.clone();
        let answer = greenroom_tasks::spawn("deployer local order", async move { order(&supervisor, task).await });
        match answer.await.map_err(|error| Error::Transient(error.to_string()))?? {
            Answer::Started => {
                ADOPTED.add(1, &[]);
                tracing::warn!(runner.id = %runner, "runner adopted by another supervisor");
                Ok(())
            }
            // Another deployer was first, or it has ended meanwhile.
            Answer::Exists => Ok(()),
            other => Err(Error::Transient(format!("cannot take over the runner: {other:?}"))),
        }
    }

    /// A supervisor may be killed before it has read its note.
    async fn see_to(&self, runner: RunnerId) {
        tokio::time::sleep(NOTE_READ).await;
        if matches!(self.folder(runner).look(), Ok(State::Unsupervised)) {
            self.adopt_all(vec![runner]).await;
        }
    }

    async fn adopt_all(&self, runners: Vec<RunnerId>) {
        let adopt = |runner| async move {
            if let Err(error) = self.adopt(runner).await {
                tracing::warn!(runner.id = %runner, %error, "cannot adopt a runner");
            }
        };
        join_all(runners.into_iter().map(adopt)).await;
    }
}

fn scan(runners: &Path) -> io::Result<Vec<(RunnerId, State)>> {
    let entries = match fs::read_dir(runners) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(runner) = entry.file_name().to_str().and_then(|name| name.parse::<RunnerId>().ok()) else { continue };
        let folder = Folder(entry.path());
        match folder.look()? {
            // About to be started, or a start that came to nothing.
            State::Gone if is_stale(&folder) => folder.remove()?,
            State::Gone => {}
            state => found.push((runner, state)),
        }
    }
    Ok(found)
}

/// Starts a supervisor and waits for its answer. In a task of its own: a caller that loses patience does not cut the order
/// in two, and the supervisor is waited for in the end.
async fn order(supervisor: &[std::ffi::OsString], task: Task) -> Result<Answer, Error> {
    let (program, arguments) =
        supervisor.split_first().ok_or_else(|| Error::Rejected("no supervisor is set".to_owned()))?;
    let mut command = Command::new(program);
    // Nothing of our environment: there are secrets in it that a runner of the same user could read.
    command.args(arguments).env_clear().current_dir("/");
    command.envs(std::env::var_os("TMPDIR").map(|dir| ("TMPDIR", dir)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| Error::Transient(format!("cannot start a supervisor: {error}")))?;
    let text = serde_json::to_vec(&task).expect("plain data");
    drop(task);
    let (mut stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let told = async {
        stdin.write_all(&text).await?;
        drop(stdin);
        BufReader::new(stdout).lines().next_line().await
    };
    let told = tokio::time::timeout(ANSWER, told).await;
    drop(greenroom_tasks::spawn("deployer local supervisor", async move { child.wait().await }));
    match told {
        Ok(Ok(Some(line))) => {
            serde_json::from_str(&line).map_err(|error| Error::Transient(format!("the supervisor said {error}")))
        }
        Ok(Ok(None)) => Err(Error::Transient("the supervisor ended without a word".to_owned())),
        Ok(Err(error)) => Err(transient("speak to the supervisor")(error)),
        Err(_) => Err(Error::Transient("the supervisor does not answer".to_owned())),
    }
}

impl Deployer for LocalDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "local",
            isolation: "none",
            logs: true,
            out_of_memory: true,
            signals: true,
            max_lifetime: true,
            pooled: false,
        }
    }

    fn keeps_logs(&self) -> bool {
        true
    }

    async fn ensure(&self, launch: &Launch, _: &Progress) -> Result<(), Error> {
        let runner = launch.spec.runner;
        // A start may be brought again long after its runner has ended and was removed.
        if self.observe(runner)? != Observed::Gone || self.ended(runner).exists() {
            return Ok(());
        }
        let left = launch.start_by.duration_since(self.inner.clock.now());
        let Ok(left) = Duration::try_from(left) else {
            return Err(Error::Transient("it is too late".to_owned()));
        };
        let uptime = processes::uptime().map_err(transient("read the time since boot"))?;
        let folder = self.folder(runner);
        for dir in [&folder.0, &self.inner.logs] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| {
                let full = is_full(&error).then(|| Error::NoCapacity(format!("cannot make a folder: {error}")));
                full.unwrap_or_else(|| transient("make the runner's folder")(error))
            })?;
        }
        let mut environment: BTreeMap<String, String> =
            PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
        environment.extend(launch.environment.clone());
        let what = Order {
            folder: folder.0,
            log: self.log(runner),
            program: self.inner.config.runner.clone(),
            environment,
            accounts: self.accounts().await?,
            memory_bytes: launch.spec.resources.memory_limit(),
            max_lifetime_ms: u64::try_from(launch.spec.max_lifetime.as_millis()).unwrap_or(u64::MAX),
            // The supervisor would read the wall clock as it is, and this clock does not follow its jumps.
            start_by_uptime: uptime.saturating_add(left),
        };
        let supervisor = self.inner.config.supervisor.clone();
        let answer =
            greenroom_tasks::spawn("deployer local order", async move { order(&supervisor, Task::Start(what)).await });
        match answer.await.map_err(|error| Error::Transient(error.to_string()))?? {
            Answer::Started | Answer::Exists => Ok(()),
            Answer::Late => Err(Error::Transient("it is too late".to_owned())),
            Answer::NoRoom(why) => Err(Error::NoCapacity(why)),
            Answer::Rejected(why) => Err(Error::Rejected(why)),
            Answer::Failed(why) => Err(Error::Transient(why)),
        }
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        self.observe(runner)
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        let folder = self.folder(runner);
        let state = folder.look().map_err(transient("look at the runner"))?;
        if state.clone().observed() != Observed::Running {
            return Ok(());
        }
        folder.note_stop(grace).map_err(transient("leave a note for the supervisor"))?;
        if state == State::Unsupervised {
            return self.adopt(runner).await;
        }
        let this = self.clone();
        drop(greenroom_tasks::spawn("deployer local stop", async move { this.see_to(runner).await }));
        Ok(())
    }

    async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        check::check(&self.inner.config, wanted)
    }

    async fn usage(&self, runner: RunnerId) -> Result<Option<Usage>, Error> {
        self.folder(runner).usage().map_err(transient("read what the runner took"))
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        match self.observe(runner)? {
            Observed::Running => Err(Error::Rejected("it runs still".to_owned())),
            Observed::Gone => Ok(()),
            Observed::Exited(_) | Observed::Refused(_) => {
                // Before the folder goes. What cannot be noted does not keep remains.
                let _ = fs::File::options().create(true).append(true).mode(0o600).open(self.ended(runner));
                self.folder(runner).remove().map_err(transient("remove the runner's folder"))
            }
        }
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        let list = async {
            let listed = self.scan().await?;
            let (logs, kept) = (self.inner.logs.clone(), self.inner.config.logs_kept);
            let _ = greenroom_tasks::blocking("deployer local old logs", move || logs::prune(&logs, kept)).await;
            Ok(listed
                .into_iter()
                .map(|(runner, observed)| Listed { runner, running: observed == Observed::Running })
                .collect())
        };
        stream::once(list).boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let stream = async_stream::stream! {
            let mut told = BTreeSet::new();
            let mut changes = None;
            loop {
                // Before the look: what happens after it is told.
                changes = changes.or_else(|| Changes::of(&self.inner.runners).ok());
                // What cannot be looked at now can be in a moment, and the list says so if not.
                if let Ok(all) = self.scan().await {
                    let ended: BTreeSet<RunnerId> = all
                        .into_iter()
                        .filter(|(_, observed)| matches!(observed, Observed::Exited(_)))
                        .map(|(runner, _)| runner)
                        .collect();
                    for runner in ended.difference(&told) {
                        yield *runner;
                    }
                    told = ended;
                }
                let until = tokio::time::Instant::now() + LOOK_SLOWEST;
                loop {
                    let Some(following) = &mut changes else {
                        tokio::time::sleep(LOOK).await;
                        break;
                    };
                    match tokio::time::timeout_at(until, following.next()).await {
                        Err(_) => break,
                        Ok(None) => changes = None,
                        Ok(Some(changed)) => {
                            for runner in changed {
                                if matches!(self.observe(runner), Ok(Observed::Exited(_))) && told.insert(runner) {
                                    yield runner;
                                }
                            }
                        }
                    }
                }
            }
        };
        Some(stream.boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let this = self.clone();
        // Not to be told is no reason to stop following.
        let goes_on = move || {
            let running = follow && !matches!(this.observe(runner), Ok(Observed::Exited(_) | Observed::Gone));
            std::future::ready(running)
        };
        logs::open(&self.log(runner), tail_lines, goes_on).await.map_err(transient("open the log"))
    }
}
