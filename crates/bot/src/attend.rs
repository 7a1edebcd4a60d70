//! The meeting itself: into it, through it, out of it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use tracing::{Instrument as _, Span};

use crate::browser::{AllowedNetworks, Browser, Scratch, Tab};
use crate::capture::Recorder;
use crate::config::BrowserSettings;
use crate::contract::runner_report::Report;
use crate::contract::{
    AutomaticLeave, InCall, InWaitingRoom, Leaving, Meeting, RecordingStarted, RecordingStopped, RunnerConfig,
};
use crate::link::Link;
use crate::orders::Orders;
use crate::parts::Spool;
use crate::policy::{self, BROWSER_LOST, Ending, Failure, Limits, Moment, Phase, Verdict, Wish};
use crate::provider::web::Web;
use crate::provider::{self, Provider};
use crate::reports::Reports;
use crate::screenshots::Screenshots;

/// How often we look at the page.
const LOOK: Duration = Duration::from_millis(400);
/// The join limit is not a tenant's business: a page that says nothing for a minute is broken.
const JOIN: Duration = Duration::from_secs(60);
/// A page under load may be deaf for a while; after this it is taken to be dead.
const BLIND: Duration = Duration::from_secs(25);
/// By so much earlier than everybody else gives a runner up does it give up itself.
const ORPHAN_MARGIN: Duration = Duration::from_secs(60);

/// What an attempt works with.
pub struct Run<'a> {
    /// How to start the browser.
    pub settings: &'a BrowserSettings,
    /// What the owner wants.
    pub config: &'a RunnerConfig,
    /// The gateway.
    pub link: &'a Link,
    /// What others want.
    pub orders: &'a Orders,
    /// Where reports go.
    pub reports: &'a Reports,
    /// Where pictures go.
    pub screenshots: Screenshots,
    /// Where parts of the recording go.
    pub spool: Spool,
}

/// What is left when the bot is out of its meeting.
pub enum Meetingless {
    /// The browser, still to be closed.
    Browser(Box<Browser>),
    /// Nothing: it never came up.
    Nothing,
}

/// Attends the meeting. The browser is handed back, because the parts of the recording live in its directory.
pub async fn attend(run: Run<'_>, scratch: Scratch) -> (Ending, Meetingless) {
    let meeting = run.config.meeting.clone().unwrap_or_default();
    match meeting.provider.as_str() {
        "web" => with_browser(&run, Web, &meeting, scratch).await,
        _ => (Ending::Failed(provider::UNSUPPORTED), Meetingless::Nothing),
    }
}

async fn with_browser(
    run: &Run<'_>,
    provider: impl Provider,
    meeting: &Meeting,
    scratch: Scratch,
) -> (Ending, Meetingless) {
    let allowed = AllowedNetworks::from_words(run.config.allowed_networks.iter().map(String::as_str));
    let browser = tokio::select! {
        launched = Browser::launch(run.settings, scratch, &allowed) => match launched {
            Ok(browser) => browser,
            Err(error) => return (Ending::Failed(broken(&error)), Meetingless::Nothing),
        },
        () = run.orders.to_leave() => return (asked_to_leave(run.orders), Meetingless::Nothing),
    };
    let ending = match browser.tab().await {
        Ok(tab) => through(run, &provider, meeting, &tab).await,
        Err(error) => Ending::Failed(broken(&error)),
    };
    (ending, Meetingless::Browser(Box::new(browser)))
}

fn broken(error: &crate::browser::Error) -> Failure {
    use std::error::Error as _;
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!(event = "browser.failed", error = %error, source, "the browser failed");
    match error {
        crate::browser::Error::NotFound => {
            Failure::lasting("browser_failed", "no browser is installed where the runner runs")
        }
        crate::browser::Error::Launch(why) => Failure::passing("browser_failed", why),
        crate::browser::Error::Profile(_) => Failure::passing("browser_failed", "no room for the browser's profile"),
        crate::browser::Error::Proxy(_) => Failure::passing("browser_failed", "no port for the browser's proxy"),
        crate::browser::Error::Spawn(_) => Failure::passing("browser_failed", "the browser could not be started"),
        crate::browser::Error::Gone | crate::browser::Error::Command { .. } => BROWSER_LOST,
    }
}

