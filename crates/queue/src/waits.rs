//! Which platforms somebody waits for, and for which providers, as remembered for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greenroom_domain::{PlatformName, Provider};
use sqlx::PgPool;

use crate::{Error, store};

/// For so long a memory is good. What this process stores it knows at once; an entry that another replica has stored may be
/// overtaken for so long, by somebody who finds the slot free that it was about to get.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// Providers for which somebody waits, by platform.
pub type WaitedFor = BTreeMap<String, BTreeSet<String>>;

/// The memory.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeMap<String, (BTreeSet<String>, Instant)>>);

impl Waits {
    /// For which of these platforms, and for which providers on them, somebody waits.
    pub async fn of(&self, pool: &PgPool, platforms: &[&str]) -> Result<WaitedFor, Error> {
        let now = Instant::now();
        let good = |(_, at): &(_, Instant)| now.duration_since(*at) < GOOD_FOR;
        let unknown: Vec<&str> = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            platforms.iter().copied().filter(|platform| !known.get(*platform).is_some_and(good)).collect()
        };
        if !unknown.is_empty() {
            let mut found: WaitedFor =
                unknown.iter().map(|platform| ((*platform).to_owned(), BTreeSet::new())).collect();
            for (platform, provider) in store::waited_for(pool, &unknown).await? {
                found.entry(platform).or_default().insert(provider);
            }
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(found.into_iter().map(|(platform, providers)| (platform, (providers, now))));
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |platform: &&str| Some(((*platform).to_owned(), known.get(*platform)?.0.clone()));
        Ok(platforms.iter().filter_map(of).collect())
    }

    /// Somebody waits for these from now on. What was known keeps its age: who comes all the time would else never be looked
    /// past.
    pub fn begin<'a>(&self, waits: impl IntoIterator<Item = (&'a PlatformName, &'a Provider)>) {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (platform, provider) in waits {
            let (providers, at) = known.entry(platform.to_string()).or_insert_with(|| (BTreeSet::new(), now));
            if now.duration_since(*at) >= GOOD_FOR {
                (*providers, *at) = (BTreeSet::new(), now);
            }
            providers.insert(provider.to_string());
        }
    }
}
