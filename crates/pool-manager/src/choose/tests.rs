use std::collections::{BTreeMap, BTreeSet};

use greenroom_domain::{SlotId, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::room::{Cap, Gate, Room};

fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("valid")
}

fn provider(name: &str) -> Provider {
    Provider::new(name).expect("valid")
}

fn slot(number: i32) -> Idle {
    Idle { id: SlotId::generate(), number, last_used_at: None, warm: None, stands: None }
}

fn room(permits: usize, zoom: Option<usize>, slots: i32) -> Room {
    Room {
        version: 1,
        permits,
        providers: zoom.map(|zoom| (provider("zoom"), zoom)).into_iter().collect(),
        idle: (1..=slots).map(slot).collect(),
        ..Room::default()
    }
}

fn rooms(rooms: &[(&str, Room)]) -> Rooms {
    Rooms { platforms: rooms.iter().map(|(name, room)| (platform(name), room.clone())).collect(), cap: None }
}

/// The numbers and platforms that wishes get, as `platform-number`.
fn given_of(wishes: &[(&str, &[&str])], mut rooms: Rooms) -> Vec<Option<String>> {
    let wanted: Vec<(Provider, Warm, Vec<PlatformName>)> = wishes
        .iter()
        .map(|(of, platforms)| {
            (provider(of), Warm::new(*of, ""), platforms.iter().map(|name| platform(name)).collect())
        })
        .collect();
    let wishes: Vec<Wish<'_>> =
        wanted.iter().map(|(provider, warm, platforms)| Wish { provider, warm, platforms }).collect();
    choose(&wishes, &mut rooms)
        .into_iter()
        .zip(&wanted)
        .map(|(choice, (.., platforms))| choice.map(|(place, slot)| format!("{}-{}", platforms[place], slot.number)))
        .collect()
}

fn given(wishes: &[(&str, &[&str])], of: &[(&str, Room)]) -> Vec<Option<String>> {
    given_of(wishes, rooms(of))
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
    let draining = Room { draining: true, ..room(5, None, 5) };
    assert_eq!(given(&[("web", &["one"])], &[("one", draining)]), [None], "draining");
    let rooms = [("one", room(9, Some(1), 9))];
    let got = given(&[("zoom", &["one"]), ("zoom", &["one"]), ("web", &["one"])], &rooms);
    assert_eq!(got, [Some("one-1".to_owned()), None, Some("one-2".to_owned())], "zoom has its share");
    let shut = Room { gates: [(provider("zoom"), Gate::Shut)].into(), ..room(5, None, 5) };
    let got = given(&[("zoom", &["one"]), ("web", &["one"])], &[("one", shut)]);
    assert_eq!(got, [None, Some("one-1".to_owned())], "the breaker is one provider's");
    let half = Room { gates: [(provider("zoom"), Gate::Probe)].into(), ..room(5, None, 5) };
    let got = given(&[("zoom", &["one"]), ("zoom", &["one"])], &[("one", half)]);
    assert_eq!(got, [Some("one-1".to_owned()), None], "one probe");
    let lowered = Room { slots: Some(1), ..room(9, None, 9) };
    let got = given(&[("web", &["one"]), ("web", &["one"])], &[("one", lowered)]);
    assert_eq!(got, [Some("one-1".to_owned()), None], "who is above a lowered limit counts");
}

#[test]
fn the_installation_limit_is_shared() {
    let both: &[&str] = &["one", "two"];
    let wishes = [("web", both), ("web", both), ("web", &["two"][..])];
    for cap in [
        Cap { version: 1, slots: Some(2), permits: None },
        Cap { version: 1, slots: None, permits: Some(2) },
        Cap { version: 1, slots: Some(7), permits: Some(2) },
    ] {
        let rooms = Rooms { cap: Some(cap), ..rooms(&[("one", room(9, None, 9)), ("two", room(9, None, 9))]) };
        let got = given_of(&wishes, rooms);
        assert_eq!(got, [Some("one-1".to_owned()), Some("one-2".to_owned()), None], "{cap:?}");
    }
}

#[test]
fn a_warm_slot_comes_first_and_then_the_least_recently_used() {
    let at = |second| Some(Timestamp::from_second(second).expect("in range"));
    let used = |number, second, by: &str, image: &str| Idle {
        last_used_at: at(second),
        warm: Some(Warm::new(by, image)),
        ..slot(number)
    };
    let idle =
        [slot(1), used(2, 10, "web", ""), used(3, 30, "zoom", ""), used(4, 20, "zoom", ""), used(5, 5, "zoom", "mine")];
    let one = Room { permits: 9, idle: idle.into_iter().collect(), ..Room::default() };
    let chain: &[&str] = &["one"];
    let wishes = [("zoom", chain), ("zoom", chain), ("zoom", chain), ("teams", chain), ("web", chain)];
    let got: Vec<_> = given(&wishes, &[("one", one)]).into_iter().flatten().collect();
    // Twice what zoom had last, the older one first; nobody used 1; 5 had another image and is older than 2.
    assert_eq!(got, ["one-4", "one-3", "one-1", "one-5", "one-2"]);
}

