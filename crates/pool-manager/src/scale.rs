//! How many standing slots a pool ought to have: pure.
//!
//! [`decide`] looks at what one pool (the slots of one provider on one platform) has, at how busy it was, at who waits and at
//! what is due, and says how many slots are wanted, with the reason in words. It has no clock and no memory; whoever calls it
//! keeps samples and the times of the last changes.
//!
//! What it promises, whatever it is shown (the tests beside it play pools against it):
//!
//! 1. It never wants more than the pool's limit, nor more than the platform has room for.
//! 2. It never takes away a slot that somebody has: at most the ready ones, and above a lowered limit those that are not
//!    ready yet.
//! 3. On a constant load it comes to rest: first it grows, then it shrinks, and then it changes nothing any more. That is
//!    so because it measures the load, and not the share of a size that it changed itself, and because it never shrinks to a
//!    size at which any of its reasons to grow would hold.
//! 4. It never shrinks below the minimum, the pre-warmed, those who wait and those who are due.
//!
//! ```
//! use greenroom_pool_manager::scale::{Policy, View, decide};
//!
//! let view = View { ready: 1, busy: 2, due: 6, limit: 100, room: 17, minimum: 1, ..View::default() };
//! let decision = decide(&view, &Policy::default(), "2026-12-01T09:50:00Z".parse().unwrap());
//! assert_eq!((decision.target, decision.prepare), (8, 5));
//! assert_eq!(decision.why, "grows from 3 to 8: 2 are busy and 6 starts are due before another slot could be made");
//! ```

use std::time::Duration;

use greenroom_domain::Timestamp;

/// When a pool grows and shrinks, and by how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Above this share of busy slots the pool grows, from 0 to 1.
    pub out_above: f64,
    /// Below this share of busy slots it shrinks. Less than [`Self::out_above`].
    pub in_below: f64,
    /// Most slots that it grows by at once, unless somebody waits or is due.
    pub out_step: u32,
    /// Most slots that it shrinks by at once.
    pub in_step: u32,
    /// How long the load is watched: the share is that of its mean.
    pub evaluation: Duration,
    /// After growing it does not grow again for so long, unless somebody waits or is due.
    pub out_cool_down: Duration,
    /// After growing or shrinking it does not shrink for so long.
    pub in_cool_down: Duration,
}

impl Default for Policy {
    /// Meeboter's thresholds and steps, Clerk's cool-downs.
    fn default() -> Self {
        Self {
            out_above: 0.8,
            in_below: 0.3,
            out_step: 5,
            in_step: 2,
            evaluation: Duration::from_secs(300),
            out_cool_down: Duration::from_secs(300),
            in_cool_down: Duration::from_secs(600),
        }
    }
}

impl Policy {
    /// The same with time that runs at another pace: 0.1 is ten times as fast.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            evaluation: self.evaluation.mul_f64(factor),
            out_cool_down: self.out_cool_down.mul_f64(factor),
            in_cool_down: self.in_cool_down.mul_f64(factor),
            ..*self
        }
    }
}

/// How busy a pool was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// How many slots somebody had.
    pub busy: u32,
}

/// What a pool looks like now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Prepared, and nobody has them.
    pub ready: u32,
    /// Somebody has them: deploying, busy or releasing.
    pub busy: u32,
    /// They will be ready: first made, renewed or reset.
    pub preparing: u32,
    /// They could not be prepared. They still take room.
    pub failed: u32,
    /// How busy it was, in any order; older ones than [`Policy::evaluation`] are ignored. Until they cover four fifths of it, the
    /// share of busy slots is no reason for anything.
    pub samples: Vec<Sample>,
    /// How many wait for a slot of this pool.
    pub waiting: u32,
    /// How many starts are due before a slot that is begun now would be ready, without those who wait.
    pub due: u32,
    /// How many those who wait for other pools lack, where the platform has no more room.
    pub lacking_elsewhere: u32,
    /// When it grew last.
    pub last_out: Option<Timestamp>,
    /// When it shrank last.
    pub last_in: Option<Timestamp>,
    /// Most slots it may have.
    pub limit: u32,
    /// How many more slots its platform has room for. Negative: it has so many too many.
    pub room: i64,
    /// So many are ready at least, whatever the load.
    pub minimum: u32,
    /// So many had better be ready.
    pub idle_target: u32,
    /// So many slots there are at least, busy ones among them.
    pub prewarm: u32,
}

impl View {
    /// The slots it counts on.
    fn size(&self) -> u32 {
        self.ready.saturating_add(self.busy).saturating_add(self.preparing)
    }

