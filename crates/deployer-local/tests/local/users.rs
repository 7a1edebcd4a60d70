//! Where Greenroom is root, each runner has a user of its own. Elsewhere there is nothing to see.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use greenroom_deployer::{Deployer, Error, Progress};
use greenroom_domain::RunnerId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::stage::{Stage, exit, is_there, launch, new_runner, start, until};

/// So many users that no other test has.
fn users(count: u32) -> (u32, u32) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let taken = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first = 100_000 + (std::process::id() % 1_000_000) * 16 + taken * 4;
    (first, first + count - 1)
}

fn stage_with((first, last): (u32, u32)) -> Stage {
    let mut stage = Stage::new();
    stage.config.uids = format!("{first}-{last}").parse().expect("a range");
    stage
}

/// Returns the text that a runner printed after this word.
fn word(stage: &Stage, runner: RunnerId, name: &str) -> Option<String> {
    let log = stage.log(runner);
    Some(log.split(&format!("{name}=")).nth(1)?.split_once('\n')?.0.to_owned())
}

/// A process of a user, ended with its test.
struct Sleeper(Child);

impl Sleeper {
    fn of(uid: u32) -> Self {
        Self(Command::new("sleep").arg("600").uid(uid).gid(uid).current_dir("/").spawn().expect("sleep"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn two_runners_are_two_users_and_neither_reads_or_signals_the_other() {
    if !Uid::effective().is_root() {
        return;
    }
    let stage = Stage::new();
    let driver = stage.driver();
    let script =
        "echo x > $HOME/private; echo uid=$(id -u); echo groups=$(id -G); echo pid=$$; while :; do sleep 0.1; done";
    let first = start(&driver, script).await;
    until("it starts", || word(&stage, first, "pid").is_some()).await;
    let pid = word(&stage, first, "pid").expect("printed");
    let scratch = stage.record(first)["scratch"].as_str().expect("a path").to_owned();
    let attack = format!(
        "echo uid=$(id -u); cat /proc/{pid}/environ && echo read-its-environment; cat {scratch}/private && echo read-its-file; \
         ls {scratch} && echo listed-its-folder; kill -KILL {pid} && echo killed-it; echo done=1"
    );
    let second = start(&driver, &attack).await;
    exit(&driver, second).await;
    let log = stage.log(second);
    for done in ["read-its-environment", "read-its-file", "listed-its-folder", "killed-it"] {
        assert!(!log.lines().any(|line| line == done), "{log}");
    }
    assert!(is_there(pid.parse().expect("a number")), "{log}");
    let uids = [first, second]
        .map(|runner| word(&stage, runner, "uid").and_then(|uid| uid.parse::<u32>().ok()).expect("printed"));
    assert_ne!(uids[0], uids[1]);
    assert!(uids.iter().all(|uid| (60_706..=61_183).contains(uid)), "{uids:?}");
    assert_eq!(word(&stage, first, "groups"), Some(uids[0].to_string()), "and no other groups");
}

#[tokio::test]
async fn a_user_is_had_by_one_runner_at_a_time_and_what_it_left_is_removed() {
    if !Uid::effective().is_root() {
        return;
    }
    let (uid, _) = users(1);
    let stage = stage_with((uid, uid));
    let driver = stage.driver();
    let left: Vec<String> = ["/tmp", "/dev/shm"].map(|place| format!("{place}/greenroom-test-{uid}")).into();
    let script = format!(
        "mkdir {0}; echo x > {0}/file; echo x > {1}; echo started=1; while [ ! -e $HOME/end ]; do sleep 0.05; done",
        left[0], left[1]
    );
    let first = start(&driver, &script).await;
    until("it starts", || word(&stage, first, "started").is_some()).await;
    assert!(left.iter().all(|path| Path::new(path).exists()));
    let refused = driver.ensure(&launch(new_runner(), "exit 0"), &Progress::silent()).await;
    assert!(matches!(&refused, Err(Error::NoCapacity(why)) if why.contains("LOCAL_UIDS")), "{refused:?}");

    let scratch = stage.record(first)["scratch"].as_str().expect("a path").to_owned();
    std::fs::write(Path::new(&scratch).join("end"), "").expect("written");
    assert_eq!(exit(&driver, first).await.code, Some(0));
    assert!(!left.iter().any(|path| Path::new(path).exists()), "{left:?}");
    let supervisor = stage.pid_of(first, "supervisor");
    until("its supervisor has let go", || !is_there(supervisor)).await;
    let next = start(&driver, "echo uid=$(id -u)").await;
    exit(&driver, next).await;
    assert_eq!(word(&stage, next, "uid"), Some(uid.to_string()));
}

#[tokio::test]
async fn users_that_have_a_name_or_run_something_are_left_alone() {
    if !Uid::effective().is_root() {
        return;
    }
    let (busy, free) = users(2);
    let mut sleeper = Sleeper::of(busy);
    let stage = stage_with((busy, free));
    let driver = stage.driver();
    let runner = start(&driver, "echo uid=$(id -u)").await;
    exit(&driver, runner).await;
    assert_eq!(word(&stage, runner, "uid"), Some(free.to_string()));
    assert_eq!(sleeper.0.try_wait().expect("looked at"), None, "it was not touched");

    let nobody = nix::unistd::User::from_name("nobody").expect("readable").expect("there").uid.as_raw();
    let stage = stage_with((nobody, nobody));
    let refused = stage.driver().ensure(&launch(new_runner(), "exit 0"), &Progress::silent()).await;
    assert!(matches!(refused, Err(Error::NoCapacity(_))), "{refused:?}");
}

#[tokio::test]
async fn the_user_of_a_runner_whose_supervisor_was_killed_is_not_given_to_another() {
    if !Uid::effective().is_root() {
        return;
    }
    let (uid, _) = users(1);
    let stage = stage_with((uid, uid));
    let driver = stage.driver();
    let runner = start(&driver, "trap 'exit 5' TERM; echo started=1; while :; do sleep 0.05; done").await;
    until("it starts", || word(&stage, runner, "started").is_some()).await;
    let full = async || {
        let refused = driver.ensure(&launch(new_runner(), "exit 0"), &Progress::silent()).await;
        assert!(matches!(refused, Err(Error::NoCapacity(_))), "{refused:?}");
    };
    let supervisor = stage.pid_of(runner, "supervisor");
    kill(Pid::from_raw(i32::try_from(supervisor).expect("fits")), Signal::SIGKILL).expect("killed");
    until("it is dead", || !is_there(supervisor)).await;
    full().await;
    // It is taken over, and keeps its user.
    driver.stop(runner, Duration::from_secs(600)).await.expect("asked");
    exit(&driver, runner).await;
    let supervisor = stage.pid_of(runner, "adopted_by");
    until("the other one has let go", || !is_there(supervisor)).await;
    let next = start(&driver, "exit 7").await;
    assert_eq!(exit(&driver, next).await.code, Some(7));
}
