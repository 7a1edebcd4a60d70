//! What is done for and to standing slots.

use std::time::Duration;

use greenroom_deployer::{Error, Observed, Preparation, Progress};
use greenroom_domain::Standing;

use crate::api::description;
use crate::driver::{Inner, Slot, chosen};
use crate::request::create;
use crate::title::Title;

/// Between two looks whether an application is gone.
const AGAIN: Duration = Duration::from_millis(300);
/// How long that is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(20);

impl Inner {
    pub async fn prepare(&self, preparation: &Preparation, progress: &Progress) -> Result<(), Error> {
        let standing = preparation.standing;
        let _turn = self.turn(standing.slot).await;
        if chosen(&self.slots().await?, standing).is_some() {
            return Ok(());
        }
        if self.clock.now() > preparation.prepare_by {
            return Err(Error::Transient("it is too late for it to be made".to_owned()));
        }
        progress.say("making");
        let image = self.config.images.named(preparation.image.as_deref(), &preparation.provider);
        let title = Title { pool: preparation.name.clone(), standing, inside: None };
        let body = create(&self.place, &self.titles.write(&title), &image, &preparation.resources, self.config.shm_mb);
        let uuid = self.api.create(&body).await?;
        tracing::info!(slot.standing = %standing, platform = %self.platform, coolify.application = %uuid, "application created");
        // Names are not unique there. Of two replicas that made one each, both come to the same one that stays; the other one
        // has never been anybody's.
        let slots = self.slots().await?;
        let stays = chosen(&slots, standing).map(|slot| slot.application.uuid.clone());
        if stays.is_some_and(|stays| stays != uuid) {
            self.api.delete(&uuid).await?;
        }
        Ok(())
    }

    /// Whether somebody runs in it.
    async fn is_taken(&self, slot: &Slot) -> Result<bool, Error> {
        match &slot.title.inside {
            Some(inside) => Ok(self.observe(slot, inside).await? == Observed::Running),
            None => Ok(false),
        }
    }

    pub async fn reset(&self, standing: Standing) -> Result<(), Error> {
        let _turn = self.turn(standing.slot).await;
        let slots = self.slots().await?;
        let slot = chosen(&slots, standing).ok_or_else(|| Error::Rejected("there is no such slot".to_owned()))?;
        if self.is_taken(slot).await? {
            return Err(Error::Rejected("a runner runs in it".to_owned()));
        }
        self.end(slot).await?;
        self.empty(slot).await
    }

    pub async fn retire(&self, standing: Standing) -> Result<(), Error> {
        let _turn = self.turn(standing.slot).await;
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut asked = false;
        loop {
            let mut there = self.slots().await?;
            there.retain(|slot| slot.title.standing == standing);
            if there.is_empty() {
                return Ok(());
            }
            if !asked {
                for slot in &there {
                    if self.is_taken(slot).await? {
                        return Err(Error::Rejected("a runner runs in it".to_owned()));
                    }
                    self.api.delete(&slot.application.uuid).await?;
                }
                asked = true;
            }
            if tokio::time::Instant::now() > until {
                return Err(Error::Transient("Coolify has not deleted it yet".to_owned()));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub async fn describe(&self, standing: Standing, words: &str) -> Result<(), Error> {
        let slots = self.slots().await?;
        let slot = chosen(&slots, standing).ok_or_else(|| Error::Rejected("there is no such slot".to_owned()))?;
        self.api.update(&slot.application.uuid, &description(words)).await
    }
}
