//! The user who runs runners.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use greenroom_deployer::Error;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};

use crate::Config;

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

    /// Asks the kernel, as modes alone do not tell (access lists, mounts).
    fn can_run(self, program: &Path) -> bool {
        let mut test = Command::new("/usr/bin/test");
        test.arg("-x").arg(program).current_dir("/").uid(self.uid).gid(self.gid);
        test.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        test.status().is_ok_and(|status| status.success())
    }
}

/// Who runs runners; none: whoever we are.
pub(crate) fn choose(config: &Config) -> Result<Option<Account>, Error> {
    let own = Uid::effective();
    if config.user == "auto" {
        if !own.is_root() {
            return Ok(None);
        }
        let Some(nobody) = Account::named("nobody") else {
            tracing::warn!("there is no user nobody: local runners run as root, set LOCAL_USER to another");
            return Ok(None);
        };
        let browser = std::env::var_os("CHROMIUM").map(PathBuf::from).filter(|path| path.is_absolute());
        let unreachable = std::iter::once(&config.runner).chain(&browser).find(|program| !nobody.can_run(program));
        if let Some(program) = unreachable {
            tracing::warn!(
                program = %program.display(),
                "user nobody cannot run this program: local runners run as root, move it or set LOCAL_USER"
            );
            return Ok(None);
        }
        return Ok(Some(nobody));
    }
    let account = Account::named(&config.user)
        .ok_or_else(|| Error::Rejected(format!("LOCAL_USER: there is no user {:?}", config.user)))?;
    if account.uid == own.as_raw() {
        Ok(None)
    } else if own.is_root() {
        Ok(Some(account))
    } else {
        Err(Error::Rejected(format!("LOCAL_USER: only root can run runners as {:?}", config.user)))
    }
}
