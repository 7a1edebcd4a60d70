//! Which part of the work a row or a message belongs to.

use std::fmt;

use uuid::Uuid;

/// How many shards there are; fixed for the life of an installation, as it stands in rows and subjects.
pub const SHARDS: u8 = 64;

/// `hash(id) % 64`: the same everywhere, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard of whatever has this id.
    #[must_use]
    pub fn of(id: Uuid) -> Self {
        // The tail of a UUIDv7 is random, so its last byte is hash enough; the fold lets v5 and odd ids spread as well.
        let bytes = id.as_bytes();
        let folded = bytes[8..].iter().fold(0u8, |acc, b| acc.rotate_left(3) ^ b);
        Self(folded % SHARDS)
    }

    /// 0 to 63.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_changes_for_an_id() {
        assert_eq!(Shard::of(Uuid::nil()).number(), 0);
        assert_eq!(Shard::of(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_002a)).number(), 58);
    }

    #[test]
    fn ids_spread_over_all_shards() {
        let mut seen = [0u32; SHARDS as usize];
        for _ in 0..6_400 {
            seen[usize::from(Shard::of(Uuid::now_v7()).number())] += 1;
        }
        assert!(seen.iter().all(|&n| n > 40), "{seen:?}");
    }
}
