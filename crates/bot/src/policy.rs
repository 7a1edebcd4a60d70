//! The runner's own decisions: pure. [`next`] takes the phase, what is seen at this moment and the time, and returns the
//! next phase and what to do. All times are measured from the start of the process by the monotonic clock.

use std::time::Duration;

/// What a provider's page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The page is still loading, or waits for our name.
    Lobby,
    /// A host has to let us in.
    Waiting,
    /// In the meeting. `people` counts everyone, us included, where the page tells.
    Joined {
        /// How many are in the meeting.
        people: Option<u32>,
    },
    /// A host, or a rule, keeps us out.
    Denied,
    /// The meeting is over.
    Ended,
    /// There is no such meeting.
    NotFound,
    /// It is nothing: it led to an address that the browser may not connect to.
    Refused,
}

/// What somebody else wants of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: carry on.
    None,
    /// The owner wants the bot to leave.
    Leave,
    /// The platform ends this process (SIGTERM).
    Terminate,
}

/// When to give up. `None` means never for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From asking to be let in until the page answers in any way.
    pub join: Duration,
    /// In the waiting room.
    pub waiting_room: Option<Duration>,
    /// In the call without ever having seen anyone.
    pub no_one_joined: Option<Duration>,
    /// Alone in the call after others had been there.
    pub everyone_left: Option<Duration>,
    /// Without a sound.
    pub inactivity: Option<Duration>,
    /// Without any answer from the gateway.
    pub orphaned: Option<Duration>,
    /// Without being able to look at the page.
    pub blind: Duration,
}

/// Where in the meeting's life we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// We have asked to join.
    Joining {
        /// When we asked.
        since: Duration,
    },
    /// In the waiting room.
    Waiting {
        /// When it began.
        since: Duration,
    },
    /// In the meeting.
    InCall {
        /// When it began.
        since: Duration,
        /// Who else is there.
        company: Company,
    },
}

/// Who else is in the meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Nobody has been seen yet.
    NotYet,
    /// Somebody is there, or the page does not say.
    Present,
    /// Everybody else left at this time.
    GoneSince(Duration),
}

/// Everything known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the page shows; `None` when it could not be looked at.
    pub sight: Option<Sight>,
    /// How long it could not be looked at.
    pub blind_for: Duration,
    /// How long nothing was heard, where that is known.
    pub quiet_for: Option<Duration>,
    /// How long the gateway has not answered.
    pub unanswered_for: Duration,
    /// What somebody else wants.
    pub wish: Wish,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// Report that we wait to be let in.
    EnterWaitingRoom,
    /// Report that we are in the call, and begin to record.
    EnterCall,
    /// Leave.
    End(Ending),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The runner did its work; the word is the `Finished` report's reason.
    Finished(&'static str),
    /// It could not.
    Failed(Failure),
}

impl Ending {
    /// The reason, a word of the open list.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Finished(reason) => reason,
            Self::Failed(failure) => failure.reason,
        }
    }
}

/// Why a runner could not do its work. All words are our own: nothing from a page, an address or an error gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// A word of the open list of reasons.
    pub reason: &'static str,
    /// For a person.
    pub detail: &'static str,
    /// Whether another attempt might do better.
    pub may_pass: bool,
}

impl Failure {
    /// A failure that another attempt would meet again.
    #[must_use]
    pub const fn lasting(reason: &'static str, detail: &'static str) -> Self {
        Self { reason, detail, may_pass: false }
    }

    /// A failure that another attempt may not meet.
    #[must_use]
    pub const fn passing(reason: &'static str, detail: &'static str) -> Self {
        Self { reason, detail, may_pass: true }
    }
}

/// The browser stopped answering, or is gone.
pub const BROWSER_LOST: Failure = Failure::passing("browser_failed", "the browser stopped answering");

/// The page is, or led to, where its browser may not go.
pub const ADDRESS_REFUSED: Failure =
    Failure::lasting("address_refused", "the meeting page led to an address inside the network, which is not allowed");

