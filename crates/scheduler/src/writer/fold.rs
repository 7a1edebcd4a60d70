//! A batch in the making: decisions first, then everything is written at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_contracts::messages::{BotProgressed, BotStateChanged};
use greenroom_domain::bot::{AttemptState, Bot, BotState, Decision, Effect, Event, Ignored, Rejected, decide_within};
use greenroom_domain::{Attempt, BotId, Exit, Reason, Timestamp};
use greenroom_store::Tx;
use opentelemetry::KeyValue;

use super::{Applied, Input, Writer, ordered, say_public, state_changed};
use crate::quota::{Rooms, is_under_way, waits_for_room};
use crate::rows::{AttemptJson, ChangedBotJson, EditedBotJson, MeasurementJson, Stored, TimelineJson};
use crate::settings::Patched;
use crate::{Error, policy, store};

/// Postgres keeps no NUL, and one runner's line must not spoil a batch.
fn storable(detail: Option<&str>) -> Option<String> {
    detail.map(|detail| detail.replace('\0', ""))
}

/// A batch in the making.
pub(super) struct Fold<'a> {
    writer: &'a Writer,
    now: Timestamp,
    bots: BTreeMap<BotId, Stored>,
    changed: BTreeSet<BotId>,
    edited: BTreeSet<BotId>,
    attempts: BTreeMap<(BotId, Attempt), (AttemptState, Option<Timestamp>)>,
    gone: Vec<(BotId, Attempt, Option<Exit>)>,
    measured: Vec<MeasurementJson>,
    timeline: Vec<TimelineJson>,
    /// Not before this does the next line of a bot's timeline lie: times rise along it.
    told_at: BTreeMap<BotId, Timestamp>,
    sayings: Vec<Saying>,
    rooms: Rooms,
    rooms_changed: RoomsChanged,
}

/// How a batch changes the room that waiting bots of a tenant have.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoomsChanged {
    /// One of them waits now.
    pub waits: bool,
    /// One that was under way is over.
    pub ended: bool,
}

enum Saying {
    Effects(Box<Stored>, Vec<Effect>),
    Moved(Box<Stored>, Box<BotStateChanged>),
    Progressed(Box<Stored>, Box<BotProgressed>),
}

impl<'a> Fold<'a> {
    pub(super) fn new(locked: Vec<Stored>, now: Timestamp, writer: &'a Writer, rooms: Rooms) -> Self {
        Self {
            writer,
            now,
            bots: locked.into_iter().map(|stored| (stored.bot.id, stored)).collect(),
            changed: BTreeSet::new(),
            edited: BTreeSet::new(),
            attempts: BTreeMap::new(),
            gone: Vec::new(),
            measured: Vec::new(),
            timeline: Vec::new(),
            told_at: BTreeMap::new(),
            sayings: Vec::new(),
            rooms,
            rooms_changed: RoomsChanged::default(),
        }
    }

