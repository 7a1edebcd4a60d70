//! What somebody wants to be different: `limit=docker:80`, and the parts of `--platform docker:limit=80,start=8s`.

use std::str::FromStr;
use std::time::Duration;

use greenroom_domain::{PlatformName, Provider};

use crate::scenario::{Platform, Scaling, Scenario};

/// Changes of a scenario that belong together, and how they were said.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// As somebody wrote them.
    pub said: String,
    changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    name: String,
    /// Of which platform; none: of all, or of none in particular.
    platform: Option<PlatformName>,
    value: String,
}

/// What a platform has that can be different, for messages.
const OF_PLATFORMS: &str = "limit, permits, start, start_p95, stop, failures, price, price_cpu, price_gib, cpu, memory, \
                            timeout, pooled, prepare, prepare_p95, <provider>_limit";
/// What else can be different.
const OF_ALL: &str = "lead, queue_timeout, rise, retries, join, join_p95, max_bots, max_starts, dispatches, order, <provider>_pool, <provider>_prewarm";

impl FromStr for Changes {
    type Err = String;

    /// `limit=docker:80,lead=60s`. Where no platform is named, a platform's property changes on all of them.
    fn from_str(text: &str) -> Result<Self, String> {
        let change = |part: &str| {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: expected name=value"))?;
            let (platform, value) = match value.split_once(':') {
                Some((platform, value)) => {
                    (Some(PlatformName::new(platform).map_err(|error| error.to_string())?), value)
                }
                None => (None, value),
            };
            Ok::<_, String>(Change { name: name.trim().to_owned(), platform, value: value.trim().to_owned() })
        };
        let changes = text.split(',').map(change).collect::<Result<_, _>>()?;
        Ok(Self { said: text.to_owned(), changes })
    }
}

impl Changes {
    /// `docker:limit=80,start=8s`: all of one platform. Says of which.
    ///
    /// # Errors
    /// When it is not written so.
    pub fn of_platform(text: &str) -> Result<(PlatformName, Self), String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let name = PlatformName::new(name).map_err(|error| error.to_string())?;
        let mut changes = Vec::new();
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            let (property, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: expected name=value"))?;
            let (property, value) = (property.trim().to_owned(), value.trim().to_owned());
            changes.push(Change { name: property, platform: Some(name.clone()), value });
        }
        Ok((name, Self { said: text.to_owned(), changes }))
    }

    /// The scenario as it would be.
    ///
    /// # Errors
    /// What there is not, and values that cannot be.
    pub fn apply(&self, scenario: &mut Scenario) -> Result<(), String> {
        self.changes.iter().try_for_each(|change| {
            change.apply(scenario).map_err(|error| match &change.platform {
                Some(platform) => format!("{} of {platform}: {error}", change.name),
                None => format!("{}: {error}", change.name),
            })
        })
    }
}

impl Change {
    fn apply(&self, scenario: &mut Scenario) -> Result<(), String> {
        if self.platform.is_none() && self.apply_to_all(scenario)? {
            return Ok(());
        }
        let mut found = false;
        for platform in &mut scenario.platforms {
            if self.platform.as_ref().is_none_or(|name| *name == platform.name) {
                found = true;
                self.apply_to(platform)?;
            }
        }
        if found { Ok(()) } else { Err("there is no such platform".to_owned()) }
    }

    /// False: it is none of these.
    fn apply_to_all(&self, scenario: &mut Scenario) -> Result<bool, String> {
        let value = self.value.as_str();
        match self.name.as_str() {
            "lead" => scenario.timing.lead = duration(value)?,
            "queue_timeout" => scenario.queue_timeout = duration(value)?,
            "rise" => scenario.rise = duration(value)?,
            "retries" => scenario.max_retries = number(value)?,
            "join" => {
                scenario.join.median = duration(value)?;
                scenario.join.p95 = scenario.join.p95.max(scenario.join.median);
            }
            "join_p95" => scenario.join.p95 = duration(value)?,
            "max_bots" => scenario.max_bots = Some(number(value)?),
            "max_starts" => scenario.max_starts = Some(number(value)?),
            "dispatches" => scenario.dispatches = number(value)?,
            "order" => {
                let mut rest = std::mem::take(&mut scenario.platforms);
                for name in value.split('+') {
                    let found = rest.iter().position(|platform| platform.name.as_str() == name);
                    let found = found.ok_or_else(|| format!("{name:?}: there is no such platform"))?;
                    scenario.platforms.push(rest.remove(found));
                }
            }
            name => return pool(&mut scenario.scaling, name, value),
        }
        Ok(true)
    }

