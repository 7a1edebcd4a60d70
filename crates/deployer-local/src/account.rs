//! The user who runs runners.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use greenroom_deployer::Error;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};

use crate::{Config, Uids, uids};

/// Another user than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    fn named(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten()?;
        Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// The program that it cannot run: the runner's, or the browser.
    fn cannot_run(self, config: &Config) -> Option<PathBuf> {
        let browser = std::env::var_os("CHROMIUM").map(PathBuf::from).filter(|path| path.is_absolute());
        std::iter::once(config.runner.clone()).chain(browser).find(|program| !self.can_run(program))
    }

    /// Asks the kernel, as modes alone do not tell (access lists, mounts).
    fn can_run(self, program: &Path) -> bool {
        let mut test = Command::new("/usr/bin/test");
        test.arg("-x").arg(program).current_dir("/").uid(self.uid).gid(self.gid);
        test.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        test.status().is_ok_and(|status| status.success())
    }
}

/// The user that runs runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Accounts {
    /// The user of this process.
    Own,
    /// All of them are this user.
    Shared(Account),
    /// Each is one of these.
    Each(Uids),
}

/// Finds out who can run runners here.
pub(crate) fn choose(config: &Config) -> Result<Accounts, Error> {
    let own = Uid::effective();
    if config.user == "auto" {
        if !own.is_root() {
            return Ok(Accounts::Own);
        }
        if let Some((first, last)) = config.uids.range() {
            let account = |uid| Account { uid, gid: uid };
            let unreachable = [first, last].into_iter().find_map(|uid| account(uid).cannot_run(config));
            match (unreachable, uids::make_locks()) {
                (None, Ok(_)) => return Ok(Accounts::Each(config.uids)),
                (Some(program), _) => tracing::warn!(
                    program = %program.display(),
                    "users of LOCAL_UIDS cannot run this program: local runners share one account, move it"
                ),
                (None, Err(error)) => tracing::warn!(
                    %error,
                    "users of LOCAL_UIDS cannot be locked in /run/greenroom: local runners share one account"
                ),
            }
        }
        let Some(nobody) = Account::named("nobody") else {
            tracing::warn!("there is no user nobody: local runners run as root, set LOCAL_USER to another");
            return Ok(Accounts::Own);
        };
        if let Some(program) = nobody.cannot_run(config) {
            tracing::warn!(
                program = %program.display(),
                "user nobody cannot run this program: local runners run as root, move it or set LOCAL_USER"
            );
            return Ok(Accounts::Own);
        }
        return Ok(Accounts::Shared(nobody));
    }
    let account = Account::named(&config.user)
        .ok_or_else(|| Error::Rejected(format!("LOCAL_USER: there is no user {:?}", config.user)))?;
    if account.uid == own.as_raw() {
        Ok(Accounts::Own)
    } else if own.is_root() {
        Ok(Accounts::Shared(account))
    } else {
        Err(Error::Rejected(format!("LOCAL_USER: only root can run runners as {:?}", config.user)))
    }
}
