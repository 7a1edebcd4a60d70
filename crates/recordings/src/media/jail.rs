//! Starts a program that sees its folder and the system's libraries, and nothing else.
//!
//! Landlock restricts the thread that asks for it and all processes that this thread starts: a thread is made for each
//! start, locks itself in, starts the program and ends. Nothing has to run between fork and exec.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::Error;

/// The newest rules that we know; an older kernel applies those that it knows.
const RULES: ABI = ABI::V6;
/// Programs and libraries, wherever a distribution keeps them: read and executed, never written.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/alternatives",
];
/// Devices that hold nothing of anybody's.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];
/// Makes a namespace without a network, for a user who need not be root.
const WITHOUT_NETWORK: &[&str] = &["--user", "--net", "--"];

/// Starts a command that may read and write `folder`, and may read and execute what the system and the program need.
pub(super) async fn spawn(command: Command, folder: &Path, program: &Path) -> Result<Child, Error> {
    let command = if namespaces().await { without_network(&command) } else { command };
    let (folder, program) = (folder.to_owned(), program.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let (tell, told) = tokio::sync::oneshot::channel();
    let start = move || {
        let _entered = runtime.enter();
        let mut command = command;
        let started = lock_in(&folder, &program).and_then(|()| Ok(command.spawn()?));
        // Whoever asked may be gone; dropped, the child is killed.
        let _ = tell.send(started);
    };
    std::thread::Builder::new().name("media".to_owned()).spawn(start)?;
    told.await.map_err(|_| Error::Io(std::io::Error::other("the thread that starts programs died")))?
}

/// The program as a file: a path, or a name on `PATH`.
pub(super) fn find(program: &Path) -> Option<PathBuf> {
    let found = if program.components().count() > 1 {
        Some(program.to_owned())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    };
    // Where it really is: rules are about files, not about names.
    found.and_then(|file| file.canonicalize().ok()).filter(|file| file.is_file())
}

/// Restricts this thread and what it starts.
fn lock_in(folder: &Path, program: &Path) -> Result<(), Error> {
    let beside = program.parent().map(|folder| [folder.to_owned(), folder.join("../lib")]);
    let readable = SYSTEM.iter().map(PathBuf::from).chain(beside.into_iter().flatten());
    let restricted = restrict(folder, readable).map_err(|error| Error::Io(std::io::Error::other(error)))?;
    static TOLD: OnceLock<()> = OnceLock::new();
    if restricted == RulesetStatus::NotEnforced {
        TOLD.get_or_init(|| {
            tracing::warn!("this kernel has no Landlock: ffmpeg sees every file that the recordings service may read");
        });
    }
    Ok(())
}

fn restrict(folder: &Path, readable: impl Iterator<Item = PathBuf>) -> Result<RulesetStatus, RulesetError> {
    let work = AccessFs::from_all(RULES) & !AccessFs::Execute;
    let devices = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(RULES)))?
        .add_rules(path_beneath_rules(DEVICES, devices))?
        .add_rules(path_beneath_rules([folder], work))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Whether this system lets us make a namespace without a network. Asked once.
async fn namespaces() -> bool {
    static ALLOWED: OnceCell<bool> = OnceCell::const_new();
    let ask = || async {
        let mut command = Command::new("unshare");
        command.args(WITHOUT_NETWORK).arg("true").kill_on_drop(true);
        let null = std::process::Stdio::null;
        let allowed =
            command.stdin(null()).stdout(null()).stderr(null()).status().await.is_ok_and(|status| status.success());
        if !allowed {
            tracing::info!("network namespaces are unavailable; only Landlock isolates ffmpeg from the network");
        }
        allowed
    };
    *ALLOWED.get_or_init(ask).await
}

/// The same command in a network namespace of its own.
fn without_network(command: &Command) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new("unshare");
    outer.args(WITHOUT_NETWORK).arg(inner.get_program()).args(inner.get_args());
    outer.env_clear().env("LC_ALL", "C").kill_on_drop(true);
    if let Some(folder) = inner.get_current_dir() {
        outer.current_dir(folder);
    }
    let piped = std::process::Stdio::piped;
    outer.stdin(piped()).stdout(piped()).stderr(piped());
    outer
}
