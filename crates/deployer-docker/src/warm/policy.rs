//! Which waiting containers stay, which go, and how many are missing: pure.

use std::collections::BTreeMap;

/// A container that waits, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its name, which says nothing of any bot.
    pub name: String,
    /// By digest, as it was when it was made.
    pub digest: String,
    pub state: State,
    /// In seconds.
    pub age: u64,
}

/// What it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Made, and about to be started by whoever made it.
    Made,
    Runs,
    Ended,
}

/// Whoever makes one has started it by then, or never will. In seconds.
const MADE: u64 = 120;

/// What is to be done on one host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// By digest: those that may be given a bot.
    pub ready: BTreeMap<String, Vec<String>>,
    /// Dead, too old, too many, or of an image that is not the one any more.
    pub remove: Vec<String>,
    /// By digest: how many to start.
    pub missing: BTreeMap<String, usize>,
}

/// Looks at all that wait on a host. `wanted`: the images that shall wait there, as they are now. Replicas that look at the same
/// containers come to the same answer.
pub(crate) fn work(mut waiting: Vec<Waiting>, wanted: &[String], each: usize, oldest: u64) -> Work {
    let mut work = Work::default();
    waiting.sort_by(|one, other| one.name.cmp(&other.name));
    for digest in wanted {
        work.ready.insert(digest.clone(), Vec::new());
    }
    // Those that are there already come first, so that nothing is removed for what is only about to be.
    waiting.sort_by_key(|container| container.state != State::Runs);
    let mut coming: BTreeMap<String, usize> = BTreeMap::new();
    for container in waiting {
        let fit = match container.state {
            State::Runs => container.age < oldest,
            State::Made => container.age < MADE.min(oldest),
            State::Ended => false,
        };
        let coming = coming.entry(container.digest.clone()).or_default();
        match work.ready.get_mut(&container.digest) {
            Some(ready) if fit && ready.len() + *coming < each => match container.state {
                State::Made => *coming += 1,
                State::Runs | State::Ended => ready.push(container.name),
            },
            // Somebody else's, who is in the middle of it: the next look finds it running, or old.
            _ if fit && container.state == State::Made => {}
            _ => work.remove.push(container.name),
        }
    }
    for (digest, ready) in &work.ready {
        let there = ready.len() + coming.get(digest).copied().unwrap_or_default();
        if there < each {
            work.missing.insert(digest.clone(), each - there);
        }
    }
    work
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(name: &str, digest: &str, state: State, age: u64) -> Waiting {
        Waiting { name: name.to_owned(), digest: digest.to_owned(), state, age }
    }

    #[test]
    fn unfit_warm_containers_are_removed_and_missing_ones_created() {
        let there = vec![
            waiting("d", "now", State::Runs, 5),
            waiting("a", "now", State::Runs, 5),
            waiting("b", "before", State::Runs, 5),
            waiting("c", "now", State::Ended, 5),
            waiting("e", "now", State::Runs, 60),
            waiting("f", "other", State::Made, 5),
        ];
        let done = work(there, &["now".to_owned(), "other".to_owned()], 3, 60);
        assert_eq!(done.ready["now"], ["a", "d"]);
        assert_eq!(done.remove, ["b", "e", "c"]);
        assert_eq!(done.missing, BTreeMap::from([("now".to_owned(), 1), ("other".to_owned(), 2)]));
    }

    #[test]
    fn containers_in_creation_are_left_alone() {
        let there = vec![
            waiting("a", "now", State::Made, 5),
            waiting("b", "now", State::Runs, 5),
            waiting("c", "now", State::Made, 500),
        ];
        let done = work(there, &["now".to_owned()], 1, 3600);
        assert_eq!(
            (done.ready["now"].as_slice(), done.remove.as_slice()),
            (&["b".to_owned()][..], &["c".to_owned()][..])
        );
        assert!(done.missing.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_given_away_that_should_not_be_and_never_too_many(
            there in prop::collection::vec(("[a-z]{4}", 0u8..3, 0u8..3, 0u64..9), 0..20),
            each in 0usize..5,
        ) {
            let states = [State::Made, State::Runs, State::Ended];
            let there: Vec<_> = there
                .into_iter()
                .enumerate()
                .map(|(index, (name, image, state, age))| {
                    waiting(&format!("{name}{index}"), &image.to_string(), states[usize::from(state)], age)
                })
                .collect();
            let wanted = ["0".to_owned(), "1".to_owned()];
            let work = work(there.clone(), &wanted, each, 5);
            for container in &there {
                let ready = work.ready.values().flatten().any(|name| *name == container.name);
                let fit = container.state == State::Runs && container.age < 5 && wanted.contains(&container.digest);
                prop_assert!(!ready || fit);
                prop_assert!(!(ready && work.remove.contains(&container.name)));
                prop_assert!(container.state != State::Ended || work.remove.contains(&container.name));
            }
            for digest in &wanted {
                let made = there.iter().filter(|waiting| waiting.digest == *digest && waiting.state == State::Made && waiting.age < 5).count();
                let (ready, missing) = (work.ready[digest].len(), work.missing.get(digest).copied().unwrap_or_default());
                prop_assert!(ready + missing <= each && ready + missing + made >= each);
            }
        }
    }
}
