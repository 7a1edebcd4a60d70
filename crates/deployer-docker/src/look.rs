//! What a container is: pure.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status};
use greenroom_deployer::{Error, Names, Observed};
use greenroom_domain::{Exit, ExitCause, Timestamp};

use crate::failure::{Failure, meaning};

/// The label with how long a runner may run, in milliseconds.
pub(crate) const LIFETIME: &str = "greenroom.dev/lifetime-ms";
/// The label of one that was started ahead, with what it is made of; it is a runner only under a runner's name.
pub(crate) const WARM: &str = "greenroom.dev/warm";

/// SIGALRM.
const ALARM: i32 = 14;

/// A container, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The engine's own name for it, which never changes.
    pub id: String,
    /// How it is.
    pub observed: Observed,
    /// Made, and never started so far.
    pub created: bool,
    /// It was started before it had a bot.
    pub warm: bool,
    /// From when to when it ran, as far as it did.
    pub ran: Option<(Timestamp, Option<Timestamp>)>,
}

/// Reads the answer; none: it is not ours.
pub(crate) fn look(container: ContainerInspectResponse, names: &Names) -> Option<Look> {
    let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    if !is_ours(&labels, names) {
        return None;
    }
    let state = container.state.unwrap_or_default();
    let (started, finished) = (time(state.started_at.as_deref()), time(state.finished_at.as_deref()));
    let created = state.status == Some(Status::CREATED);
    let warm = labels.contains_key(WARM);
    let observed = match observe(&state, lifetime(&labels)) {
        // It was told how long it may live when it was taken, and set itself an alarm.
        Observed::Exited(exit) if warm && exit.signal == Some(ALARM) => {
            Observed::Exited(exit.caused_by(ExitCause::Lifetime))
        }
        observed => observed,
    };
    Some(Look {
        id: container.id.unwrap_or_default(),
        observed,
        created,
        warm,
        // One that was started again has ended before it began.
        ran: started.map(|started| (started, finished.filter(|finished| *finished >= started))),
    })
}

/// Everything of ours carries the same labels.
pub(crate) fn is_ours(labels: &HashMap<String, String>, names: &Names) -> bool {
    names.ours().iter().all(|(name, value)| labels.get(*name) == Some(value))
}

/// How long it may run, by its label.
pub(crate) fn lifetime(labels: &HashMap<String, String>) -> Option<Duration> {
    labels.get(LIFETIME)?.parse().ok().map(Duration::from_millis)
}

/// A moment, as engines write it; they write the year 1 for "never".
pub(crate) fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|at: &Timestamp| at.as_second() > 0)
}

fn observe(state: &ContainerState, lifetime: Option<Duration>) -> Observed {
    match state.status.unwrap_or(Status::EMPTY) {
        Status::CREATED => never_ran(state),
        Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING => Observed::Running,
        // Somebody is clearing away what never ran.
        Status::REMOVING if time(state.started_at.as_deref()).is_none() => Observed::Gone,
        // Dead: it ended, and the engine could not clear it away.
        Status::EXITED | Status::DEAD | Status::REMOVING => Observed::Exited(exit(state, lifetime)),
        Status::EMPTY if state.running == Some(false) => Observed::Exited(exit(state, lifetime)),
        // An answer that does not say how it is proves no end, and the end of a runner is the last that is heard of it.
        Status::EMPTY => Observed::Running,
    }
}

/// About to be started, or one whose start failed for a reason that stays.
fn never_ran(state: &ContainerState) -> Observed {
    let Some(words) = state.error.as_deref().filter(|words| !words.is_empty()) else { return Observed::Running };
    match meaning(&Failure { status: Some(500), words: words.to_owned() }) {
        Error::Transient(_) => Observed::Running,
        refused => Observed::Refused(refused),
    }
}

