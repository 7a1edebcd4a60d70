//! The data folder: where it is, whose it is, and how it is made.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::SUPERUSER;
use crate::account::Account;
use crate::{Binaries, Error, Password};

/// The folder that holds the data folder: `dir`, or one below `/var/tmp` when the user Postgres runs as cannot get to
/// `dir`.
pub(super) fn home(dir: &Path) -> Result<PathBuf, Error> {
    let account = Account::choose()?;
    let Some(obstacle) = account.obstacle(&dir.join("data")) else {
        return Ok(dir.to_owned());
    };

    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let home = PathBuf::from(format!("/var/tmp/greenroom-{:016x}", hasher.finish()));
    tracing::info!(
        wanted = %dir.display(), data = %home.display(), obstacle = %obstacle.display(),
        "postgres' user cannot reach the folder; using another data folder"
    );
    match DirBuilder::new().mode(0o755).create(&home) {
        Ok(()) => Ok(home),
        // Anybody can make folders there: take none that somebody prepared for us.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(&home) {
            Ok(found) if found.is_dir() && found.uid() == 0 => Ok(home),
            Ok(_) => Err(Error::Foreign { path: home }),
            Err(source) => Err(Error::io("look at", home, source)),
        },
        Err(source) => Err(Error::io("create", home, source)),
    }
}

/// Makes the data folder unless it is there, and says who serves it.
pub(super) async fn prepare(binaries: &Binaries, home: &Path, data: &Path) -> Result<Account, Error> {
    let account = Account::for_data(data)?;
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(version) if version.trim() == binaries.postgres_major.to_string() => {
            forget_stranger(&data.join("postmaster.pid"));
            Ok(account)
        }
        Ok(version) => Err(Error::DataVersion {
            data: data.to_owned(),
            found: version.trim().to_owned(),
            expected: binaries.postgres_major,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            initialise(binaries, &home.join("data.new"), data, account).await?;
            Ok(account)
        }
        Err(source) => Err(Error::io("read", data.join("PG_VERSION"), source)),
    }
}

/// Under another name first: an interrupted `initdb` leaves no data folder that looks complete.
async fn initialise(binaries: &Binaries, unfinished: &Path, data: &Path, account: Account) -> Result<(), Error> {
    match fs::remove_dir_all(unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", unfinished, source)),
        _ => {}
    }
    fs::create_dir(unfinished).map_err(|source| Error::io("create", unfinished, source))?;
    fs::set_permissions(unfinished, Permissions::from_mode(0o700))
        .map_err(|source| Error::io("protect", unfinished, source))?;
    account.own(unfinished)?;

    let mut command = Command::new(&binaries.initdb);
    command.arg("-D").arg(unfinished).args([
        // Nobody, until `protect` has said who.
        "--auth=reject",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
        "-U",
        SUPERUSER,
    ]);
    command.current_dir(unfinished).env("LC_ALL", "C").kill_on_drop(true);
    if let Account::Other { uid, gid } = account {
        command.uid(uid).gid(gid);
    }
    let output = command.output().await.map_err(|source| Error::io("run", &binaries.initdb, source))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(Error::Initdb { status: output.status, output: String::from_utf8_lossy(&said).trim().to_owned() });
    }
    fs::rename(unfinished, data).map_err(|source| Error::io("rename", unfinished, source))
}

/// Who may connect, and how: everybody shows a password, from wherever. Nobody replicates.
const WHO_CONNECTS: &str = "\
# Greenroom writes this file at every start.
local all all scram-sha-256
host all all all scram-sha-256
";

/// Sees to it that nobody gets in without this password. Said to Postgres while it listens to nobody, because data of older
/// versions lets everybody in, and because the secret that the password is derived from may be another one than the last time.
pub(super) async fn protect(
    binaries: &Binaries,
    data: &Path,
    account: Account,
    settings: &[String],
    password: &Password,
) -> Result<(), Error> {
    write_private(&data.join("pg_hba.conf"), WHO_CONNECTS, account)?;
    let io = |source| Error::io("run", &binaries.postgres, source);
    let mut command = Command::new(&binaries.postgres);
    command.args(["--single", "-D"]).arg(data);
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    command.args(["-c", "password_encryption=scram-sha-256", "-c", "log_statement=none", "postgres"]);
    command.current_dir(data).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Account::Other { uid, gid } = account {
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn().map_err(io)?;
    // By its input, because others see command lines.
    let statement = format!("ALTER ROLE \"{SUPERUSER}\" PASSWORD '{}'\n", password.as_str());
    let mut input = child.stdin.take().expect("the input is a pipe");
    // One that has ended does not read: how it ended says more.
    let _ = input.write_all(statement.as_bytes()).await;
    drop(input);
    let output = child.wait_with_output().await.map_err(io)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace(password.as_str(), "(hidden)");
    // It ends well even when it refused a statement.
    if output.status.success() && !["ERROR:", "FATAL:", "PANIC:"].iter().any(|level| said.contains(level)) {
        return Ok(());
    }
    Err(Error::Password { status: output.status, output: said.trim().to_owned() })
}

/// Writes a file for this user's eyes alone, in one step.
fn write_private(path: &Path, content: &str, account: Account) -> Result<(), Error> {
    let unfinished = path.with_extension("new");
    let io = |source| Error::io("write", &unfinished, source);
    match fs::remove_file(&unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", unfinished, source)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    file.write_all(content.as_bytes()).map_err(io)?;
    account.own(&unfinished)?;
    fs::rename(&unfinished, path).map_err(|source| Error::io("write", path, source))
}

/// Nothing works on this data any more (leftovers were ended), so a living process that the pid file names is a
/// stranger who was given the pid since. Postgres cannot tell, and would not start.
fn forget_stranger(pid_file: &Path) {
    let content = fs::read_to_string(pid_file).unwrap_or_default();
    if content.lines().next().is_some_and(|pid| Path::new("/proc").join(pid.trim()).exists()) {
        tracing::info!(file = %pid_file.display(), "removing a stale postgres pid file");
        let _ = fs::remove_file(pid_file);
    }
}
