//! One function a case; its name says what has to be true.

use std::time::Duration;

use futures::StreamExt;
use greenroom_domain::{Exit, Timestamp};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::scripts::{DEAF, GREEDY, POLITE, Stage, wrong};
use super::{Fixture, Flaw, Verdict};
use crate::{Deployer, Error, Observed, Progress};

fn expect(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { wrong(what()) }
}

/// It ended with this code, as far as its platform tells codes.
fn expect_code<D: Deployer>(driver: &D, exit: Exit, code: i32) -> Verdict {
    let expected = driver.tells_exit_codes().then_some(code);
    expect(exit.code == expected, || format!("expected exit code {expected:?}, got {exit:?}"))
}

pub(super) async fn what_was_never_started_is_gone<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    expect(stage.inspect().await? == Observed::Gone, || "it is not gone".to_owned())?;
    expect(stage.listed().await?.is_none(), || "it is listed".to_owned())?;
    stage.driver.stop(stage.runner(), Duration::from_secs(1)).await?;
    stage.driver.remove(stage.runner()).await?;
    let logs = stage.driver.logs(stage.runner(), false, None).await?;
    expect(logs.is_none(), || "it has logs".to_owned())
}

pub(super) async fn a_runner_runs_and_is_listed<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, POLITE).await?;
    stage.until("running", |observed| observed == Observed::Running).await?;
    expect(stage.listed().await?.is_some(), || "it is not listed".to_owned())?;
    stage.clear().await?;
    expect(stage.listed().await?.is_none(), || "it is still listed".to_owned())
}

pub(super) async fn ensure_again_changes_nothing<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, POLITE).await?;
    stage.ensure().await?;
    stage.expect_one_start().await?;
    stage.driver.stop(stage.runner(), Duration::from_secs(5)).await?;
    let exit = stage.exit().await?;
    // Also when it has ended: its name is taken until its remains are removed.
    stage.ensure().await?;
    expect(stage.inspect().await? == Observed::Exited(exit), || "it was started again".to_owned())?;
    stage.clear().await
}

pub(super) async fn ensure_at_the_same_time_starts_one<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let replica = fixture.driver().await;
    let silent = Progress::silent();
    let ensures =
        [&stage.driver, &replica, &stage.driver, &replica].map(|driver| driver.ensure(&stage.launch, &silent));
    for ensured in futures::future::join_all(ensures).await {
        ensured?;
    }
    stage.expect_one_start().await?;
    stage.clear().await
}

pub(super) async fn a_lost_answer_starts_no_second<F: Fixture>(fixture: &F) -> Verdict {
    for patience in [0, 1, 5, 20, 100].map(Duration::from_millis) {
        let stage = Stage::set(fixture, POLITE).await?;
        let _ = tokio::time::timeout(patience, stage.driver.ensure(&stage.launch, &Progress::silent())).await;
        fixture.driver().await.ensure(&stage.launch, &Progress::silent()).await?;
        stage.until("running", |observed| observed == Observed::Running).await?;
        stage.expect_one_start().await?;
        stage.clear().await?;
    }
    Ok(())
}

pub(super) async fn a_start_that_comes_too_late_starts_nothing<F: Fixture>(fixture: &F) -> Verdict {
    let mut stage = Stage::set(fixture, POLITE).await?;
    stage.launch.start_by = Timestamp::now() - SignedDuration::from_secs(1);
    match stage.driver.ensure(&stage.launch, &Progress::silent()).await {
        Err(Error::Transient(_)) => expect(stage.inspect().await? == Observed::Gone, || "it was started".to_owned()),
        other => wrong(format!("expected a transient error, got {other:?}")),
    }
}

pub(super) async fn a_restart_of_ours_finds_its_runners<F: Fixture>(fixture: &F) -> Verdict {
    let mut stage = Stage::started(fixture, POLITE).await?;
    stage.driver = fixture.driver().await;
    stage.until("running", |observed| observed == Observed::Running).await?;
    expect(stage.listed().await?.is_some(), || "it is not listed".to_owned())?;
    stage.ensure().await?;
    stage.expect_one_start().await?;
    stage.clear().await
}