#[test]
fn a_refused_request_names_the_shortage() {
    let rooms = rooms(&[
        ("empty", room(9, None, 0)),
        ("busy", room(0, None, 5)),
        ("shared", room(9, Some(0), 5)),
        ("away", Room { draining: true, ..room(9, None, 5) }),
    ]);
    let why = |of: &str, names: &[&str], rooms: &Rooms| {
        let names: Vec<PlatformName> = names.iter().map(|name| platform(name)).collect();
        in_words(&lacks(Wish { provider: &provider(of), warm: &Warm::new(of, ""), platforms: &names }, rooms))
    };
    let all = ["shared", "nowhere", "busy", "empty", "away"];
    assert_eq!(why("zoom", &all, &rooms), "shared: provider limit; busy: permits; empty: slots; away: draining");
    assert_eq!(why("zoom", &["nowhere"], &rooms), "");
    assert_eq!(why("web", &["shared"], &rooms), "", "there is room for others");
    let capped = |slots, permits| Rooms { cap: Some(Cap { version: 1, slots, permits }), ..rooms.clone() };
    assert_eq!(why("web", &["shared"], &capped(Some(0), None)), "shared: limit of the installation");
    assert_eq!(why("web", &["shared"], &capped(Some(1), Some(0))), "shared: permits of the installation");
}

proptest! {
    #[test]
    fn nothing_is_given_twice_or_beyond_a_limit(
        wishes in prop::collection::vec((any::<bool>(), prop::collection::vec(0..3_usize, 0..4)), 0..30),
        sizes in prop::collection::vec(
            (0..8_usize, prop::option::of(0..4_usize), 0..12_i32, prop::option::of(0..6_usize), prop::bool::weighted(0.1)), 3),
        cap in prop::option::of((prop::option::of(0..9_usize), prop::option::of(0..9_usize))),
    ) {
        let names: Vec<PlatformName> = ["a", "b", "c"].iter().map(|name| platform(name)).collect();
        let wanted: Vec<(Provider, Warm, Vec<PlatformName>)> = wishes
            .iter()
            .map(|(zoom, places)| {
                let of = if *zoom { "zoom" } else { "web" };
                (provider(of), Warm::new(of, ""), places.iter().map(|place| names[*place].clone()).collect())
            })
            .collect();
        let wishes: Vec<Wish<'_>> =
            wanted.iter().map(|(provider, warm, platforms)| Wish { provider, warm, platforms }).collect();
        let platforms: BTreeMap<PlatformName, Room> = names
            .iter()
            .zip(&sizes)
            .map(|(name, (permits, zoom, slots, bound, draining))| {
                (name.clone(), Room { slots: *bound, draining: *draining, ..room(*permits, *zoom, *slots) })
            })
            .collect();
        let cap = cap.map(|(slots, permits)| Cap { version: 1, slots, permits });
        let before = Rooms { platforms, cap };
        let mut after = before.clone();
        let choices = choose(&wishes, &mut after);
        let mut slots = BTreeSet::new();
        let mut taken: BTreeMap<(&PlatformName, &Provider), usize> = BTreeMap::new();
        for (choice, wish) in choices.iter().zip(&wishes) {
            match choice {
                Some((place, slot)) => {
                    prop_assert!(slots.insert(slot.id), "a slot was given twice");
                    *taken.entry((&wish.platforms[*place], wish.provider)).or_default() += 1;
                }
                // Nobody is left out while there is room for them, and everybody is told why.
                None => prop_assert_eq!(lacks(*wish, &after).len(), wish.platforms.len()),
            }
        }
        for (name, room) in &before.platforms {
            let of = |of| taken.get(&(name, &of)).copied().unwrap_or(0);
            let all = of(provider("zoom")) + of(provider("web"));
            prop_assert!(all <= room.permits && room.slots.is_none_or(|bound| all <= bound));
            prop_assert!(!room.draining || all == 0);
            prop_assert!(room.providers.get(&provider("zoom")).is_none_or(|limit| of(provider("zoom")) <= *limit));
        }
        let all: usize = taken.values().sum();
        let within = |bound: Option<usize>| bound.is_none_or(|bound| all <= bound);
        prop_assert!(before.cap.is_none_or(|cap| within(cap.slots) && within(cap.permits)));
    }
}
