use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

/// So many busy, for as long as is watched.
fn watched(now: i64, busy: u32) -> Vec<Sample> {
    (0..=10).map(|n| Sample { at: at(now - 30 * n), busy }).collect()
}

/// A pool of google-meet at its defaults.
fn usual() -> View {
    View { limit: 100, room: 100, minimum: 1, idle_target: 3, prewarm: 5, ..View::default() }
}

#[test]
fn every_reason_in_words() {
    let rows: [(View, i64, &str); 14] = [
        (usual(), 5, "grows from 0 to 5: 5 are kept warm"),
        (View { waiting: 9, ..usual() }, 9, "grows from 0 to 9: 0 are busy and 9 wait"),
        (
            View { busy: 4, ready: 1, waiting: 3, due: 4, last_out: Some(at(-1)), ..usual() },
            6,
            "grows from 5 to 11: 4 are busy, 3 wait and 4 starts are due before another slot could be made",
        ),
        (
            View { busy: 8, waiting: 30, limit: 10, ..usual() },
            2,
            "grows from 8 to 10: 8 are busy and 30 wait; there may be 10 at most",
        ),
        (
            View { busy: 10, waiting: 30, limit: 10, ..usual() },
            0,
            "stays at 10 (0 ready, 10 busy, 0 preparing): 10 are busy and 30 wait, but there may be 10 at most",
        ),
        (
            View { busy: 17, ready: 3, samples: watched(0, 17), ..usual() },
            5,
            "grows from 20 to 25: 85 % of 20 were busy over 5 min, more than 80 %",
        ),
        (
            View { busy: 17, ready: 3, samples: watched(0, 17), last_out: Some(at(-299)), ..usual() },
            0,
            "stays at 20 (3 ready, 17 busy, 0 preparing): 85 % of 20 were busy over 5 min",
        ),
        (
            View { busy: 9, ready: 1, samples: watched(0, 5), ..usual() },
            2,
            "grows from 10 to 12: 1 are ready or will be, and 3 had better be",
        ),
        (
            View { busy: 10, samples: watched(0, 5), last_out: Some(at(-1)), ..usual() },
            1,
            "grows from 10 to 11: 0 are ready or will be, and 1 always are",
        ),
        (
            View { busy: 2, ready: 18, samples: watched(0, 2), ..usual() },
            -2,
            "shrinks from 20 to 18: 10 % of 20 were busy over 5 min, less than 30 %; 5 are kept",
        ),
        (
            View { busy: 2, ready: 18, samples: watched(0, 2), last_out: Some(at(-599)), ..usual() },
            0,
            "stays at 20 (18 ready, 2 busy, 0 preparing): 10 % of 20 were busy over 5 min",
        ),
        (
            View { busy: 2, ready: 18, failed: 1, due: 17, ..usual() },
            0,
            "stays at 20 (18 ready, 2 busy, 0 preparing, 1 failed): its load has not been watched for 5 min yet",
        ),
        (
            View { busy: 7, ready: 2, preparing: 3, failed: 1, limit: 8, ..usual() },
            -4,
            "shrinks from 12 to 8 and lets go of 1 failed: there may be 8 at most",
        ),
        (
            View { ready: 5, room: 0, lacking_elsewhere: 2, ..usual() },
            -2,
            "shrinks from 5 to 3: 2 wait for another pool, and the platform has no more room",
        ),
    ];
    for (view, change, why) in rows {
        let decision = decide(&view, &Policy::default(), at(0));
        assert_eq!((decision.change(), decision.why.as_str()), (change, why), "{view:?}");
    }
}

