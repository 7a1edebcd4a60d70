//! How a simulated platform and its runners behave.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use greenroom_domain::RunnerId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Milliseconds from..=to, before the time scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Millis(pub u64, pub u64);

/// A time, in milliseconds since the platform began, before the time scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// From.
    pub from_ms: u64,
    /// To.
    pub to_ms: u64,
}

/// Everything that can go wrong, and how often. Rates are parts of one; what a runner does is decided by the seed, its name
/// and the try, whatever the order in which things happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Script {
    /// Another seed is another story.
    pub seed: u64,
    /// All times below are multiplied by this.
    pub time_scale: f64,
    /// More runners at a time are refused for want of room.
    pub capacity: Option<usize>,
    /// Its nodes: each has its own images, and pulls one when it is first wanted. 0: every image is everywhere.
    pub nodes: u32,
    /// How long a pull takes.
    pub pull_ms: Millis,
    /// Pulls that come to nothing this time.
    pub pull_failures: f64,
    /// How long a start takes.
    pub ensure_ms: Millis,
    /// Starts that are refused for want of room all the same.
    pub no_capacity: f64,
    /// Starts that are refused for good.
    pub rejected: f64,
    /// Starts that are refused for the sake of our credentials.
    pub unauthorized: f64,
    /// Starts that come to nothing this time.
    pub transient: f64,
    /// Starts that succeed, and whose answer is lost.
    pub lost_answers: f64,
    /// Starts that are given up, and happen after all, this much later.
    pub late_starts: f64,
    /// How much later.
    pub late_start_ms: Millis,
    /// Starts whose answer comes this much later, whoever still waits for it. Every other one of them begins only then, and
    /// has looked at the clock before.
    pub late_answers: f64,
    /// How much later.
    pub late_answer_ms: Millis,
    /// Starts that make two instances under one name.
    pub doubled_starts: f64,
    /// How long it takes to prepare a standing slot, where there are such.
    pub prepare_ms: Millis,
    /// How long it takes to bring one back to fresh.
    pub reset_ms: Millis,
    /// Standing slots that cannot be prepared this time; half of them for want of room.
    pub prepare_failures: f64,
    /// Standing slots that are prepared, and whose answer is lost.
    pub prepare_lost_answers: f64,
    /// How old a list is when it is given.
    pub list_lag_ms: u64,
    /// Whether the platform tells of changes.
    pub watch: bool,
    /// When it does not answer at all.
    pub unreachable: Vec<Window>,
    /// Runners that die before they ask to be admitted.
    pub crash_before_admission: f64,
    /// Runners that die when they have just been admitted.
    pub crash_after_admission: f64,
    /// Runners that die in the meeting.
    pub crash_in_call: f64,
    /// Runners that do not hear that they are asked to stop.
    pub deaf: f64,
    /// From a start to the question for admission.
    pub boot_ms: Millis,
    /// In the waiting room.
    pub waiting_room_ms: Millis,
    /// In the meeting.
    pub call_ms: Millis,
    /// To leave it.
    pub leave_ms: Millis,
}

impl Default for Script {
    /// A platform that does what it is asked to, and bots that stay for a minute.
    fn default() -> Self {
        Self {
            seed: 1,
            time_scale: 1.0,
            capacity: None,
            nodes: 0,
            pull_ms: Millis(5_000, 20_000),
            pull_failures: 0.0,
            ensure_ms: Millis(50, 200),
            no_capacity: 0.0,
            rejected: 0.0,
            unauthorized: 0.0,
            transient: 0.0,
            lost_answers: 0.0,
            late_starts: 0.0,
            late_start_ms: Millis(5_000, 20_000),
            late_answers: 0.0,
            late_answer_ms: Millis(15_000, 60_000),
            doubled_starts: 0.0,
            prepare_ms: Millis(2_000, 10_000),
            reset_ms: Millis(200, 1_000),
            prepare_failures: 0.0,
            prepare_lost_answers: 0.0,
            list_lag_ms: 0,
            watch: true,
            unreachable: Vec::new(),
            crash_before_admission: 0.0,
            crash_after_admission: 0.0,
            crash_in_call: 0.0,
            deaf: 0.0,
            boot_ms: Millis(200, 1_000),
            waiting_room_ms: Millis(500, 3_000),
            call_ms: Millis(45_000, 75_000),
            leave_ms: Millis(100, 500),
        }
    }
}

impl Script {
    /// The dice for one question about one runner.
    pub(super) fn dice(&self, runner: RunnerId, question: impl Hash) -> Dice {
        self.dice_of((runner, question))
    }

    /// The dice for a question.
    pub(super) fn dice_of(&self, question: impl Hash) -> Dice {
        let mut hasher = DefaultHasher::new();
        (self.seed, question).hash(&mut hasher);
        Dice { rng: StdRng::seed_from_u64(hasher.finish()), time_scale: self.time_scale }
    }

    pub(super) fn scaled(&self, millis: u64) -> Duration {
        Duration::from_millis(millis).mul_f64(self.time_scale)
    }

    pub(super) fn is_unreachable(&self, since_begin: Duration) -> bool {
        self.unreachable
            .iter()
            .any(|window| self.scaled(window.from_ms) <= since_begin && since_begin < self.scaled(window.to_ms))
    }
}

/// Chance, the same each time.
pub(super) struct Dice {
    rng: StdRng,
    time_scale: f64,
}

impl Dice {
    pub fn happens(&mut self, rate: f64) -> bool {
        self.rng.random::<f64>() < rate
    }

    pub fn within(&mut self, Millis(from, to): Millis) -> Duration {
        Duration::from_millis(self.rng.random_range(from..=to.max(from))).mul_f64(self.time_scale)
    }

    /// A part of a duration.
    pub fn part_of(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.rng.random())
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn the_same_question_has_the_same_answer() {
        let script = Script::default();
        let runner = RunnerId::of_bot(BotId::from_uuid(uuid::Uuid::from_u128(7)), Attempt::FIRST);
        let answers = |question: &str| {
            (script.dice(runner, question).within(script.call_ms), script.dice(runner, question).happens(0.5))
        };
        assert_eq!(answers("boot"), answers("boot"));
        let other = Script { seed: 2, ..script.clone() };
        assert_ne!(other.dice(runner, "boot").within(script.call_ms), answers("boot").0);
    }

    #[test]
    fn a_script_names_only_what_is_unusual() {
        let script: Script = serde_json::from_str(
            r#"{"crashInCall": 0.1, "unreachable": [{"fromMs": 100, "toMs": 200}], "timeScale": 0.5}"#,
        )
        .expect("a script");
        assert_eq!(
            script,
            Script {
                crash_in_call: 0.1,
                time_scale: 0.5,
                unreachable: vec![Window { from_ms: 100, to_ms: 200 }],
                ..Script::default()
            }
        );
        assert!(script.is_unreachable(Duration::from_millis(60)) && !script.is_unreachable(Duration::from_millis(100)));
        assert!(serde_json::from_str::<Script>(r#"{"crashes": 1}"#).is_err());
    }
}