async fn through(run: &Run<'_>, provider: &impl Provider, meeting: &Meeting, tab: &Tab) -> Ending {
    let recorder = tokio::select! {
        installed = Recorder::install(tab.clone(), run.spool.clone()) => match installed {
            Ok(recorder) => recorder,
            Err(error) => return Ending::Failed(broken(&error)),
        },
        () = run.orders.to_leave() => return asked_to_leave(run.orders),
    };
    let joining = tracing::info_span!("join");
    let entering = tracing::info_span!(parent: &joining, "enter");
    let mut stay = Stay { run, provider, tab, recorder, phase: joining, recording: None };
    tokio::select! {
        entered = provider.enter(tab, meeting, &run.config.display_name).instrument(entering) => {
            if let Err(failure) = entered {
                run.screenshots.take(tab, failure.reason).await;
                return Ending::Failed(failure);
            }
        }
        () = run.orders.to_leave() => {
            let ending = asked_to_leave(run.orders);
            stay.leave(ending).await;
            return ending;
        }
    }
    run.screenshots.take(tab, "joining_call").await;
    let ending = stay.watch().await;
    stay.leave(ending).await;
    ending
}

fn asked_to_leave(orders: &Orders) -> Ending {
    match orders.wish() {
        Wish::Terminate => Ending::Finished("terminated"),
        Wish::Leave | Wish::None => Ending::Finished("leave_requested"),
    }
}

/// From having asked to join until having left.
struct Stay<'a, P> {
    run: &'a Run<'a>,
    provider: &'a P,
    tab: &'a Tab,
    recorder: Recorder,
    /// The span of joining, waiting, being in the call or leaving, one after the other.
    phase: Span,
    /// While it records: the span of that.
    recording: Option<Span>,
}

