//! One attempt, from admission to the last report.

use std::time::Duration;

use greenroom_tasks::Tasks;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

use crate::attend;
use crate::attend::Meetingless;
use crate::beat::{Pace, beat};
use crate::browser::Scratch;
use crate::config::Settings;
use crate::contract::runner_report::Report;
use crate::contract::{Failed, Finished, Note, RunnerConfig};
use crate::link::{Backoff, Error, Link};
use crate::memory;
use crate::orders::Orders;
use crate::parts;
use crate::policy::{Ending, Failure};
use crate::reports::Reports;
use crate::screenshots::Screenshots;
use crate::telemetry::Level;

/// How long what is left may take to arrive once the platform ends this process: half of it for parts, half for reports. A
/// platform that stops a runner has to grant it this and ten seconds more.
pub const FLUSH: Duration = Duration::from_secs(30);

/// How long the parts of one that failed may take, and its last report: the next attempt waits for its end.
const HAND_IN: Duration = Duration::from_secs(60);

/// How long to ask to be let in: as long as anybody can still be waiting for this runner (the orphan time-out's default).
const ADMISSION: Duration = Duration::from_secs(15 * 60);

/// How a runner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It told how it went, and the gateway has it: exit code 0.
    Told,
    /// It could not deliver all it had in time: exit code 1.
    Untold,
    /// It was not let in, or was told to go: exit code 3. It touched nothing, or left without a word.
    NotOurs,
}

/// Lives one attempt.
pub async fn live(settings: Settings, link: Link, orders: Orders, level: Level) -> Outcome {
    let config = tokio::select! {
        admitted = timeout(ADMISSION, admit(&link)) => match admitted {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                tracing::info!(event = "runner.not_admitted", error = %error, "not admitted; nothing was touched");
                return Outcome::NotOurs;
            }
            Err(_) => {
                tracing::error!(event = "runner.admission_unanswered", "the gateway never answered; nothing was touched");
                return Outcome::Untold;
            }
        },
        // Whoever asks for the end before there is a beginning knows of it: there is nothing to report.
        () = orders.to_leave() => {
            tracing::info!(event = "runner.ended_before_admission", "stopped before admission");
            return Outcome::Told;
        }
    };
    let bot = config.settings.clone().unwrap_or_default();
    tracing::info!(
        event = "runner.admitted",
        provider = bot.meeting.as_ref().map_or("", |meeting| meeting.provider.as_str()),
        recording = bot.recording_enabled(),
        "admitted"
    );

    let reports = Reports::new();
    let first_beat = Duration::from_millis(config.beat_interval_ms.max(1));
    let end = bot.end_time.as_ref().and_then(|end| jiff::Timestamp::new(end.seconds, end.nanos).ok());
    let end_in = end.and_then(|end| Duration::try_from(end.duration_since(jiff::Timestamp::now())).ok());
    let pace = Pace::joining(end_in);
    let tasks = Tasks::default();
    tasks.run("runner beats", beat(link.clone(), first_beat, orders.clone(), level, pace.clone()).in_current_span());
    tasks.run("runner reports", reports.clone().send(link.clone(), orders.clone()).in_current_span());
    let outcome = tokio::select! {
        biased;
        () = orders.to_exit() => Outcome::NotOurs,
        outcome = work(&settings, &config, &link, &orders, &pace, &reports, &tasks) => outcome,
        failed = tasks.failed() => {
            // Without beats or reports nobody could tell what becomes of it: the next attempt can.
            tracing::error!(event = "runner.task_panicked", task = failed.task, "a task of the runner panicked; it ends");
            Outcome::Untold
        }
    };
    tasks.abort_all();
    outcome
}

/// Asks to be let in until there is an answer.
#[tracing::instrument(skip_all)]
async fn admit(link: &Link) -> Result<RunnerConfig, Error> {
    let mut backoff = Backoff::default();
    loop {
        match link.admit().await {
            Err(error @ Error::Away(_)) => {
                tracing::warn!(event = "admission.unanswered", error = %error, "the gateway does not answer; trying again");
                sleep(backoff.wait()).await;
            }
            answer => return answer,
        }
    }
}

