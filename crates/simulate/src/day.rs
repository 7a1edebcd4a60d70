//! The day itself: bots live as `greenroom_domain::bot::decide` has them live, on a clock that jumps from one thing that happens
//! to the next.

mod pools;
mod runner;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use greenroom_domain::bot::{self, Bot, BotState, Decision, Effect, Policy};
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, Reason, TenantId, Timestamp};
use greenroom_pool_manager::policy::Event as OfAssignment;
use greenroom_queue::policy;
use uuid::Uuid;

use crate::agenda::Agenda;
use crate::pool::{Got, Pool};
use crate::queue::{Queue, Runner, Wish};
use crate::record::{Axis, Curve, Gauge};
use crate::scenario::Scenario;
use crate::spread::Chance;
use crate::trace::Trace;

/// Things that happen.
#[derive(Debug)]
enum Event {
    /// A bot is looked at, if that is when it wanted to be.
    Tick(u32),
    /// The platform is done with a start, well or not.
    Resolved(Runner),
    /// Nobody accepted a start in time.
    GivenUp(Runner),
    /// The runner's way into the meeting ends.
    Joins(Runner),
    /// The runner finds that it has been alone for long enough.
    Alone(Runner),
    /// The runner says its last word.
    Finishes(Runner),
    /// Nothing runs any more.
    Gone(Runner),
    /// Something is due in the queue.
    Sweep,
    /// Those who wait can be asked for again.
    Dispatch,
    /// Pools are looked at, and will be again.
    Scale,
    /// Pools are looked at, because somebody found nothing.
    Lack,
    /// A standing slot is ready: on which platform, and which.
    Prepared(usize, u32),
    /// A breaker may let a probe through.
    Look(PlatformName, Provider),
}

/// What became of a bot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fared {
    /// When its meeting started.
    pub start: Timestamp,
    /// Since when it wanted a slot.
    pub due_at: Option<Timestamp>,
    /// When it got its first one.
    pub assigned_at: Option<Timestamp>,
    /// When it was in the meeting, the first time.
    pub joined_at: Option<Timestamp>,
    /// How many runners were started for it.
    pub starts: u32,
    /// How it ended, once it has: the state, and the reason.
    pub ended: Option<(BotState, Option<Reason>)>,
    /// How many times it ended: once, or something is wrong.
    pub ends: u32,
}

/// How a platform went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Went {
    /// Slots that were taken.
    pub taken: Curve,
    /// Starts that were not resolved.
    pub starting: Curve,
    /// Standing slots, ready, taken or being prepared; nothing on platforms without.
    pub standing: Curve,
    /// Starts that were commanded.
    pub starts: u32,
    /// And those that failed.
    pub failures: u32,
}

/// A day that was played.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// The steps of all curves.
    pub axis: Axis,
    /// When nothing was left to happen.
    pub end: Timestamp,
    /// How many waited.
    pub waiting: Curve,
    /// The platforms, in the scenario's order.
    pub platforms: Vec<Went>,
    /// All runners together.
    pub taken: Curve,
    /// The bots, in the trace's order.
    pub bots: Vec<Fared>,
    /// What was left at the end: how many waited, slots that were taken, starts that were not resolved. Nothing, or something
    /// is wrong.
    pub left: (usize, usize, usize),
}

struct PlatformGauges {
    taken: Gauge,
    starting: Gauge,
    standing: Gauge,
    starts: u32,
    failures: u32,
}

/// Who is dispatched to.
#[derive(Debug, Default)]
struct Bell {
    rung: bool,
    last: Option<usize>,
    full: BTreeSet<Provider>,
}

struct Day<'a> {
    trace: &'a Trace,
    scenario: &'a Scenario,
    chance: Chance,
    chain: Vec<PlatformName>,
    agenda: Agenda<Event>,
    queue: Queue,
    pool: Pool,
    bots: Vec<Bot>,
    fared: Vec<Fared>,
    arrivals: Vec<u32>,
    bells: Vec<Bell>,
    line: VecDeque<usize>,
    busy_until: Timestamp,
    sweep_at: Option<Timestamp>,
    /// Pools are to be looked at, when all that happens now has happened: who is due is not foretold any more.
    to_scale: bool,
    scaled_at: Option<Timestamp>,
    schedule: pools::Schedule,
    living: usize,
    waiting: Gauge,
    taken: Gauge,
    platforms: Vec<PlatformGauges>,
}

