//! Who gets which slot: pure.

use std::collections::{BTreeMap, VecDeque};

use greenroom_domain::{PlatformName, Provider, SlotId, Timestamp};

/// What a platform can give. There may be more by now; as long as its version holds there is no less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Rises with everything that takes room.
    pub version: i64,
    /// How many deployments may begin.
    pub permits: usize,
    /// How many slots a provider may still take. Who is not named here has no limit of its own.
    pub providers: BTreeMap<Provider, usize>,
    /// Free slots, least recently used first: as many as there are permits, or as were asked for.
    pub idle: VecDeque<Idle>,
}

/// A free slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    pub id: SlotId,
    pub number: i32,
    pub last_used_at: Option<Timestamp>,
}

/// Somebody who wants a slot on one of these platforms, the first rather than the second.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub provider: &'a Provider,
    pub platforms: &'a [PlatformName],
}

/// A slot for somebody: the place of the platform among those wanted, and the slot.
pub type Choice = Option<(usize, Idle)>;

/// What a platform is short of for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Every slot is taken.
    Slots,
    /// There are slots, but as many deployments are in flight as may be.
    Permits,
    /// There is room, but the provider has its share.
    Share,
}

impl Lack {
    fn word(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Permits => "permits",
            Self::Share => "provider limit",
        }
    }
}

/// What the platforms of a wish that got nothing are short of, in its order. Empty: none of them is known.
pub fn lacks<'a>(wish: Wish<'a>, left: &BTreeMap<PlatformName, Room>) -> Vec<(&'a PlatformName, Lack)> {
    let lack = |platform: &'a PlatformName| Some((platform, left.get(platform)?.lack(wish.provider)?));
    wish.platforms.iter().filter_map(lack).collect()
}

/// The same for people.
pub fn in_words(lacks: &[(&PlatformName, Lack)]) -> String {
    lacks.iter().map(|(platform, lack)| format!("{platform}: {}", lack.word())).collect::<Vec<_>>().join("; ")
}