    /// The most it may have, failed ones among them.
    fn allowed(&self) -> u32 {
        let all = i64::from(self.size()) + i64::from(self.failed);
        u32::try_from(all.saturating_add(self.room).clamp(0, i64::from(self.limit))).unwrap_or(u32::MAX)
    }

    /// The mean of busy slots, when it has been watched for long enough.
    fn load(&self, policy: &Policy, now: Timestamp) -> Option<f64> {
        let age = |sample: &Sample| now.duration_since(sample.at).unsigned_abs();
        let recent: Vec<&Sample> =
            self.samples.iter().filter(|sample| sample.at <= now && age(sample) <= policy.evaluation).collect();
        let oldest = recent.iter().map(|sample| age(sample)).max()?;
        if oldest < policy.evaluation.mul_f64(0.8) {
            return None;
        }
        let sum: f64 = recent.iter().map(|sample| f64::from(sample.busy)).sum();
        Some(sum / f64::from(u32::try_from(recent.len()).unwrap_or(u32::MAX)))
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// How many slots are wanted: ready, busy and preparing.
    pub target: u32,
    /// How many to begin.
    pub prepare: u32,
    /// How many ready ones to retire: those that have been idle for longest, see [`longest_idle`].
    pub retire: u32,
    /// How many to retire that are not ready yet: there are more than may be.
    pub abandon: u32,
    /// How many failed ones to retire: there are more than may be.
    pub forget: u32,
    /// The reason, in a sentence with the numbers it rests on.
    pub why: String,
}

impl Decision {
    /// By how much the pool changes: what is begun less what is retired, failed ones left aside.
    #[must_use]
    pub fn change(&self) -> i64 {
        i64::from(self.prepare) - i64::from(self.retire) - i64::from(self.abandon)
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.prepare > 0 || self.retire > 0 || self.abandon > 0 || self.forget > 0
    }
}

/// Decides how many slots a pool ought to have.
#[must_use]
pub fn decide(view: &View, policy: &Policy, now: Timestamp) -> Decision {
    let allowed = view.allowed();
    if view.size().saturating_add(view.failed) > allowed {
        return too_many(view, allowed);
    }
    let most = allowed.saturating_sub(view.failed);
    let load = view.load(policy, now);
    grow(view, policy, load, most, now)
        .or_else(|| shrink(view, policy, load, now))
        .unwrap_or_else(|| rest(view, policy, load, most))
}

/// The slots that have been idle for longest: (which, since when), at most so many. Of those that are idle since the same
/// moment, the last ones.
#[must_use]
pub fn longest_idle<T: Clone>(idle: &[(T, Timestamp)], most: u32) -> Vec<T> {
    let mut order: Vec<usize> = (0..idle.len()).collect();
    order.sort_by_key(|place| (idle[*place].1, std::cmp::Reverse(*place)));
    order.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)).map(|place| idle[place].0.clone()).collect()
}

/// There are more than may be: away with what serves nobody, the least useful first.
fn too_many(view: &View, allowed: u32) -> Decision {
    let size = view.size();
    let excess = size.saturating_add(view.failed) - allowed;
    let forget = view.failed.min(excess);
    let abandon = view.preparing.min(excess - forget);
    let retire = view.ready.min(excess - forget - abandon);
    let target = size - abandon - retire;
    let moves = if target < size { format!("shrinks from {size} to {target}") } else { format!("stays at {size}") };
    let more = if forget > 0 { format!(" and lets go of {forget} failed") } else { String::new() };
    let late = excess - forget - abandon - retire;
    let busy = if late > 0 { format!(", and {late} too many are busy until they come back") } else { String::new() };
    let why = format!("{moves}{more}: there may be {allowed} at most{busy}");
    Decision { target, abandon, retire, forget, why, ..Decision::default() }
}

/// Whether so many busy slots of so many are too many.
fn crowded(busy: f64, size: u32, policy: &Policy) -> bool {
    busy > policy.out_above * f64::from(size)
}