async fn work(
    settings: &Settings,
    config: &RunnerConfig,
    link: &Link,
    orders: &Orders,
    pace: &Pace,
    reports: &Reports,
    tasks: &Tasks,
) -> Outcome {
    let bot = &config.settings.clone().unwrap_or_default();
    let (began, kills) = (Instant::now(), memory::kills());
    let screenshots = Screenshots::new(link.clone());
    let ending = match Scratch::new("runner").and_then(|scratch| {
        std::fs::create_dir(scratch.path().join("parts"))?;
        Ok(scratch)
    }) {
        Ok(scratch) => {
            let (spool, uploads) = parts::spool(scratch.path().join("parts"), config.first_part);
            let sender = tasks.run("runner uploads", uploads.send(link.clone(), orders.clone()).in_current_span());
            let run = attend::Run {
                settings: &settings.browser,
                config,
                bot,
                link,
                orders,
                pace,
                reports,
                screenshots: screenshots.clone(),
                spool: spool.clone(),
            };
            let (ending, browser) = attend::attend(run, scratch).await;
            let ending = memory::explained(ending, kills, memory::kills());
            // The last report follows the last part: on that report the recording is joined.
            arrives(spool.flushed(), patience(&ending, config), orders).await;
            let missing = spool.missing();
            if missing > 0 {
                tracing::error!(
                    event = "recording.incomplete",
                    parts = missing,
                    "parts of the recording did not arrive"
                );
                let parts = if missing == 1 { "1 part".to_owned() } else { format!("{missing} parts") };
                let text = format!("{parts} of the recording could not be handed in");
                reports.add(Report::Note(Note { text }));
            }
            sender.abort();
            // Its directory holds the parts: it goes last.
            match browser {
                Meetingless::Browser(browser) => browser.close().await,
                Meetingless::Nothing => {}
            }
            ending
        }
        Err(error) => {
            tracing::error!(event = "runner.no_room", error = %error.kind(), "could not make a directory");
            Ending::Failed(Failure::passing("runner_failed", "the runner has no room for its files"))
        }
    };
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(event = "runner.over", reason = ending.reason(), duration_ms = ms, "runner finished");
    tracing::Span::current().record("reason", ending.reason());
    screenshots.flushed().await;
    let patience = patience(&ending, config);
    reports.add(last(ending));
    // The bot's work is done: without this report it would go back, or have failed.
    if !arrives(reports.flushed(), patience, orders).await {
        tracing::error!(event = "report.undelivered", reports = reports.waiting(), "the last reports did not arrive");
        return Outcome::Untold;
    }
    Outcome::Told
}

/// How long to wait for answers with what is left.
fn patience(ending: &Ending, config: &RunnerConfig) -> Duration {
    match ending {
        // Its owner has the platform end it when it takes too long.
        Ending::Finished(_) => attend::orphaned_after(Duration::from_millis(config.orphan_timeout_ms)),
        Ending::Failed(_) => HAND_IN,
    }
}

/// Waits until all of it has arrived. False: patience is at its end, or the platform ends this process.
async fn arrives(all: impl Future<Output = ()>, patience: Duration, orders: &Orders) -> bool {
    tokio::select! {
        () = all => true,
        () = sleep(patience) => false,
        () = async { orders.to_terminate().await; sleep(FLUSH / 2).await } => false,
    }
}

fn last(ending: Ending) -> Report {
    match ending {
        Ending::Finished(reason) => Report::Finished(Finished { reason: reason.to_owned() }),
        Ending::Failed(failure) => Report::Failed(Failed {
            reason: failure.reason.to_owned(),
            detail: failure.detail.to_owned(),
            may_pass: failure.may_pass,
        }),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bot_that_did_its_work_waits_for_its_owner_and_not_for_ever() {
        let config = RunnerConfig { orphan_timeout_ms: 15 * 60_000, ..RunnerConfig::default() };
        let (finished, failed) =
            (Ending::Finished("meeting_ended"), Ending::Failed(Failure::passing("browser_failed", "it died")));
        let after = |seconds: u64| sleep(Duration::from_secs(seconds));
        for (ending, seconds, expected) in [
            (&finished, 30, true),
            (&finished, 13 * 60, true),
            (&finished, 15 * 60, false),
            (&failed, 30, true),
            (&failed, 90, false),
        ] {
            let orders = Orders::new();
            let arrived = arrives(after(seconds), patience(ending, &config), &orders).await;
            assert_eq!(arrived, expected, "{} after {seconds} s", ending.reason());
        }
        // A platform that ends the process does not wait.
        let orders = Orders::new();
        orders.terminate();
        let began = Instant::now();
        assert!(!arrives(after(60), patience(&finished, &config), &orders).await);
        assert_eq!(began.elapsed(), FLUSH / 2);
    }
}
