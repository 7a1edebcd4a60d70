//! The only place where a bot's state is written: read and lock, decide, write, say; one transaction for a batch.

mod fold;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greenroom_chassis::Clock;
use greenroom_contracts::BadField;
use greenroom_contracts::messages::{BotStateChanged, Enqueue, Release, Withdraw};
use greenroom_domain::bot::{Bot, BotState, Effect, Event, Ignored, Rejected, Timing};
use greenroom_domain::time::after;
use greenroom_domain::{BotId, Reason, RunnerId, TenantId, Timestamp, Usage};
use greenroom_store::{Outbox, Store, Tx};
use opentelemetry::global;
use opentelemetry::metrics::{Counter, Histogram};
use tokio::sync::Notify;

use crate::numbers::Numbers;
use crate::order::Order;
use crate::quota::{Over, Rooms, may_go};
use crate::rows::Stored;
use crate::settings::Patch;
use crate::sizes::Sizes;
use crate::tenants::Tenants;
use crate::{Config, Error, store};

use fold::{Fold, RoomsChanged};

/// Something that happened to a bot.
#[derive(Debug, Clone)]
pub struct Input {
    /// To which.
    pub bot: BotId,
    /// What.
    pub event: Event,
    /// For the timeline, for a person.
    pub detail: Option<String>,
    /// With an edit: what is to be different.
    pub patch: Option<Arc<Patch>>,
    /// With a runner that is gone: what it took.
    pub usage: Option<Usage>,
    /// When it happened, where that was before now. None: now.
    pub happened_at: Option<Timestamp>,
    /// The concurrency limit of the bot's tenant, where whoever asks brings it along; the inner option: any number.
    pub limit: Option<Option<u32>>,
}

impl Input {
    /// Something that happened to a bot.
    pub fn new(bot: BotId, event: Event, detail: Option<String>) -> Self {
        Self { bot, event, detail, patch: None, usage: None, happened_at: None, limit: None }
    }
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
    /// It was refused, as the tenant has as many bots under way as it may have.
    Over(Over),
    /// It was refused for fields that cannot be with what the bot is now.
    Invalid(Vec<BadField>),
    /// There is no such bot.
    NoSuchBot,
}

/// Writes bots.
pub struct Writer {
    store: Store,
    clock: Clock,
    pub(crate) timing: Timing,
    grace: std::time::Duration,
    /// The bounds of changes.
    config: Config,
    /// How large runners are.
    pub(crate) sizes: Arc<Sizes>,
    pub(crate) order: Order,
    /// For bots that are to be made.
    pub(crate) numbers: Numbers,
    /// Wakes the sweep when something has to be looked at sooner than it thought.
    pub(crate) sooner: Notify,
    /// What tenants may have under way.
    tenants: Tenants,
    /// Wakes the sweep of those that wait for their tenant to have room.
    pub(crate) room: Notify,
    /// Whether anybody waits for that, as far as this process knows. The sweep comes by anyway.
    pub(crate) waiting: AtomicBool,
    ignored: Counter<u64>,
    moved: Counter<u64>,
    wait: Histogram<f64>,
    peak_memory: Histogram<u64>,
    cpu: Histogram<f64>,
}

impl Writer {
    pub fn new(store: Store, clock: Clock, config: &Config, tenants: Tenants) -> Self {
        let meter = global::meter("greenroom");
        Self {
            numbers: Numbers::new(store.clone()),
            store,
            clock,
            timing: config.timing.clone(),
            grace: config.release_grace,
            config: config.clone(),
            sizes: Arc::new(Sizes::new(config.sizing.clone())),
            order: Order::new(config.platforms.clone()),
            peak_memory: meter
                .u64_histogram("greenroom_runner_peak_memory_bytes")
                .with_description("The most memory that ended runners had at a time, by provider")
                .with_boundaries(
                    [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0].map(|gib| gib * f64::from(1 << 30)).to_vec(),
                )
                .build(),
            cpu: meter
                .f64_histogram("greenroom_runner_cpu_cores")
                .with_description("Processors that ended runners took on average, by provider")
                .with_boundaries(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0])
                .build(),
            sooner: Notify::new(),
            tenants,
            room: Notify::new(),
            waiting: AtomicBool::new(false),
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
        let rooms = self.rooms(&mut tx, &locked, inputs, now).await?;
        let mut fold = Fold::new(locked, now, self, rooms);
        let applied = inputs.iter().map(|input| fold.take(input)).collect();
        let (soonest, rooms) = (fold.soonest(), fold.rooms_changed());
        fold.write(&mut tx).await?;
        tx.commit().await?;
        self.look_again(soonest, now);
        self.rooms_changed(rooms);
        Ok(applied)
    }

    /// Locks the tenants that have a concurrency limit and of whose SCHEDULED bots one may go now, and reads what each has under
    /// way. After the bots, and in the order of the tenants' ids: whoever makes bots holds the lock of none that is there.
    async fn rooms(&self, tx: &mut Tx, locked: &[Stored], inputs: &[Input], now: Timestamp) -> Result<Rooms, Error> {
        let bots: BTreeMap<BotId, &Bot> = locked.iter().map(|stored| (stored.bot.id, &stored.bot)).collect();
        let mut limits: BTreeMap<TenantId, u32> = BTreeMap::new();
        let mut unheard = BTreeSet::new();
        for input in inputs {
            let Some(bot) = bots.get(&input.bot) else { continue };
            if !may_go(bot, &input.event, now, self.timing.lead) {
                continue;
            }
            match input.limit.or_else(|| self.tenants.limit(bot.tenant)) {
                Some(Some(limit)) => {
                    limits.insert(bot.tenant, limit);
                }
                Some(None) => {}
                None => {
                    unheard.insert(bot.tenant);
                }
            }
        }
        let unheard: Vec<TenantId> = unheard.into_iter().filter(|tenant| !limits.contains_key(tenant)).collect();
        if !unheard.is_empty() {
            limits.extend(store::last_limits(tx, &unheard).await?);
        }
        if limits.is_empty() {
            return Ok(Rooms::default());
        }
        store::lock_limited(tx, &limits).await?;
        let tenants: Vec<TenantId> = limits.keys().copied().collect();
        // A statement of its own: whoever waited for the lock sees what the one before has committed.
        let mut under_way = store::under_way(tx, &tenants, now).await?;
        let rooms =
            limits.into_iter().map(|(tenant, limit)| (tenant, (limit, under_way.remove(&tenant).unwrap_or_default())));
        Ok(Rooms::new(rooms.collect()))
    }

