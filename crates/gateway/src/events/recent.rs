//! The newest public events of all tenants, in memory, and who watches them.
//!
//! One reader fills it; every watcher reads from it at its own pace. What a watcher costs is its place, not a copy.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use greenroom_bus::Epoch;
use greenroom_domain::TenantId;
use opentelemetry::global;
use opentelemetry::metrics::UpDownCounter;
use tokio::sync::watch;

use super::{Cursor, Event, Public};

static WATCHERS: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    let meter = global::meter("greenroom");
    meter.i64_up_down_counter("greenroom_event_watchers").with_description("Open event streams.").build()
});

/// How much is kept. A watcher that is further behind reads from the bus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub events: usize,
    pub bytes: usize,
}

/// How many may watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MostWatchers {
    /// Of all tenants, at this gateway.
    pub all: usize,
    /// Of one tenant.
    pub of_tenant: usize,
}

/// Why somebody may not watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Tenant,
}

/// What a watcher is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These events come next; the place is behind the last of them.
    Events(Vec<Event>, Cursor),
    /// There is nothing new up to this place.
    Wait(Cursor),
    /// What comes after this place is not in memory any more.
    Behind(Cursor),
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    kept: Kept,
    most: MostWatchers,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The making of the stream that is read.
    epoch: Option<Epoch>,
    /// Everything up to here was read.
    tail: u64,
    /// Every public event from here on is in memory.
    covered_from: u64,
    tenants: HashMap<TenantId, Tenant>,
    /// Which event is the oldest, and whose it is.
    order: VecDeque<(TenantId, usize)>,
    bytes: usize,
    watchers: usize,
}

#[derive(Debug)]
struct Tenant {
    events: VecDeque<(u64, Arc<Public>, Bytes)>,
    watchers: usize,
    wake: watch::Sender<()>,
}

impl Recent {
    pub fn new(kept: Kept, most: MostWatchers) -> Self {
        Self { kept, most, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader has looked at the stream: returns the place after which it has to read. In the first stream that it sees,
    /// what is there already is left to the bus; in one that was made again, everything is new.
    pub fn begin(&self, epoch: Epoch, end: u64) -> u64 {
        let mut state = self.lock();
        if state.epoch == Some(epoch) {
            return state.tail;
        }
        let tail = if state.epoch.is_none() { end } else { 0 };
        state.order.clear();
        state.bytes = 0;
        (state.epoch, state.tail, state.covered_from) = (Some(epoch), tail, tail + 1);
        for tenant in state.tenants.values_mut() {
            tenant.events.clear();
            tenant.wake.send_replace(());
        }
        state.tenants.retain(|_, tenant| tenant.watchers > 0);
        tail
    }

    /// The next event of the stream; `public` is none when no tenant may see it.
    pub fn push(&self, sequence: u64, public: Option<Public>, json: Bytes) {
        let mut state = self.lock();
        let state = &mut *state;
        state.tail = sequence;
        let Some(public) = public else { return };
        let tenant = public.tenant;
        state.bytes += json.len();
        state.order.push_back((tenant, json.len()));
        let of_tenant = state.tenants.entry(tenant).or_insert_with(Tenant::new);
        of_tenant.events.push_back((sequence, Arc::new(public), json));
        of_tenant.wake.send_replace(());
        while state.order.len() > self.kept.events || state.bytes > self.kept.bytes {
            let Some((tenant, bytes)) = state.order.pop_front() else { break };
            state.bytes -= bytes;
            if let Some(of_tenant) = state.tenants.get_mut(&tenant) {
                if let Some((sequence, ..)) = of_tenant.events.pop_front() {
                    state.covered_from = sequence + 1;
                }
                if of_tenant.events.is_empty() && of_tenant.watchers == 0 {
                    state.tenants.remove(&tenant);
                }
            }
        }
    }

    /// What a watcher sees next.
    pub fn next(&self, tenant: TenantId, bot: Option<&str>, place: Cursor, most: usize) -> Next {
        let state = self.lock();
        let Some(epoch) = state.epoch else { return Next::Wait(place) };
        let mut place = place.within(epoch);
        // Nothing is there yet of what lies ahead: an id that never was, or one of a gateway that is ahead of this one.
        place.sequence = place.sequence.min(state.tail);
        if place.sequence + 1 < state.covered_from {
            return Next::Behind(place);
        }
        let mut found = Vec::new();
        if let Some(of_tenant) = state.tenants.get(&tenant) {
            let new = of_tenant.events.partition_point(|(sequence, ..)| *sequence <= place.sequence);
            for (sequence, public, json) in of_tenant.events.range(new..) {
                if bot.is_none_or(|bot| bot == public.subject) {
                    let cursor = Cursor { epoch, sequence: *sequence };
                    found.push(Event { cursor, kind: public.kind.clone(), json: json.clone() });
                    if found.len() == most {
                        return Next::Events(found, cursor);
                    }
                }
            }
        }
        place.sequence = place.sequence.max(state.tail);
        if found.is_empty() { Next::Wait(place) } else { Next::Events(found, place) }
    }

    /// Adds a watcher.
    pub fn watch(&self, tenant: TenantId) -> Result<Watcher, Full> {
        let mut state = self.lock();
        if state.watchers >= self.most.all {
            return Err(Full::All);
        }
        if state.tenants.get(&tenant).is_some_and(|of_tenant| of_tenant.watchers >= self.most.of_tenant) {
            return Err(Full::Tenant);
        }
        state.watchers += 1;
        WATCHERS.add(1, &[]);
        let of_tenant = state.tenants.entry(tenant).or_insert_with(Tenant::new);
        of_tenant.watchers += 1;
        let wake = of_tenant.wake.subscribe();
        drop(state);
        Ok(Watcher { recent: self.clone(), tenant, wake })
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.lock().watchers
    }
}

impl Tenant {
    fn new() -> Self {
        Self { events: VecDeque::new(), watchers: 0, wake: watch::Sender::new(()) }
    }
}

/// Somebody who watches a tenant's events, until this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    recent: Recent,
    tenant: TenantId,
    wake: watch::Receiver<()>,
}

impl Watcher {
    /// Returns when there may be something new since the last call.
    pub async fn woken(&mut self) {
        // Its sender is kept as long as there is a watcher.
        let _ = self.wake.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.recent.lock();
        state.watchers -= 1;
        WATCHERS.add(-1, &[]);
        if let Some(of_tenant) = state.tenants.get_mut(&self.tenant) {
            of_tenant.watchers -= 1;
            if of_tenant.watchers == 0 && of_tenant.events.is_empty() {
                state.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests;
