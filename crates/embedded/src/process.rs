//! One server process, its watchdog and its log.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::Error;
use crate::account::Account;

/// Becomes the server, and leaves a watchdog beside it that holds the other end of a pipe from us. When we are gone,
/// whatever the reason, the pipe ends, and the watchdog ends the server: politely, firmly, then by force.
///
/// `PR_SET_PDEATHSIG` would be shorter, but needs `unsafe`, does not survive a change of user, and is Linux only. The
/// watchdog stays in the server's process group, of which the server's pid is the name: so that pid cannot be given to
/// another process while the watchdog lives.
const WATCHDOG: &str = r#"
tries=$1
shift
exec 3<&0 </dev/null
( # Its parent ends at once, so that it is no child of the server: Postgres takes a strange child's death for a crash.
    {
        cd /
        read -r line <&3
        for signal in INT QUIT KILL; do
            kill -s $signal $$ || exit 0
            try=0
            while [ $try -lt $tries ]; do
                sleep 0.1
                kill -s 0 $$ || exit 0
                try=$((try + 1))
            done
        done
    } >/dev/null 2>&1 &
)
exec "$@" 3<&-
"#;

/// How long a fast shutdown may take: Postgres writes a checkpoint, an engine ends what it runs.
const POLITE: Duration = Duration::from_secs(15);
/// How long an immediate one may take: Postgres gives its children five seconds.
const FIRM: Duration = Duration::from_secs(7);
/// How long the kernel may take to remove a killed process.
const FORCED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What to run, where, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// The name of the program, which is also the name the kernel gives the process.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The server works here, and no other process of its name does: by that it is found again.
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) account: Account,
    /// How it ends when nobody has the time to ask first, as in a drop.
    pub(crate) farewell: Farewell,
}

/// How a server is told to end at short notice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Farewell {
    /// What a drop sends.
    pub(crate) signal: Signal,
    /// How long each signal of the watchdog and of a drop may take.
    pub(crate) patience: Duration,
}

impl Farewell {
    /// An immediate shutdown instead of SIGKILL at once: it takes milliseconds, and Postgres gives its shared memory back.
    pub(crate) const QUICK: Self = Self { signal: Signal::SIGQUIT, patience: Duration::from_millis(800) };
}

impl Launch {
    pub(crate) fn died(&self, status: ExitStatus) -> Error {
        Error::Died { name: self.name, status, log: self.log.clone(), tail: self.tail() }
    }

    /// The last lines of the log of this start.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Child,
    pid: Pid,
    /// Held open for the watchdog; the kernel closes it when we die.
    _lifeline: OwnedFd,
}

impl Process {
    pub(crate) fn spawn(launch: Launch) -> Result<Self, Error> {
        let io = |source| Error::io("run", &launch.program, source);
        // Each start has a log of its own, so that an error shows the lines of this start; the one before is kept
        // beside it.
        if launch.log.exists() {
            let before = launch.log.with_extension("log.old");
            fs::rename(&launch.log, before).map_err(|source| Error::io("rename", &launch.log, source))?;
        }
        // What failed is in it, and that is nobody else's business.
        let log = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&launch.log);
        let log = log.map_err(|source| Error::io("create", &launch.log, source))?;
        let log_too = log.try_clone().map_err(|source| Error::io("open", &launch.log, source))?;

        let mut command = Command::new("/bin/sh");
        let tries = launch.farewell.patience.as_millis() / 100;
        command.arg("-c").arg(WATCHDOG).arg("watchdog").arg(tries.to_string());
        command.arg(&launch.program).args(&launch.arguments);
        command.current_dir(&launch.dir).env("LC_ALL", "C").env("PWD", &launch.dir);
        command.stdin(Stdio::piped()).stdout(log).stderr(log_too);
        command.process_group(0);
        if let Account::Other { uid, gid } = launch.account {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().map_err(io)?;
        let pid = Pid::from_raw(
            child.id().and_then(|id| i32::try_from(id).ok()).expect("a child that was not waited for has a pid"),
        );
        // Taken out of the child, because waiting for a child closes its input.
        let lifeline = child.stdin.take().expect("the input is a pipe").into_owned_fd().map_err(io)?;
        Ok(Self { launch, child, pid, _lifeline: lifeline })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// `Some` once the server has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(|source| Error::io("wait for", &self.launch.program, source))
    }