/// Plays a day. The same arguments, the same day.
#[must_use]
pub fn play(trace: &Trace, scenario: &Scenario, seed: u64) -> Played {
    let mut day = Day::new(trace, scenario, seed);
    while day.agenda.wait() {
        loop {
            while let Some(event) = day.agenda.next_now() {
                day.happens(event);
            }
            if !day.settle() {
                break;
            }
        }
    }
    day.finish()
}

impl<'a> Day<'a> {
    fn new(trace: &'a Trace, scenario: &'a Scenario, seed: u64) -> Self {
        let lead = scenario.timing.lead;
        let dues: Vec<Timestamp> = trace
            .meetings
            .iter()
            .map(|meeting| (meeting.start - lead).max(meeting.created.unwrap_or(Timestamp::MIN)))
            .collect();
        let from = dues.iter().min().copied().unwrap_or(Timestamp::UNIX_EPOCH);
        // Pools are warm before the first bots come.
        let warming = scenario.scaling.ahead + scenario.scaling.policy.evaluation;
        let pooled = scenario.platforms.iter().any(|platform| platform.pooled) && !trace.meetings.is_empty();
        let from = if pooled { from - warming } else { from };
        let to = trace.span().map_or(from, |(_, to)| to);
        // Quarters of an hour: hours begin with a step in every time zone.
        let origin = Timestamp::from_second(from.as_second().div_euclid(900) * 900).unwrap_or(from);
        let axis = Axis::new(origin, Duration::try_from(to.duration_since(origin)).unwrap_or_default());
        let chain: Vec<PlatformName> = scenario.platforms.iter().map(|platform| platform.name.clone()).collect();
        let mut agenda = Agenda::new(origin);
        if pooled {
            agenda.note(origin, Event::Scale);
        }
        let mut bots = Vec::with_capacity(trace.meetings.len());
        for (number, (meeting, due)) in (0..).zip(trace.meetings.iter().zip(&dues)) {
            agenda.note(*due, Event::Tick(number));
            bots.push(Bot {
                id: BotId::from_uuid(Uuid::from_u128(u128::from(number) + 1)),
                tenant: TenantId::from_uuid(Uuid::from_u128(meeting.tenant as u128 + 1)),
                state: BotState::Scheduled,
                state_since: origin,
                reason: None,
                start_at: meeting.start,
                end_at: Some(meeting.end),
                queued_at: None,
                queue_deadline: None,
                joined_at: None,
                policy: Policy {
                    max_retries: scenario.max_retries,
                    rejoin: true,
                    queue_timeout: scenario.queue_timeout,
                    waiting_room_timeout: Duration::from_secs(900),
                    max_duration: scenario.max_duration,
                },
                chain: chain.clone(),
                chain_from: 0,
                failures: 0,
                wake_at: Some(meeting.start - lead),
                asserts: 0,
                attempt: None,
            });
        }
        let platform = || PlatformGauges {
            taken: Gauge::new(axis),
            starting: Gauge::new(axis),
            standing: Gauge::new(axis),
            starts: 0,
            failures: 0,
        };
        Self {
            trace,
            scenario,
            chance: Chance::new(seed),
            agenda,
            queue: Queue::new(scenario.rise, scenario.timeouts()),
            pool: Pool::new(scenario, origin),
            fared: trace.meetings.iter().map(|meeting| Fared { start: meeting.start, ..Fared::default() }).collect(),
            bots,
            arrivals: Vec::new(),
            bells: chain.iter().map(|_| Bell::default()).collect(),
            line: VecDeque::new(),
            busy_until: origin,
            sweep_at: None,
            to_scale: false,
            scaled_at: None,
            schedule: pools::Schedule::new(trace, &dues),
            living: trace.meetings.len(),
            waiting: Gauge::new(axis),
            taken: Gauge::new(axis),
            platforms: chain.iter().map(|_| platform()).collect(),
            chain,
        }
    }

