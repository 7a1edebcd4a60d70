//! The standing slots of a simulated platform: which there are, and whether they are ready. Who is in them is told by the
//! runners.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_deployer::{Error, Preparation};
use greenroom_domain::{Standing, Timestamp};

use super::script::Script;

#[derive(Default)]
struct Slot {
    ready: bool,
    tries: u32,
    description: String,
}

/// All standing slots of all platforms.
#[derive(Default)]
pub(super) struct Slots(Mutex<BTreeMap<(String, Standing), Slot>>);

fn retired() -> Error {
    Error::Transient("simulated: it was retired meanwhile".to_owned())
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Standing), Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: there is none. False: it is not ready.
    pub fn is_ready(&self, platform: &str, standing: Standing) -> Option<bool> {
        self.lock().get(&(platform.to_owned(), standing)).map(|slot| slot.ready)
    }

    pub async fn prepare(&self, platform: &str, preparation: &Preparation, script: &Script) -> Result<(), Error> {
        let name = (platform.to_owned(), preparation.standing);
        let number = {
            let mut slots = self.lock();
            let slot = slots.entry(name.clone()).or_default();
            if slot.ready {
                return Ok(());
            }
            slot.tries += 1;
            slot.tries
        };
        let mut fate = script.dice_of((preparation.standing, "prepare", number));
        tokio::time::sleep(fate.within(script.prepare_ms)).await;
        let [fails, is_full, is_lost] =
            [script.prepare_failures, 0.5, script.prepare_lost_answers].map(|rate| fate.happens(rate));
        let mut slots = self.lock();
        let slot = slots.get_mut(&name).ok_or_else(retired)?;
        if slot.ready {
            return Ok(());
        }
        if Timestamp::now() > preparation.prepare_by {
            return Err(Error::Transient("simulated: it is too late".to_owned()));
        }
        if fails && is_full {
            return Err(Error::NoCapacity("simulated: no server has room".to_owned()));
        }
        if fails {
            // What there is of it is still there.
            return Err(Error::Transient("simulated: it did not come up".to_owned()));
        }
        slot.ready = true;
        if is_lost { Err(Error::Transient("simulated: no answer".to_owned())) } else { Ok(()) }
    }

    /// Takes it out of use, as long as it is being brought back to fresh.
    pub fn reset_begins(&self, platform: &str, standing: Standing) -> Result<(), Error> {
        let mut slots = self.lock();
        let slot = slots
            .get_mut(&(platform.to_owned(), standing))
            .ok_or_else(|| Error::Rejected("simulated: there is no such slot".to_owned()))?;
        slot.ready = false;
        Ok(())
    }

    pub async fn reset_ends(&self, platform: &str, standing: Standing, takes: Duration) -> Result<(), Error> {
        tokio::time::sleep(takes).await;
        let mut slots = self.lock();
        slots.get_mut(&(platform.to_owned(), standing)).ok_or_else(retired)?.ready = true;
        Ok(())
    }

    pub fn retire(&self, platform: &str, standing: Standing) {
        self.lock().remove(&(platform.to_owned(), standing));
    }

    pub fn describe(&self, platform: &str, standing: Standing, description: String) {
        if let Some(slot) = self.lock().get_mut(&(platform.to_owned(), standing)) {
            slot.description = description;
        }
    }

    /// Each with what people see beside it.
    pub fn list(&self, platform: &str) -> Vec<(Standing, String)> {
        let slots = self.lock();
        let here = slots.iter().filter(|((on, _), _)| on == platform);
        here.map(|((_, standing), slot)| (*standing, slot.description.clone())).collect()
    }

    /// Where there are any.
    pub fn platforms(&self) -> Vec<String> {
        self.lock().keys().map(|(platform, _)| platform.clone()).collect()
    }
}
