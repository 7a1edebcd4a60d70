//! The suite every driver has to pass.
//!
//! A driver's tests write a [`Fixture`] (how to get a driver onto a platform, and what a foreign thing looks like there) and
//! call [`run`]. The suite brings the runners: small shell scripts that stand in the environment as
//! [`SCRIPT`], so all the platform has to start is `sh -c 'eval "$CONFORMANCE_SCRIPT"'`.
//!
//! ```ignore
//! conformance::run(&fixture).await.assert_passed();
//! ```

#![allow(clippy::disallowed_methods, reason = "a suite for tests, which ends with what it spawns")]

mod cases;
mod proxy;
mod report;
mod scripts;
mod standing;
mod trouble;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use greenroom_domain::{RunnerId, RunnerSpec};

use crate::{Deployer, Preparation};

pub use proxy::{Fault, Proxy, Request, Upstream};
pub use report::{Outcome, Report};
pub use scripts::{MEMORY, SCRIPT};

/// A platform under test.
pub trait Fixture: Sync {
    /// The driver under test.
    type Driver: Deployer;

    /// A new driver onto the same platform, as after our own restart: it shares no memory with those before it.
    fn driver(&self) -> impl Future<Output = Arc<Self::Driver>> + Send;

    /// Fits a spec to the platform: names an image that has `sh`, say.
    fn adjust(&self, spec: &mut RunnerSpec) {
        let _ = spec;
    }

    /// Fits a standing slot to a pooled platform, in the same way.
    fn adjust_slot(&self, preparation: &mut Preparation) {
        let _ = preparation;
    }

    /// How long the suite waits for what the platform has to show, so that it ends. Nothing passes by being fast.
    fn within(&self) -> Duration {
        Duration::from_secs(180)
    }

    /// A driver onto the same platform that speaks to it through somebody who makes trouble. None: nobody can.
    fn troubled(&self) -> impl Future<Output = Option<Troubled<Self::Driver>>> + Send {
        std::future::ready(None)
    }

    /// An image that the platform cannot have. None: it has no images.
    fn missing_image(&self) -> Option<String> {
        None
    }

    /// Puts something on the platform that looks as much like this runner as it can and is not ours: another
    /// installation's, or a process that only inherited its number. None: there can be no such thing.
    fn stranger(&self, runner: RunnerId) -> impl Future<Output = Option<Stranger>> + Send;
}

/// A driver whose platform's API can be in trouble.
#[derive(Debug)]
pub struct Troubled<D> {
    /// The driver; it speaks to the proxy.
    pub driver: Arc<D>,
    /// Who makes the trouble.
    pub proxy: Proxy,
    /// Whether a request is the one by which the platform begins to run something.
    pub starts: fn(&Request) -> bool,
    /// How the platform says "too fast".
    pub too_fast: Fault,
    /// How it says, to that request, that it has no room. None: it never does.
    pub full: Option<Fault>,
    /// How it refuses credentials. None: it has none.
    pub forbidden: Option<Fault>,
    /// How long a verb that reads takes at most when there is no answer.
    pub patience: Duration,
}

/// Something that is not ours.
pub struct Stranger {
    /// Whether it is as it was.
    pub untouched: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stranger").finish_non_exhaustive()
    }
}

/// What a case comes to: an error says what was expected.
pub(crate) type Verdict = Result<(), Flaw>;

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// The driver says that it cannot.
    NotCapable,
    /// It should have been otherwise.
    Wrong(String),
}

impl From<crate::Error> for Flaw {
    fn from(error: crate::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// Runs every case, one after the other.
pub async fn run<F: Fixture>(fixture: &F) -> Report {
    let mut report = Report::default();
    macro_rules! cases {
        ($module:ident: $($case:ident)*) => {$({
            // A case that panics fails alone.
            let verdict = AssertUnwindSafe($module::$case(fixture)).catch_unwind().await;
            report.add(stringify!($case), match verdict {
                Ok(Ok(())) => Outcome::Passed,
                Ok(Err(Flaw::NotCapable)) => Outcome::NotCapable,
                Ok(Err(Flaw::Wrong(why))) => Outcome::Failed(why),
                Err(_) => Outcome::Failed("it panicked".to_owned()),
            });
        })*};
    }
    cases! {
        cases:
        what_was_never_started_is_gone
        a_runner_runs_and_is_listed
        ensure_again_changes_nothing
        ensure_at_the_same_time_starts_one
        a_lost_answer_starts_no_second
        a_start_that_comes_too_late_starts_nothing
        a_restart_of_ours_finds_its_runners
        a_restart_of_ours_finds_what_ended_meanwhile
        the_environment_arrives
        an_exit_code_is_told
        a_signal_is_told
        too_much_memory_is_told
        a_lifetime_is_held_to
        an_end_is_noticed_by_watching
        a_polite_runner_stops_within_its_grace
        a_deaf_runner_is_forced_after_its_grace
        a_shorter_grace_said_later_counts
        stop_and_remove_may_be_repeated
        nothing_of_a_runner_outlives_it
        a_running_one_is_not_removed
        logs_are_kept_and_cut
        logs_are_followed_to_the_end
        a_stranger_is_never_touched
    }
    cases! {
        trouble:
        a_start_whose_answer_is_lost_is_made_once
        a_start_that_is_throttled_is_made_in_the_end
        a_platform_without_room_says_so
        refused_credentials_are_told
        a_platform_that_fails_is_an_error_and_nobody_is_gone
        a_platform_that_hangs_is_not_waited_for_for_ever
        an_image_that_is_not_there_is_told
    }
    cases! {
        standing:
        what_keeps_no_standing_slots_says_so
        a_slot_prepared_again_is_the_same
        a_lost_answer_prepares_no_second
        a_prepare_that_comes_too_late_makes_nothing
        a_slot_has_one_runner_after_another
        of_two_runners_one_is_in_a_slot
        a_start_in_an_old_generation_is_refused
        a_reset_leaves_nothing_of_its_runners
        a_reset_leaves_a_running_one_alone
        a_retired_slot_is_gone_and_stays_so
        a_retire_leaves_a_running_one_alone
        a_slot_is_described
    }
    report
}
