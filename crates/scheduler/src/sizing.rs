//! How large a runner is to be: what it asks for, and what it may take. Pure.
//!
//! Memory and processor each on their own, and the first that says something decides: the request, the tenant, what runners of
//! that provider have really taken (where right-sizing is on), the provider's setting. A limit is the request's own, or so many
//! percent of what is asked for. Nothing is outside the bounds, whoever said it: a caller is told, everybody else is held to
//! them.

mod recommend;

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1;
use greenroom_domain::{Provider, Resources};

pub use recommend::{Recommendation, SAMPLE, SHORTEST, WINDOW, recommend};

/// Thousandths of a processor and MiB of memory, asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub cpu_millis: u32,
    pub memory_mb: u32,
}

/// The least and the most that one runner may have of something, asked for or as a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub least: u32,
    pub most: u32,
}

impl Bound {
    /// The nearest that is allowed.
    pub fn hold(self, value: u32) -> u32 {
        value.min(self.most).max(self.least)
    }

    fn check(self, field: &str, given: Option<u32>) -> Result<(), BadField> {
        let Self { least, most } = self;
        match given {
            Some(given) if given < least => Err(BadField::new(field, format!("must be at least {least}"))),
            Some(given) if given > most => Err(BadField::new(field, format!("must not be more than {most}"))),
            _ => Ok(()),
        }
    }
}

/// As the installation has set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizing {
    /// Of providers that are not below.
    pub base: Base,
    /// By provider, in the order of their settings.
    pub providers: Vec<(Provider, Base)>,
    pub cpu: Bound,
    pub memory: Bound,
    /// A limit that nobody names, as a share of what is asked for; at least 100.
    pub cpu_limit_percent: u32,
    pub memory_limit_percent: u32,
    /// What is recommended is used, and not only shown.
    pub right_sizing: bool,
}

impl Sizing {
    /// A provider's setting.
    pub fn of(&self, provider: &Provider) -> Base {
        self.providers.iter().find(|(one, _)| one == provider).map_or(self.base, |(_, base)| *base)
    }
}

/// What a request says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub cpu_millis: Option<u32>,
    pub memory_mb: Option<u32>,
    pub cpu_limit_millis: Option<u32>,
    pub memory_limit_mb: Option<u32>,
}

impl From<&v1::Resources> for Asked {
    fn from(resources: &v1::Resources) -> Self {
        let v1::Resources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = *resources;
        Self { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb }
    }
}

/// What a tenant has of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    pub cpu_millis: Option<u32>,
    pub memory_mb: Option<u32>,
}

impl From<&Caller> for Own {
    fn from(caller: &Caller) -> Self {
        Self { cpu_millis: caller.cpu_millis, memory_mb: caller.memory_mb }
    }
}

/// What a bot's runners get: chosen when the bot is made, and kept with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cpu_millis: u32,
    pub memory_mb: u32,
    /// Never less than what is asked for.
    pub cpu_limit_millis: u32,
    pub memory_limit_mb: u32,
}

const MIB: u64 = 1 << 20;

impl From<Size> for Resources {
    fn from(size: Size) -> Self {
        Self {
            cpu_millis: size.cpu_millis,
            memory_bytes: u64::from(size.memory_mb) * MIB,
            cpu_limit_millis: Some(size.cpu_limit_millis),
            memory_limit_bytes: Some(u64::from(size.memory_limit_mb) * MIB),
        }
    }
}

/// Chooses. `recommended`: what is recommended for that provider, if anything.
pub fn choose(
    sizing: &Sizing,
    provider: &Provider,
    asked: Asked,
    own: Own,
    recommended: Option<Base>,
) -> Result<Size, BadField> {
    let set = sizing.of(provider);
    let right = recommended.filter(|_| sizing.right_sizing);
    let (cpu_millis, cpu_limit_millis) = part(
        ("settings.resources.cpu_millis", asked.cpu_millis),
        ("settings.resources.cpu_limit_millis", asked.cpu_limit_millis),
        own.cpu_millis.or(right.map(|right| right.cpu_millis)).unwrap_or(set.cpu_millis),
        sizing.cpu_limit_percent,
        sizing.cpu,
    )?;
    let (memory_mb, memory_limit_mb) = part(
        ("settings.resources.memory_mb", asked.memory_mb),
        ("settings.resources.memory_limit_mb", asked.memory_limit_mb),
        own.memory_mb.or(right.map(|right| right.memory_mb)).unwrap_or(set.memory_mb),
        sizing.memory_limit_percent,
        sizing.memory,
    )?;
    Ok(Size { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb })
}

/// Memory, or processor: what is asked for, and the limit.
fn part(
    (field, asked): (&str, Option<u32>),
    (limit_field, limit): (&str, Option<u32>),
    otherwise: u32,
    percent: u32,
    bound: Bound,
) -> Result<(u32, u32), BadField> {
    bound.check(field, asked)?;
    bound.check(limit_field, limit)?;
    let request = asked.unwrap_or_else(|| bound.hold(otherwise));
    match limit {
        Some(limit) if limit < request => {
            Err(BadField::new(limit_field, format!("must be at least {request}, which is set aside for the runner")))
        }
        Some(limit) => Ok((request, limit)),
        None => Ok((request, share(request, percent).min(bound.most).max(request))),
    }
}

fn share(of: u32, percent: u32) -> u32 {
    u32::try_from(u64::from(of) * u64::from(percent) / 100).unwrap_or(u32::MAX)
}

/// What the next attempt gets after one that ran out of memory: half as much again, as far as the bounds allow. None: it has
/// the most already.
pub fn after_out_of_memory(size: Size, sizing: &Sizing) -> Option<Size> {
    let grown = |mb: u32| share(mb, 150).min(sizing.memory.most).max(mb);
    let next = Size { memory_mb: grown(size.memory_mb), memory_limit_mb: grown(size.memory_limit_mb), ..size };
    (next != size).then_some(next)
}

#[cfg(test)]
mod tests;