fn exit(state: &ContainerState, lifetime: Option<Duration>) -> Exit {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
    // A first process ends as a shell would tell it: 128 and the signal that ended what it ran.
    let exit = match code {
        129..=192 => Exit::with_signal(code - 128),
        code => Exit::with_code(code),
    };
    // The engine says so of whatever of it was killed; a renderer that died and was missed by nobody is no end.
    let exit = if state.oom_killed == Some(true) && code != 0 { exit.out_of_memory() } else { exit };
    let ran = time(state.finished_at.as_deref())
        .zip(time(state.started_at.as_deref()))
        .and_then(|(finished, started)| Duration::try_from(finished.duration_since(started)).ok());
    match (lifetime, ran) {
        (Some(lifetime), Some(ran)) if ran >= lifetime => exit.caused_by(ExitCause::Lifetime),
        _ => exit,
    }
}

/// What several engines say of one name. A name is on one of them, or on none; who does not answer may have it.
pub(crate) fn agree(looks: Vec<Result<Option<Observed>, Error>>) -> Result<Observed, Error> {
    let mut best = None;
    let mut away = None;
    for look in looks {
        match look {
            Ok(Some(Observed::Running)) => return Ok(Observed::Running),
            Ok(Some(ended)) => best = best.or(Some(ended)),
            Ok(None) => {}
            Err(error) => away = away.or(Some(error)),
        }
    }
    match (best, away) {
        (Some(ended), _) => Ok(ended),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Observed::Gone),
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Installation, PlatformName};

    use super::*;

    const BEGAN: &str = "2026-11-04T10:00:00.123456789Z";
    const ENDED: &str = "2026-11-04T10:00:09.223456789Z";
    const NEVER: &str = "0001-01-01T00:00:00Z";

    fn state(status: Status) -> ContainerState {
        ContainerState {
            status: Some(status),
            started_at: Some(BEGAN.into()),
            finished_at: Some(ENDED.into()),
            ..Default::default()
        }
    }

    fn exited(code: i64, oom: bool) -> Observed {
        let state = ContainerState { exit_code: Some(code), oom_killed: Some(oom), ..state(Status::EXITED) };
        observe(&state, Some(Duration::from_secs(10)))
    }

    #[test]
    fn an_end_is_read_from_code_and_flag() {
        assert_eq!(exited(0, false), Observed::Exited(Exit::with_code(0)));
        assert_eq!(exited(7, false), Observed::Exited(Exit::with_code(7)));
        assert_eq!(exited(137, false), Observed::Exited(Exit::with_signal(9)));
        assert_eq!(exited(143, false), Observed::Exited(Exit::with_signal(15)));
        assert_eq!(exited(137, true), Observed::Exited(Exit::with_signal(9).out_of_memory()));
        assert_eq!(exited(1, true), Observed::Exited(Exit::with_code(1).out_of_memory()));
        assert_eq!(exited(0, true), Observed::Exited(Exit::with_code(0)), "a tab died, the meeting went on");
        assert_eq!(exited(255, false), Observed::Exited(Exit::with_code(255)));
    }

    #[test]
    fn a_runner_past_its_lifetime_ends_as_max_duration() {
        let ended = ContainerState { exit_code: Some(143), ..state(Status::EXITED) };
        let cause = |lifetime: Duration| match observe(&ended, Some(lifetime)) {
            Observed::Exited(exit) => exit.cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(Duration::from_secs(9)), Some(ExitCause::Lifetime));
        assert_eq!(cause(Duration::from_secs(10)), None);
    }

    #[test]
    fn only_what_ended_has_ended() {
        for status in [Status::RUNNING, Status::PAUSED, Status::RESTARTING, Status::STOPPING] {
            assert_eq!(observe(&state(status), None), Observed::Running, "{status:?}");
        }
        assert_eq!(observe(&state(Status::CREATED), None), Observed::Running, "about to be");
        for status in [Status::EXITED, Status::DEAD, Status::REMOVING] {
            assert!(matches!(observe(&state(status), None), Observed::Exited(_)), "{status:?}");
        }
        let never = ContainerState { started_at: Some(NEVER.into()), ..state(Status::REMOVING) };
        assert_eq!(observe(&never, None), Observed::Gone);
    }

    #[test]
    fn an_answer_without_a_state_is_no_end() {
        let names = Names::new(Installation::new("one").expect("valid"), PlatformName::new("docker").expect("valid"));
        let labels: HashMap<String, String> =
            names.ours().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let running = |running: Option<bool>| Some(ContainerState { running, ..ContainerState::default() });
        let ended = Observed::Exited(Exit::with_code(-1));
        for (state, expected) in [
            (None, Observed::Running),
            (running(None), Observed::Running),
            (running(Some(true)), Observed::Running),
            (running(Some(false)), ended),
        ] {
            let container = ContainerInspectResponse {
                config: Some(bollard::models::ContainerConfig { labels: Some(labels.clone()), ..Default::default() }),
                state: state.clone(),
                ..ContainerInspectResponse::default()
            };
            assert_eq!(look(container, &names).expect("ours").observed, expected, "{state:?}");
        }
    }

    #[test]
    fn a_start_that_cannot_be_is_a_refusal() {
        let failed = |words: &str| {
            observe(&ContainerState { error: Some(words.into()), exit_code: Some(127), ..state(Status::CREATED) }, None)
        };
        let words = "exec: \"nope\": executable file not found in $PATH";
        assert_eq!(failed(words), Observed::Refused(Error::Rejected(words.into())));
        assert_eq!(failed("something passed by"), Observed::Running, "the next try may start it");
    }

    #[test]
    fn labels_say_whose_it_is() {
        let name = |name: &str| Installation::new(name).expect("valid");
        let platform = |name: &str| PlatformName::new(name).expect("valid");
        let names = Names::new(name("one"), platform("docker"));
        let labels = |names: &Names| -> HashMap<String, String> {
            names.ours().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        assert!(is_ours(&labels(&names), &names));
        assert!(!is_ours(&labels(&Names::new(name("two"), platform("docker"))), &names));
        assert!(!is_ours(&labels(&Names::new(name("one"), platform("docker-2"))), &names));
        assert!(!is_ours(&HashMap::new(), &names));
        assert_eq!(look(ContainerInspectResponse::default(), &names), None);
    }

    #[test]
    fn an_alarm_is_the_end_of_a_lifetime_for_those_who_set_one() {
        let names = Names::new(Installation::new("one").expect("valid"), PlatformName::new("docker").expect("valid"));
        let cause = |more: &[(&str, &str)]| {
            let mut labels: HashMap<String, String> =
                names.ours().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            labels.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let container = ContainerInspectResponse {
                config: Some(bollard::models::ContainerConfig { labels: Some(labels), ..Default::default() }),
                state: Some(ContainerState { exit_code: Some(142), ..state(Status::EXITED) }),
                ..ContainerInspectResponse::default()
            };
            match look(container, &names).expect("ours").observed {
                Observed::Exited(exit) => exit.cause,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(cause(&[(WARM, "x")]), Some(ExitCause::Lifetime));
        assert_eq!(cause(&[]), None);
    }

    #[test]
    fn never_is_no_time() {
        assert_eq!(time(Some(NEVER)), None);
        assert!(time(Some(BEGAN)).is_some());
        assert_eq!((time(Some("soon")), time(None)), (None, None));
    }

    #[test]
    fn an_engine_that_is_away_may_have_it() {
        let away = || Err(Error::Transient("away".into()));
        let ended = || Ok(Some(Observed::Exited(Exit::with_code(1))));
        assert_eq!(agree(vec![Ok(None), Ok(None)]), Ok(Observed::Gone));
        assert_eq!(agree(vec![Ok(None), away()]), Err(Error::Transient("away".into())));
        assert_eq!(agree(vec![away(), Ok(Some(Observed::Running))]), Ok(Observed::Running));
        assert_eq!(agree(vec![away(), ended()]), Ok(Observed::Exited(Exit::with_code(1))));
        assert_eq!(agree(vec![ended(), Ok(Some(Observed::Running))]), Ok(Observed::Running));
    }
}