    pub(super) fn take(&mut self, input: &Input) -> Applied {
        let Some(stored) = self.bots.get_mut(&input.bot) else { return Applied::NoSuchBot };
        if let (Event::Gone { attempt, .. }, Some(usage)) = (&input.event, &input.usage) {
            // Whatever its end means to the bot.
            let provider = stored.details.provider.clone();
            let labels = [KeyValue::new("provider", provider.to_string())];
            self.writer.peak_memory.record(usage.peak_memory_bytes, &labels);
            if let Some(millis) = usage.cpu_millis() {
                self.writer.cpu.record(millis as f64 / 1e3, &labels);
            }
            self.measured.push(MeasurementJson::new(input.bot, *attempt, provider, self.now, usage));
        }
        let mut event = Cow::Borrowed(&input.event);
        let mut edited = None;
        if let Some(patch) = &input.patch {
            // Only under the lock is it known what differs.
            let terms = self.writer.config.terms(patch.caller(), self.now);
            match patch.apply(&stored.bot, &stored.details, &terms, &self.writer.sizes) {
                Ok(Patched { details, edit }) => {
                    event = Cow::Owned(Event::EditAsked(Box::new(edit)));
                    edited = Some(details);
                }
                Err(bad) => return Applied::Invalid(bad),
            }
        }
        // An edit leaves it open as long as it may be.
        let ordered =
            if matches!(*event, Event::EditAsked(_)) { None } else { ordered(&stored.bot, &self.writer.order) };
        let (bot, room) = (ordered.as_ref().unwrap_or(&stored.bot), self.rooms.of(&stored.bot, &event));
        match decide_within(bot, &event, self.now, &self.writer.timing, room) {
            Decision::Advance { mut next, effects } => {
                if ordered.is_some() && next.state == BotState::Scheduled {
                    next.chain.clear();
                }
                // An edit has sent it: the order that holds now is its own.
                if next.state != BotState::Scheduled && next.chain.is_empty() {
                    next.chain = self.writer.order.now().0;
                }
                if let Some(details) = edited {
                    stored.details = details;
                    self.edited.insert(input.bot);
                }
                let before = std::mem::replace(&mut stored.bot, *next);
                self.told_at.entry(input.bot).or_insert(stored.updated_at);
                self.rooms.count(&before, &stored.bot);
                self.rooms_changed.waits |= waits_for_room(&stored.bot);
                self.rooms_changed.ended |= is_under_way(before.state) && stored.bot.state.is_terminal();
                stored.version += 1;
                stored.updated_at = self.now;
                self.advanced(input, &before, &effects);
                Applied::Advanced(Arc::new(self.bots[&input.bot].clone()))
            }
            Decision::Ignore(why) => {
                let stored = Arc::new(stored.clone());
                if why == Ignored::Stale {
                    self.perhaps_old(input);
                }
                let why_word = match why {
                    Ignored::Repeated => "repeated",
                    Ignored::Stale => "stale",
                    Ignored::Terminal => "terminal",
                    Ignored::Irrelevant => "irrelevant",
                };
                self.writer.ignored.add(1, &[KeyValue::new("reason", why_word)]);
                Applied::Ignored(why, stored)
            }
            Decision::Reject(Rejected::NoRoom) => match self.rooms.over(&stored.bot, &event) {
                Some(over) => Applied::Over(over),
                None => Applied::Rejected(Rejected::NoRoom),
            },
            Decision::Reject(why) => Applied::Rejected(why),
        }
    }

    /// An older attempt is proven gone: it matters to nobody but its release.
    fn perhaps_old(&mut self, input: &Input) {
        match &input.event {
            Event::Gone { attempt, exit } => self.gone.push((input.bot, *attempt, *exit)),
            Event::Withdrawn { attempt } | Event::QueueTimedOut { attempt, .. } | Event::Refused { attempt, .. } => {
                self.gone.push((input.bot, *attempt, None));
            }
            _ => {}
        }
    }