pub(super) async fn a_restart_of_ours_finds_what_ended_meanwhile<F: Fixture>(fixture: &F) -> Verdict {
    let mut stage = Stage::started(fixture, "echo started; sleep 0.3; exit 9").await?;
    // As dead as can be from within one process: nothing of the first driver is polled any more.
    stage.driver = fixture.driver().await;
    let exit = stage.exit().await?;
    expect_code(&*stage.driver, exit, 9)?;
    let listed = stage.listed().await?;
    expect(listed.is_some_and(|listed| !listed.running), || {
        format!("expected it listed as worth a look, got {listed:?}")
    })?;
    stage.clear().await
}

pub(super) async fn the_environment_arrives<F: Fixture>(fixture: &F) -> Verdict {
    let mut stage = Stage::set(fixture, "echo \"[$WORDS]\"").await?;
    let words = "two words, a $sign, a \"quote\" and 'another'; é";
    stage.launch.environment.insert("WORDS".to_owned(), words.to_owned());
    stage.ensure().await?;
    stage.exit().await?;
    let printed = stage.printed().await?;
    expect(printed.contains(&format!("[{words}]")), || format!("it printed {printed:?}"))?;
    stage.clear().await
}

pub(super) async fn an_exit_code_is_told<F: Fixture>(fixture: &F) -> Verdict {
    if !fixture.driver().await.tells_exit_codes() {
        return Err(Flaw::NotCapable);
    }
    for code in [0, 7] {
        let stage = Stage::started(fixture, &format!("exit {code}")).await?;
        let exit = stage.exit().await?;
        let right = exit.code == Some(code) && exit.signal.is_none() && !exit.out_of_memory;
        expect(right, || format!("expected exit code {code}, got {exit:?}"))?;
        stage.clear().await?;
    }
    Ok(())
}

pub(super) async fn a_signal_is_told<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, "kill -KILL $$").await?;
    let exit = stage.exit().await?;
    stage.clear().await?;
    if !stage.driver.capabilities().signals {
        return Err(Flaw::NotCapable);
    }
    let right = exit.signal == Some(9) && exit.code.is_none() && !exit.out_of_memory;
    expect(right, || format!("expected signal 9, got {exit:?}"))
}

pub(super) async fn too_much_memory_is_told<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, GREEDY).await?;
    if !stage.driver.capabilities().out_of_memory {
        return Err(Flaw::NotCapable);
    }
    stage.ensure().await?;
    let exit = stage.exit().await?;
    expect(exit.out_of_memory, || format!("expected out of memory, got {exit:?}"))?;
    stage.clear().await
}

pub(super) async fn a_lifetime_is_held_to<F: Fixture>(fixture: &F) -> Verdict {
    let mut stage = Stage::set(fixture, POLITE).await?;
    if !stage.driver.capabilities().max_lifetime {
        return Err(Flaw::NotCapable);
    }
    stage.launch.spec.max_lifetime = Duration::from_secs(1);
    let began = Instant::now();
    stage.ensure().await?;
    stage.exit().await?;
    expect(began.elapsed() >= Duration::from_millis(900), || "it ended too early".to_owned())?;
    stage.clear().await
}

pub(super) async fn an_end_is_noticed_by_watching<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, "echo started; sleep 0.3; exit 3").await?;
    let driver = stage.driver.clone();
    let Some(mut changes) = driver.watch() else { return Err(Flaw::NotCapable) };
    stage.ensure().await?;
    let ended = async {
        while let Some(runner) = changes.next().await {
            if runner == stage.runner() && matches!(stage.inspect().await?, Observed::Exited(_)) {
                return Ok(());
            }
        }
        wrong("the stream of changes ended")
    };
    match tokio::time::timeout(fixture.within(), ended).await {
        Ok(ended) => ended?,
        Err(_) => return wrong("its end was not told"),
    }
    stage.clear().await
}

pub(super) async fn a_polite_runner_stops_within_its_grace<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, POLITE).await?;
    stage.until_printed("started").await?;
    stage.driver.stop(stage.runner(), Duration::from_secs(30)).await?;
    let exit = stage.exit().await?;
    expect_code(&*stage.driver, exit, 0)?;
    match stage.printed().await {
        Ok(printed) => expect(printed.contains("asked"), || format!("it was not asked: {printed:?}"))?,
        Err(Flaw::NotCapable) => {}
        Err(flaw) => return Err(flaw),
    }
    stage.clear().await
}

