//! The process between us and a runner: it outlives us.
//!
//! It gets its [`Task`] through stdin (there are secrets in it), answers with one line on stdout, and is alone from then
//! on: no pipe of ours that could break, no terminal whose Ctrl-C could reach it.

pub(crate) mod cgroup;
mod runner;
mod scales;
mod signals;
mod watch;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{Account, Accounts};
use crate::folder::{Folder, Limits, Record, SCRATCH, State, is_full, remove_scratch};
use crate::processes::{self, Identity};
use crate::uids::Claim;
use runner::Runner;
use signals::Signals;
use watch::Watch;

/// The task of a supervisor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Start a runner.
    Start(Order),
    /// Take over the runner of a supervisor that was killed.
    Adopt {
        /// The runner's.
        folder: PathBuf,
        /// Where it prints to.
        log: PathBuf,
    },
}

/// What to run, and how.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub folder: PathBuf,
    pub log: PathBuf,
    pub program: PathBuf,
    pub environment: BTreeMap<String, String>,
    pub accounts: Accounts,
    /// The most that it may have; 0: any.
    pub memory_bytes: u64,
    pub max_lifetime_ms: u64,
    /// Not after the machine has been up for so long. The wall clock may jump.
    pub start_by_uptime: Duration,
}

/// The outcome of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Started,
    /// Somebody else does it, or has done it.
    Exists,
    /// It is past `start_by_uptime`.
    Late,
    /// This machine has no room for another process, or its disk is full.
    NoRoom(String),
    /// It can never be started like this.
    Rejected(String),
    /// Something else went wrong.
    Failed(String),
}

/// How long one supervisor waits for another to come to the point.
const TURN: Duration = Duration::from_secs(5);

/// Supervises one runner; what `greenroom local-supervise` does.
#[must_use]
pub fn supervise() -> ExitCode {
    let mut text = String::new();
    let task = io::stdin()
        .read_to_string(&mut text)
        .and_then(|_| serde_json::from_str::<Task>(&text).map_err(io::Error::other));
    // A deployer that died in the middle of its order has ordered nothing.
    let Ok(task) = task else {
        eprintln!("this is how Greenroom supervises local runners; it is not meant to be called by people");
        return ExitCode::FAILURE;
    };
    drop(text);
    let begun = match task {
        Task::Start(order) => begin(&order),
        Task::Adopt { folder, log } => adopt(Folder(folder), &log),
    };
    match begun {
        Ok((runner, watch)) => {
            answer(&Answer::Started);
            watch.until_the_end(runner);
        }
        Err(refused) => answer(&refused),
    }
    ExitCode::SUCCESS
}

fn answer(answer: &Answer) {
    // Nobody may be listening any more; it makes no difference.
    let _ = writeln!(io::stdout(), "{}", serde_json::to_string(answer).expect("plain data"));
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> Answer {
    move |error| {
        let why = format!("cannot {doing}: {error}");
        if is_full(&error) { Answer::NoRoom(why) } else { Answer::Failed(why) }
    }
}

/// Leaves the session of whoever started us, for one of our own: no terminal, and nobody else's group.
fn settle() -> Result<Signals, Answer> {
    nix::unistd::setsid().map_err(|error| failed("make a session")(error.into()))?;
    Signals::listen().map_err(failed("listen to signals"))
}

fn open_log(log: &Path) -> Result<File, Answer> {
    File::options().create(true).append(true).mode(0o600).open(log).map_err(failed("open the log"))
}

fn begin(order: &Order) -> Result<(Runner, Watch), Answer> {
    let folder = Folder(order.folder.clone());
    let lock = take_turn(&folder)?;
    folder.keep_room().map_err(failed("keep room in the folder"))?;
    let signals = settle()?;
    // Everything the runner leaves behind becomes our child.
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| failed("adopt what a runner leaves")(error.into()))?;
    let group = cgroup::Cgroup::make(order.memory_bytes);

    let log = open_log(&order.log)?;
    let claim = match order.accounts {
        Accounts::Each(uids) => {
            let claim = uids.claim().map_err(failed("find a free user"))?;
            Some(claim.ok_or_else(|| Answer::NoRoom("every user of LOCAL_UIDS is taken".to_owned()))?)
        }
        Accounts::Own | Accounts::Shared(_) => None,
    };
    let account = match order.accounts {
        Accounts::Own => None,
        Accounts::Shared(account) => Some(account),
        Accounts::Each(_) => claim.as_ref().map(Claim::account),
    };
    let scratch = make_scratch(account).map_err(failed("make a temporary folder"))?;
    let undo = |answer: Answer| {
        remove_scratch(&scratch);
        let _ = folder.forget_record();
        answer
    };
    let now = processes::uptime().map_err(|error| undo(failed("read the time since boot")(error)))?;
    let mut record = Record {
        boot: processes::boot().map_err(|error| undo(failed("find out about this boot")(error)))?,
        supervisor: own().map_err(|error| undo(failed("find myself")(error)))?,
        adopted_by: None,
        runner: None,
        scratch: scratch.clone(),
        group: group.as_ref().map(|group| group.path().to_owned()),
        uid: claim.as_ref().map(Claim::uid),
        limits: Limits {
            memory_bytes: order.memory_bytes,
            ends_at_uptime: now.checked_add(Duration::from_millis(order.max_lifetime_ms)),
        },
    };
    // Before the runner is there, so that there is never one without a record.
    folder.set_record(&record).map_err(|error| undo(failed("write the record")(error)))?;
    if now > order.start_by_uptime {
        return Err(undo(Answer::Late));
    }
    let start = || spawn(order, account, &scratch, &log);
    let spawned = match &group {
        Some(group) => group.around(start).map_err(|error| undo(failed("use a control group")(error)))?,
        None => start(),
    };
    let mut child = spawned.map_err(|error| undo(refusal(&order.program, &error)))?;
    let written = pid_of(&child).and_then(Identity::of).and_then(|runner| {
        record.runner = Some(runner);
        folder.set_record(&record)
    });
    if let Err(error) = written {
        let _ = child.kill();
        let _ = child.wait();
        return Err(undo(failed("write the record")(error)));
    }
    let watch = Watch::new((folder.clone(), record.limits), (lock, log), signals, scratch.clone(), group, claim);
    match (pid_of(&child), watch) {
        (Ok(first), Ok(watch)) => Ok((Runner::child(Pid::from_raw(first), record.uid), watch)),
        (Err(error), _) | (_, Err(error)) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(undo(failed("watch it")(error)))
        }
    }
}

