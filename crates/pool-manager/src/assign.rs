//! Gives slots: everybody who asks at the same time shares one statement.
//!
//! Room is remembered from the last time, so that one round trip to the database is enough while there is plenty. Whoever
//! takes room raises the platform's version, and what was decided on an older one is refused: then it is decided once more,
//! with the platform locked.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::{PoolExhausted, SlotAssigned, Start};
use greenroom_contracts::{Envelope, Message};
use greenroom_domain::{AssignmentId, PlatformName, RunnerId, RunnerSpec};
use greenroom_store::Outbox;
use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::Error;
use crate::choose::{Choice, Wish, choose, concern_the_provider_alone, in_words, lacks};
use crate::ledger::Ledger;
use crate::names::slot_name;
use crate::policy::State;
use crate::room::{Lack, Rooms, Warm};
use crate::store::{self, Gift, Stored, Times};

/// A runner that wants a slot.
#[derive(Debug, Clone)]
pub struct Ask {
    pub spec: RunnerSpec,
    /// What its slot had better be used for last.
    pub warm: Warm,
    /// Tried in this order.
    pub platforms: Vec<PlatformName>,
    pub traceparent: Option<String>,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Assigned(PlatformName),
    /// No room, and what is short.
    Full(String),
    /// There is room everywhere, but for other providers.
    ProviderFull(String),
    Closed,
    UnknownPlatform,
}

/// What is read beyond what is asked for, to be remembered for those who come next.
const MORE: usize = 128;
/// The same of slots that are warm for somebody.
const MORE_OF_A_KIND: usize = 16;
/// Most kinds of warm slots that are looked for at once, beyond what is asked for.
const KINDS: usize = 32;