#[test]
fn the_least_useful_slots_are_removed_first() {
    let view = View { busy: 7, ready: 2, preparing: 3, failed: 1, limit: 8, ..usual() };
    let decision = decide(&view, &Policy::default(), at(0));
    // 13 there are and 8 may be: the failed one, three that are not ready, one that is.
    assert_eq!((decision.forget, decision.abandon, decision.retire, decision.target), (1, 3, 1, 8));
    // Nobody's slot is taken away.
    let disabled = View { limit: 0, ..view };
    let decision = decide(&disabled, &Policy::default(), at(0));
    assert_eq!((decision.forget, decision.abandon, decision.retire, decision.target), (1, 3, 2, 7));
    assert_eq!(
        decision.why,
        "shrinks from 12 to 7 and lets go of 1 failed: there may be 0 at most, and 7 too many are busy until they come back"
    );
    let platform_lowered = View { ready: 4, busy: 1, room: -2, ..usual() };
    assert_eq!(decide(&platform_lowered, &Policy::default(), at(0)).retire, 2);
}

#[test]
fn the_longest_idle_go() {
    let idle = [("a", at(5)), ("b", at(1)), ("c", at(3)), ("d", at(1))];
    assert_eq!(longest_idle(&idle, 3), ["d", "b", "c"]);
    assert_eq!(longest_idle(&idle, 0), Vec::<&str>::new());
    assert_eq!(longest_idle(&idle, 9).len(), 4);
}

/// A pool at work: slots with the time since which they are idle, slots on their way with the time at which they are ready.
struct Pool {
    now: i64,
    view: View,
    idle: Vec<(u32, Timestamp)>,
    preparing: Vec<(u32, i64)>,
    busy: Vec<u32>,
    samples: Vec<Sample>,
    next: u32,
    takes: i64,
    total: u32,
}

impl Pool {
    fn new(view: View, takes: i64) -> Self {
        Self {
            now: 0,
            total: u32::try_from(view.room).unwrap_or(0),
            view,
            idle: vec![],
            preparing: vec![],
            busy: vec![],
            samples: vec![],
            next: 0,
            takes,
        }
    }

    /// Half a minute goes by, with so many who want a slot. Returns by how much the pool was changed.
    fn step(&mut self, wanted: u32, policy: &Policy) -> Result<i64, TestCaseError> {
        self.now += 30;
        let now = self.now;
        let (ready, preparing) = std::mem::take(&mut self.preparing).into_iter().partition(|(_, ready)| *ready <= now);
        self.preparing = preparing;
        let ready: Vec<(u32, i64)> = ready;
        self.idle.extend(ready.into_iter().map(|(slot, _)| (slot, at(now))));
        let wanted = usize::try_from(wanted).expect("small");
        while self.busy.len() > wanted {
            self.idle.push((self.busy.remove(0), at(now)));
        }
        while self.busy.len() < wanted && !self.idle.is_empty() {
            // Least recently used, as slots are given.
            self.busy.push(self.idle.remove(0).0);
        }
        let count = |slots: usize| u32::try_from(slots).expect("small");
        self.samples.push(Sample { at: at(now), busy: count(self.busy.len()) });
        self.samples.retain(|sample| sample.at > at(now - 900));
        let size = count(self.busy.len() + self.idle.len() + self.preparing.len());
        let view = View {
            ready: count(self.idle.len()),
            busy: count(self.busy.len()),
            preparing: count(self.preparing.len()),
            waiting: count(wanted - self.busy.len()),
            samples: self.samples.clone(),
            room: i64::from(self.total) - i64::from(size),
            ..self.view.clone()
        };
        let decision = decide(&view, policy, at(now));
        prop_assert_eq!(i64::from(decision.target), i64::from(size) + decision.change(), "{:?}", decision);
        prop_assert!(
            decision.retire <= view.ready && decision.abandon <= view.preparing,
            "{:?} of {:?}",
            decision,
            view
        );
        prop_assert!(
            decision.prepare == 0 || decision.target <= view.limit.min(self.total),
            "{:?} of {:?}",
            decision,
            view
        );
        prop_assert!(!decision.why.is_empty());
        if decision.retire > 0 && size <= view.limit.min(self.total) {
            prop_assert!(decision.target >= view.prewarm && decision.target >= view.busy + view.minimum);
        }
        let longest = longest_idle(&self.idle, decision.retire);
        if let Some(stays) = self.idle.iter().filter(|(slot, _)| !longest.contains(slot)).map(|(_, since)| *since).min()
        {
            let goes = self.idle.iter().filter(|(slot, _)| longest.contains(slot)).map(|(_, since)| *since).max();
            prop_assert!(goes.is_none_or(|goes| goes <= stays), "a slot that was idle for longer stays");
        }
        self.idle.retain(|(slot, _)| !longest.contains(slot));
        let stay = self.preparing.len() - usize::try_from(decision.abandon).expect("small");
        self.preparing.truncate(stay);
        for _ in 0..decision.prepare {
            self.preparing.push((self.next, now + self.takes));
            self.next += 1;
        }
        if decision.prepare > 0 {
            self.view.last_out = Some(at(now));
        }
        if decision.retire + decision.abandon > 0 {
            self.view.last_in = Some(at(now));
        }
        Ok(decision.change())
    }
}