    /// Waits until the server ends by itself.
    pub(crate) async fn death(&mut self) -> Error {
        match self.child.wait().await {
            Ok(status) => self.launch.died(status),
            Err(source) => Error::io("wait for", &self.launch.program, source),
        }
    }

    /// Ends the server in good order; by force when that takes too long.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        // Postgres: fast, then immediate shutdown. nats-server: both mean stop.
        for (signal, patience) in [(Signal::SIGINT, POLITE), (Signal::SIGQUIT, FIRM)] {
            if self.ended()?.is_none() {
                let _ = kill(self.pid, signal);
                let _ = tokio::time::timeout(patience, self.child.wait()).await;
            }
        }
        self.kill().await
    }

    /// Ends the server and all of its children at once, as a crash of the machine would.
    pub(crate) async fn kill(mut self) -> Result<(), Error> {
        let family = self.kill_family();
        let _ = self.child.wait().await;
        end_all(self.launch.name, &self.launch.dir, family, &[(Signal::SIGKILL, FORCED)]).await
    }

    /// The group is the server and its watchdog; Postgres puts each of its own children into a group of its own.
    fn kill_family(&self) -> BTreeSet<Pid> {
        let family = working_in(self.launch.name, &self.launch.dir);
        let _ = killpg(self.pid, Signal::SIGKILL);
        for pid in &family {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Farewell { signal, patience } = self.launch.farewell;
        let _ = if matches!(self.child.try_wait(), Ok(None)) { kill(self.pid, signal) } else { Ok(()) };
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && started.elapsed() < patience {
            std::thread::sleep(POLL);
        }
        self.kill_family();
        let _ = self.child.try_wait();
    }
}

/// Ends every process of that name that works in `dir`, by one signal after the other, each with its patience, and waits
/// for those in `family`, too.
async fn end_all(
    name: &'static str,
    dir: &Path,
    mut family: BTreeSet<Pid>,
    signals: &[(Signal, Duration)],
) -> Result<(), Error> {
    for (signal, patience) in signals {
        let started = Instant::now();
        let mut told = BTreeSet::new();
        while started.elapsed() < *patience {
            for pid in working_in(name, dir) {
                family.insert(pid);
                // Once each: Postgres takes a second one for an order to hurry. Those that were just born are told, too.
                if told.insert(pid) {
                    let _ = kill(pid, *signal);
                }
            }
            // A process that is ending loses its working directory before it is gone, so that alone is no evidence.
            family.retain(|pid| lives(*pid));
            if family.is_empty() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
    Err(Error::Unkillable { name, dir: dir.to_owned() })
}

/// Ends what a killed owner of this folder left running.
pub(crate) async fn end_leftovers(name: &'static str, dir: &Path) -> Result<(), Error> {
    let left = working_in(name, dir);
    if left.is_empty() {
        return Ok(());
    }
    tracing::warn!(server = name, dir = %dir.display(), processes = left.len(), "stopping a server of a killed process");
    let second = Duration::from_secs(1);
    end_all(name, dir, left, &[(Signal::SIGINT, 3 * second), (Signal::SIGQUIT, 3 * second), (Signal::SIGKILL, FORCED)])
        .await
}

/// The processes of that name whose working directory is `dir`. Not from a pid file, whose pid may be somebody else's
/// by now.
fn working_in(name: &str, dir: &Path) -> BTreeSet<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let proc = process.path();
            let ours = fs::read_link(proc.join("cwd")).ok()? == dir
                && fs::read_to_string(proc.join("comm")).ok()?.trim_end() == name;
            ours.then_some(Pid::from_raw(pid))
        })
        .collect()
}

/// Whether the process is still there. A zombie is not: only its parent has not looked yet.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
