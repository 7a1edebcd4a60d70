//! What local runners survive, and what of them does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::stage::{Stage, exit, is_there, launch, new_runner, start, until};
use futures::StreamExt as _;
use greenroom_chassis::Clock;
use greenroom_deployer::{Deployer, Error, Observed, Progress};
use greenroom_domain::{Exit, RunnerId, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

const PATIENT: &str = "trap 'exit 5' TERM; echo started; while :; do sleep 0.05; done";

fn killed(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).expect("fits")), Signal::SIGKILL).expect("killed");
}

/// Not a test: the deployer process that the next one kills.
#[tokio::test]
#[ignore = "started by a test of this file"]
async fn a_deployer_process() {
    let Ok(words) = std::env::var("GREENROOM_TEST_DEPLOYER") else { return };
    let (state, runner, name) = {
        let mut words = words.split('\n');
        (words.next(), words.next(), words.next())
    };
    let mut stage = Stage::new();
    let own = stage.config.clone();
    stage.config.dir = state.expect("a folder").into();
    stage.config.runner = runner.expect("a program").into();
    let driver = stage.driver();
    driver
        .ensure(&launch(name.expect("a name").parse().expect("a runner"), PATIENT), &Progress::silent())
        .await
        .expect("started");
    // Its folder is not this process's to clear.
    stage.config = own;
    println!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_start_is_too_late_by_the_services_clock_and_not_by_the_wall_clock() {
    // The wall clock has jumped five hours ahead, and the services have not followed it.
    fn services_time() -> Timestamp {
        Timestamp::now() - jiff::SignedDuration::from_hours(5)
    }
    let stage = Stage::new();
    let driver = Stage::driver_with_clock(&stage.config, Clock::from_fn(services_time));
    let runner = new_runner();
    let mut launch = launch(runner, "exit 0");
    launch.start_by = services_time() + jiff::SignedDuration::from_secs(600);
    driver.ensure(&launch, &Progress::silent()).await.expect("started");
    assert_eq!(exit(&driver, runner).await.code, Some(0));

    launch.spec.runner = new_runner();
    launch.start_by = services_time() - jiff::SignedDuration::from_secs(1);
    let late = driver.ensure(&launch, &Progress::silent()).await;
    assert_eq!(late, Err(Error::Transient("it is too late".to_owned())));
}

#[tokio::test]
async fn other_users_read_nothing_of_a_runner() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, PATIENT).await;
    let folder = stage.folder(runner);
    until("its use is measured", || folder.join("usage.json").exists()).await;
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in ["record.json", "usage.json", "lock"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    driver.stop(runner, Duration::from_secs(10)).await.expect("stopped");
}

#[tokio::test]
async fn a_runner_begins_with_no_signal_blocked() {
    // One that inherits what its supervisor blocks does not hear that it is to stop, and its shells never see a child's end.
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, "exec grep SigBlk /proc/self/status").await;
    assert_eq!(exit(&driver, runner).await.code, Some(0));
    assert!(stage.log(runner).contains("SigBlk:\t0000000000000000"), "{}", stage.log(runner));
}

#[tokio::test]
async fn a_runner_outlives_its_deployer_and_its_end_is_known_to_the_next() {
    let stage = Stage::new();
    let runner = new_runner();
    let words = format!("{}\n{}\n{runner}", stage.config.dir.display(), stage.config.runner.display());
    let mut deployer = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "survival::a_deployer_process", "--ignored", "--nocapture"])
        .env("GREENROOM_TEST_DEPLOYER", words)
        .process_group(0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("spawned");
    let driver = stage.driver();
    until("it starts", || stage.log(runner).contains("started")).await;
    deployer.kill().expect("killed");
    deployer.wait().expect("waited for");

    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running));
    driver.stop(runner, Duration::from_secs(10)).await.expect("stopped");
    assert_eq!(exit(&driver, runner).await, Exit::with_code(5));
}

