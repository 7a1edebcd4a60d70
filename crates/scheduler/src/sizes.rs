//! What is recommended now, kept in memory: whoever makes a bot asks nobody.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use greenroom_contracts::BadField;
use greenroom_domain::{Provider, Timestamp};
use sqlx::PgPool;

use crate::sizing::{self, Asked, Base, Own, Recommendation, SHORTEST, Size, Sizing, WINDOW};
use crate::{Error, store};

/// Between two looks at what runners took. It changes slowly.
pub const LOOK: Duration = Duration::from_secs(300);

/// Chooses sizes.
#[derive(Debug)]
pub struct Sizes {
    sizing: Sizing,
    recommended: RwLock<BTreeMap<Provider, Base>>,
}

impl Sizes {
    pub fn new(sizing: Sizing) -> Self {
        Self { sizing, recommended: RwLock::default() }
    }

    pub fn sizing(&self) -> &Sizing {
        &self.sizing
    }

    /// What a bot's runners get.
    pub fn choose(&self, provider: &Provider, asked: Asked, own: Own) -> Result<Size, BadField> {
        let recommended = self.recommended.read().unwrap_or_else(PoisonError::into_inner).get(provider).copied();
        sizing::choose(&self.sizing, provider, asked, own, recommended)
    }

    /// What is recommended now, in the order of the settings.
    pub async fn recommend(&self, pool: &PgPool, now: Timestamp) -> Result<Vec<(Provider, Recommendation)>, Error> {
        let providers: Vec<Provider> = self.sizing.providers.iter().map(|(provider, _)| provider.clone()).collect();
        let mut measured = store::measured(pool, &providers, now - WINDOW, SHORTEST).await?;
        let recommended = providers.into_iter().map(|provider| {
            let sample = measured.remove(&provider).unwrap_or_default();
            let recommendation = sizing::recommend(&sample, &self.sizing);
            (provider, recommendation)
        });
        Ok(recommended.collect())
    }

    /// The sweep: keeps in mind what is recommended, where it is used. What cannot be read now stays as it was.
    pub async fn refresh(&self, pool: &PgPool, now: Timestamp) -> Result<Option<Duration>, Error> {
        if self.sizing.right_sizing {
            let recommended = self.recommend(pool, now).await?.into_iter();
            let recommended: BTreeMap<_, _> =
                recommended.filter_map(|(provider, one)| Some((provider, one.base?))).collect();
            let mut used = self.recommended.write().unwrap_or_else(PoisonError::into_inner);
            for (provider, base) in recommended.iter().filter(|(provider, base)| used.get(provider) != Some(base)) {
                tracing::info!(%provider, size.cpu_millis = base.cpu_millis, size.memory_mb = base.memory_mb, "recommended sizes changed");
            }
            *used = recommended;
        }
        Ok(None)
    }
}