/// Gives slots.
#[derive(Default)]
pub struct Assigner {
    remembered: Mutex<Rooms>,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Basis {
    Memory,
    Look,
    Lock,
}

impl Assigner {
    /// Gives slots to a batch, in its order: the assignments, the starts and `slot.assigned` at once. Asking twice is answered
    /// the same.
    pub async fn assign(&self, ledger: &Ledger, asks: &[Ask]) -> Result<Vec<Answer>, Error> {
        // One at a time: a second one would decide on the same room.
        let mut remembered = self.remembered.lock().await;
        // What came free here is no news that has to be read.
        for (platform, slot) in ledger.take_freed() {
            if let Some(room) = remembered.platforms.get_mut(&platform) {
                room.insert(slot);
            }
        }
        let answers = assign(ledger, asks, &mut remembered).await;
        if answers.is_err() {
            *remembered = Rooms::default();
        }
        answers
    }
}

async fn assign(ledger: &Ledger, asks: &[Ask], remembered: &mut Rooms) -> Result<Vec<Answer>, Error> {
    let mut settled: BTreeMap<RunnerId, Answer> = BTreeMap::new();
    let mut basis = Basis::Memory;
    let mut noted = false;
    // One of them may be closed in between by somebody who waits for no platform. There are no more of these than there are
    // asks.
    let mut tries = asks.len() + 5;
    loop {
        let mut seen: BTreeSet<RunnerId> = settled.keys().copied().collect();
        let open: Vec<&Ask> = asks.iter().filter(|ask| seen.insert(ask.spec.runner)).collect();
        if open.is_empty() {
            break;
        }
        tries -= 1;
        basis = match decide(ledger, basis, &open, remembered).await {
            Ok(Decided::Given { given, outbox }) => {
                outbox.committed();
                settled.extend(given.into_iter().map(|(runner, platform)| (runner, Answer::Assigned(platform))));
                // Who got nothing may have had something before.
                let without: Vec<&Ask> =
                    open.into_iter().filter(|ask| !settled.contains_key(&ask.spec.runner)).collect();
                settled.extend(answered_before(ledger, &without).await?);
                let full: Vec<&Ask> =
                    without.into_iter().filter(|ask| !settled.contains_key(&ask.spec.runner)).collect();
                if noted || !want(ledger, &full).await? {
                    break;
                }
                // Room that came between the look and the note was announced to nobody.
                noted = true;
                Basis::Look
            }
            Ok(Decided::NotFromMemory) => Basis::Look,
            Ok(Decided::Moved) if basis == Basis::Lock => {
                let problem = "room was taken from under the lock: a slot is not as its platform's version says";
                return Err(greenroom_store::Error::row("platforms.version", problem).into());
            }
            Ok(Decided::Moved) => Basis::Lock,
            // One of them has an assignment already.
            Err(Error::Store(error)) if error.is_conflict() && tries > 0 => {
                settled.extend(answered_before(ledger, &open).await?);
                basis.max(Basis::Look)
            }
            Err(error) => return Err(error),
        };
    }
    if noted {
        tell_exhausted(ledger, asks.iter().filter(|ask| !settled.contains_key(&ask.spec.runner)), remembered).await?;
    }
    note_demand(ledger, asks, &settled, remembered).await?;
    // Who is still without got nothing of what was looked at last, which is what is remembered.
    Ok(asks
        .iter()
        .map(|ask| settled.get(&ask.spec.runner).cloned().unwrap_or_else(|| nothing(ask, remembered)))
        .collect())
}

/// Notes who wants standing slots where none is ready, and wakes whoever makes them.
async fn note_demand(
    ledger: &Ledger,
    asks: &[Ask],
    settled: &BTreeMap<RunnerId, Answer>,
    left: &Rooms,
) -> Result<(), Error> {
    let pooled = |platform: &PlatformName| left.platforms.get(platform).is_some_and(|room| room.pooled);
    let asks: Vec<&Ask> = asks.iter().filter(|ask| ask.platforms.iter().any(pooled)).collect();
    if asks.is_empty() {
        return Ok(());
    }
    let now = ledger.now();
    for ask in asks {
        let runner = ask.spec.runner;
        if settled.contains_key(&runner) {
            ledger.demand.served(runner);
            continue;
        }
        for (platform, _) in lacks(wish(ask), left).iter().filter(|(_, lack)| *lack == Lack::Unready) {
            ledger.demand.wanted(((*platform).clone(), ask.spec.provider.clone()), runner, now);
        }
    }
    let changed = ledger.demand.take_changed(now - ledger.pools.waits);
    if !changed.is_empty() {
        store::save_waiting(ledger.store().pool(), &changed, now).await?;
        ledger.scale.notify_one();
    }
    Ok(())
}

/// The answer to who got nothing of these rooms.
fn nothing(ask: &Ask, left: &Rooms) -> Answer {
    let lacks = lacks(wish(ask), left);
    let why = in_words(&lacks);
    if lacks.is_empty() && !ask.platforms.iter().any(|platform| left.platforms.contains_key(platform)) {
        Answer::UnknownPlatform
    } else if concern_the_provider_alone(&lacks) {
        Answer::ProviderFull(why)
    } else {
        Answer::Full(why)
    }
}

fn wish(ask: &Ask) -> Wish<'_> {
    Wish { provider: &ask.spec.provider, warm: &ask.warm, platforms: &ask.platforms }
}

/// The answers of those who have asked before, or were closed.
async fn answered_before(ledger: &Ledger, asks: &[&Ask]) -> Result<Vec<(RunnerId, Answer)>, Error> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let runners: Vec<RunnerId> = asks.iter().map(|ask| ask.spec.runner).collect();
    let mut connection = ledger.store().pool().acquire().await?;
    let known = store::read(&mut connection, &runners).await?;
    let answer = |stored: Stored| match (stored.assignment.state, stored.platform) {
        (State::Assigned | State::Accepted | State::Stopping, Some(platform)) => Answer::Assigned(platform),
        _ => Answer::Closed,
    };
    Ok(known.into_iter().map(|stored| (stored.runner, answer(stored))).collect())
}

