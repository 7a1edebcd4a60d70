//! On which of several hosts a runner starts: pure.

use greenroom_domain::Resources;

/// A host that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Most runners, where somebody said so.
    pub limit: Option<u32>,
    /// How many such runners its machine has room for.
    pub fits: u32,
    /// How many are there, or on their way.
    pub there: u32,
}

impl Room {
    /// None: it takes no more. Where nobody set a limit it takes more than fit, when all others are as full.
    fn free(self) -> Option<i64> {
        if self.limit.is_some_and(|limit| self.there >= limit) {
            return None;
        }
        let most = self.limit.map_or(self.fits, |limit| limit);
        Some(i64::from(most) - i64::from(self.there))
    }
}

/// The one with the most room, the first of those that have as much; none: all are full.
pub(crate) fn choose(rooms: &[(usize, Room)]) -> Option<usize> {
    let free = rooms.iter().filter_map(|(host, room)| room.free().map(|free| (*host, free)));
    free.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(host, _)| host)
}

/// How many of that size a machine has room for.
pub(crate) fn fits(processors: u64, memory_bytes: u64, size: &Resources) -> u32 {
    let by_cpu = (processors * 1000).checked_div(size.cpu_millis.into());
    let by_memory = memory_bytes.checked_div(size.memory_bytes);
    let least = by_cpu.into_iter().chain(by_memory).min().unwrap_or(u64::MAX);
    u32::try_from(least).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(limit: Option<u32>, fits: u32, there: u32) -> Room {
        Room { limit, fits, there }
    }

    #[test]
    fn the_one_with_the_most_room_is_taken() {
        let of = |rooms: &[Room]| choose(&rooms.iter().copied().enumerate().collect::<Vec<_>>());
        assert_eq!(of(&[room(Some(10), 99, 9), room(Some(5), 99, 0)]), Some(1));
        assert_eq!(of(&[room(None, 8, 2), room(None, 8, 2)]), Some(0));
        assert_eq!(of(&[room(Some(2), 99, 2), room(None, 4, 9)]), Some(1), "more than fit, as nobody set a limit");
        assert_eq!(of(&[room(Some(2), 99, 2), room(Some(0), 99, 0)]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_machine_fits_what_its_tighter_half_fits() {
        let size = Resources { cpu_millis: 500, memory_bytes: 1 << 30, ..Resources::default() };
        assert_eq!(fits(16, 64 << 30, &size), 32);
        assert_eq!(fits(16, 8 << 30, &size), 8);
        assert_eq!(fits(16, 8 << 30, &Resources { memory_bytes: 0, ..size }), 32);
    }

    proptest! {
        #[test]
        fn full_hosts_get_no_runner(rooms in prop::collection::vec((prop::option::of(0u32..5), 0u32..5, 0u32..7), 0..6)) {
            let rooms: Vec<_> = rooms.into_iter().map(|(limit, fits, there)| room(limit, fits, there)).enumerate().collect();
            let open = rooms.iter().filter(|(_, room)| room.limit.is_none_or(|limit| room.there < limit)).count();
            match choose(&rooms) {
                Some(host) => prop_assert!(rooms[host].1.limit.is_none_or(|limit| rooms[host].1.there < limit)),
                None => prop_assert_eq!(open, 0),
            }
        }
    }
}
