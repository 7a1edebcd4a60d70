//! The runner's own decisions: pure. [`next`] takes where we are, what is seen at this moment and the time, and returns
//! where we are then and what to do. All times are measured from the start of the process by the monotonic clock.

use std::time::Duration;

/// What a provider's page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The page is loading, or shows something that we do not understand.
    Unclear,
    /// The page waits for our name or our click.
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
    /// In the waiting room or in the call, without the page showing anything that is understood.
    pub unclear: Duration,
    /// In the call without anything coming of the recording, where the owner wants a recording.
    pub unrecorded: Duration,
    /// How many times in a row to ask to be let in again, after the page showed its lobby again.
    pub again: u32,
    /// How many times in a row the page may put us back into the waiting room.
    pub put_back: u32,
    /// After so long in the call, both are counted from one.
    pub steady: Duration,
}

/// Where in the meeting's life we are, and how we came there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Where we are.
    pub place: Place,
    /// Since when.
    pub since: Duration,
    /// Who else is in the meeting; none before we were in it ourselves.
    pub company: Option<Company>,
    /// How many times in a row we asked to be let in again.
    pub again: u32,
    /// How many times in a row we were put back into the waiting room.
    pub put_back: u32,
    /// While we ask again from the waiting room: since when we wait for a host.
    pub waits_since: Option<Duration>,
}

/// Where we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// We have asked to join.
    Joining,
    /// In the waiting room.
    Waiting,
    /// In the meeting.
    InCall,
}

impl Visit {
    /// We have just asked to join, for the first time.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { place: Place::Joining, since: now, company: None, again: 0, put_back: 0, waits_since: None }
    }
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
    /// How long the page has shown nothing that is understood.
    pub unclear_for: Duration,
    /// How long nothing was heard, where that is known.
    pub quiet_for: Option<Duration>,
    /// How long nothing has been recorded, although we are in the call and the owner wants a recording.
    pub unrecorded_for: Duration,
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
    /// Report that we are out, and ask to be let in again.
    AskAgain,
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
/// The browser answers, and the page in it does not.
pub const PAGE_LOST: Failure = Failure::passing("page_unresponsive", "the meeting page stopped responding");

const WAITED_TOO_LONG: Failure = Failure::lasting("waiting_room_timeout", "nobody let the bot in");
const NO_ANSWER: Failure = Failure::passing("page_unreachable", "the meeting page did not answer the request to join");
const NO_MEETING: Failure = Failure::passing("page_unreachable", "the page does not show the meeting any more");
const TOO_OFTEN: Failure = Failure::passing("page_unreachable", "the meeting page was loaded anew again and again");
const PUT_BACK: Failure =
    Failure::passing("page_unreachable", "the meeting page let the bot in and put it back again and again");
const UNRECORDED: Failure = Failure::passing("recording_failed", "the meeting could not be recorded");

/// The page is, or led to, where its browser may not go.
pub const ADDRESS_REFUSED: Failure =
    Failure::lasting("address_refused", "the meeting page led to an address inside the network, which is not allowed");

/// The meeting's address names a file or something of the browser itself, or redirects there, which no check of networks sees.
pub const NOT_A_WEB_ADDRESS: Failure = Failure::lasting(
    "address_refused",
    "the meeting's address, or where it redirects to, does not begin with http:// or https://",
);

