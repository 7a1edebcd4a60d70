//! Standing slots, and who is in them.

use std::collections::BTreeMap;

use greenroom_deployer::{Error, Preparation};
use greenroom_domain::{RunnerId, Standing};

use super::super::facts::What;
use super::{Known, Name, Truth, lock};

/// Who is in a standing slot, with whether it runs still.
fn occupants<'k>(
    known: &'k BTreeMap<Name, Known>,
    platform: &'k str,
    standing: Standing,
) -> impl Iterator<Item = (RunnerId, bool)> + 'k {
    known
        .iter()
        .filter(move |((on, _), known)| on == platform && known.standing == Some(standing) && known.is_there())
        .map(|((_, runner), known)| (*runner, known.running > 0))
}

impl Truth {
    /// Why it cannot be started in its standing slot: `known` is everybody there is.
    pub(super) fn no_place(
        &self,
        name: &Name,
        known: &BTreeMap<Name, Known>,
        standing: Option<Standing>,
    ) -> Option<(&'static str, Error)> {
        let standing = standing?;
        let Some(ready) = self.0.slots.is_ready(&name.0, standing) else {
            return Some(("no_slot", Error::NoCapacity("simulated: there is no such slot".to_owned())));
        };
        if occupants(known, &name.0, standing).any(|(runner, _)| runner != name.1) {
            return Some(("occupied", Error::NoCapacity("simulated: somebody is in it".to_owned())));
        }
        (!ready).then(|| ("not_ready", Error::Transient("simulated: it is not ready".to_owned())))
    }

    pub async fn prepare(&self, platform: &str, preparation: &Preparation) -> Result<(), Error> {
        self.0.slots.prepare(platform, preparation, &self.script(platform)).await
    }

    /// Removes what its runners left, and leaves one alone that runs.
    fn clear(&self, platform: &str, standing: Standing, then: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut known = lock(&self.0.known);
        if occupants(&known, platform, standing).any(|(_, runs)| runs) {
            return Err(Error::Rejected("simulated: a runner runs in it".to_owned()));
        }
        then()?;
        let remains: Vec<Name> =
            occupants(&known, platform, standing).map(|(runner, _)| (platform.to_owned(), runner)).collect();
        for name in remains {
            if let Some(known) = known.get_mut(&name) {
                known.removed();
            }
            self.tell(&name, What::Removed);
        }
        Ok(())
    }

    pub async fn reset(&self, platform: &str, standing: Standing) -> Result<(), Error> {
        let slots = &self.0.slots;
        self.clear(platform, standing, || slots.reset_begins(platform, standing))?;
        let script = self.script(platform);
        slots.reset_ends(platform, standing, script.dice_of((standing, "reset")).within(script.reset_ms)).await
    }

    pub fn retire(&self, platform: &str, standing: Standing) -> Result<(), Error> {
        self.clear(platform, standing, || {
            self.0.slots.retire(platform, standing);
            Ok(())
        })
    }

    pub fn describe(&self, platform: &str, standing: Standing, description: String) {
        self.0.slots.describe(platform, standing, description);
    }

    pub fn standing(&self, platform: &str) -> Vec<(Standing, String)> {
        self.0.slots.list(platform)
    }
}
