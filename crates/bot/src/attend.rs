//! The meeting itself: into it, through it, out of it.

mod dry;

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{Instrument as _, Span};

use self::dry::Dry;
use crate::beat::{self, Pace};
use crate::browser::{AllowedNetworks, Browser, Scratch, Tab};
use crate::capture::Recorder;
use crate::config::BrowserSettings;
use crate::contract::runner_report::Report;
use crate::contract::{
    AutomaticLeave, BotSettings, InCall, InWaitingRoom, Joining, Leaving, Meeting, RecordingStarted, RecordingStopped,
    RunnerConfig,
};
use crate::link::Link;
use crate::orders::Orders;
use crate::parts::Spool;
use crate::policy::{
    self, BROWSER_LOST, Ending, Failure, Limits, Moment, NOT_A_WEB_ADDRESS, PAGE_LOST, Place, Sight, Verdict, Visit,
    Wish,
};
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
/// A page in the waiting room or the call that shows nothing we understand for so long has lost its meeting.
const UNCLEAR: Duration = Duration::from_secs(30);
/// A call that the owner wants recorded is not attended for longer than this while nothing of a recording comes.
const UNRECORDED: Duration = Duration::from_secs(60);
/// A page that throws us out so often in a row would go on doing it.
const AGAIN: u32 = 5;
/// Nor does a host put a bot back so often in a row.
const PUT_BACK: u32 = 20;
/// In the call for so long, it is not "in a row" any more.
const STEADY: Duration = Duration::from_secs(5 * 60);
/// A recording of which nothing comes for so long has stopped. Something comes every second.
const MUTE: Duration = Duration::from_secs(10);
/// A recording that stopped, or could not be begun, is tried again after this.
const RETRY_RECORDING: Duration = Duration::from_secs(5);
/// How long a page may take to let go, and how long its recorder, when we leave. A page that failed may not answer at all.
const LET_GO: Duration = Duration::from_secs(10);
/// By so much earlier than everybody else gives a runner up does it give up itself.
const ORPHAN_MARGIN: Duration = Duration::from_secs(60);

/// What an attempt works with.
pub struct Run<'a> {
    /// How to start the browser.
    pub settings: &'a BrowserSettings,
    /// What the owner wants.
    pub config: &'a RunnerConfig,
    /// The settings of its bot.
    pub bot: &'a BotSettings,
    /// The gateway.
    pub link: &'a Link,
    /// What others want.
    pub orders: &'a Orders,
    /// How often it beats.
    pub pace: &'a Pace,
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
    let meeting = run.bot.meeting.clone().unwrap_or_default();
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
    // The door refuses these as well; here nobody can have gone past it.
    if !url::Url::parse(&meeting.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return (Ending::Failed(NOT_A_WEB_ADDRESS), Meetingless::Nothing);
    }
    let allowed = AllowedNetworks::from_words(run.config.allowed_networks.iter().map(String::as_str));
    let browser = tokio::select! {
        launched = Browser::launch(run.settings, scratch, &allowed) => match launched {
            Ok(browser) => browser,
            Err(error) => return (Ending::Failed(error.failure()), Meetingless::Nothing),
        },
        () = run.orders.to_leave() => return (asked_to_leave(run.orders), Meetingless::Nothing),
    };
    let ending = match browser.tab().await {
        Ok(tab) => through(run, &provider, meeting, &tab).await,
        Err(error) => Ending::Failed(error.failure()),
    };
    (ending, Meetingless::Browser(Box::new(browser)))
}