#[tokio::test]
async fn a_runner_whose_supervisor_was_killed_is_found_and_stopped() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, PATIENT).await;
    let (supervisor, first) = (stage.pid_of(runner, "supervisor"), stage.pid_of(runner, "runner"));
    until("it starts", || stage.log(runner).contains("started")).await;
    killed(supervisor);
    until("the supervisor is dead", || !is_there(supervisor)).await;
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running), "the runner itself is there");
    assert!(driver.remove(runner).await.is_err());
    driver.ensure(&launch(runner, PATIENT), &Progress::silent()).await.expect("it is there");
    assert!(is_there(first));
    driver.stop(runner, Duration::from_secs(5)).await.expect("stopped");
    // How it ended only its supervisor would have known.
    assert_eq!(exit(&driver, runner).await, Exit::default());
    assert!(!is_there(first));
    driver.remove(runner).await.expect("removed");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
}

/// Looks after the platform as a deployer does, and never asks for this runner.
fn watching(stage: &Stage) -> tokio::task::AbortHandle {
    let driver = stage.driver();
    let watching = async move {
        let mut ends = driver.watch().expect("it watches");
        while ends.next().await.is_some() {}
    };
    tokio::spawn(watching).abort_handle()
}

/// Kills the supervisor of a runner. `group`: whether its control group, where it has one, is known to the next.
async fn kill_supervisor(stage: &Stage, runner: RunnerId, group: bool) {
    let path = stage.folder(runner).join("record.json");
    if !group {
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a record")).expect("json");
        record.as_object_mut().expect("an object").remove("group");
        fs::write(&path, record.to_string()).expect("written");
    }
    let supervisor = stage.pid_of(runner, "supervisor");
    killed(supervisor);
    until("the supervisor is dead", || !is_there(supervisor)).await;
}

#[tokio::test]
async fn a_runner_whose_supervisor_was_killed_keeps_its_lifetime_and_leaves_nothing() {
    let keeps = |group| async move {
        let stage = Stage::new();
        let driver = stage.driver();
        let runner = new_runner();
        // The child is in a session of its own.
        let mut short =
            launch(runner, "trap 'exit 5' TERM; setsid sleep 600 & echo child=$!; while :; do sleep 0.05; done");
        short.spec.max_lifetime = Duration::from_secs(15);
        driver.ensure(&short, &Progress::silent()).await.expect("started");
        until("it starts", || stage.log(runner).contains("child=")).await;
        let child: u32 = {
            let log = stage.log(runner);
            log.split("child=").nth(1).and_then(|rest| rest.trim().parse().ok()).expect("a number")
        };
        kill_supervisor(&stage, runner, group).await;
        let watching = watching(&stage);
        assert_eq!(exit(&driver, runner).await, Exit::default(), "only its first supervisor would have known more");
        let log = stage.log(runner);
        assert!(log.contains("another one watches it") && log.contains("longest lifetime"), "{log}");
        assert!(!is_there(child), "{log}");
        watching.abort();
    };
    futures::join!(keeps(true), keeps(false));
}

#[tokio::test]
async fn a_runner_whose_supervisor_was_killed_keeps_its_memory_limit() {
    for group in [true, false] {
        let stage = Stage::new();
        let driver = stage.driver();
        let runner = new_runner();
        let script =
            "while [ ! -e $HOME/go ]; do sleep 0.05; done; (head -c 209715200 /dev/zero; sleep 300) | tail > /dev/null";
        let mut held = launch(runner, script);
        held.spec.resources.memory_bytes = 64 << 20;
        driver.ensure(&held, &Progress::silent()).await.expect("started");
        kill_supervisor(&stage, runner, group).await;
        let watching = watching(&stage);
        until("another one watches it", || stage.record(runner)["adopted_by"].is_object()).await;
        fs::write(std::path::Path::new(stage.record(runner)["scratch"].as_str().expect("a path")).join("go"), "")
            .expect("written");
        assert!(exit(&driver, runner).await.out_of_memory, "{}", stage.log(runner));
        watching.abort();
    }
}

