//! Standing slots: lock the platform, decide, write, say. What becomes of one is decided in `standing.rs`; how many there are is
//! seen to in `pools/sizes.rs`.

mod sizes;

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::{Describe, Prepare, Reset, Retire};
use greenroom_domain::{PlatformName, Resources, SlotId, Standing, Timestamp};
use greenroom_store::Tx;

use crate::Error;
use crate::describe::beside;
use crate::ledger::{Ledger, announce};
use crate::scale::longest_idle;
use crate::standing::{Effect, Event, Slot, State, decide};
use crate::store::{self, Stood};

pub use sizes::scale;

/// So many stale slots of a platform are refreshed at once.
const REFRESHED_AT_ONCE: usize = 2;
/// So many descriptions are changed at once: platforms count what they are asked.
const DESCRIBED_AT_ONCE: usize = 50;

/// Lets events happen to standing slots of a locked platform, writes what comes of it and says it. Each event is about the
/// generation that it names.
async fn settle(
    ledger: &Ledger,
    tx: &mut Tx,
    platform: &PlatformName,
    slots: Vec<Stood>,
    events: Vec<(Standing, Event)>,
) -> Result<(), Error> {
    let now = ledger.now();
    let mut slots: BTreeMap<SlotId, Stood> = slots.into_iter().map(|stood| (stood.id, stood)).collect();
    let (mut changed, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
    let mut raised = BTreeSet::new();
    let mut withdrawn = false;
    for (about, event) in events {
        let Some(stood) = slots.get_mut(&about.slot).filter(|stood| !forgotten.contains(&stood.id)) else { continue };
        let Some((next, effects)) = decide(&stood.slot, about.generation, &event, now, &ledger.pools.timing) else {
            continue;
        };
        note(ledger, stood, &next, &event);
        stood.slot = next;
        changed.insert(stood.id);
        for effect in effects {
            match effect {
                Effect::Prepare => {
                    let command = prepare(ledger, stood, now);
                    let envelope = tx.envelope(now, command);
                    tx.say(envelope);
                }
                Effect::Reset => {
                    let envelope = tx.envelope(now, Reset { standing: stood.standing(), platform: platform.clone() });
                    tx.say(envelope);
                }
                Effect::Retire => {
                    let envelope = tx.envelope(now, Retire { standing: stood.standing(), platform: platform.clone() });
                    tx.say(envelope);
                }
                Effect::Ready => {
                    raised.insert((platform.clone(), Some(stood.pool.clone())));
                }
                Effect::Withdrawn => withdrawn = true,
                Effect::Forget => {
                    forgotten.insert(stood.id);
                }
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let kept: Vec<&Stood> =
        slots.values().filter(|stood| changed.contains(&stood.id) && !forgotten.contains(&stood.id)).collect();
    store::save_standing(tx, &kept).await?;
    store::forget_standing(tx, &forgotten.into_iter().collect::<Vec<_>>()).await?;
    if withdrawn {
        // What was decided while they were ready does not hold any more.
        store::raise_version(tx, platform).await?;
    }
    announce(tx, raised, now).await
}

fn note(ledger: &Ledger, stood: &Stood, next: &Slot, event: &Event) {
    let state = &next.state;
    ledger.meters.slot(stood, next, ledger.now());
    let (name, platform, generation) = (stood.name(), &stood.platform, stood.slot.generation);
    match (state, event) {
        (State::Failed, Event::Failed { error, detail }) => {
            tracing::warn!(slot = name, platform = %platform, generation, error = error.as_str(), detail, "a standing slot could not be prepared");
        }
        (State::Failed, _) => {
            tracing::warn!(slot = name, platform = %platform, generation, "a standing slot was not prepared in time");
        }
        (State::Retiring, Event::Tick) if stood.slot.state == State::Failed => {
            tracing::warn!(slot = name, platform = %platform, generation, attempts = stood.slot.attempts, "a standing slot cannot be recovered: it is deleted and made anew");
        }
        (_, Event::Lost) => {
            tracing::warn!(slot = name, platform = %platform, generation, "a standing slot is lost: it is made anew");
        }
        _ => {
            tracing::debug!(slot = name, platform = %platform, generation, from = ?stood.slot.state, to = ?state, "a standing slot")
        }
    }
}

fn prepare(ledger: &Ledger, stood: &Stood, now: Timestamp) -> Prepare {
    let config = ledger.pools.pools.iter().find(|pool| pool.provider == stood.pool);
    Prepare {
        standing: stood.standing(),
        name: stood.name(),
        platform: stood.platform.clone(),
        provider: stood.pool.clone(),
        image: None,
        resources: config.map_or_else(Resources::default, |pool| pool.resources),
        prepare_by: stood.slot.prepare_by.unwrap_or(now),
    }
}

/// What deployers said about standing slots.
pub async fn hear(ledger: &Ledger, said: &[(PlatformName, Standing, Event)]) -> Result<(), Error> {
    let mut by_platform: BTreeMap<&PlatformName, Vec<(Standing, Event)>> = BTreeMap::new();
    for (platform, standing, event) in said {
        by_platform.entry(platform).or_default().push((*standing, event.clone()));
    }
    let mut tx = ledger.store().begin().await?;
    store::lock_platforms(&mut tx, &by_platform.keys().copied().collect()).await?;
    for (platform, events) in by_platform {
        let ids: BTreeSet<SlotId> = events.iter().map(|(standing, _)| standing.slot).collect();
        let slots = store::standing(&mut tx, &ids.into_iter().collect::<Vec<_>>()).await?;
        let slots = slots.into_iter().filter(|stood| stood.platform == *platform).collect();
        settle(ledger, &mut tx, platform, slots, events).await?;
    }
    tx.commit().await?;
    // One that is done leaves its turn to the next, and one that is gone its room.
    ledger.tend.notify_one();
    ledger.scale.notify_one();
    Ok(())
}

/// One slot, as an operator wants it. False: it is not there any more, or in no state for that.
pub async fn happen(ledger: &Ledger, platform: &PlatformName, standing: Standing, event: Event) -> Result<bool, Error> {
    let mut tx = ledger.store().begin().await?;
    store::lock_platform(&mut tx, platform).await?;
    let slots = store::standing(&mut tx, &[standing.slot]).await?;
    let fits = slots
        .iter()
        .any(|stood| decide(&stood.slot, standing.generation, &event, ledger.now(), &ledger.pools.timing).is_some());
    settle(ledger, &mut tx, platform, slots, vec![(standing, event)]).await?;
    tx.commit().await?;
    ledger.tend.notify_one();
    Ok(fits)
}

/// Looks after standing slots: whose turn it is to be prepared, what is commanded again, what has failed, what has been idle
/// for too long.
pub async fn tend(ledger: &Ledger) -> Result<(), Error> {
    let now = ledger.now();
    let stale = ledger.pools.quiet.include(now).then(|| now - ledger.pools.stale);
    for platform in store::platforms_to_tend(ledger.store().pool(), now, stale).await? {
        let mut tx = ledger.store().begin().await?;
        let Some(known) = store::lock_platform(&mut tx, &platform).await? else { continue };
        let permits = known.permits.effective().map_or(1, |(permits, _)| permits.max(1));
        let slots = store::all_standing(&mut tx, &platform).await?;
        let mut turns = usize::try_from(permits).unwrap_or(usize::MAX).saturating_sub(in_hand(&slots));
        let mut events: Vec<(Standing, Event)> = Vec::new();
        // First come, first served, over all pools.
        let mut waits: Vec<&Stood> = slots.iter().filter(|stood| stood.slot.waits()).collect();
        waits.sort_by_key(|stood| (stood.slot.wake_at, stood.number));
        for stood in waits {
            if turns > 0 {
                turns -= 1;
                events.push((stood.standing(), Event::Turn));
            }
        }
        let due = slots.iter().filter(|stood| !stood.slot.waits() && stood.slot.wake_at.is_some_and(|at| at <= now));
        events.extend(due.map(|stood| (stood.standing(), Event::Tick)));
        events.extend(stale_ones(&slots, stale).into_iter().map(|standing| (standing, Event::Renew)));
        settle(ledger, &mut tx, &platform, slots, events).await?;
        tx.commit().await?;
    }
    describe(ledger).await
}

/// How many are being prepared at this moment.
fn in_hand(slots: &[Stood]) -> usize {
    slots.iter().filter(|stood| stood.slot.state == State::Preparing && stood.slot.commanded_at.is_some()).count()
}

/// A few that nobody has used for long, as long as no others are being renewed.
fn stale_ones(slots: &[Stood], stale: Option<Timestamp>) -> Vec<Standing> {
    let Some(stale) = stale else { return Vec::new() };
    let renewing = slots.iter().filter(|stood| stood.slot.state == State::Retiring && stood.slot.renew).count();
    let room = REFRESHED_AT_ONCE.saturating_sub(renewing + in_hand(slots));
    let idle: Vec<(Standing, Timestamp)> = slots
        .iter()
        .filter(|stood| stood.slot.state == State::Idle)
        .filter_map(|stood| Some((stood.standing(), stood.slot.idle_since?)))
        .filter(|(_, since)| *since < stale)
        .collect();
    longest_idle(&idle, u32::try_from(room).unwrap_or(0))
}

/// Has platforms show what people want to know of their slots.
async fn describe(ledger: &Ledger) -> Result<(), Error> {
    let now = ledger.now();
    let mut said = BTreeMap::new();
    for (slot, shown) in store::described(ledger.store().pool()).await? {
        let Some(stands) = &slot.stands else { continue };
        let text = beside(&slot);
        if text != shown && said.len() < DESCRIBED_AT_ONCE {
            let standing = Standing { slot: slot.id, generation: stands.generation };
            said.insert(slot.id, Describe { standing, platform: slot.platform.clone(), description: text });
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    let texts: Vec<(SlotId, String)> = said.iter().map(|(id, said)| (*id, said.description.clone())).collect();
    let mut tx = ledger.store().begin().await?;
    for id in store::save_descriptions(&mut tx, &texts).await? {
        if let Some(command) = said.remove(&id) {
            let envelope = tx.envelope(now, command);
            tx.say(envelope);
        }
    }
    tx.commit().await?;
    Ok(())
}
