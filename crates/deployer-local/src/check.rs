//! What this machine says to being a platform.

use std::fs;
use std::path::Path;

use greenroom_chassis::Machine;
use greenroom_deployer::{Finding, Quota, Wanted};

use crate::Config;
use crate::account::{self, Account, Accounts};

pub(crate) fn check(config: &Config, wanted: &Wanted) -> Vec<Finding> {
    vec![runner(config), user(config), folder(&config.dir), capacity(wanted)]
}

fn runner(config: &Config) -> Finding {
    let program = config.runner.display();
    if config.runner.is_file() {
        return Finding::passed("runner", format!("{program}"));
    }
    let advice = "cargo build -p greenroom-bot --bins builds ours; LOCAL_RUNNER names another";
    Finding::failed("runner", format!("{program} is not there"), advice)
}

fn user(config: &Config) -> Finding {
    match account::choose(config) {
        Ok(Accounts::Each(uids)) => {
            let (first, last) = uids.range().unwrap_or_default();
            Finding::passed("isolation", format!("none, but each runner has a user to itself, {first} to {last}"))
        }
        Ok(Accounts::Shared(Account { uid, gid })) => {
            Finding::passed("isolation", format!("none, but runners are user {uid} of group {gid}, all of them"))
        }
        Ok(Accounts::Own) => Finding::warning(
            "isolation",
            "none: runners share this user, network and file system with everything here",
            "for meetings of strangers use a platform with containers",
        ),
        Err(error) => Finding::failed("isolation", error.to_string(), "set LOCAL_USER to a user that exists"),
    }
}

fn folder(dir: &Path) -> Finding {
    let tried = fs::create_dir_all(dir).and_then(|()| tempfile(dir));
    match tried {
        Ok(()) => Finding::passed("folder", format!("{} can be written to", dir.display())),
        Err(error) => {
            Finding::failed("folder", format!("{}: {error}", dir.display()), "set LOCAL_DIR to a folder of ours")
        }
    }
}

fn tempfile(dir: &Path) -> std::io::Result<()> {
    let file = dir.join(format!("check-{}", uuid::Uuid::now_v7()));
    fs::write(&file, "")?;
    fs::remove_file(file)
}

/// All of the machine, of which others want something too.
fn capacity(wanted: &Wanted) -> Finding {
    let Machine { processors, memory_bytes } = Machine::look();
    let cpu_millis = processors.map(|processors| processors * 1000);
    let machine = Quota { cpu_millis, memory_bytes, ..Quota::default() };
    let mut finding = machine.finding(wanted, "LOCAL_BOT_LIMIT");
    finding.subject = "capacity".to_owned();
    finding
}