/// Decides. Wishes come first, then what the page says, then the limits.
#[must_use]
pub fn next(visit: Visit, moment: &Moment, limits: &Limits, now: Duration) -> (Visit, Verdict) {
    let finish = |reason| (visit, Verdict::End(Ending::Finished(reason)));
    let fail = |failure| (visit, Verdict::End(Ending::Failed(failure)));
    let over = |limit: Option<Duration>, spent: Duration| limit.is_some_and(|limit| spent >= limit);
    let spent = now.saturating_sub(visit.since);

    match moment.wish {
        Wish::Terminate => return finish("terminated"),
        Wish::Leave => return finish("leave_requested"),
        Wish::None => {}
    }
    if over(limits.orphaned, moment.unanswered_for) {
        return fail(Failure::passing("orphaned", "the gateway did not answer for too long"));
    }
    let Some(sight) = moment.sight else {
        return if moment.blind_for >= limits.blind { fail(PAGE_LOST) } else { (visit, Verdict::Stay) };
    };
    let was_in = visit.company.is_some();
    match (sight, visit.place) {
        (Sight::Ended, _) => finish("meeting_ended"),
        // Once inside, being thrown out or the page being gone is the meeting's end for us.
        (Sight::Denied | Sight::NotFound, _) if was_in => finish("meeting_ended"),
        (Sight::Denied, _) => fail(Failure::lasting("join_denied", "the meeting did not let the bot in")),
        (Sight::Refused, _) => fail(ADDRESS_REFUSED),
        (Sight::NotFound, _) => fail(Failure::lasting("meeting_not_found", "there is no such meeting")),
        (Sight::Lobby | Sight::Unclear, Place::Joining) if spent >= limits.join => fail(NO_ANSWER),
        (Sight::Lobby | Sight::Unclear, Place::Joining) => (visit, Verdict::Stay),
        (Sight::Lobby | Sight::Unclear | Sight::Waiting, Place::Waiting) if over(limits.waiting_room, spent) => {
            fail(WAITED_TOO_LONG)
        }
        (Sight::Unclear, Place::Waiting | Place::InCall) if moment.unclear_for >= limits.unclear => fail(NO_MEETING),
        (Sight::Unclear, Place::Waiting | Place::InCall) | (Sight::Waiting, Place::Waiting) => (visit, Verdict::Stay),
        (Sight::Lobby, Place::Waiting | Place::InCall) => {
            let in_call = visit.place == Place::InCall;
            let again = if in_call && spent >= limits.steady { 1 } else { visit.again + 1 };
            if again > limits.again {
                return fail(TOO_OFTEN);
            }
            let waits_since = (!in_call).then_some(visit.since);
            (Visit { place: Place::Joining, since: now, again, waits_since, ..visit }, Verdict::AskAgain)
        }
        (Sight::Waiting, Place::Joining | Place::InCall) => {
            let put_back = match visit.place {
                Place::InCall if spent >= limits.steady => 1,
                Place::InCall => visit.put_back + 1,
                Place::Joining | Place::Waiting => visit.put_back,
            };
            if put_back > limits.put_back {
                return fail(PUT_BACK);
            }
            let since = visit.waits_since.unwrap_or(now);
            let after = Visit { place: Place::Waiting, since, put_back, waits_since: None, ..visit };
            (after, Verdict::EnterWaitingRoom)
        }
        (Sight::Joined { people }, Place::Joining | Place::Waiting) => {
            let before = match visit.company {
                None | Some(Company::NotYet) => Company::NotYet,
                // While we were out, nobody counted how long they were gone.
                Some(Company::Present | Company::GoneSince(_)) => Company::Present,
            };
            let company = Some(company(before, people, now));
            (Visit { place: Place::InCall, since: now, company, waits_since: None, ..visit }, Verdict::EnterCall)
        }
        (Sight::Joined { people }, Place::InCall) => {
            let company = company(visit.company.unwrap_or(Company::NotYet), people, now);
            let after = Visit { company: Some(company), ..visit };
            let end = |reason| (after, Verdict::End(Ending::Finished(reason)));
            match company {
                _ if moment.unrecorded_for >= limits.unrecorded => fail(UNRECORDED),
                Company::NotYet if over(limits.no_one_joined, spent) => end("no_one_joined"),
                Company::GoneSince(gone) if over(limits.everyone_left, now.saturating_sub(gone)) => {
                    end("everyone_left")
                }
                // It was quiet before we came in, too: that does not count.
                _ if moment.quiet_for.is_some_and(|quiet| over(limits.inactivity, quiet.min(spent))) => {
                    end("inactivity")
                }
                _ => (after, Verdict::Stay),
            }
        }
    }
}

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