/// Decides. Wishes come first, then what the page says, then the limits.
#[must_use]
pub fn next(phase: Phase, moment: &Moment, limits: &Limits, now: Duration) -> (Phase, Verdict) {
    let finish = |reason| (phase, Verdict::End(Ending::Finished(reason)));
    let fail = |failure| (phase, Verdict::End(Ending::Failed(failure)));
    let over = |limit: Option<Duration>, spent: Duration| limit.is_some_and(|limit| spent >= limit);

    match moment.wish {
        Wish::Terminate => return finish("terminated"),
        Wish::Leave => return finish("leave_requested"),
        Wish::None => {}
    }
    if over(limits.orphaned, moment.unanswered_for) {
        return fail(Failure::passing("orphaned", "the gateway did not answer for too long"));
    }
    let Some(sight) = moment.sight else {
        return if moment.blind_for >= limits.blind { fail(BROWSER_LOST) } else { (phase, Verdict::Stay) };
    };
    let in_call = matches!(phase, Phase::InCall { .. });
    match sight {
        // From inside, being thrown out or the page being gone is the meeting's end for us.
        Sight::Ended => finish("meeting_ended"),
        Sight::Denied | Sight::NotFound if in_call => finish("meeting_ended"),
        Sight::Denied => fail(Failure::lasting("join_denied", "the meeting did not let the bot in")),
        Sight::NotFound => fail(Failure::lasting("meeting_not_found", "there is no such meeting")),
        Sight::Refused => fail(ADDRESS_REFUSED),
        Sight::Lobby => match phase {
            Phase::Joining { since } if now.saturating_sub(since) >= limits.join => {
                fail(Failure::passing("page_unreachable", "the meeting page did not answer the request to join"))
            }
            Phase::Waiting { since } if over(limits.waiting_room, now.saturating_sub(since)) => fail(WAITED_TOO_LONG),
            _ => (phase, Verdict::Stay),
        },
        Sight::Waiting => match phase {
            Phase::Joining { .. } => (Phase::Waiting { since: now }, Verdict::EnterWaitingRoom),
            Phase::Waiting { since } if over(limits.waiting_room, now.saturating_sub(since)) => fail(WAITED_TOO_LONG),
            Phase::Waiting { .. } | Phase::InCall { .. } => (phase, Verdict::Stay),
        },
        Sight::Joined { people } => match phase {
            Phase::Joining { .. } | Phase::Waiting { .. } => {
                let company = company(Company::NotYet, people, now);
                (Phase::InCall { since: now, company }, Verdict::EnterCall)
            }
            Phase::InCall { since, company: before } => {
                let company = company(before, people, now);
                let after = Phase::InCall { since, company };
                let end = |reason| (after, Verdict::End(Ending::Finished(reason)));
                match company {
                    Company::NotYet if over(limits.no_one_joined, now.saturating_sub(since)) => end("no_one_joined"),
                    Company::GoneSince(gone) if over(limits.everyone_left, now.saturating_sub(gone)) => {
                        end("everyone_left")
                    }
                    // It was quiet before we came in, too: that does not count.
                    _ if moment
                        .quiet_for
                        .is_some_and(|quiet| over(limits.inactivity, quiet.min(now.saturating_sub(since)))) =>
                    {
                        end("inactivity")
                    }
                    _ => (after, Verdict::Stay),
                }
            }
        },
    }
}

const WAITED_TOO_LONG: Failure = Failure::lasting("waiting_room_timeout", "nobody let the bot in");

fn company(before: Company, people: Option<u32>, now: Duration) -> Company {
    match (people, before) {
        // A page that does not tell how many there are is never taken to be empty.
        (None, _) | (Some(2..), _) => Company::Present,
        (Some(_), Company::Present) => Company::GoneSince(now),
        (Some(_), unchanged) => unchanged,
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
