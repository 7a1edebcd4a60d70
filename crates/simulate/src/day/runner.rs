//! What happens to runners: what platforms and meetings do.

use std::time::Duration;

use greenroom_domain::bot::{self, BotState, Refusal, Report};
use greenroom_domain::{Attempt, InstanceId, Reason, Timestamp};
use greenroom_pool_manager::policy::{Event as OfAssignment, Evidence};
use uuid::Uuid;

use super::{Day, Event};
use crate::queue::Runner;

/// From leaving a meeting to the last report.
pub const LEAVE: Duration = Duration::from_secs(2);

impl Day<'_> {
    pub(super) fn happens(&mut self, event: Event) {
        let now = self.agenda.now();
        match event {
            Event::Tick(number) => {
                if self.bots[number as usize].wake_at.is_some_and(|at| at <= now) {
                    self.tell(number, &bot::Event::Tick);
                }
            }
            Event::Resolved(runner) => self.resolved(runner),
            Event::GivenUp(runner) => {
                // The pool asks the owner to fence it; it was not admitted, so the owner does.
                self.assignment(runner, OfAssignment::Closed);
                self.tell(runner.0, &bot::Event::CloseAsked { attempt: Attempt(runner.1) });
            }
            Event::Joins(runner) => self.joins(runner),
            Event::Alone(runner) => {
                self.report(runner, Report::Leaving(Reason::NO_ONE_JOINED));
            }
            Event::Finishes(runner) => {
                if self.report(runner, Report::Finished(Reason::MEETING_ENDED)) {
                    self.note_gone(runner);
                }
            }
            Event::Gone(runner) => {
                self.assignment(runner, OfAssignment::Gone(Evidence::Unseen));
                self.tell(runner.0, &bot::Event::Gone { attempt: Attempt(runner.1), exit: None });
            }
            Event::Sweep => self.sweep(),
            Event::Dispatch => {}
            Event::Scale => {
                self.to_scale = true;
                if self.waits_for_more() {
                    self.agenda.note(now + self.scenario.scaling.period, Event::Scale);
                }
            }
            Event::Lack => self.to_scale = true,
            Event::Prepared(platform, number) => self.prepared(platform, number),
            Event::Look(platform, provider) => {
                self.pool.look((platform.clone(), provider), now);
                self.ring_by_name(&platform);
            }
        }
    }

    /// A runner has a slot: its start is commanded.
    pub(super) fn assigned(&mut self, runner: Runner, platform: usize, start_by: Timestamp) {
        let now = self.agenda.now();
        let fared = &mut self.fared[runner.0 as usize];
        fared.assigned_at.get_or_insert(now);
        fared.starts += 1;
        let gauges = &mut self.platforms[platform];
        gauges.starts += 1;
        gauges.taken.add(true, now);
        gauges.starting.add(true, now);
        self.taken.add(true, now);
        let name = self.chain[platform].clone();
        self.tell(runner.0, &bot::Event::Assigned { attempt: Attempt(runner.1), platform: name });
        let fate = self.chance.of(runner.0, runner.1);
        let resolved = now + self.scenario.platforms[platform].start.at(fate.start);
        if resolved < start_by {
            self.agenda.note(resolved, Event::Resolved(runner));
        } else {
            self.agenda.note(start_by, Event::GivenUp(runner));
        }
    }

    /// Where an attempt has its slot, while it is the current one and wanted.
    fn wanted(&self, (number, attempt): Runner) -> Option<usize> {
        let current = self.bots[number as usize].attempt.as_ref()?;
        let wanted = current.number.0 == attempt && !current.stopped && current.gone_at.is_none();
        let platform = current.platform.as_ref().filter(|_| wanted)?;
        self.chain.iter().position(|name| name == platform)
    }

    fn resolved(&mut self, runner: Runner) {
        let attempt = Attempt(runner.1);
        let fate = self.chance.of(runner.0, runner.1);
        // One that was stopped meanwhile is seen on its way out.
        let Some(platform) = self.wanted(runner) else {
            self.assignment(runner, OfAssignment::Started);
            return;
        };
        if fate.fails < self.scenario.platforms[platform].failures {
            self.platforms[platform].failures += 1;
            self.assignment(runner, OfAssignment::Refused { by_platform: true });
            let refusal = Refusal { reason: Reason::DEPLOY_FAILED, may_pass: true };
            self.tell(runner.0, &bot::Event::Refused { attempt, refusal });
            return;
        }
        self.assignment(runner, OfAssignment::Started);
        self.tell(runner.0, &bot::Event::Started { attempt });
        self.tell(runner.0, &bot::Event::AdmissionAsked { attempt, instance: instance(runner) });
        self.agenda.note(self.agenda.now() + self.scenario.join.at(fate.join), Event::Joins(runner));
    }

    fn joins(&mut self, runner: Runner) {
        if self.bots[runner.0 as usize].state != BotState::JoiningCall || !self.report(runner, Report::InCall) {
            return;
        }
        if self.trace.meetings[runner.0 as usize].no_show {
            self.agenda.note(self.agenda.now() + self.scenario.no_one_joined, Event::Alone(runner));
        }
    }

    /// What a runner says. False: nobody wants to hear it any more.
    fn report(&mut self, runner: Runner, report: Report) -> bool {
        if self.wanted(runner).is_none() {
            return false;
        }
        let current = self.bots[runner.0 as usize].attempt.as_ref();
        let sequence = current.map_or(0, |attempt| attempt.report_sequence) + 1;
        let (attempt, instance) = (Attempt(runner.1), instance(runner));
        self.tell(runner.0, &bot::Event::Reported { attempt, instance, sequence, report });
        true
    }

    fn note_gone(&mut self, runner: Runner) {
        let current = self.bots[runner.0 as usize].attempt.as_ref();
        let platform = current.and_then(|attempt| attempt.platform.as_ref());
        let platform = platform.and_then(|name| self.scenario.platforms.iter().find(|other| other.name == *name));
        let stop = platform.map_or(Duration::ZERO, |platform| platform.stop);
        self.agenda.note(self.agenda.now() + stop, Event::Gone(runner));
    }

    /// Feeds an assignment, and sees to what follows for its platform.
    pub(super) fn assignment(&mut self, runner: Runner, event: OfAssignment) {
        let now = self.agenda.now();
        let provider = &self.trace.meetings[runner.0 as usize].provider;
        let Some(changed) = self.pool.happened(runner, event, now) else { return };
        if let Some(at) = changed.look {
            self.agenda.note(at, Event::Look(self.chain[changed.platform].clone(), provider.clone()));
        }
        let gauges = &mut self.platforms[changed.platform];
        if changed.permit {
            gauges.starting.add(false, now);
        }
        if changed.slot {
            gauges.taken.add(false, now);
            self.taken.add(false, now);
        }
        if let Some(evidence) = changed.stop {
            let stop = self.scenario.platforms[changed.platform].stop;
            self.agenda.note((now + stop).max(evidence), Event::Gone(runner));
        }
        if changed.permit || changed.slot {
            // What all platforms may have together is free for each of them.
            if self.scenario.max_bots.is_some() || self.scenario.max_starts.is_some() {
                (0..self.chain.len()).for_each(|platform| self.ring(platform));
            } else {
                self.ring(changed.platform);
            }
        }
    }
}

fn instance((number, attempt): Runner) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128((u128::from(number) + 1) << 32 | u128::from(attempt)))
}
