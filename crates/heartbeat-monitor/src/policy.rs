//! Who is suspected. Pure: no I/O, and no clock of its own.
//!
//! What holds, whatever happens (each is a property test):
//! - nobody is suspected who was heard, or first expected, less than a silence ago;
//! - nobody is suspected for a time in which we could not hear: before our start, or while we were deaf;
//! - a verdict is held while our loop is late, and while many fall silent together; but never longer than
//!   [`Limits::hold`] beyond the silence itself, so that our own trouble cannot shield a dead runner for ever.

use std::time::Duration;

use greenroom_domain::RunnerId;

#[cfg(test)]
mod tests;

/// A moment on the monitor's own monotonic clock: milliseconds since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The time since an earlier moment; none when it is no earlier one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment so long before, but not before the start.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The rules' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Not heard for so long is silent.
    pub silence: Duration,
    /// Verdicts are held at most so much longer.
    pub hold: Duration,
    /// Between probes.
    pub tick: Duration,
    /// A probe so much later than its time shows a late loop.
    pub late: Duration,
    /// Probes so far apart show that we were deaf.
    pub deaf: Duration,
}

/// How well we hear. Probes go the way that beats go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// We started, or came back after being deaf for a whole silence.
    pub started: Moment,
    /// From here on no beat escaped us: everyone is granted a full silence from here.
    pub sure_since: Moment,
    /// The last probe that we heard was sent then: every beat before it has been counted.
    pub until: Moment,
    /// That probe came late after the one before it.
    pub late: bool,
}

impl Hearing {
    /// At the start.
    #[must_use]
    pub fn from(start: Moment) -> Self {
        Self { started: start, sure_since: start, until: start, late: false }
    }

    /// A probe was heard that had been sent at `sent`.
    #[must_use]
    pub fn probe(self, sent: Moment, limits: &Limits) -> Self {
        if sent <= self.until {
            return self;
        }
        let gap = sent.since(self.until);
        Self {
            started: if gap >= limits.silence { sent } else { self.started },
            sure_since: if gap >= limits.deaf { sent } else { self.sure_since },
            until: sent,
            late: gap > limits.tick.saturating_add(limits.late),
        }
    }
}

/// When a runner was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// When it was first expected.
    pub expected: Moment,
    /// Its last beat, by us or by a replica.
    pub beat: Option<Moment>,
}

impl Heard {
    /// The last we know of it.
    #[must_use]
    pub fn last(&self) -> Moment {
        self.beat.map_or(self.expected, |beat| beat.max(self.expected))
    }
}

/// Why verdicts are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Our own loop is late.
    Late,
    /// Many fell silent together: more likely our trouble, or a network's, than theirs.
    Together,
}

impl Held {
    /// For logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Together => "together",
        }
    }
}

/// What to think of everyone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// To be spoken of, and how long ago each was heard last.
    pub suspects: Vec<(RunnerId, Duration)>,
    /// Silent, but not to be spoken of yet.
    pub held: usize,
    /// Why.
    pub why: Option<Held>,
}

/// More than one in so many,
const TOGETHER_SHARE: usize = 10;
/// and at least so many, fall silent together.
const TOGETHER_LEAST: usize = 10;

/// Judges everyone who is expected.
pub fn judge<'a>(
    expected: impl IntoIterator<Item = (&'a RunnerId, &'a Heard)>,
    hearing: Hearing,
    now: Moment,
    limits: &Limits,
) -> Judgement {
    let mut all = 0;
    let mut fresh = Vec::new();
    let mut judgement = Judgement::default();
    for (runner, heard) in expected {
        all += 1;
        let last = heard.last();
        // Up to where we have surely heard, not up to now: what is still on its way is not silence.
        let silence = hearing.until.since(last.max(hearing.sure_since));
        let overdue = hearing.until.since(last.max(hearing.started)) >= limits.silence.saturating_add(limits.hold);
        if overdue {
            judgement.suspects.push((*runner, now.since(last)));
        } else if silence >= limits.silence {
            fresh.push((*runner, now.since(last)));
        }
    }
    let late = hearing.late || now.since(hearing.until) > limits.tick.saturating_add(limits.late);
    let together = fresh.len() >= TOGETHER_LEAST && fresh.len() * TOGETHER_SHARE > all;
    judgement.why = match (fresh.is_empty(), late, together) {
        (true, ..) | (_, false, false) => None,
        (_, true, _) => Some(Held::Late),
        (_, false, true) => Some(Held::Together),
    };
    if judgement.why.is_some() {
        judgement.held = fresh.len();
    } else {
        judgement.suspects.append(&mut fresh);
    }
    judgement
}