async fn through(run: &Run<'_>, provider: &impl Provider, meeting: &Meeting, tab: &Tab) -> Ending {
    let recorder = tokio::select! {
        installed = Recorder::install(tab.clone(), run.spool.clone()) => match installed {
            Ok(recorder) => recorder,
            Err(error) => return Ending::Failed(error.failure()),
        },
        () = run.orders.to_leave() => return asked_to_leave(run.orders),
    };
    let joining = tracing::info_span!("join");
    let entering = tracing::info_span!(parent: &joining, "enter");
    let mut stay = Stay {
        run,
        provider,
        meeting,
        tab,
        recorder,
        phase: joining,
        recording: None,
        dry: Dry::default(),
        tried: None,
    };
    beat::ask(run.link, run.orders).await;
    tokio::select! {
        biased;
        () = run.orders.to_leave() => {
            let ending = asked_to_leave(run.orders);
            stay.leave(ending).await;
            return ending;
        }
        entered = provider.enter(tab, meeting, &run.bot.display_name).instrument(entering) => {
            if let Err(failure) = entered {
                run.screenshots.take(tab, failure.reason).await;
                return Ending::Failed(failure);
            }
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

/// A recording that was begun.
struct Recording {
    _span: Span,
    /// How many pieces had come before it.
    before: u64,
    /// It is reported once something of it has come.
    reported: bool,
}

/// From having asked to join until having left.
struct Stay<'a, P> {
    run: &'a Run<'a>,
    provider: &'a P,
    meeting: &'a Meeting,
    tab: &'a Tab,
    recorder: Recorder,
    /// The span of joining, waiting, being in the call or leaving, one after the other.
    phase: Span,
    /// While it records.
    recording: Option<Recording>,
    /// In the call, and the owner wants a recording, of which nothing has come: for how long.
    dry: Dry,
    /// When a recording was begun last, or could not be.
    tried: Option<Instant>,
}

impl<P: Provider> Stay<'_, P> {
    /// Looks, decides and does, until it is time to leave.
    async fn watch(&mut self) -> Ending {
        let began = Instant::now();
        let limits = limits(self.run.config, self.run.bot);
        let mut visit = Visit::new(Duration::ZERO);
        let (mut seen, mut understood) = (began, began);
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.run.orders.to_leave() => {}
            }
            // No look takes longer than we bear not to see.
            let patience = limits.blind.saturating_sub(seen.elapsed()).max(LOOK);
            let looked = tokio::select! {
                biased;
                // What the page shows does not matter any more; do not wait for it.
                () = self.run.orders.to_leave() => None,
                looked = timeout(patience, self.look(&visit, &limits)) => looked.ok(),
            };
            let (sight, quiet_for) = match looked {
                Some(Ok((sight, quiet_for))) => (Some(sight), quiet_for),
                Some(Err(error)) if error.is_end() => return Ending::Failed(error.failure()),
                Some(Err(error)) => {
                    tracing::debug!(event = "page.unseen", error = %error, "cannot read the page");
                    (None, None)
                }
                None => (None, None),
            };
            if sight.is_some() {
                seen = Instant::now();
            }
            if sight.is_some_and(|sight| sight != Sight::Unclear) {
                understood = seen;
            }
            let moment = Moment {
                sight,
                blind_for: seen.elapsed(),
                unclear_for: seen.duration_since(understood),
                quiet_for,
                unrecorded_for: self.dry.lasts(self.recorder.pieces()),
                unanswered_for: self.run.link.unanswered_for(),
                wish: self.run.orders.wish(),
            };
            let (after, verdict) = policy::next(visit, &moment, &limits, began.elapsed());
            visit = after;
            match verdict {
                Verdict::Stay => {}
                Verdict::EnterWaitingRoom => self.enter_waiting_room().await,
                Verdict::EnterCall => self.enter_call().await,
                Verdict::AskAgain => match self.ask_again().await {
                    Ok(()) => {}
                    // As when the page of a call that we are in is not found.
                    Err(failure) if failure.reason == "meeting_not_found" && visit.company.is_some() => {
                        return Ending::Finished("meeting_ended");
                    }
                    Err(failure) => return Ending::Failed(failure),
                },
                Verdict::End(Ending::Failed(PAGE_LOST)) if !self.tab.browser_answers().await => {
                    return Ending::Failed(BROWSER_LOST);
                }
                Verdict::End(ending) => return ending,
            }
        }
    }

    /// What the page shows; in the call, also how long nothing was heard, and the recording is seen to.
    async fn look(
        &mut self,
        visit: &Visit,
        limits: &Limits,
    ) -> Result<(Sight, Option<Duration>), crate::browser::Error> {
        let sight = self.provider.look(self.tab).await?;
        let unclear = visit.place == Place::InCall && sight == Sight::Unclear;
        if unclear && self.recording.is_some() && self.recorder.pulse().await.is_ok_and(|pulse| !pulse.recording) {
            // Another document, which may become the meeting again.
            self.lose_recording().await;
        }
        let in_call = visit.place == Place::InCall && matches!(sight, Sight::Joined { .. });
        if !in_call || !(self.run.bot.recording_enabled() || limits.inactivity.is_some()) {
            return Ok((sight, None));
        }
        let pulse = self.recorder.pulse().await.ok();
        if self.run.bot.recording_enabled() {
            // A page that is busy does not answer, and may record all the same; what counts in the end is what comes.
            let at_work = pulse.is_none_or(|pulse| pulse.recording) && self.recorder.silent_for() < MUTE;
            self.keep_recording(at_work).await;
        }
        let quiet_for = pulse.map(|pulse| Duration::from_millis(pulse.quiet_ms));
        Ok((sight, quiet_for.filter(|_| limits.inactivity.is_some())))
    }

    /// One phase ends before the next begins.
    fn begin(&mut self, phase: impl FnOnce() -> Span) {
        self.phase = Span::none();
        self.phase = phase();
    }

    async fn enter_waiting_room(&mut self) {
        tracing::info!(event = "meeting.waiting", "in the waiting room");
        self.run.pace.joined();
        self.stop_recording().await;
        self.begin(|| tracing::info_span!("waiting_room"));
        self.run.reports.add(Report::InWaitingRoom(InWaitingRoom {}));
        self.run.screenshots.take(self.tab, "in_waiting_room").await;
    }

    async fn enter_call(&mut self) {
        tracing::info!(event = "meeting.joined", "in the call");
        self.run.pace.joined();
        self.begin(|| tracing::info_span!("in_call"));
        self.run.reports.add(Report::InCall(InCall {}));
        if self.run.bot.recording_enabled() {
            self.dry.begin();
            self.record().await;
        }
        self.run.screenshots.take(self.tab, "in_call").await;
    }

    /// The page shows its lobby again: whatever it was, it is not in the meeting.
    async fn ask_again(&mut self) -> Result<(), Failure> {
        tracing::info!(event = "meeting.lost", "the page is out of the meeting; asking to be let in again");
        self.stop_recording().await;
        self.begin(|| tracing::info_span!("join"));
        self.run.reports.add(Report::Joining(Joining {}));
        self.run.screenshots.take(self.tab, "joining_call").await;
        tokio::select! {
            asked = self.provider.ask(self.tab, self.meeting, &self.run.bot.display_name) => asked,
            () = self.run.orders.to_leave() => Ok(()),
        }
    }

    /// Begins to record. It is reported when something of it has come.
    async fn record(&mut self) {
        let part = Duration::from_millis(self.run.config.part_ms.max(1));
        match self.recorder.start(part).await {
            Ok(()) => {
                let before = self.recorder.pieces();
                let span = tracing::info_span!("recording");
                self.recording = Some(Recording { _span: span, before, reported: false });
            }
            Err(error) => {
                tracing::error!(event = "recording.failed", error = %error, "could not record; trying again");
                if self.tried.is_none() {
                    let text = "the page could not be recorded".to_owned();
                    self.run.reports.add(Report::Note(crate::contract::Note { text }));
                }
            }
        }
        self.tried = Some(Instant::now());
    }

    /// RECORDING is said only while something is recorded: a page that was loaded anew has no recorder at work.
    async fn keep_recording(&mut self, records: bool) {
        if self.recording.is_some() && !records {
            tracing::warn!(event = "recording.lost", "the page does not record any more; beginning anew");
            self.lose_recording().await;
        } else if let Some(recording) = &mut self.recording {
            if !recording.reported && self.recorder.pieces() > recording.before {
                recording.reported = true;
                self.run.reports.add(Report::RecordingStarted(RecordingStarted {}));
                self.run.screenshots.take(self.tab, "recording").await;
            }
            return;
        } else if self.tried.is_some_and(|tried| tried.elapsed() < RETRY_RECORDING) {
            return;
        }
        self.record().await;
    }

    /// Reports that nothing is recorded any more, where something was.
    async fn lose_recording(&mut self) {
        self.recorder.hand_in().await;
        if self.recording.take().is_some_and(|recording| recording.reported) {
            self.run.reports.add(Report::RecordingStopped(RecordingStopped {}));
        }
    }

    /// Ends the recording while there is still something to hear.
    async fn stop_recording(&mut self) {
        self.dry.pause();
        let Some(recording) = self.recording.take() else { return };
        match timeout(LET_GO, self.recorder.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(event = "recording.cut", error = %error, "the last part of the recording may be missing");
            }
            Err(_) => tracing::warn!(event = "recording.cut", "the last part of the recording may be missing"),
        }
        // A page that did not answer hands out no more.
        self.recorder.hand_in().await;
        if recording.reported {
            self.run.reports.add(Report::RecordingStopped(RecordingStopped {}));
        }
    }

    async fn leave(&mut self, ending: Ending) {
        self.begin(|| tracing::info_span!("leave"));
        let leaving = self.phase.clone();
        self.go(ending).instrument(leaving).await;
    }

    /// Says so, ends the recording, and goes. One that failed is not leaving in good order: it says so with its last report.
    async fn go(&mut self, ending: Ending) {
        tracing::info!(event = "meeting.leaving", reason = ending.reason(), "leaving");
        let label = match ending {
            Ending::Finished(reason) => {
                self.run.reports.add(Report::Leaving(Leaving { reason: reason.to_owned() }));
                "leaving"
            }
            Ending::Failed(failure) => failure.reason,
        };
        if matches!(ending, Ending::Failed(PAGE_LOST | BROWSER_LOST)) {
            // It has not answered for long enough: to ask for a picture, the last part and the way out would only take longer.
            return self.lose_recording().await;
        }
        self.run.screenshots.take(self.tab, label).await;
        self.stop_recording().await;
        match timeout(LET_GO, self.provider.leave(self.tab)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(event = "meeting.left_rudely", error = %error, "the page did not confirm leaving");
            }
            Err(_) => tracing::debug!(event = "meeting.left_rudely", "the page did not confirm leaving"),
        }
    }
}