    /// Wakes the sweep that gives room to those who wait for it.
    fn rooms_changed(&self, changed: RoomsChanged) {
        if changed.waits {
            self.waiting.store(true, Ordering::Relaxed);
        }
        if changed.ended && self.waiting.load(Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Has those looked at again that wait for their tenant to have room, as many as there is room for.
    pub async fn give_room(&self) -> Result<(), Error> {
        let pool = self.store.pool();
        // Before the look: who comes to wait after it sets it again.
        self.waiting.store(false, Ordering::Relaxed);
        let tenants = store::tenants_waiting(pool).await?;
        if tenants.is_empty() {
            return Ok(());
        }
        self.waiting.store(true, Ordering::Relaxed);
        self.tenants.learn(&self.tenants.unknown(tenants.iter().copied())).await;
        let now = self.clock.now();
        let mut connection = pool.acquire().await?;
        let last = store::last_limits(&mut connection, &tenants).await?;
        let under_way = store::under_way(&mut connection, &tenants, now).await?;
        drop(connection);
        let room = |tenant: &TenantId| {
            let limit = self.tenants.limit(*tenant).unwrap_or_else(|| last.get(tenant).copied());
            let under_way = under_way.get(tenant).copied().unwrap_or_default();
            limit.map_or(u64::MAX, |limit| u64::from(limit).saturating_sub(under_way.bots))
        };
        let rooms = tenants.iter().map(|tenant| (*tenant, room(tenant))).filter(|(_, room)| *room > 0);
        let rooms: BTreeMap<TenantId, u64> = rooms.collect();
        if !rooms.is_empty() && store::wake_waiting(pool, &rooms, now).await? > 0 {
            self.sooner.notify_one();
        }
        Ok(())
    }

    /// Wakes the sweep if one of the bots that were written now has to be looked at sooner than it comes by. After the commit:
    /// before it, the sweep would not see them and sleep on.
    pub(crate) fn look_again(&self, soonest: Option<Timestamp>, now: Timestamp) {
        // What was asserted now is looked at again after `assert_first`, and the sweep comes by before that: to wake it for
        // every bot would be a sweep a bot.
        if soonest.is_some_and(|at| at < after(now, self.timing.assert_first)) {
            self.sooner.notify_one();
        }
    }

    /// Looks at whatever has to be looked at now. Returns how many that were. (Wakes nobody: the sweep asks itself when the
    /// next one is due.)
    pub async fn tick(&self, limit: i64) -> Result<usize, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let mut awake = store::awake(&mut tx, now, limit).await?;
        let due = awake.iter().filter(|stored| stored.bot.state == BotState::Scheduled);
        let unknown = self.tenants.unknown(due.map(|stored| stored.bot.tenant));
        if !unknown.is_empty() {
            // Without a lock in hand.
            drop(tx);
            self.tenants.learn(&unknown).await;
            tx = self.store.begin().await?;
            awake = store::awake(&mut tx, now, limit).await?;
        }
        let inputs: Vec<Input> = awake.iter().map(|stored| Input::new(stored.bot.id, Event::Tick, None)).collect();
        let rooms = self.rooms(&mut tx, &awake, &inputs, now).await?;
        let mut fold = Fold::new(awake, now, self, rooms);
        for input in &inputs {
            fold.take(input);
        }
        let rooms = fold.rooms_changed();
        fold.write(&mut tx).await?;
        tx.commit().await?;
        self.rooms_changed(rooms);
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

/// A bot that names no platforms, as it is when it is due now; none: it has its platforms.
pub(crate) fn ordered(bot: &Bot, order: &Order) -> Option<Bot> {
    bot.chain.is_empty().then(|| Bot { chain: order.now().0, ..bot.clone() })
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
        priority: stored.priority(),
        weight: stored.details.weight,
        queued_at: stored.bot.queued_at?,
        not_before: attempt.not_before,
        deadline: stored.bot.wants_slot_until()?,
        revision: stored.version,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use greenroom_chassis::{Peers, Secret, Settings};
    use greenroom_contracts::Origin;

    use super::*;

    /// A sweep for every bot that is enqueued, or for every message, would be most of what Postgres does.
    #[tokio::test]
    async fn the_sweep_is_woken_only_by_what_it_would_miss() {
        let config = Config::parse(&mut Settings::new([], ""), "postgres://nowhere", &[], "gateway.example:8080");
        let origin = Origin { installation: "test".parse().expect("a name"), service: "scheduler" };
        let (store, _) = Store::new(&config.database, crate::SCHEMA, origin).expect("an address");
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let peers = Peers::parse(&mut Settings::new([], ""), "127.0.0.1:9", &[], &secret);
        let writer = Writer::new(store, Clock::system(), &config, Tenants::new(peers.channel("accounts"), 1.0));
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
