//! Which limit is enough.

use std::str::FromStr;

use greenroom_domain::PlatformName;
use serde::Serialize;

use crate::change::duration;
use crate::day::{Fared, play};
use crate::outcome::Percentiles;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// What is wanted of lateness: `p99=10s`, or `p99=10s:docker` where another platform's limit than the first's is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    percentile: String,
    seconds: f64,
    platform: Option<PlatformName>,
}

/// The limit that was looked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Of which platform.
    pub platform: String,
    /// What was wanted, in words.
    pub wanted: String,
    /// The smallest limit that is enough; none: no limit is.
    pub limit: Option<u32>,
    /// Lateness with that limit, or with as many slots as there are bots. In seconds; none: too many never joined.
    pub lateness_seconds: Option<f64>,
    /// How many days were played to find it.
    pub days: u32,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected p50, p95 or p99, as p99=10s or p99=10s:docker");
        let (percentile, rest) = text.split_once('=').ok_or_else(wrong)?;
        Percentiles::default().get(percentile).ok_or_else(wrong)?;
        let (most, platform) = match rest.split_once(':') {
            Some((most, platform)) => (most, Some(PlatformName::new(platform).map_err(|error| error.to_string())?)),
            None => (rest, None),
        };
        Ok(Self { percentile: percentile.to_owned(), seconds: duration(most)?.as_secs_f64(), platform })
    }
}

impl Wanted {
    /// Finds the smallest limit that is enough, by halves: more slots never make it worse where one platform is concerned, and
    /// hardly ever with several.
    ///
    /// # Errors
    /// When there is no such platform.
    pub fn find(&self, trace: &Trace, scenario: &Scenario, seed: u64) -> Result<Found, String> {
        let named = |platform: &crate::Platform| self.platform.as_ref().is_none_or(|name| *name == platform.name);
        let place = scenario.platforms.iter().position(named);
        let place = place.ok_or_else(|| "there is no such platform".to_owned())?;
        let mut days = 0;
        // Lateness with a limit, and the most slots that were taken there.
        let mut with = |limit: u32| {
            days += 1;
            let mut scenario = scenario.clone();
            scenario.platforms[place].limit = limit;
            let played = play(trace, &scenario, seed);
            let lateness = Percentiles::of(played.bots.iter().map(Fared::lateness).collect());
            (lateness.get(&self.percentile).flatten(), played.platforms[place].taken.peak)
        };
        let enough = |lateness: Option<f64>| lateness.is_some_and(|lateness| lateness <= self.seconds);
        let (mut lateness, mut most) = with(u32::try_from(trace.meetings.len()).unwrap_or(u32::MAX));
        let limit = enough(lateness).then(|| {
            // More than are ever taken make no difference.
            let mut least = 0;
            while least < most {
                let middle = least + (most - least) / 2;
                let (found, _) = with(middle);
                if enough(found) {
                    (most, lateness) = (middle, found);
                } else {
                    least = middle + 1;
                }
            }
            most
        });
        let wanted = format!("{} of lateness at most {} s", self.percentile, self.seconds);
        let platform = scenario.platforms[place].name.to_string();
        Ok(Found { platform, wanted, limit, lateness_seconds: lateness, days })
    }
}
