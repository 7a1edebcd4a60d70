//! What follows from what a platform says: pure.

use std::time::Duration;

use greenroom_contracts::messages::{PrepareError, RunnerRefused};
use greenroom_domain::{PlatformName, RunnerId, Timestamp, backoff};

use crate::{Class, Error, Observed};

/// Between two tries of one start.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Most runners in one page of a list.
pub(crate) const PAGE: usize = 500;
/// A platform's words may be long; a message is not.
pub(crate) const LONGEST_DETAIL: usize = 500;

/// What to do after a try to start failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// The same name again, after this long.
    Again(Duration),
    /// No more: prove that nothing runs, then refuse.
    GiveUp,
}

/// `tries` have failed, the last one so.
pub(crate) fn after_failure(error: &Error, tries: u32, now: Timestamp, start_by: Timestamp) -> AfterFailure {
    match error.class() {
        Class::Transient => {
            let pause = backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE, tries);
            let left = Duration::try_from(start_by.duration_since(now)).unwrap_or_default();
            if left.is_zero() { AfterFailure::GiveUp } else { AfterFailure::Again(pause.min(left)) }
        }
        Class::NoCapacity | Class::Rejected | Class::Unauthorized => AfterFailure::GiveUp,
    }
}

/// What is proven about a name by a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It was taken after all: an answer was lost.
    Taken,
    /// Nothing runs.
    Nothing,
    /// Nothing at all.
    Unproven,
}

/// Reads a look.
pub(crate) fn proof(look: &Result<Observed, Error>) -> Proof {
    match look {
        Ok(Observed::Running | Observed::Exited(_) | Observed::Refused(_)) => Proof::Taken,
        Ok(Observed::Gone) => Proof::Nothing,
        Err(_) => Proof::Unproven,
    }
}

/// The refusal that a failure comes to, once nothing is proven to run.
pub(crate) fn refusal(runner: RunnerId, platform: &PlatformName, error: &Error) -> RunnerRefused {
    let may_pass = match error.class() {
        // Another platform of the chain has other credentials, and these may be renewed.
        Class::Transient | Class::NoCapacity | Class::Unauthorized => true,
        Class::Rejected => false,
    };
    let reason = error.reason();
    let detail = error.detail().chars().take(LONGEST_DETAIL).collect();
    RunnerRefused { runner, platform: platform.clone(), reason, detail, may_pass }
}

/// What a failure to prepare a standing slot comes to, when it is not tried any more.
pub(crate) fn prepare_error(error: &Error) -> PrepareError {
    match error.class() {
        Class::Transient => PrepareError::Expired,
        Class::NoCapacity => PrepareError::NoCapacity,
        Class::Rejected => PrepareError::Rejected,
        Class::Unauthorized => PrepareError::Unauthorized,
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, Exit};
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_until_start_by() {
        let now = Timestamp::UNIX_EPOCH;
        let soon = now + SignedDuration::from_secs(3);
        let transient = Error::Transient("slow".into());
        assert_eq!(after_failure(&transient, 1, now, soon), AfterFailure::Again(Duration::from_millis(250)));
        assert_eq!(after_failure(&transient, 3, now, soon), AfterFailure::Again(Duration::from_secs(1)));
        assert_eq!(
            after_failure(&transient, 9, now, soon),
            AfterFailure::Again(Duration::from_secs(3)),
            "never past start_by"
        );
        assert_eq!(after_failure(&transient, 1, soon, soon), AfterFailure::GiveUp);
        assert_eq!(after_failure(&transient, 1, soon, now), AfterFailure::GiveUp);
        for error in [Error::NoCapacity, Error::Rejected, Error::Unauthorized].map(|make| make("no".to_owned())) {
            assert_eq!(after_failure(&error, 1, now, soon), AfterFailure::GiveUp);
        }
    }

    #[test]
    fn an_error_proves_nothing() {
        assert_eq!(proof(&Ok(Observed::Gone)), Proof::Nothing);
        assert_eq!(proof(&Ok(Observed::Running)), Proof::Taken);
        let exit = Exit::with_code(0);
        assert_eq!(proof(&Ok(Observed::Exited(exit))), Proof::Taken);
        for error in [Error::Transient, Error::NoCapacity, Error::Rejected, Error::Unauthorized] {
            assert_eq!(proof(&Err(error("?".into()))), Proof::Unproven);
        }
    }

    #[test]
    fn refusals_say_whether_they_may_pass() {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let platform = PlatformName::new("local").expect("valid");
        let said = |error: Error| {
            let refused = refusal(runner, &platform, &error);
            (refused.reason.to_string(), refused.may_pass)
        };
        assert_eq!(said(Error::NoCapacity("full".into())), ("no_capacity".into(), true));
        assert_eq!(said(Error::Quota("full".into())), ("quota".into(), true));
        assert_eq!(said(Error::Unschedulable("full".into())), ("unschedulable".into(), true));
        assert_eq!(said(Error::Image("none".into())), ("image_unavailable".into(), false));
        assert_eq!(said(Error::Rejected("bad".into())), ("rejected".into(), false));
        assert_eq!(said(Error::Unauthorized("who".into())), ("unauthorized".into(), true));
        assert_eq!(said(Error::Transient("slow".into())), ("deploy_failed".into(), true));
        assert_eq!(
            refusal(runner, &platform, &Error::Rejected("é".repeat(900))).detail.chars().count(),
            LONGEST_DETAIL
        );
    }

    #[test]
    fn a_failed_preparation_has_a_reason() {
        let said = [Error::Transient, Error::NoCapacity, Error::Rejected, Error::Unauthorized]
            .map(|error| prepare_error(&error("?".into())).as_str());
        assert_eq!(said, ["expired", "no_capacity", "rejected", "unauthorized"]);
    }
}