/// Gives slots in the order of the wishes: to everybody on the first platform, then on the second to those who are still
/// without, and so on. What is given is taken out of the rooms.
pub fn choose(wishes: &[Wish<'_>], rooms: &mut BTreeMap<PlatformName, Room>) -> Vec<Choice> {
    let mut choices: Vec<Choice> = vec![None; wishes.len()];
    let longest = wishes.iter().map(|wish| wish.platforms.len()).max().unwrap_or(0);
    for place in 0..longest {
        for (wish, choice) in wishes.iter().zip(&mut choices).filter(|(_, choice)| choice.is_none()) {
            let room = wish.platforms.get(place).and_then(|platform| rooms.get_mut(platform));
            *choice = room.and_then(|room| room.take(wish.provider)).map(|slot| (place, slot));
        }
    }
    choices
}

impl Room {
    /// What keeps a provider out; none: there is room for it.
    fn lack(&self, provider: &Provider) -> Option<Lack> {
        if self.permits == 0 {
            // Without permits no slot was looked for.
            Some(Lack::Permits)
        } else if self.idle.is_empty() {
            Some(Lack::Slots)
        } else {
            (self.providers.get(provider) == Some(&0)).then_some(Lack::Share)
        }
    }

    fn take(&mut self, provider: &Provider) -> Option<Idle> {
        if self.lack(provider).is_some() {
            return None;
        }
        let slot = self.idle.pop_front()?;
        self.permits -= 1;
        if let Some(left) = self.providers.get_mut(provider) {
            *left -= 1;
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn platform(name: &str) -> PlatformName {
        PlatformName::new(name).expect("valid")
    }

    fn provider(name: &str) -> Provider {
        Provider::new(name).expect("valid")
    }

    fn room(permits: usize, zoom: Option<usize>, slots: i32) -> Room {
        let idle = |number| Idle { id: SlotId::generate(), number, last_used_at: None };
        Room {
            version: 1,
            permits,
            providers: zoom.map(|zoom| (provider("zoom"), zoom)).into_iter().collect(),
            idle: (1..=slots).map(idle).collect(),
        }
    }

    /// The numbers and platforms that wishes get, as `platform-number`.
    fn given(wishes: &[(&str, &[&str])], rooms: &[(&str, Room)]) -> Vec<Option<String>> {
        let wanted: Vec<(Provider, Vec<PlatformName>)> = wishes
            .iter()
            .map(|(of, platforms)| (provider(of), platforms.iter().map(|name| platform(name)).collect()))
            .collect();
        let wishes: Vec<Wish<'_>> = wanted.iter().map(|(provider, platforms)| Wish { provider, platforms }).collect();
        let mut rooms = rooms.iter().map(|(name, room)| (platform(name), room.clone())).collect();
        choose(&wishes, &mut rooms)
            .into_iter()
            .zip(&wanted)
            .map(|(choice, (_, platforms))| choice.map(|(place, slot)| format!("{}-{}", platforms[place], slot.number)))
            .collect()
    }

    #[test]
    fn first_come_first_served_with_the_least_recently_used() {
        let rooms = [("one", room(9, None, 2))];
        let got = given(&[("web", &["one"]), ("web", &["one"]), ("web", &["one"])], &rooms);
        assert_eq!(got, [Some("one-1".to_owned()), Some("one-2".to_owned()), None]);
    }

    #[test]
    fn a_first_choice_goes_before_a_second_one() {
        let rooms = [("one", room(9, None, 1)), ("two", room(9, None, 1))];
        // The second of them would have to go to `two`, which the third wants first.
        let got = given(&[("web", &["one", "two"]), ("web", &["one", "two"]), ("web", &["two"])], &rooms);
        assert_eq!(got, [Some("one-1".to_owned()), None, Some("two-1".to_owned())]);
    }

    #[test]
    fn permits_shares_and_strange_platforms() {
        assert_eq!(given(&[("web", &["one"])], &[("one", room(0, None, 5))]), [None], "no permit");
        assert_eq!(given(&[("web", &["none"])], &[("one", room(5, None, 5))]), [None], "no such platform");
        let rooms = [("one", room(9, Some(1), 9))];
        let got = given(&[("zoom", &["one"]), ("zoom", &["one"]), ("web", &["one"])], &rooms);
        assert_eq!(got, [Some("one-1".to_owned()), None, Some("one-2".to_owned())], "zoom has its share");
    }

    #[test]
    fn who_gets_nothing_is_told_what_is_short() {
        let rooms = BTreeMap::from([
            (platform("empty"), room(9, None, 0)),
            (platform("busy"), room(0, None, 5)),
            (platform("shared"), room(9, Some(0), 5)),
        ]);
        let why = |of: &str, names: &[&str]| {
            let names: Vec<PlatformName> = names.iter().map(|name| platform(name)).collect();
            in_words(&lacks(Wish { provider: &provider(of), platforms: &names }, &rooms))
        };
        let all = ["shared", "nowhere", "busy", "empty"];
        assert_eq!(why("zoom", &all), "shared: provider limit; busy: permits; empty: slots");
        assert_eq!(why("zoom", &["nowhere"]), "");
        assert_eq!(why("web", &["shared"]), "", "there is room for others");
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_or_beyond_a_limit(
            wishes in prop::collection::vec((any::<bool>(), prop::collection::vec(0..3_usize, 0..4)), 0..30),
            rooms in prop::collection::vec((0..8_usize, prop::option::of(0..4_usize), 0..12_i32), 3),
        ) {
            let names: Vec<PlatformName> = ["a", "b", "c"].iter().map(|name| platform(name)).collect();
            let wanted: Vec<(Provider, Vec<PlatformName>)> = wishes
                .iter()
                .map(|(zoom, places)| {
                    let of = provider(if *zoom { "zoom" } else { "web" });
                    (of, places.iter().map(|place| names[*place].clone()).collect())
                })
                .collect();
            let wishes: Vec<Wish<'_>> =
                wanted.iter().map(|(provider, platforms)| Wish { provider, platforms }).collect();
            let before: BTreeMap<PlatformName, Room> = names
                .iter()
                .zip(&rooms)
                .map(|(name, (permits, zoom, slots))| (name.clone(), room(*permits, *zoom, *slots)))
                .collect();
            let mut after = before.clone();
            let choices = choose(&wishes, &mut after);
            let mut slots = BTreeSet::new();
            let mut taken: BTreeMap<(&PlatformName, &Provider), usize> = BTreeMap::new();
            for (choice, (of, platforms)) in choices.iter().zip(&wanted) {
                match choice {
                    Some((place, slot)) => {
                        prop_assert!(slots.insert(slot.id), "a slot was given twice");
                        prop_assert!(before[&platforms[*place]].idle.contains(slot));
                        *taken.entry((&platforms[*place], of)).or_default() += 1;
                    }
                    None => {
                        // Nobody is left out while there is room for them, and everybody is told why.
                        let wish = Wish { provider: of, platforms };
                        prop_assert_eq!(lacks(wish, &after).len(), platforms.len());
                    }
                }
            }
            for (name, room) in &before {
                let of = |of| taken.get(&(name, &of)).copied().unwrap_or(0);
                prop_assert!(of(provider("zoom")) + of(provider("web")) <= room.permits);
                prop_assert!(room.providers.get(&provider("zoom")).is_none_or(|limit| of(provider("zoom")) <= *limit));
            }
        }
    }
}