#[tokio::test]
async fn a_supervisor_that_took_over_may_be_killed_as_well() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, PATIENT).await;
    until("it starts", || stage.log(runner).contains("started")).await;
    kill_supervisor(&stage, runner, true).await;
    let watching = watching(&stage);
    for _ in 0..3 {
        let dead = stage.record(runner)["adopted_by"].clone();
        until("another one watches it", || {
            let adopted_by = &stage.record(runner)["adopted_by"];
            adopted_by.is_object() && *adopted_by != dead
        })
        .await;
        killed(stage.pid_of(runner, "adopted_by"));
    }
    driver.stop(runner, Duration::from_secs(60)).await.expect("stopped");
    exit(&driver, runner).await;
    watching.abort();
}

#[tokio::test]
async fn an_orphan_that_is_deaf_is_forced() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, "trap '' TERM; echo started; while :; do sleep 0.05; done").await;
    until("it starts", || stage.log(runner).contains("started")).await;
    killed(stage.pid_of(runner, "supervisor"));
    driver.stop(runner, Duration::from_millis(300)).await.expect("stopped");
    exit(&driver, runner).await;
    driver.remove(runner).await.expect("removed");
}

#[tokio::test]
async fn a_start_that_is_brought_again_starts_nothing_when_its_runner_has_ended_and_is_removed() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, "echo begun").await;
    exit(&driver, runner).await;
    driver.remove(runner).await.expect("removed");
    // By another replica, or after a restart.
    stage.driver().ensure(&launch(runner, "echo begun"), &Progress::silent()).await.expect("it has run");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
    assert_eq!(stage.log(runner).matches("begun").count(), 1);
}

#[tokio::test]
async fn the_number_of_a_runner_is_not_the_runner() {
    let stage = Stage::new();
    let driver = stage.driver();
    let mut stranger = Command::new("sleep").arg("300").process_group(0).spawn().expect("sleep");
    let (pid, started) = (stranger.id(), stage.started_at(stranger.id()));
    // The supervisor is long dead; the runner's number belongs to somebody who started later.
    let runner = new_runner();
    stage.write_record(runner, (4_000_000, 1), (pid, started - 1));
    assert!(matches!(driver.inspect(runner).await, Ok(Observed::Exited(_))), "ours has ended");
    driver.stop(runner, Duration::ZERO).await.expect("nothing to stop");
    driver.remove(runner).await.expect("removed");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(is_there(pid));
    stranger.kill().expect("killed");
    stranger.wait().expect("waited for");
}

#[tokio::test]
async fn another_boot_ended_everything() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, PATIENT).await;
    let supervisor = stage.pid_of(runner, "supervisor");
    let path = stage.folder(runner).join("record.json");
    let text = std::fs::read_to_string(&path).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("json");
    record["boot"] = "another".into();
    std::fs::write(&path, record.to_string()).expect("written");
    assert!(matches!(driver.inspect(runner).await, Ok(Observed::Exited(_))));
    driver.stop(runner, Duration::ZERO).await.expect("nothing to stop");
    assert!(is_there(supervisor), "whoever has these numbers now is none of ours");
    std::fs::write(&path, text).expect("written");
}