/// Notes that these were told that all is full. True: of one of the platforms nobody had been told before.
async fn want(ledger: &Ledger, asks: &[&Ask]) -> Result<bool, Error> {
    let names: Vec<&str> = platforms_of(asks).into_iter().map(PlatformName::as_str).collect();
    if names.is_empty() {
        return Ok(false);
    }
    let mut connection = ledger.store().pool().acquire().await?;
    Ok(!store::want(&mut connection, &names).await?.is_empty())
}

/// Tells operators of platforms that have no slot for somebody who wants one: once, until they have one again.
async fn tell_exhausted<'a>(
    ledger: &Ledger,
    without: impl Iterator<Item = &'a Ask>,
    left: &Rooms,
) -> Result<(), Error> {
    let short: BTreeSet<&str> = without
        .flat_map(|ask| lacks(wish(ask), left))
        .filter(|(_, lack)| *lack == Lack::Slots)
        .map(|(platform, _)| platform.as_str())
        .collect();
    if short.is_empty() {
        return Ok(());
    }
    let now = ledger.now();
    let mut tx = ledger.store().begin().await?;
    for (platform, limit) in store::exhaust(&mut tx, &short.into_iter().collect::<Vec<_>>()).await? {
        tracing::warn!(platform = %platform, limit, "platform exhausted");
        let envelope = tx.envelope(now, PoolExhausted { platform, limit });
        tx.say(envelope);
    }
    tx.commit().await?;
    Ok(())
}

enum Decided {
    Given {
        given: BTreeMap<RunnerId, PlatformName>,
        outbox: Outbox,
    },
    /// What is remembered is not enough: there may be more.
    NotFromMemory,
    /// Somebody else took room in between.
    Moved,
}

async fn decide(ledger: &Ledger, basis: Basis, asks: &[&Ask], remembered: &mut Rooms) -> Result<Decided, Error> {
    match basis {
        Basis::Memory => from_memory(ledger, asks, remembered).await,
        Basis::Look => {
            let mut connection = ledger.store().pool().acquire().await?;
            look_and_give(ledger, &mut connection, asks, remembered).await
        }
        Basis::Lock => {
            let mut tx = ledger.store().pool().begin().await?;
            store::lock_platforms(&mut tx, &platforms_of(asks)).await?;
            let decided = look_and_give(ledger, &mut tx, asks, remembered).await?;
            tx.commit().await?;
            Ok(decided)
        }
    }
}

fn platforms_of<'a>(asks: &[&'a Ask]) -> BTreeSet<&'a PlatformName> {
    asks.iter().flat_map(|ask| &ask.platforms).collect()
}

fn choices(asks: &[&Ask], rooms: &mut Rooms) -> Vec<Choice> {
    let wishes: Vec<Wish<'_>> = asks.iter().map(|ask| wish(ask)).collect();
    choose(&wishes, rooms)
}

/// Memory is good for first choices alone: where it has no room there may be some by now.
async fn from_memory(ledger: &Ledger, asks: &[&Ask], remembered: &mut Rooms) -> Result<Decided, Error> {
    let known = |ask: &&Ask| {
        let first = ask.platforms.first().and_then(|platform| remembered.platforms.get(platform));
        first.is_some_and(|room| room.looked_for.contains(&ask.warm))
    };
    if !asks.iter().all(known) {
        return Ok(Decided::NotFromMemory);
    }
    let mut rooms = remembered.clone();
    let choices = choices(asks, &mut rooms);
    if !choices.iter().all(|choice| matches!(choice, Some((0, _)))) {
        return Ok(Decided::NotFromMemory);
    }
    let mut connection = ledger.store().pool().acquire().await?;
    give(ledger, &mut connection, asks, choices, rooms, remembered).await
}