impl<P: Provider> Stay<'_, P> {
    /// Looks, decides and does, until it is time to leave.
    async fn watch(&mut self) -> Ending {
        let began = Instant::now();
        let limits = limits(self.run.config);
        let mut phase = Phase::Joining { since: Duration::ZERO };
        let mut seen = Instant::now();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.run.orders.to_leave() => {}
            }
            let sight = match self.run.orders.wish() {
                // What the page shows does not matter any more; do not wait for it.
                Wish::Leave | Wish::Terminate => None,
                Wish::None => match self.provider.look(self.tab).await {
                    Ok(sight) => Some(sight),
                    Err(error @ crate::browser::Error::Gone) => return Ending::Failed(broken(&error)),
                    Err(error) => {
                        tracing::debug!(event = "page.unseen", error = %error, "could not look at the page");
                        None
                    }
                },
            };
            if sight.is_some() {
                seen = Instant::now();
            }
            let in_call = matches!(phase, Phase::InCall { .. });
            let quiet_for = if in_call && limits.inactivity.is_some() { self.recorder.quiet_for().await } else { None };
            let moment = Moment {
                sight,
                blind_for: seen.elapsed(),
                quiet_for,
                unanswered_for: self.run.link.unanswered_for(),
                wish: self.run.orders.wish(),
            };
            let (after, verdict) = policy::next(phase, &moment, &limits, began.elapsed());
            phase = after;
            match verdict {
                Verdict::Stay => {}
                Verdict::EnterWaitingRoom => {
                    tracing::info!(event = "meeting.waiting", "in the waiting room");
                    self.begin(|| tracing::info_span!("waiting_room"));
                    self.run.reports.add(Report::InWaitingRoom(InWaitingRoom {}));
                    self.run.screenshots.take(self.tab, "in_waiting_room").await;
                }
                Verdict::EnterCall => self.enter_call().await,
                Verdict::End(ending) => return ending,
            }
        }
    }

    /// One phase ends before the next begins.
    fn begin(&mut self, phase: impl FnOnce() -> Span) {
        self.phase = Span::none();
        self.phase = phase();
    }

    async fn enter_call(&mut self) {
        tracing::info!(event = "meeting.joined", "in the call");
        self.begin(|| tracing::info_span!("in_call"));
        self.run.reports.add(Report::InCall(InCall {}));
        if self.run.config.recording_enabled {
            let part = Duration::from_millis(self.run.config.part_ms.max(1));
            match self.recorder.start(part).await {
                Ok(()) => {
                    self.recording = Some(tracing::info_span!("recording"));
                    self.run.reports.add(Report::RecordingStarted(RecordingStarted {}));
                }
                Err(error) => {
                    tracing::error!(event = "recording.failed", error = %error, "could not record");
                    let text = "the page could not be recorded".to_owned();
                    self.run.reports.add(Report::Note(crate::contract::Note { text }));
                }
            }
        }
        self.run.screenshots.take(self.tab, if self.recording.is_some() { "recording" } else { "in_call" }).await;
    }

    async fn leave(&mut self, ending: Ending) {
        self.begin(|| tracing::info_span!("leave"));
        let leaving = self.phase.clone();
        self.go(ending).instrument(leaving).await;
    }

    /// Says so, ends the recording while there is still something to hear, and goes.
    async fn go(&mut self, ending: Ending) {
        tracing::info!(event = "meeting.leaving", reason = ending.reason(), "leaving");
        self.run.reports.add(Report::Leaving(Leaving { reason: ending.reason().to_owned() }));
        let label = match ending {
            Ending::Finished(_) => "leaving",
            Ending::Failed(failure) => failure.reason,
        };
        self.run.screenshots.take(self.tab, label).await;
        if let Some(recording) = self.recording.take() {
            if let Err(error) = self.recorder.stop().await {
                tracing::warn!(event = "recording.cut", error = %error, "the last part of the recording may be missing");
            }
            drop(recording);
            self.run.reports.add(Report::RecordingStopped(RecordingStopped {}));
        }
        if let Err(error) = self.provider.leave(self.tab).await {
            tracing::debug!(event = "meeting.left_rudely", error = %error, "the page did not let go");
        }
    }
}

fn limits(config: &RunnerConfig) -> Limits {
    let AutomaticLeave {
        waiting_room_timeout_ms,
        no_one_joined_timeout_ms,
        everyone_left_timeout_ms,
        inactivity_timeout_ms,
    } = config.automatic_leave.unwrap_or_default();
    let some = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    Limits {
        join: JOIN,
        waiting_room: some(waiting_room_timeout_ms),
        no_one_joined: some(no_one_joined_timeout_ms),
        everyone_left: some(everyone_left_timeout_ms),
        inactivity: some(inactivity_timeout_ms),
        orphaned: some(config.orphan_timeout_ms).map(orphaned_after),
        blind: BLIND,
    }
}

/// A minute before everybody else; where the time-out is short (tests scale it down), half of it.
fn orphaned_after(timeout: Duration) -> Duration {
    timeout.saturating_sub(ORPHAN_MARGIN).max(timeout / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_never_and_an_orphan_leaves_a_minute_early() {
        let config = RunnerConfig {
            orphan_timeout_ms: 900_000,
            automatic_leave: Some(AutomaticLeave { everyone_left_timeout_ms: 5_000, ..AutomaticLeave::default() }),
            ..RunnerConfig::default()
        };
        let limits = limits(&config);
        assert_eq!(limits.waiting_room, None);
        assert_eq!(limits.everyone_left, Some(Duration::from_secs(5)));
        assert_eq!(limits.orphaned, Some(Duration::from_secs(840)));
        assert_eq!(orphaned_after(Duration::from_secs(10)), Duration::from_secs(5));
    }
}