/// Takes over from a supervisor that was killed. Its runner is not a child of ours, so how it ends is not known.
fn adopt(folder: Folder, log: &Path) -> Result<(Runner, Watch), Answer> {
    let lock = folder.try_lock().map_err(failed("lock the folder"))?.ok_or(Answer::Exists)?;
    let read = failed("read the folder");
    let record = folder.record().map_err(&read)?;
    let (Some(mut record), State::Unsupervised) = (record, folder.look().map_err(&read)?) else {
        return Err(Answer::Exists);
    };
    let signals = settle()?;
    record.adopted_by = Some(own().map_err(failed("find myself"))?);
    // Without it the deployer sends others, whom the lock keeps out: a full disk is no reason to leave the runner alone.
    let _ = folder.set_record(&record);
    let group = record.group.as_deref().and_then(cgroup::Cgroup::of);
    // Without it the user may not be this runner's alone any more, and is not killed as such.
    let claim = record.uid.and_then(|uid| reclaim(uid).ok());
    let uid = claim.as_ref().map(Claim::uid);
    let places = (folder, record.limits);
    let mut watch = Watch::new(places, (lock, open_log(log)?), signals, record.scratch.clone(), group, claim)
        .map_err(failed("watch it"))?;
    watch.say("its supervisor was killed, so another one watches it");
    Ok((Runner::adopted(record, uid), watch))
}

/// The user of a runner that goes on: nobody takes it while it runs something, but many look.
fn reclaim(uid: u32) -> io::Result<Claim> {
    let began = Instant::now();
    loop {
        match Claim::of(uid)? {
            Some(claim) => return Ok(claim),
            None if began.elapsed() > TURN => return Err(io::Error::other("somebody else has it")),
            None => sleep(Duration::from_millis(20)),
        }
    }
}

/// One name, one start: whoever asks, and however often.
fn take_turn(folder: &Folder) -> Result<File, Answer> {
    let began = Instant::now();
    loop {
        let lock = folder.try_lock().map_err(failed("lock the folder"))?;
        let known = folder.exit().map_err(failed("read the folder"))?.is_some()
            || folder
                .record()
                .map_err(failed("read the folder"))?
                .is_some_and(|record| lock.is_some() || record.runner.is_some());
        match lock {
            _ if known => return Err(Answer::Exists),
            Some(lock) => return Ok(lock),
            None if began.elapsed() > TURN => return Err(Answer::Failed("somebody else is starting it".to_owned())),
            None => sleep(Duration::from_millis(20)),
        }
    }
}

fn own() -> io::Result<Identity> {
    i32::try_from(std::process::id()).map_err(io::Error::other).and_then(Identity::of)
}

fn pid_of(child: &Child) -> io::Result<i32> {
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// A home and temporary folder for this runner alone. In the system's temporary folder, which other users reach and whose
/// name is short: the sockets that Chromium makes there must fit 108 characters.
fn make_scratch(account: Option<Account>) -> io::Result<PathBuf> {
    let id = Uuid::new_v4().simple().to_string();
    let scratch = std::env::temp_dir().join(format!("{SCRATCH}{}", &id[..12]));
    // Fails when it is there: a stranger's folder is never ours.
    DirBuilder::new().mode(0o700).create(&scratch)?;
    if let Some(account) = account {
        chown(&scratch, Some(account.uid), Some(account.gid))?;
    }
    Ok(scratch)
}

fn spawn(order: &Order, account: Option<Account>, scratch: &Path, log: &File) -> io::Result<Child> {
    let mut command = Command::new(&order.program);
    command
        .env_clear()
        .env("HOME", scratch)
        .env("TMPDIR", scratch)
        .envs(&order.environment)
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .process_group(0);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command.spawn()
}

fn refusal(program: &Path, error: &io::Error) -> Answer {
    let why = format!("cannot run {}: {error}", program.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            Answer::Rejected(why)
        }
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Answer::NoRoom(why),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => Answer::Rejected(why),
        _ => Answer::Failed(why),
    }
}

/// Whether a folder holds nothing, and is old enough that nobody is about to begin in it.
pub(crate) fn is_stale(folder: &Folder) -> bool {
    const OLD: Duration = Duration::from_secs(60);
    let old = fs::metadata(&folder.0)
        .and_then(|found| found.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD));
    old && matches!((folder.record(), folder.exit()), (Ok(None), Ok(None))) && matches!(folder.try_lock(), Ok(Some(_)))
}