prop_compose! {
    fn policy()(
        out in 0.35..1.0_f64, gap in 0.05..0.9_f64, out_step in 1..10_u32, in_step in 1..10_u32,
        evaluation in 1..10_u64, out_cool in 0..15_u64, in_cool in 0..20_u64,
    ) -> Policy {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Policy {
            out_above: out, in_below: out * gap, out_step, in_step, evaluation: minutes(evaluation),
            out_cool_down: minutes(out_cool), in_cool_down: minutes(in_cool),
        }
    }
}

prop_compose! {
    fn pool()(limit in 0..60_u32, room in 0..80_i64, minimum in 0..4_u32, target in 0..6_u32, prewarm in 0..12_u32, due in 0..5_u32)
        -> View {
        View { limit, room, minimum, idle_target: target, prewarm, due, ..View::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn it_comes_to_rest_on_any_constant_load(
        view in pool(), policy in policy(), before in 0..60_u32, load in 0..60_u32, takes in 0..900_i64,
    ) {
        let mut pool = Pool::new(view, takes);
        // Something else went before.
        for _ in 0..60 {
            pool.step(before, &policy)?;
        }
        // Sixty slots may take sixty times the longest cool-down; after that, nothing for six hours.
        let mut grew_after_shrinking = (false, false);
        for n in 0..3_000 {
            let change = pool.step(load, &policy)?;
            // What was measured before belongs to another load.
            if n > 40 {
                grew_after_shrinking.1 |= grew_after_shrinking.0 && change > 0;
                grew_after_shrinking.0 |= change < 0;
            }
        }
        prop_assert!(!grew_after_shrinking.1, "it grew after it had shrunk");
        for _ in 0..720 {
            prop_assert_eq!(pool.step(load, &policy)?, 0);
        }
        // And everybody has a slot, as far as there may be slots.
        let most = pool.view.limit.min(pool.total);
        prop_assert_eq!(pool.busy.len(), usize::try_from(load.min(most)).expect("small"));
    }

    #[test]
    fn no_limit_is_exceeded_whatever_happens(
        view in pool(), policy in policy(), takes in 0..900_i64,
        loads in prop::collection::vec((0..80_u32, 0..60_u32, 0..80_u32, 1..30_usize), 1..12),
    ) {
        let mut pool = Pool::new(view, takes);
        for (load, limit, total, steps) in loads {
            (pool.view.limit, pool.total) = (limit, total);
            for n in 0..steps {
                pool.step(load, &policy)?;
                let size = pool.busy.len() + pool.idle.len() + pool.preparing.len();
                let most = usize::try_from(limit.min(total)).expect("small");
                // What is above a limit that was lowered is what somebody has, once it was looked at.
                prop_assert!(n == 0 || size <= most.max(pool.busy.len()), "{} of {}", size, most);
            }
        }
    }
}