    fn finish(self) -> Played {
        let end = self.agenda.now();
        let platforms = self.platforms.into_iter().map(|platform| Went {
            taken: platform.taken.finish(end),
            starting: platform.starting.finish(end),
            standing: platform.standing.finish(end),
            starts: platform.starts,
            failures: platform.failures,
        });
        let axis = self.waiting.axis();
        let (taken, starting) = self.pool.taken();
        Played {
            axis,
            end,
            waiting: self.waiting.finish(end),
            platforms: platforms.collect(),
            taken: self.taken.finish(end),
            bots: self.fared,
            left: (self.queue.waiting(), taken, starting),
        }
    }

    /// Feeds a bot, and sees to what follows.
    fn tell(&mut self, number: u32, event: &bot::Event) {
        let now = self.agenda.now();
        let bot = &self.bots[number as usize];
        let Decision::Advance { next, effects } = bot::decide(bot, event, now, &self.scenario.timing) else { return };
        let before = std::mem::replace(&mut self.bots[number as usize], *next);
        let bot = &self.bots[number as usize];
        if let Some(at) = bot.wake_at.filter(|at| before.wake_at != Some(*at)) {
            self.agenda.note(at, Event::Tick(number));
        }
        let fared = &mut self.fared[number as usize];
        fared.joined_at = bot.joined_at;
        fared.due_at = fared.due_at.or(bot.queued_at);
        if bot.state.is_terminal() && !before.state.is_terminal() {
            fared.ended = Some((bot.state, bot.reason.clone()));
            fared.ends += 1;
            self.living -= usize::from(fared.ends == 1);
        }
        if bot.state == BotState::Leaving && before.state != BotState::Leaving {
            // It is told with its next beat, or knows by itself, and leaves.
            if let Some(attempt) = &bot.attempt {
                self.agenda.note(now + runner::LEAVE, Event::Finishes((number, attempt.number.0)));
            }
        }
        for effect in effects {
            match effect {
                Effect::Enqueue => self.arrivals.push(number),
                Effect::Withdraw(attempt) => {
                    if self.queue.remove((number, attempt.0)) {
                        self.tell(number, &bot::Event::Withdrawn { attempt });
                    }
                }
                Effect::Release(attempt) => {
                    let release = OfAssignment::Release { grace: Duration::ZERO };
                    self.assignment((number, attempt.0), release);
                }
            }
        }
    }

    /// After all that happened at one time: who came stands in line, and is asked for. False: nobody came.
    fn settle(&mut self) -> bool {
        let now = self.agenda.now();
        let came = std::mem::take(&mut self.arrivals);
        let any = !came.is_empty();
        let mut wishes = Vec::new();
        for number in came {
            let Some(wish) = self.wish(number) else { continue };
            if wish.deadline <= now {
                self.now_or_never(&wish);
            } else {
                wishes.push(wish);
            }
        }
        let held: Vec<Runner> = wishes.iter().map(|wish| wish.runner).collect();
        let platforms = self.queue.enqueue(wishes, now);
        for (number, attempt) in held {
            self.tell(number, &bot::Event::Held { attempt: Attempt(attempt) });
        }
        for platform in platforms {
            self.ring_by_name(&platform);
        }
        self.dispatch();
        if std::mem::take(&mut self.to_scale) {
            self.scale();
        }
        self.note_sweep();
        self.note_standing();
        self.waiting.set(u32::try_from(self.queue.waiting()).unwrap_or(u32::MAX), now);
        any || !self.arrivals.is_empty()
    }