#[tokio::test]
async fn a_stop_of_the_supervisor_is_a_stop_of_the_runner() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = start(&driver, PATIENT).await;
    until("it starts", || stage.log(runner).contains("started")).await;
    let supervisor = i32::try_from(stage.pid_of(runner, "supervisor")).expect("fits");
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).expect("asked");
    assert_eq!(exit(&driver, runner).await.code, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_asked_to_stop_by_signals_that_come_while_it_starts_its_runner() {
    let stage = Stage::new();
    let driver = stage.driver();
    for _ in 0..10 {
        let runner = new_runner();
        let record = stage.folder(runner).join("record.json");
        let ended = std::sync::atomic::AtomicBool::new(false);
        let exit = std::thread::scope(|scope| {
            // From the moment that its number is known, which is before it starts the runner.
            scope.spawn(|| {
                while !record.exists() && !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                let supervisor = Pid::from_raw(i32::try_from(stage.pid_of(runner, "supervisor")).expect("fits"));
                while kill(supervisor, Signal::SIGTERM).is_ok() {}
            });
            let runs = async {
                let started = driver.ensure(&launch(runner, PATIENT), &Progress::silent()).await;
                ended.store(started.is_err(), std::sync::atomic::Ordering::Relaxed);
                started.expect("a supervisor that outlives these signals");
                exit(&driver, runner).await
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(runs))
        });
        // Where the shell had not come to its trap, the signal itself ended it.
        assert!(exit.code == Some(5) || exit.signal == Some(15), "its end is known: {exit:?}");
    }
}

#[tokio::test]
async fn limits_and_their_reasons_stand_in_the_log() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = new_runner();
    let mut short = launch(runner, "trap 'exit 6' TERM; while :; do sleep 0.05; done");
    short.spec.max_lifetime = Duration::from_millis(500);
    driver.ensure(&short, &Progress::silent()).await.expect("started");
    assert_eq!(exit(&driver, runner).await.code, Some(6), "it was asked, not killed");
    assert!(stage.log(runner).contains("longest lifetime"), "{}", stage.log(runner));
}

#[tokio::test]
async fn an_impossible_start_is_rejected_and_leaves_nothing() {
    let mut stage = Stage::new();
    stage.config.runner = stage.dir.path().join("nothing");
    stage.config.user = "root".to_owned();
    if !Uid::effective().is_root() {
        stage.config.user = "auto".to_owned();
    }
    let driver = stage.driver();
    let runner = new_runner();
    let answer = driver.ensure(&launch(runner, PATIENT), &Progress::silent()).await;
    assert!(matches!(&answer, Err(Error::Rejected(why)) if why.contains("cannot run")), "{answer:?}");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
}

#[tokio::test]
async fn a_runner_has_little_and_nothing_of_it_is_kept() {
    let stage = Stage::new();
    let driver = stage.driver();
    let runner = new_runner();
    let mut private =
        launch(runner, "echo uid=$(id -u) home=$HOME tmp=$TMPDIR; echo x > $TMPDIR/file; env; ls -ld $HOME; sleep 0.2");
    private.environment.insert("GREENROOM_TOKEN".to_owned(), "hush-hush".to_owned());
    driver.ensure(&private, &Progress::silent()).await.expect("started");
    for file in walk(&stage.folder(runner)) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
        assert!(!text.contains("hush-hush"), "{}", file.display());
    }
    exit(&driver, runner).await;
    let log = stage.log(runner);
    assert!(log.contains("GREENROOM_TOKEN=hush-hush"), "{log}");
    assert!(!log.contains("CARGO"), "our own environment is not the runner's: {log}");
    if Uid::effective().is_root() {
        assert!(!log.contains("uid=0 "), "root is dropped: {log}");
    }
    let home = log.split("home=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a home");
    assert!(home.contains("greenroom-runner-") && !std::path::Path::new(home).exists(), "{home} is gone");
    driver.remove(runner).await.expect("removed");
    assert!(driver.logs(runner, false, None).await.expect("readable").is_some(), "what it printed is kept");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn stop_all_leaves_nothing_behind() {
    let stage = Stage::new();
    let driver = stage.driver();
    let mut runners = Vec::new();
    for _ in 0..5 {
        runners.push(start(&driver, "trap '' TERM; sleep 300 & sleep 300").await);
    }
    let pids: Vec<_> = runners.iter().map(|runner| stage.pid_of(*runner, "runner")).collect();
    driver.stop_all(Duration::from_millis(200)).await.expect("all stopped");
    assert!(pids.iter().all(|pid| !is_there(*pid)));
}
