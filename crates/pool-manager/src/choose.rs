//! Who gets which slot: pure.

use greenroom_domain::{PlatformName, Provider};

use crate::room::{Idle, Lack, Rooms, Warm};

/// Somebody who wants a slot on one of these platforms, the first rather than the second.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Whose meeting it is: its share and its breaker count.
    pub provider: &'a Provider,
    /// What its slot had better be used for last.
    pub warm: &'a Warm,
    /// Tried in this order.
    pub platforms: &'a [PlatformName],
}

/// A slot for somebody: the place of the platform among those wanted, and the slot.
pub type Choice = Option<(usize, Idle)>;

/// What the platforms of a wish that got nothing are short of, in its order. Empty: none of them is known.
pub fn lacks<'a>(wish: Wish<'a>, left: &Rooms) -> Vec<(&'a PlatformName, Lack)> {
    let lack = |platform: &'a PlatformName| Some((platform, left.lack(platform, wish.provider)?));
    wish.platforms.iter().filter_map(lack).collect()
}

/// The same for people.
pub fn in_words(lacks: &[(&PlatformName, Lack)]) -> String {
    lacks.iter().map(|(platform, lack)| format!("{platform}: {}", lack.word())).collect::<Vec<_>>().join("; ")
}

/// Whether these keep out nobody but this provider, so that others may be given something where it is not. Whoever gives
/// slots to a line asks on behind such a one, and stops at any other.
#[must_use]
pub fn concern_the_provider_alone(lacks: &[(&PlatformName, Lack)]) -> bool {
    !lacks.is_empty() && lacks.iter().all(|(_, lack)| matches!(lack, Lack::Share | Lack::Unready | Lack::Breaker))
}

/// Gives slots in the order of the wishes: to everybody on the first platform, then on the second to those who are still
/// without, and so on. What is given is taken out of the rooms.
pub fn choose(wishes: &[Wish<'_>], rooms: &mut Rooms) -> Vec<Choice> {
    let mut choices: Vec<Choice> = vec![None; wishes.len()];
    let longest = wishes.iter().map(|wish| wish.platforms.len()).max().unwrap_or(0);
    for place in 0..longest {
        for (wish, choice) in wishes.iter().zip(&mut choices).filter(|(_, choice)| choice.is_none()) {
            let Some(platform) = wish.platforms.get(place) else { continue };
            *choice = rooms.take(platform, wish.provider, wish.warm).map(|slot| (place, slot));
        }
    }
    choices
}

#[cfg(test)]
mod tests;
