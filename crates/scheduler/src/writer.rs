//! The only place where a bot's state is written: read and lock, decide, write, say; one transaction for a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_chassis::Clock;
use greenroom_contracts::messages::{BotProgressed, BotStateChanged, Enqueue, Release, Withdraw};
use greenroom_domain::bot::{AttemptState, Bot, Decision, Effect, Event, Ignored, Rejected, Timing, decide};
use greenroom_domain::{Attempt, BotId, Exit, Reason, RunnerId, Timestamp};
use greenroom_store::{Outbox, Store, Tx};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use tokio::sync::Notify;

use crate::numbers::Numbers;
use crate::rows::{AttemptJson, ChangedBotJson, Stored, TimelineJson};
use crate::{Config, Error, policy, store};

/// Something that happened to a bot.
#[derive(Debug, Clone)]
pub struct Input {
    /// To which.
    pub bot: BotId,
    /// What.
    pub event: Event,
    /// For the timeline, for a person.
    pub detail: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Applied {
    /// It was written; the bot as it is now.
    Advanced(Arc<Stored>),
    /// It changed nothing; the bot as it is.
    Ignored(Ignored, Arc<Stored>),
    /// It was refused.
    Rejected(Rejected),
    /// There is no such bot.
    NoSuchBot,
}

/// Writes bots.
pub struct Writer {
    store: Store,
    clock: Clock,
    pub(crate) timing: Timing,
    grace: std::time::Duration,
    /// For bots that are to be made.
    pub(crate) numbers: Numbers,
    /// Wakes the sweep when something has to be looked at sooner than it thought.
    pub(crate) sooner: Notify,
    ignored: Counter<u64>,
    moved: Counter<u64>,
    wait: Histogram<f64>,
}

impl Writer {
    pub fn new(store: Store, clock: Clock, config: &Config) -> Self {
        let meter = global::meter("greenroom");
        Self {
            numbers: Numbers::new(store.clone()),
            store,
            clock,
            timing: config.timing.clone(),
            grace: config.release_grace,
            sooner: Notify::new(),
            ignored: meter
                .u64_counter("greenroom_bot_events_ignored")
                .with_description("Events that changed nothing, by reason: late and repeated messages are ordinary")
                .build(),
            moved: meter
                .u64_counter("greenroom_bot_transitions")
                .with_description("Changes of state, by new state and reason")
                .build(),
            wait: meter
                .f64_histogram("greenroom_bot_queue_wait_seconds")
                .with_description("From wanting a slot to having one")
                .with_boundaries(vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
                ])
                .build(),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Applies a batch, in order, in one transaction.
    pub async fn apply(&self, inputs: &[Input]) -> Result<Vec<Applied>, Error> {
        let bots: BTreeSet<BotId> = inputs.iter().map(|input| input.bot).collect();
        let bots: Vec<BotId> = bots.into_iter().collect();
        let mut tx = self.store.begin().await?;
        let locked = store::lock(&mut tx, &bots).await?;
        let now = self.clock.now();
        let mut fold = Fold::new(locked, now, self);
        let applied = inputs.iter().map(|input| fold.take(input)).collect();
        let soonest = fold.soonest();
        fold.write(&mut tx).await?;
        tx.commit().await?;
        self.look_again(soonest, now);
        Ok(applied)
    }

    /// Wakes the sweep if one of the bots that were written now has to be looked at sooner than it comes by. After the commit:
    /// before it, the sweep would not see them and sleep on.
    pub(crate) fn look_again(&self, soonest: Option<Timestamp>, now: Timestamp) {
        // What was asserted now is looked at again after `assert_first`, and the sweep comes by before that: to wake it for
        // every bot would be a sweep a bot.
        if soonest.is_some_and(|at| at < now + self.timing.assert_first) {
            self.sooner.notify_one();
        }
    }

    /// Looks at whatever has to be looked at now. Returns how many that were. (Wakes nobody: the sweep asks itself when the
    /// next one is due.)
    pub async fn tick(&self, limit: i64) -> Result<usize, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let awake = store::awake(&mut tx, now, limit).await?;
        let inputs: Vec<Input> =
            awake.iter().map(|stored| Input { bot: stored.bot.id, event: Event::Tick, detail: None }).collect();
        let mut fold = Fold::new(awake, now, self);
        for input in &inputs {
            fold.take(input);
        }
        fold.write(&mut tx).await?;
        tx.commit().await?;
        Ok(inputs.len())
    }

