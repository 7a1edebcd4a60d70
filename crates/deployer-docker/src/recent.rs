//! What is remembered of the last ones alone: whoever is never removed here, as somebody else removed him, goes in turn.

use std::collections::{HashMap, VecDeque};

use greenroom_domain::RunnerId;

/// More runners than any process has under way.
const MOST: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Recent<T> {
    known: HashMap<RunnerId, T>,
    turns: VecDeque<RunnerId>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    pub fn insert(&mut self, runner: RunnerId, what: T) {
        if self.known.insert(runner, what).is_none() {
            self.turns.push_back(runner);
        }
        if self.turns.len() > MOST
            && let Some(oldest) = self.turns.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub fn get(&self, runner: RunnerId) -> Option<&T> {
        self.known.get(&runner)
    }

    pub fn remove(&mut self, runner: RunnerId) {
        if self.known.remove(&runner).is_some() {
            self.turns.retain(|other| *other != runner);
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    fn runner() -> RunnerId {
        RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut recent = Recent::default();
        let (first, second, last) = (runner(), runner(), runner());
        recent.insert(first, 1);
        recent.insert(second, 2);
        recent.insert(first, 3);
        assert_eq!(recent.get(first), Some(&3), "the last word counts");
        for _ in 2..MOST {
            recent.insert(runner(), 0);
        }
        assert_eq!(recent.get(first), Some(&3), "there is room for it still");
        recent.insert(last, 4);
        assert_eq!((recent.get(first), recent.get(second), recent.get(last)), (None, Some(&2), Some(&4)));
        assert_eq!((recent.known.len(), recent.turns.len()), (MOST, MOST));
    }

    #[test]
    fn removed_runners_are_forgotten() {
        let mut recent = Recent::default();
        let one = runner();
        recent.insert(one, 1);
        recent.remove(one);
        recent.remove(one);
        assert_eq!((recent.get(one), recent.turns.len()), (None, 0));
    }
}