pub(super) async fn a_deaf_runner_is_forced_after_its_grace<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, DEAF).await?;
    stage.until_printed("started").await?;
    let (asked, grace) = (Instant::now(), Duration::from_secs(1));
    stage.driver.stop(stage.runner(), grace).await?;
    stage.exit().await?;
    expect(asked.elapsed() >= grace, || format!("it was forced after {:?}", asked.elapsed()))?;
    stage.clear().await
}

pub(super) async fn a_shorter_grace_said_later_counts<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, DEAF).await?;
    stage.until_printed("started").await?;
    // Another replica may still be busy with the first.
    let first = stage.driver.stop(stage.runner(), Duration::from_secs(300));
    let _ = tokio::time::timeout(Duration::from_millis(500), first).await;
    expect(stage.inspect().await? == Observed::Running, || "it was forced at once".to_owned())?;
    fixture.driver().await.stop(stage.runner(), Duration::ZERO).await?;
    stage.exit().await?;
    stage.clear().await
}

pub(super) async fn stop_and_remove_may_be_repeated<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, POLITE).await?;
    let replica = fixture.driver().await;
    for _ in 0..2 {
        let stops = [&stage.driver, &replica].map(|driver| driver.stop(stage.runner(), Duration::from_secs(1)));
        for stopped in futures::future::join_all(stops).await {
            stopped?;
        }
    }
    stage.exit().await?;
    stage.driver.stop(stage.runner(), Duration::from_secs(1)).await?;
    for _ in 0..2 {
        let removals = [&stage.driver, &replica].map(|driver| driver.remove(stage.runner()));
        for removed in futures::future::join_all(removals).await {
            removed?;
        }
    }
    stage.until("gone", |observed| observed == Observed::Gone).await?;
    stage.driver.stop(stage.runner(), Duration::from_secs(1)).await?;
    Ok(())
}

/// A browser that its runner leaves behind is as much in the meeting as before.
pub(super) async fn nothing_of_a_runner_outlives_it<F: Fixture>(fixture: &F) -> Verdict {
    let script = "(trap '' TERM HUP; while :; do sleep 0.1; echo child; done) & echo started; sleep 0.5; exit 4";
    let stage = Stage::started(fixture, script).await?;
    let exit = stage.exit().await?;
    expect_code(&*stage.driver, exit, 4)?;
    let before = stage.printed().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = stage.printed().await?;
    expect(before == after, || "its child is still at work".to_owned())?;
    stage.clear().await
}

pub(super) async fn a_running_one_is_not_removed<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, POLITE).await?;
    stage.until("running", |observed| observed == Observed::Running).await?;
    expect(stage.driver.remove(stage.runner()).await.is_err(), || "removing a running one succeeded".to_owned())?;
    expect(stage.inspect().await? == Observed::Running, || "it does not run any more".to_owned())?;
    stage.clear().await
}

pub(super) async fn logs_are_kept_and_cut<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, "for i in 1 2 3 4 5; do echo line $i; done; echo to stderr >&2").await?;
    stage.exit().await?;
    let all = stage.printed().await?;
    expect(["line 1\n", "line 5\n", "to stderr\n"].iter().all(|line| all.contains(line)), || {
        format!("it printed {all:?}")
    })?;
    let tail = stage.logs(false, Some(2)).await?;
    expect(tail.lines().count() == 2 && all.ends_with(&tail), || format!("its last two lines are {tail:?}"))?;
    stage.clear().await
}

pub(super) async fn logs_are_followed_to_the_end<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::started(fixture, "for i in 1 2 3; do echo line $i; sleep 0.3; done; echo last").await?;
    let printed = match tokio::time::timeout(fixture.within(), stage.logs(true, None)).await {
        Ok(printed) => printed?,
        Err(_) => return wrong("following goes on after its end"),
    };
    expect(printed.ends_with("last\n") && printed.contains("line 1\n"), || format!("it printed {printed:?}"))?;
    stage.clear().await
}

pub(super) async fn a_stranger_is_never_touched<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let Some(stranger) = fixture.stranger(stage.runner()).await else { return Err(Flaw::NotCapable) };
    // Whatever these say: what counts is what they do.
    let _ = stage.inspect().await;
    let _ = stage.listed().await;
    let _ = stage.driver.stop(stage.runner(), Duration::ZERO).await;
    let _ = stage.driver.remove(stage.runner()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    expect((stranger.untouched)(), || "it was touched".to_owned())
}
