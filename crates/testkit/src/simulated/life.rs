//! The life of a simulated runner: what `crates/bot` does, without a browser and without a meeting.

use std::sync::Arc;
use std::time::Duration;

use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{
    Desired, Finished, InCall, InWaitingRoom, Leaving, RecordingStarted, RecordingStopped, RunnerConfig,
};
use greenroom_domain::{Exit, RunnerId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::facts::{Facts, What};
use super::link::{Broken, Link};
use super::script::{Dice, Script};

/// What others want of a runner; the last word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Leave(&'static str),
    Exit,
}

/// One process.
pub(super) struct Life {
    pub script: Arc<Script>,
    pub facts: Arc<Facts>,
    pub platform: String,
    pub runner: RunnerId,
    pub link: Link,
    /// How often a start under this name was tried: another try is another fate.
    pub number: u32,
    /// The platform's signals.
    pub wish: watch::Receiver<Wish>,
}

/// Ends with what it is given: a crash.
const CRASH: Exit = Exit::with_code(134);
const FINE: Exit = Exit::with_code(0);
const LOST: Exit = Exit::with_code(1);

impl Life {
    fn tell(&self, what: What) {
        self.facts.tell(&self.platform, self.runner, Some(self.link.instance), what);
    }

    /// From start to exit. Being killed is being dropped: the platform tells of it, and of `left` through [`Presence`].
    pub async fn live(self) -> Exit {
        let mut fate = self.script.dice(self.runner, ("life", self.number));
        tokio::time::sleep(fate.within(self.script.boot_ms)).await;
        if fate.happens(self.script.crash_before_admission) {
            return CRASH;
        }
        // Whoever is not admitted has touched nothing, so it may give up whenever it wants to.
        let config = match self.link.admit(self.script.scaled(60_000)).await {
            Ok(config) => config,
            Err(Broken::Unwanted) => {
                self.tell(What::Refused);
                return FINE;
            }
            Err(Broken::Silence) => return LOST,
        };
        self.tell(What::Admitted);
        if fate.happens(self.script.crash_after_admission) {
            return CRASH;
        }

        let (orders, mut wish) = watch::channel(Wish::Stay);
        let ends = async {
            loop {
                let now = *wish.borrow_and_update();
                if now == Wish::Exit || wish.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            exit = self.attend(&config, &mut fate, orders.subscribe()) => exit,
            () = self.hear(&config, &orders) => LOST,
            // Told to exit at once, without leaving a trace in the meeting.
            () = ends => FINE,
        }
    }

    /// Takes orders: the gateway's with every beat, and the platform's signals.
    async fn hear(&self, config: &RunnerConfig, orders: &watch::Sender<Wish>) {
        let orphan = orphan_timeout(config);
        let mut signals = self.wish.clone();
        let mut answered = Instant::now();
        let mut interval = Duration::from_millis(config.beat_interval_ms.max(10));
        let leave = |why| {
            orders.send_if_modified(|wish| {
                let first = *wish == Wish::Stay;
                if first {
                    *wish = Wish::Leave(why);
                }
                first
            });
        };
        loop {
            match self.link.beat().await {
                Ok(Some(answer)) => {
                    answered = Instant::now();
                    if answer.next_beat_ms > 0 {
                        interval = Duration::from_millis(answer.next_beat_ms);
                    }
                    match answer.desired() {
                        Desired::Leave => leave("leave_requested"),
                        Desired::Exit => {
                            orders.send_replace(Wish::Exit);
                        }
                        Desired::Unspecified | Desired::Continue => {}
                    }
                }
                Ok(None) if answered.elapsed() > orphan => leave("terminated"),
                Ok(None) => {}
                Err(_) => {
                    orders.send_replace(Wish::Exit);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                changed = signals.changed() => {
                    match *signals.borrow_and_update() {
                        Wish::Leave(why) => leave(why),
                        Wish::Exit => { orders.send_replace(Wish::Exit); }
                        Wish::Stay => {}
                    }
                    if changed.is_err() {
                        // The platform has let go of it; only the gateway speaks from now on.
                        tokio::time::sleep(interval).await;
                    }
                }
            }
        }
    }

    async fn attend(&self, config: &RunnerConfig, fate: &mut Dice, mut wish: watch::Receiver<Wish>) -> Exit {
        let mut reports = Reports { link: &self.link, patience: orphan_timeout(config), sequence: 0 };
        self.tell(What::Entered);
        let presence = Presence(self);
        match self.meeting(config, fate, &mut wish, &mut reports).await {
            Ok(Some(reason)) => {
                drop(presence);
                let _ = reports.say(Report::Finished(Finished { reason: reason.to_owned() })).await;
                FINE
            }
            Ok(None) => CRASH,
            Err(Broken::Unwanted) => FINE,
            Err(Broken::Silence) => LOST,
        }
    }

    /// Why it left; none: it crashed.
    async fn meeting(
        &self,
        config: &RunnerConfig,
        fate: &mut Dice,
        wish: &mut watch::Receiver<Wish>,
        reports: &mut Reports<'_>,
    ) -> Result<Option<&'static str>, Broken> {
        let call = fate.within(self.script.call_ms);
        let crash_at = fate.happens(self.script.crash_in_call).then(|| fate.part_of(call));
        reports.say(Report::InWaitingRoom(InWaitingRoom {})).await?;
        let mut why = asked_within(wish, fate.within(self.script.waiting_room_ms)).await;
        if why.is_none() {
            reports.say(Report::InCall(InCall {})).await?;
            if config.settings.as_ref().is_some_and(|bot| bot.recording_enabled()) {
                reports.say(Report::RecordingStarted(RecordingStarted {})).await?;
            }
            why = asked_within(wish, crash_at.unwrap_or(call)).await;
            if why.is_none() && crash_at.is_some() {
                return Ok(None);
            }
            if config.settings.as_ref().is_some_and(|bot| bot.recording_enabled()) {
                reports.say(Report::RecordingStopped(RecordingStopped {})).await?;
            }
        }
        let why = why.unwrap_or("meeting_ended");
        reports.say(Report::Leaving(Leaving { reason: why.to_owned() })).await?;
        tokio::time::sleep(fate.within(self.script.leave_ms)).await;
        Ok(Some(why))
    }
}

/// In the meeting, for as long as this lives; it also ends with a runner that is killed.
struct Presence<'l>(&'l Life);

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.tell(What::Left);
    }
}

/// What happened, in order.
struct Reports<'l> {
    link: &'l Link,
    patience: Duration,
    sequence: u64,
}

impl Reports<'_> {
    async fn say(&mut self, report: Report) -> Result<(), Broken> {
        self.sequence += 1;
        self.link.report(self.sequence, report, self.patience).await
    }
}

/// Waits, unless it is asked to leave: then why.
async fn asked_within(wish: &mut watch::Receiver<Wish>, time: Duration) -> Option<&'static str> {
    let asked = wish.wait_for(|wish| matches!(wish, Wish::Leave(_)));
    match tokio::time::timeout(time, asked).await.ok()?.ok().as_deref() {
        Some(Wish::Leave(why)) => Some(why),
        _ => None,
    }
}

/// A runner gives up a little before its owner replaces it.
fn orphan_timeout(config: &RunnerConfig) -> Duration {
    Duration::from_millis(config.orphan_timeout_ms.max(1_000)).mul_f64(14.0 / 15.0)
}