    fn advanced(&mut self, input: &Input, before: &Bot, effects: &[Effect]) {
        self.changed.insert(input.bot);
        let stored = self.bots.get_mut(&input.bot).expect("it was there");
        let mut detail = storable(input.detail.as_deref());
        if let Some(size) = policy::resized(before, &stored.bot, stored.details.size, self.writer.sizes.sizing()) {
            stored.details.size = size;
            self.edited.insert(input.bot);
            let more =
                format!("the next attempt gets {} MiB of memory, {} at most", size.memory_mb, size.memory_limit_mb);
            detail = Some(detail.map_or(more.clone(), |detail| format!("{detail}; {more}")));
        }
        if let Some(what) = policy::what(&input.event, before, &stored.bot) {
            stored.sequence += 1;
            let told_at = self.told_at.entry(input.bot).or_insert(self.now);
            // A clock that was set back may have told the last line later than now.
            *told_at = input.happened_at.unwrap_or(self.now).min(self.now).max((*told_at).min(self.now));
            let at = *told_at;
            let attempt = stored.bot.attempt.as_ref().map_or(0, |attempt| attempt.number.0);
            self.timeline.push(TimelineJson {
                bot_id: input.bot,
                sequence: stored.sequence,
                at,
                what: what.to_owned(),
                state: stored.bot.state,
                // What happened, happened to the attempt that was current then.
                attempt: before.attempt.as_ref().map_or(attempt, |attempt| attempt.number.0),
                reason: stored.bot.reason.clone(),
                detail: detail.clone(),
            });
            let snapshot = Box::new(stored.clone());
            self.sayings.push(if before.state == stored.bot.state {
                let progressed = BotProgressed {
                    bot: input.bot,
                    number: stored.details.number,
                    state: stored.bot.state,
                    attempt,
                    what: what.to_owned(),
                    detail,
                };
                Saying::Progressed(snapshot, Box::new(progressed))
            } else {
                let reason = stored.bot.reason.as_ref().map_or("", Reason::as_str).to_owned();
                self.writer.moved.add(1, &[KeyValue::new("state", stored.bot.state.as_str()), KeyValue::new("reason", reason)]);
                tracing::info!(
                    bot.id = %stored.bot.id, bot.number = stored.details.number, attempt, state = stored.bot.state.as_str(),
                    previous = before.state.as_str(), reason = stored.bot.reason.as_ref().map(Reason::as_str), "bot state changed"
                );
                let changed = state_changed(stored, before.state);
                Saying::Moved(snapshot, Box::new(changed))
            });
        }
        if let (Event::Assigned { .. }, Some(queued_at)) = (&input.event, stored.bot.queued_at) {
            let wait = self.now.duration_since(queued_at).as_secs_f64().max(0.0);
            self.writer.wait.record(wait, &[KeyValue::new("provider", stored.details.provider.to_string())]);
        }
        if !effects.is_empty() {
            self.sayings.push(Saying::Effects(Box::new(stored.clone()), effects.to_vec()));
        }
        // Both the attempt that was current and the one that is: one event can end the first and begin the second.
        let after = stored.bot.clone();
        for attempt in [before.attempt.as_ref(), after.attempt.as_ref()].into_iter().flatten() {
            let number = attempt.number;
            let is_current = after.attempt.as_ref().is_some_and(|current| current.number == number);
            let mut attempt =
                if is_current { after.attempt.clone().unwrap_or_else(|| attempt.clone()) } else { attempt.clone() };
            if !is_current {
                attempt.stopped = true;
                if matches!(
                    input.event,
                    Event::Gone { .. } | Event::Withdrawn { .. } | Event::Refused { .. } | Event::QueueTimedOut { .. }
                ) {
                    attempt.gone_at = Some(self.now);
                }
                if let Event::Gone { exit, .. } = &input.event {
                    attempt.exit = *exit;
                }
            }
            let asserted =
                effects.iter().any(|effect| matches!(effect, Effect::Release(n) | Effect::Withdraw(n) if *n == number));
            let release_at = policy::release_at(
                policy::is_over(&after, number),
                attempt.gone_at.is_some(),
                asserted,
                self.now,
                self.writer.timing.exit,
                self.writer.timing.assert_first,
            );
            self.attempts.insert((input.bot, number), (attempt, release_at));
        }
    }

    /// When the first of the changed bots has to be looked at.
    pub(super) fn soonest(&self) -> Option<Timestamp> {
        self.changed.iter().filter_map(|id| self.bots[id].bot.wake_at).min()
    }

    /// What it means for those that wait for room.
    pub(super) fn rooms_changed(&self) -> RoomsChanged {
        self.rooms_changed
    }

    pub(super) async fn write(self, tx: &mut Tx) -> Result<(), Error> {
        if self.changed.is_empty() && self.gone.is_empty() && self.measured.is_empty() {
            return Ok(());
        }
        if !self.changed.is_empty() {
            let changed: Vec<ChangedBotJson> = self.changed.iter().map(|id| (&self.bots[id]).into()).collect();
            store::update(tx, &changed).await?;
            let edited: Vec<EditedBotJson> =
                self.edited.iter().map(|id| EditedBotJson { bot_id: *id, settings: (&self.bots[id]).into() }).collect();
            store::edit(tx, &edited).await?;
            let attempts: Vec<AttemptJson> = self
                .attempts
                .iter()
                .map(|((bot, _), (attempt, release_at))| AttemptJson::new(*bot, attempt, *release_at))
                .collect();
            store::put_attempts(tx, &attempts).await?;
            store::tell(tx, &self.timeline).await?;
        }
        store::close_old(tx, &self.gone, self.now).await?;
        store::measure(tx, &self.measured).await?;
        for saying in self.sayings {
            match saying {
                Saying::Effects(stored, effects) => self.writer.say_effects(tx.outbox(), &stored, &effects, self.now),
                Saying::Moved(stored, changed) => say_public(tx.outbox(), &stored, stored.sequence, self.now, *changed),
                Saying::Progressed(stored, progressed) => {
                    say_public(tx.outbox(), &stored, stored.sequence, self.now, *progressed);
                }
            }
        }
        Ok(())
    }
}