    /// Says for every effect what it says.
    pub(crate) fn say_effects(&self, outbox: &mut Outbox, stored: &Stored, effects: &[Effect], now: Timestamp) {
        for effect in effects {
            match effect {
                Effect::Enqueue => {
                    if let Some(enqueue) = enqueue(stored) {
                        say(outbox, stored, now, enqueue);
                    }
                }
                Effect::Withdraw(attempt) => {
                    say(outbox, stored, now, Withdraw { runner: RunnerId::of_bot(stored.bot.id, *attempt) });
                }
                Effect::Release(attempt) => {
                    let runner = RunnerId::of_bot(stored.bot.id, *attempt);
                    let grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
                    say(outbox, stored, now, Release { runner, grace_ms });
                }
            }
        }
    }
}

/// Says an inner message as part of a bot's story.
fn say<T: greenroom_contracts::Message>(outbox: &mut Outbox, stored: &Stored, now: Timestamp, data: T) {
    let mut envelope = outbox.envelope(now, data);
    envelope.header.traceparent.clone_from(&stored.details.traceparent);
    outbox.say(envelope);
}

/// Says a public event, with the sequence it has.
pub fn say_public<T: greenroom_contracts::Message>(
    outbox: &mut Outbox,
    stored: &Stored,
    sequence: i64,
    now: Timestamp,
    data: T,
) {
    let mut envelope = outbox.envelope(now, data).public(stored.bot.tenant, sequence);
    envelope.header.traceparent.clone_from(&stored.details.traceparent);
    envelope.header.attempt = stored.bot.attempt.as_ref().map(|attempt| attempt.number.0);
    outbox.say(envelope);
}

fn enqueue(stored: &Stored) -> Option<Enqueue> {
    let runner = stored.bot.runner()?;
    let attempt = stored.bot.attempt.as_ref()?;
    Some(Enqueue {
        runner,
        spec: stored.spec(runner),
        platforms: stored.bot.rest_of_chain().to_vec(),
        priority: stored.details.priority,
        queued_at: stored.bot.queued_at?,
        not_before: attempt.not_before,
        deadline: stored.bot.queue_deadline?,
    })
}

/// What a change of state says to everybody.
pub fn state_changed(stored: &Stored, previous: greenroom_domain::bot::BotState) -> BotStateChanged {
    let bot = &stored.bot;
    BotStateChanged {
        bot: bot.id,
        number: stored.details.number,
        state: bot.state,
        previous,
        provider: stored.details.provider.clone(),
        attempt: bot.attempt.as_ref().map_or(0, |attempt| attempt.number.0),
        platform: bot.attempt.as_ref().and_then(|attempt| attempt.platform.clone()),
        reason: bot.reason.clone(),
        advice: bot.reason.as_ref().and_then(Reason::advice).map(str::to_owned),
    }
}

/// Postgres keeps no NUL, and one runner's line must not spoil a batch.
fn storable(detail: Option<&str>) -> Option<String> {
    detail.map(|detail| detail.replace('\0', ""))
}

/// A batch in the making: decisions first, then everything is written at once.
struct Fold<'a> {
    writer: &'a Writer,
    now: Timestamp,
    bots: BTreeMap<BotId, Stored>,
    changed: BTreeSet<BotId>,
    attempts: BTreeMap<(BotId, Attempt), (AttemptState, Option<Timestamp>)>,
    gone: Vec<(BotId, Attempt, Option<Exit>)>,
    timeline: Vec<TimelineJson>,
    sayings: Vec<Saying>,
}

enum Saying {
    Effects(Box<Stored>, Vec<Effect>),
    Moved(Box<Stored>, Box<BotStateChanged>),
    Progressed(Box<Stored>, Box<BotProgressed>),
}

impl<'a> Fold<'a> {
    fn new(locked: Vec<Stored>, now: Timestamp, writer: &'a Writer) -> Self {
        Self {
            writer,
            now,
            bots: locked.into_iter().map(|stored| (stored.bot.id, stored)).collect(),
            changed: BTreeSet::new(),
            attempts: BTreeMap::new(),
            gone: Vec::new(),
            timeline: Vec::new(),
            sayings: Vec::new(),
        }
    }

