//! Which platforms somebody waits for, as remembered for a moment.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::{Error, store};

/// For so long a memory is good. What this process stores it knows at once; an entry that another replica has stored may be
/// overtaken for so long, by somebody who finds the slot free that it was about to get.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The memory.
#[derive(Debug, Default)]
pub struct Waits(Mutex<BTreeMap<String, (bool, Instant)>>);

impl Waits {
    /// Which of these platforms somebody waits for.
    pub async fn of(&self, pool: &PgPool, platforms: &[&str]) -> Result<Vec<String>, Error> {
        let now = Instant::now();
        let good = |(_, at): &(bool, Instant)| now.duration_since(*at) < GOOD_FOR;
        let unknown: Vec<&str> = {
            let known = self.0.lock().expect("no panic");
            platforms.iter().copied().filter(|platform| !known.get(*platform).is_some_and(good)).collect()
        };
        if !unknown.is_empty() {
            let waited_for = store::waited_for(pool, &unknown).await?;
            let mut known = self.0.lock().expect("no panic");
            for platform in unknown {
                let waits = waited_for.iter().any(|waited| waited == platform);
                known.insert(platform.to_owned(), (waits, now));
            }
        }
        let known = self.0.lock().expect("no panic");
        let waited_for = platforms.iter().filter(|platform| known.get(**platform).is_some_and(|(waits, _)| *waits));
        Ok(waited_for.map(|platform| (*platform).to_owned()).collect())
    }

    /// Somebody waits for these from now on.
    pub fn begin<'a>(&self, platforms: impl IntoIterator<Item = &'a str>) {
        let now = Instant::now();
        let mut known = self.0.lock().expect("no panic");
        known.extend(platforms.into_iter().map(|platform| (platform.to_owned(), (true, now))));
    }
}
