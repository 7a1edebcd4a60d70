//! What has to be done for a recording, and when. Pure: no I/O, and no clock of its own.

use std::time::Duration;

use greenroom_domain::Timestamp;
use greenroom_domain::backoff::exponential;
use greenroom_domain::time::after;

#[cfg(test)]
mod tests;

/// The rules' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// When the bot is over and nobody says that its runner is gone, late parts are waited for so long.
    pub grace: Duration,
    /// A part that comes after joining may have company: so long after the last one it is joined again.
    pub settle: Duration,
    /// After the first failure; doubles with each.
    pub first_retry: Duration,
    /// Longest pause between tries.
    pub longest_retry: Duration,
    /// Longest pause while something that joining needs is away: it begins as short as the first retry and doubles.
    pub longest_wait: Duration,
    /// So many failures are the end.
    pub tries: u32,
}

/// How much the runners of one bot may upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Parts.
    pub parts: u32,
    /// Bytes of all parts together, and of all screenshots.
    pub bytes: u64,
    /// Screenshots.
    pub screenshots: u32,
}

/// What a bot would have too much of with one more upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// Parts.
    #[error("this bot has its {0} parts, and no more are taken (RECORDING_PARTS_PER_BOT)")]
    Parts(u32),
    /// Bytes.
    #[error("this bot has uploaded its {0} MiB, and no more is taken (RECORDING_MIB_PER_BOT)")]
    Bytes(u64),
    /// Screenshots.
    #[error("this bot has its {0} screenshots, and no more are taken (SCREENSHOTS_PER_BOT)")]
    Screenshots(u32),
}

impl Quota {
    /// Whether a bot with so many parts of so many bytes may have one more of `size`.
    pub fn part(&self, parts: u32, bytes: u64, size: u64) -> Result<(), Beyond> {
        if parts >= self.parts {
            return Err(Beyond::Parts(self.parts));
        }
        self.room(bytes, size)
    }

    /// Whether a bot with so many screenshots of so many bytes may have one more of `size`.
    pub fn screenshot(&self, screenshots: u32, bytes: u64, size: u64) -> Result<(), Beyond> {
        if screenshots >= self.screenshots {
            return Err(Beyond::Screenshots(self.screenshots));
        }
        self.room(bytes, size)
    }

    fn room(&self, bytes: u64, size: u64) -> Result<(), Beyond> {
        if bytes.saturating_add(size) > self.bytes { Err(Beyond::Bytes(self.bytes >> 20)) } else { Ok(()) }
    }
}

/// What came of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is one file.
    Ready,
    /// It could not be made one.
    Failed,
    /// There was nothing to join.
    None,
}

/// Where a recording is, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its bot lives; parts come in.
    Recording,
    /// Its bot is over; the parts are about to become one file.
    Joining,
    /// Settled.
    Settled(Verdict),
}

impl Verdict {
    /// As it stands in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }

    /// Reads it from SQL.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Failed, Self::None].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// Something that was heard about a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Its bot is over; this was its last attempt (0: it had none).
    BotOver { attempt: u32 },
    /// Nothing runs for this attempt any more.
    RunnerGone { attempt: u32 },
    /// A part was stored.
    PartCame,
}

/// What to do for a recording now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Settle it: there is nothing to join.
    SettleEmpty,
    /// Join its parts.
    Join,
}

/// How joining failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// These parts do not become a file: a few more tries, and it is the end.
    Ours,
    /// What joining needs is away or used up (ffmpeg, room on a disk, memory, the database): no try, however often.
    Away,
}

/// What is known of a recording: the snapshot that decisions are made on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// When its bot was over, and which attempt was the last.
    pub over: Option<(Timestamp, u32)>,
    /// The newest attempt whose runner is gone.
    pub gone_attempt: u32,
    /// Parts that are stored.
    pub parts: u32,
    /// When the last one came.
    pub last_part_at: Option<Timestamp>,
    /// What came of it, and for how many parts that holds.
    pub settled: Option<(Verdict, u32)>,
    /// Failures in a row that are the parts'.
    pub tries: u32,
    /// Failures in a row that may pass.
    pub waits: u32,
    /// Not before then.
    pub retry_at: Option<Timestamp>,
}

impl Progress {
    /// Folds in what was heard. What comes twice or late changes nothing.
    pub fn hear(&mut self, fact: Fact, now: Timestamp) {
        match fact {
            Fact::BotOver { attempt } => {
                let (at, newest) = self.over.unwrap_or((now, attempt));
                self.over = Some((at, newest.max(attempt)));
            }
            Fact::RunnerGone { attempt } => self.gone_attempt = self.gone_attempt.max(attempt),
            Fact::PartCame => {
                self.parts += 1;
                self.last_part_at = Some(now);
                // Another set of parts: what failed before may work now.
                self.begin_again();
            }
        }
    }

    /// Failures of before say nothing about the next try.
    fn begin_again(&mut self) {
        (self.tries, self.waits, self.retry_at) = (0, 0, None);
    }

    /// An operator wants it joined, whatever came of it before. Returns whether there is something to join: a bot that is
    /// over, and parts.
    pub fn join_again(&mut self) -> bool {
        let possible = self.over.is_some() && self.parts > 0;
        if possible {
            self.settled = None;
            self.begin_again();
        }
        possible
    }

    /// Where it is, as clients see it.
    pub fn state(&self) -> State {
        match (self.over, self.settled) {
            (None, _) => State::Recording,
            (Some(_), Some((verdict, parts))) if parts == self.parts => State::Settled(verdict),
            (Some(_), _) => State::Joining,
        }
    }

    /// When something has to be done; none: when something is heard.
    pub fn due(&self, limits: &Limits) -> Option<Timestamp> {
        let (over_at, last_attempt) = self.over?;
        if matches!(self.state(), State::Settled(_)) {
            return None;
        }
        let gone = self.gone_attempt >= last_attempt;
        let complete = if gone { over_at } else { after(over_at, limits.grace) };
        let reopened = self.settled.and(self.last_part_at).map(|at| after(at, limits.settle));
        [Some(complete), reopened, self.retry_at].into_iter().flatten().max()
    }

    /// What to do now.
    pub fn step(&self, now: Timestamp, limits: &Limits) -> Step {
        match self.due(limits) {
            Some(due) if due <= now => {
                if self.parts == 0 {
                    Step::SettleEmpty
                } else {
                    Step::Join
                }
            }
            _ => Step::Wait,
        }
    }

    /// It was settled on so many parts. When more have come meanwhile it is not, and is joined again.
    pub fn settle(&mut self, verdict: Verdict, parts: u32) {
        self.settled = Some((verdict, parts));
        self.begin_again();
    }

    /// Joining so many parts failed. Returns whether that is the end.
    pub fn fail(&mut self, failure: Failure, parts: u32, now: Timestamp, limits: &Limits) -> bool {
        match failure {
            Failure::Away => {
                self.waits = self.waits.saturating_add(1);
                self.retry_at = Some(after(now, exponential(limits.first_retry, limits.longest_wait, self.waits)));
            }
            Failure::Ours => {
                self.tries = self.tries.saturating_add(1);
                if self.tries >= limits.tries {
                    self.settle(Verdict::Failed, parts);
                    return true;
                }
                self.retry_at = Some(after(now, exponential(limits.first_retry, limits.longest_retry, self.tries)));
            }
        }
        false
    }
}