fn limits(config: &RunnerConfig, settings: &BotSettings) -> Limits {
    let AutomaticLeave {
        waiting_room_timeout_ms,
        no_one_joined_timeout_ms,
        everyone_left_timeout_ms,
        inactivity_timeout_ms,
        // The scheduler's.
        max_duration_ms: _,
    } = settings.automatic_leave.unwrap_or_default();
    let some = |ms: Option<u64>| ms.filter(|ms| *ms > 0).map(Duration::from_millis);
    Limits {
        join: JOIN,
        waiting_room: some(waiting_room_timeout_ms),
        no_one_joined: some(no_one_joined_timeout_ms),
        everyone_left: some(everyone_left_timeout_ms),
        inactivity: some(inactivity_timeout_ms),
        orphaned: some(Some(config.orphan_timeout_ms)).map(orphaned_after),
        blind: BLIND,
        unclear: UNCLEAR,
        unrecorded: UNRECORDED,
        again: AGAIN,
        put_back: PUT_BACK,
        steady: STEADY,
    }
}

/// A minute before everybody else; where the time-out is short (tests scale it down), half of it.
pub(crate) fn orphaned_after(timeout: Duration) -> Duration {
    timeout.saturating_sub(ORPHAN_MARGIN).max(timeout / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_never_and_an_orphan_leaves_a_minute_early() {
        let config = RunnerConfig { orphan_timeout_ms: 900_000, ..RunnerConfig::default() };
        let leave = AutomaticLeave {
            waiting_room_timeout_ms: Some(0),
            everyone_left_timeout_ms: Some(5_000),
            ..AutomaticLeave::default()
        };
        let limits = limits(&config, &BotSettings { automatic_leave: Some(leave), ..BotSettings::default() });
        assert_eq!(limits.waiting_room, None);
        assert_eq!(limits.everyone_left, Some(Duration::from_secs(5)));
        assert_eq!(limits.orphaned, Some(Duration::from_secs(840)));
        assert_eq!(orphaned_after(Duration::from_secs(10)), Duration::from_secs(5));
    }
}
