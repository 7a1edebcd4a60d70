//! Which standing slots were told to go. Losing it costs nothing: the list shows a slot that nobody wants.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_domain::{Standing, Timestamp};
use jiff::SignedDuration;

/// As long as commands live on the bus.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Between two times of forgetting.
const TIDIED: usize = 1_000;

/// A generation that was told to go never comes again, so a prepare of it that comes later, or is under way, is void.
#[derive(Debug, Default)]
pub(crate) struct Retirements(Mutex<HashMap<Standing, Timestamp>>);

impl Retirements {
    fn lock(&self) -> MutexGuard<'_, HashMap<Standing, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, standing: Standing, now: Timestamp) {
        let mut all = self.lock();
        all.insert(standing, now);
        if all.len().is_multiple_of(TIDIED) {
            all.retain(|_, at| now.duration_since(*at) < KEPT);
        }
    }

    pub fn has(&self, standing: Standing) -> bool {
        self.lock().contains_key(&standing)
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::SlotId;

    use super::*;

    #[test]
    fn it_forgets_what_is_old_and_nothing_else() {
        let retirements = Retirements::default();
        let standing = |generation| Standing { slot: SlotId::from_uuid(uuid::Uuid::from_u128(7)), generation };
        let then = Timestamp::UNIX_EPOCH;
        (0..999).for_each(|generation| retirements.note(standing(generation), then));
        assert!(retirements.has(standing(0)) && !retirements.has(standing(999)), "the next generation is another");
        retirements.note(standing(999), then + SignedDuration::from_hours(2));
        assert!(!retirements.has(standing(0)) && retirements.has(standing(999)));
        assert_eq!(retirements.lock().len(), 1);
    }
}