    fn take(&mut self, input: &Input) -> Applied {
        let Some(stored) = self.bots.get_mut(&input.bot) else { return Applied::NoSuchBot };
        match decide(&stored.bot, &input.event, self.now, &self.writer.timing) {
            Decision::Advance { next, effects } => {
                let before = std::mem::replace(&mut stored.bot, *next);
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
            Decision::Reject(why) => Applied::Rejected(why),
        }
    }

    /// An older attempt is proven gone: it matters to nobody but its release.
    fn perhaps_old(&mut self, input: &Input) {
        match &input.event {
            Event::Gone { attempt, exit } => self.gone.push((input.bot, *attempt, *exit)),
            Event::Withdrawn { attempt } | Event::QueueTimedOut { attempt } | Event::Refused { attempt, .. } => {
                self.gone.push((input.bot, *attempt, None));
            }
            _ => {}
        }
    }

    fn advanced(&mut self, input: &Input, before: &Bot, effects: &[Effect]) {
        self.changed.insert(input.bot);
        let stored = self.bots.get_mut(&input.bot).expect("it was there");
        if let Some(what) = policy::what(&input.event, before, &stored.bot) {
            stored.sequence += 1;
            let attempt = stored.bot.attempt.as_ref().map_or(0, |attempt| attempt.number.0);
            self.timeline.push(TimelineJson {
                bot_id: input.bot,
                sequence: stored.sequence,
                at: self.now,
                what: what.to_owned(),
                state: stored.bot.state,
                // What happened, happened to the attempt that was current then.
                attempt: before.attempt.as_ref().map_or(attempt, |attempt| attempt.number.0),
                reason: stored.bot.reason.clone(),
                detail: storable(input.detail.as_deref()),
            });
            let snapshot = Box::new(stored.clone());
            self.sayings.push(if before.state == stored.bot.state {
                let progressed = BotProgressed {
                    bot: input.bot,
                    number: stored.details.number,
                    state: stored.bot.state,
                    attempt,
                    what: what.to_owned(),
                    detail: storable(input.detail.as_deref()),
                };
                Saying::Progressed(snapshot, Box::new(progressed))
            } else {
                let reason = stored.bot.reason.as_ref().map_or("", Reason::as_str).to_owned();
                self.writer.moved.add(1, &[KeyValue::new("state", stored.bot.state.as_str()), KeyValue::new("reason", reason)]);
                tracing::info!(
                    bot.id = %stored.bot.id, bot.number = stored.details.number, attempt, state = stored.bot.state.as_str(),
                    previous = before.state.as_str(), reason = stored.bot.reason.as_ref().map(Reason::as_str), "bot moved on"
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
    fn soonest(&self) -> Option<Timestamp> {
        self.changed.iter().filter_map(|id| self.bots[id].bot.wake_at).min()
    }

    async fn write(self, tx: &mut Tx) -> Result<(), Error> {
        if self.changed.is_empty() && self.gone.is_empty() {
            return Ok(());
        }
        if !self.changed.is_empty() {
            let changed: Vec<ChangedBotJson> = self.changed.iter().map(|id| (&self.bots[id]).into()).collect();
            store::update(tx, &changed).await?;
            let attempts: Vec<AttemptJson> = self
                .attempts
                .iter()
                .map(|((bot, _), (attempt, release_at))| AttemptJson::new(*bot, attempt, *release_at))
                .collect();
            store::put_attempts(tx, &attempts).await?;
            store::tell(tx, &self.timeline).await?;
        }
        store::close_old(tx, &self.gone, self.now).await?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use greenroom_chassis::Settings;
    use greenroom_contracts::Origin;

    use super::*;

    /// A sweep for every bot that is enqueued, or for every message, would be most of what Postgres does.
    #[tokio::test]
    async fn the_sweep_is_woken_only_by_what_it_would_miss() {
        let config = Config::parse(&mut Settings::new([], ""), "postgres://nowhere", &[], "gateway.example:8080");
        let origin = Origin { installation: "test".parse().expect("a name"), service: "scheduler" };
        let (store, _) = Store::new(&config.database, crate::SCHEMA, origin).expect("an address");
        let writer = Writer::new(store, Clock::system(), &config);
        let (now, first) = (writer.now(), config.timing.assert_first);
        let millisecond = Duration::from_millis(1);
        for (at, woken) in [
            (None, false),
            (Some(now + 2 * first), false),
            (Some(now + first), false),
            (Some(now + first - millisecond), true),
            (Some(now - first), true),
        ] {
            writer.look_again(at, now);
            assert_eq!(writer.sooner.notified().now_or_never().is_some(), woken, "{at:?} {now}");
        }
    }
}