async fn look_and_give(
    ledger: &Ledger,
    connection: &mut PgConnection,
    asks: &[&Ask],
    remembered: &mut Rooms,
) -> Result<Decided, Error> {
    let names = platforms_of(asks);
    let mut warm: BTreeMap<Warm, usize> = BTreeMap::new();
    // Who asked lately will ask again.
    let lately = names.iter().filter_map(|name| remembered.platforms.get(*name)).flat_map(|room| &room.looked_for);
    warm.extend(lately.take(KINDS).map(|kind| (kind.clone(), MORE_OF_A_KIND)));
    for ask in asks {
        *warm.entry(ask.warm.clone()).or_insert(MORE_OF_A_KIND) += 1;
    }
    let mut rooms = store::rooms(connection, &names, &warm, asks.len() + MORE).await?;
    remembered.learn(rooms.clone());
    let choices = choices(asks, &mut rooms);
    give(ledger, connection, asks, choices, rooms, remembered).await
}

/// Gives what was chosen, and remembers what is left.
async fn give(
    ledger: &Ledger,
    connection: &mut PgConnection,
    asks: &[&Ask],
    choices: Vec<Choice>,
    mut left: Rooms,
    remembered: &mut Rooms,
) -> Result<Decided, Error> {
    let now = ledger.now();
    let times = Times { now, start_by: now + ledger.timing.start, wake_at: now + ledger.timing.assert_first };
    let mut outbox = Outbox::new(ledger.store());
    let mut gifts = Vec::new();
    for (ask, choice) in asks.iter().zip(choices) {
        let Some((place, slot)) = choice else { continue };
        let platform = ask.platforms[place].clone();
        let gift = Gift {
            probe: left.probes(&platform, &ask.spec.provider),
            runner: ask.spec.runner,
            id: AssignmentId::generate(),
            slot_name: slot_name(&platform, slot.stands.as_ref().map(|stands| &stands.pool), slot.number),
            platform,
            slot,
            provider: ask.spec.provider.clone(),
            image: ask.warm.image().to_owned(),
            spec: serde_json::to_string(&ask.spec).expect("plain data"),
            traceparent: ask.traceparent.clone(),
        };
        let start = Start {
            runner: gift.runner,
            platform: gift.platform.clone(),
            spec: ask.spec.clone(),
            assignment: gift.id,
            slot: gift.slot_name.clone(),
            start_by: times.start_by,
            standing: gift.standing(),
        };
        let assigned = SlotAssigned {
            runner: gift.runner,
            platform: gift.platform.clone(),
            assignment: gift.id,
            slot: gift.slot_name.clone(),
            start_by: times.start_by,
        };
        outbox.say(traced(outbox.envelope(now, start), ask));
        outbox.say(traced(outbox.envelope(now, assigned), ask));
        gifts.push(gift);
    }
    let mut given = BTreeMap::new();
    if !gifts.is_empty() {
        let versions: BTreeMap<&PlatformName, i64> = gifts
            .iter()
            .filter_map(|gift| Some((&gift.platform, left.platforms.get(&gift.platform)?.version)))
            .collect();
        let cap = left.cap.map(|cap| cap.version);
        if !store::give(connection, &versions, cap, &gifts, times, &outbox).await? {
            remembered.platforms.retain(|platform, _| !versions.contains_key(platform));
            return Ok(Decided::Moved);
        }
        for (platform, room) in &mut left.platforms {
            room.version += i64::from(versions.contains_key(platform));
        }
        if let Some(cap) = &mut left.cap {
            cap.version += 1;
        }
        given.extend(gifts.into_iter().map(|gift| (gift.runner, gift.platform)));
    }
    remembered.learn(left);
    Ok(Decided::Given { given, outbox })
}

fn traced<T: Message>(mut envelope: Envelope<T>, ask: &Ask) -> Envelope<T> {
    envelope.header.traceparent.clone_from(&ask.traceparent);
    envelope
}