fn grow(view: &View, policy: &Policy, load: Option<f64>, most: u32, now: Timestamp) -> Option<Decision> {
    let size = view.size();
    let room = most.saturating_sub(size);
    let more = |wanted: u32, reason: String| {
        let prepare = wanted.min(room);
        let capped = if prepare < wanted { format!("; there may be {most} at most") } else { String::new() };
        let target = size + prepare;
        (prepare > 0).then(|| Decision {
            target,
            prepare,
            why: format!("grows from {size} to {target}: {reason}{capped}"),
            ..Decision::default()
        })
    };
    // Somebody would wait: at once, and as many as it takes.
    let needed = view.busy.saturating_add(view.waiting).saturating_add(view.due);
    if needed > size && view.waiting.saturating_add(view.due) > 0 {
        return more(needed - size, needs(view));
    }
    if view.prewarm > size {
        return more(view.prewarm - size, format!("{} are kept warm", view.prewarm));
    }
    let idle = view.ready.saturating_add(view.preparing);
    if idle < view.minimum {
        return more(view.minimum - idle, format!("{idle} are ready or will be, and {} always are", view.minimum));
    }
    if view.last_out.is_some_and(|last| now.duration_since(last).unsigned_abs() < policy.out_cool_down && last <= now) {
        return None;
    }
    if let Some(load) = load.filter(|load| crowded(*load, size, policy)) {
        return more(
            policy.out_step,
            format!(
                "{} of {size} were busy over {}, more than {}",
                share(load, size),
                span(policy.evaluation),
                percent(policy.out_above)
            ),
        );
    }
    if idle < view.idle_target {
        let wanted = (view.idle_target - idle).min(policy.out_step);
        return more(wanted, format!("{idle} are ready or will be, and {} had better be", view.idle_target));
    }
    None
}

/// The smallest size at which nothing would make it grow again.
fn keep(view: &View, policy: &Policy, load: f64) -> u32 {
    let spare = view.idle_target.max(view.minimum).max(view.waiting.saturating_add(view.due));
    let mut keep = view.busy.saturating_add(spare).max(view.prewarm);
    // Both: what it was, for it may come again, and what it is, for it will be what it was.
    let busiest = load.max(f64::from(view.busy));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let uncrowded = (busiest / policy.out_above).floor() as u32;
    keep = keep.max(uncrowded);
    while crowded(busiest, keep, policy) && keep < u32::MAX {
        keep += 1;
    }
    keep
}

fn shrink(view: &View, policy: &Policy, load: Option<f64>, now: Timestamp) -> Option<Decision> {
    let size = view.size();
    if view.lacking_elsewhere > 0 && view.room <= 0 {
        let needed = view.waiting.saturating_add(view.due);
        let retire = view.ready.saturating_sub(needed).min(view.lacking_elsewhere);
        let target = size - retire;
        return (retire > 0).then(|| Decision {
            target,
            retire,
            why: format!(
                "shrinks from {size} to {target}: {} wait for another pool, and the platform has no more room",
                view.lacking_elsewhere
            ),
            ..Decision::default()
        });
    }
    let load = load?;
    let last = view.last_out.max(view.last_in);
    if last.is_some_and(|last| last > now || now.duration_since(last).unsigned_abs() < policy.in_cool_down)
        || load >= policy.in_below * f64::from(size)
    {
        return None;
    }
    let keep = keep(view, policy, load);
    // Those that are not ready yet were wanted a moment ago.
    let retire = size.saturating_sub(keep).min(policy.in_step).min(view.ready);
    let target = size - retire;
    (retire > 0).then(|| Decision {
        target,
        retire,
        why: format!(
            "shrinks from {size} to {target}: {} of {size} were busy over {}, less than {}; {keep} are kept",
            share(load, size),
            span(policy.evaluation),
            percent(policy.in_below)
        ),
        ..Decision::default()
    })
}

fn rest(view: &View, policy: &Policy, load: Option<f64>, most: u32) -> Decision {
    let size = view.size();
    let failed = if view.failed > 0 { format!(", {} failed", view.failed) } else { String::new() };
    let reason = match load {
        _ if view.busy.saturating_add(view.waiting).saturating_add(view.due) > size => {
            format!("{}, but there may be {most} at most", needs(view))
        }
        Some(load) => format!("{} of {size} were busy over {}", share(load, size), span(policy.evaluation)),
        None => format!("its load has not been watched for {} yet", span(policy.evaluation)),
    };
    let why = format!(
        "stays at {size} ({} ready, {} busy, {} preparing{failed}): {reason}",
        view.ready, view.busy, view.preparing
    );
    Decision { target: size, why, ..Decision::default() }
}

/// `2 are busy, 3 wait and 6 starts are due …`
fn needs(view: &View) -> String {
    let due = "due before another slot could be made";
    match (view.waiting, view.due) {
        (waiting, 0) => format!("{} are busy and {waiting} wait", view.busy),
        (0, starts) => format!("{} are busy and {starts} starts are {due}", view.busy),
        (waiting, starts) => format!("{} are busy, {waiting} wait and {starts} starts are {due}", view.busy),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn share(load: f64, size: u32) -> String {
    if size == 0 { "none".to_owned() } else { percent(load / f64::from(size)) }
}

fn span(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 120.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests;