    fn wish(&self, number: u32) -> Option<Wish> {
        let (bot, meeting) = (&self.bots[number as usize], &self.trace.meetings[number as usize]);
        let attempt = bot.attempt.as_ref()?;
        (bot.state == BotState::Queued).then(|| Wish {
            runner: (number, attempt.number.0),
            tenant: bot.tenant,
            provider: meeting.provider.clone(),
            chain: bot.rest_of_chain().to_vec(),
            tier: meeting.tier(),
            weight: meeting.plan.weight(),
            queued_at: bot.queued_at.unwrap_or(attempt.progress_at),
            not_before: attempt.not_before,
            deadline: bot.wants_slot_until().unwrap_or(Timestamp::MAX),
        })
    }

    /// Who is overdue is asked for once, on all of its chain.
    fn now_or_never(&mut self, wish: &Wish) {
        let got = self.pool.assign(&[wish], &[&wish.chain], self.agenda.now());
        match got.first() {
            Some(Got::Assigned { platform, start_by }) => self.assigned(wish.runner, *platform, *start_by),
            _ => self.timed_out(wish.runner),
        }
    }

    fn timed_out(&mut self, (number, attempt): Runner) {
        let deadline = self.agenda.now();
        self.tell(number, &bot::Event::QueueTimedOut { attempt: Attempt(attempt), deadline });
    }

    fn sweep(&mut self) {
        self.sweep_at = None;
        let swept = self.queue.sweep(self.agenda.now());
        swept.timed_out.into_iter().for_each(|runner| self.timed_out(runner));
        for platform in swept.platforms {
            self.ring_by_name(&platform);
        }
    }

    fn note_sweep(&mut self) {
        if let Some(due) = self.queue.next_due()
            && self.sweep_at.is_none_or(|at| due < at)
        {
            self.sweep_at = Some(due);
            self.agenda.note(due, Event::Sweep);
        }
    }

    fn ring_by_name(&mut self, name: &PlatformName) {
        if let Some(platform) = self.chain.iter().position(|other| other == name) {
            self.ring(platform);
        }
    }

    /// There may be room, or somebody who wants some.
    fn ring(&mut self, platform: usize) {
        let bell = &mut self.bells[platform];
        bell.full.clear();
        if !std::mem::replace(&mut bell.rung, true) {
            bell.last = None;
            self.line.push_back(platform);
        }
    }

    /// Asks for those who wait, as many a second as Greenroom sends.
    fn dispatch(&mut self) {
        let now = self.agenda.now();
        while self.busy_until <= now
            && let Some(platform) = self.line.pop_front()
        {
            if self.dispatch_to(platform) {
                self.line.push_back(platform);
            } else {
                self.bells[platform].rung = false;
            }
        }
        if !self.line.is_empty() {
            self.agenda.note(self.busy_until, Event::Dispatch);
        }
    }

    /// Asks for the next few who wait for a platform. Says whether there may be more to be had.
    fn dispatch_to(&mut self, platform: usize) -> bool {
        let now = self.agenda.now();
        let bell = &mut self.bells[platform];
        let most = policy::next_claim(bell.last.replace(policy::next_claim(bell.last)));
        let name = std::slice::from_ref(&self.chain[platform]);
        let (best, more) = self.queue.best(&name[0], &bell.full, most);
        if best.is_empty() {
            return false;
        }
        let answers = self.pool.assign(&best, &vec![name; best.len()], now);
        let mut assigned = Vec::new();
        let mut lacking = false;
        for (wish, got) in best.into_iter().zip(&answers) {
            match got {
                Got::Assigned { start_by, .. } => assigned.push((wish.runner, *start_by)),
                Got::ProviderFull => drop(bell.full.insert(wish.provider.clone())),
                Got::Full => lacking = true,
            }
        }
        let took = u32::try_from(assigned.len()).unwrap_or(u32::MAX);
        if let Some(each) = Duration::from_secs(1).checked_div(self.scenario.dispatches) {
            self.busy_until = self.busy_until.max(now) + each * took;
        }
        self.queue.serve(assigned.iter().map(|(runner, _)| *runner));
        for (runner, start_by) in assigned {
            self.assigned(runner, platform, start_by);
        }
        if lacking || answers.contains(&Got::ProviderFull) {
            self.scale_soon();
        }
        more && !lacking
    }
}

#[cfg(test)]
mod tests;
