//! Settings of local platforms.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use greenroom_chassis::Settings;

use crate::Uids;

/// How runners are run here.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything about them is written down.
    pub dir: PathBuf,
    /// What a runner is: a program that is called without arguments.
    pub runner: PathBuf,
    /// Who runs it, when we are root: a user's name, or `auto`.
    pub user: String,
    /// Users that runners have for themselves, when we are root and `user` is `auto`.
    pub uids: Uids,
    /// How long what a runner printed is kept after its last word.
    pub logs_kept: Duration,
    /// What supervises a runner: a program and its arguments. Not a setting: it has to fit this very version.
    pub supervisor: Vec<OsString>,
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-local");
        let dir = settings.get(
            "LOCAL_DIR",
            ".greenroom/local",
            "Where local platforms write down their runners, and what these print.",
        );
        let runner = settings.optional(
            "LOCAL_RUNNER",
            "The program that local platforms run as a runner; default: greenroom-bot beside this program.",
        );
        let user = settings.get(
            "LOCAL_USER",
            "auto",
            "Who runs local runners when Greenroom is root: a user, or auto: one of LOCAL_UIDS for each; without these nobody, and root where such a user cannot reach the runner's program or CHROMIUM.",
        );
        let uids = settings.get(
            "LOCAL_UIDS",
            "60706-61183",
            "Numbers of users, FIRST-LAST, of which each local runner has one to itself when Greenroom is root and LOCAL_USER is auto. Such a number has no other use on the machine: its processes and its files in temporary folders are removed with its runner. Numbers of users that have names, or run something, are left out. Empty: all runners share one account.",
        );
        let logs_kept = settings.millis(
            "LOCAL_LOGS_KEPT_MS",
            Duration::from_secs(7 * 24 * 3600),
            "How long what a local runner printed is kept after its last word.",
        );
        let own = std::env::current_exe().unwrap_or_else(|_| "greenroom".into());
        Self {
            dir,
            runner: runner.unwrap_or_else(|| own.with_file_name("greenroom-bot")),
            user,
            uids,
            logs_kept,
            supervisor: vec![own.into(), "local-supervise".into()],
        }
    }
}