    fn apply_to(&self, platform: &mut Platform) -> Result<(), String> {
        let value = self.value.as_str();
        match self.name.as_str() {
            "limit" => platform.limit = number(value)?,
            "permits" => platform.permits = number(value)?,
            "start" => {
                platform.start.median = duration(value)?;
                platform.start.p95 = platform.start.p95.max(platform.start.median);
            }
            "start_p95" => platform.start.p95 = duration(value)?,
            "pooled" => platform.pooled = yes_or_no(value)?,
            "prepare" => {
                platform.prepare.median = duration(value)?;
                platform.prepare.p95 = platform.prepare.p95.max(platform.prepare.median);
            }
            "prepare_p95" => platform.prepare.p95 = duration(value)?,
            "stop" => platform.stop = duration(value)?,
            "timeout" => platform.timeout = duration(value)?,
            "failures" => {
                platform.failures = part(value)?;
            }
            "price" => platform.price.slot = money(value)?,
            "price_cpu" => platform.price.cpu = money(value)?,
            "price_gib" => platform.price.gib = money(value)?,
            "cpu" => platform.resources.cpu_millis = thousandths(value)?,
            "memory" => platform.resources.memory_bytes = gibs(value)?,
            name => match name.strip_suffix("_limit").map(Provider::new) {
                Some(Ok(provider)) => {
                    platform.providers.insert(provider, number(value)?);
                }
                _ => return Err(format!("there is no such thing; expected one of {OF_PLATFORMS}; {OF_ALL}")),
            },
        }
        Ok(())
    }
}

/// `zoom_pool=30`, `zoom_prewarm=5`. False: it is none of these.
fn pool(scaling: &mut Scaling, name: &str, value: &str) -> Result<bool, String> {
    let Some((provider, property)) = name.rsplit_once('_') else { return Ok(false) };
    let Ok(provider) = Provider::new(provider) else { return Ok(false) };
    match property {
        "pool" => scaling.pools.entry(provider).or_default().most = number(value)?,
        "prewarm" => scaling.pools.entry(provider).or_default().prewarm = number(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{text:?}: expected yes or no")),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?}: expected a whole number"))
}

fn decimal(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| number.is_finite() && *number >= 0.0).ok_or_else(|| format!("{text:?}: expected a number"))
}

fn money(text: &str) -> Result<f64, String> {
    decimal(text)
}

/// `0.02` or `2%`.
fn part(text: &str) -> Result<f64, String> {
    let part = match text.strip_suffix('%') {
        Some(percent) => decimal(percent)? / 100.0,
        None => decimal(text)?,
    };
    if part <= 1.0 { Ok(part) } else { Err(format!("{text:?}: expected 0 to 1, or a percentage")) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; not below 0")]
fn thousandths(text: &str) -> Result<u32, String> {
    Ok((decimal(text)? * 1000.0).round() as u32)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; not below 0")]
fn gibs(text: &str) -> Result<u64, String> {
    Ok((decimal(text.trim_end_matches("GiB"))? * f64::from(1 << 30)).round() as u64)
}

/// `90s`, `1m30s`, `500ms`; a bare number is seconds.
///
/// # Errors
/// When it is none, is below 0, or longer than a week.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: expected a duration, as 90s, 2m or 500ms");
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?,
        Err(_) => {
            let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
            Duration::try_from(parsed).map_err(|_| wrong())?
        }
    };
    if parsed > Duration::from_secs(7 * 86_400) { Err(wrong()) } else { Ok(parsed) }
}
