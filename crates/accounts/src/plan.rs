//! What a tenant may have: its plan's terms, and what it has of its own instead. Pure.

use std::fmt;
use std::str::FromStr;

/// The plans there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// To try it out.
    Free,
    /// Whoever says nothing.
    Standard,
    /// Before the former.
    Professional,
    /// Before all.
    Enterprise,
}

impl Plan {
    /// From the last served to the first.
    pub const ALL: [Self; 4] = [Self::Free, Self::Standard, Self::Professional, Self::Enterprise];

    /// In SQL, in the API and in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Standard => "standard",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
        }
    }

    /// Priority of its bots; lower is first.
    #[must_use]
    pub fn priority(self) -> u32 {
        match self {
            Self::Free => 200,
            Self::Standard => 100,
            Self::Professional => 50,
            Self::Enterprise => 10,
        }
    }

    /// Share of its bots' turns among equals: whoever pays more has twice as many as the plan below, where a bot's own priority
    /// or a long wait brings both into one row.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Free => 1,
            Self::Standard => 2,
            Self::Professional => 4,
            Self::Enterprise => 8,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be free, standard, professional or enterprise")]
pub struct UnknownPlan;

impl FromStr for Plan {
    type Err = UnknownPlan;

    fn from_str(text: &str) -> Result<Self, UnknownPlan> {
        Self::ALL.into_iter().find(|plan| plan.as_str() == text).ok_or(UnknownPlan)
    }
}

/// Limits of each plan, as the installation has set them; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bots a day.
    pub daily: u32,
    /// Bots at a time.
    pub concurrency: u32,
}

/// What a tenant has of its own; `None`: as its plan says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// Priority of its bots.
    pub priority: Option<u32>,
    /// Share of its turns.
    pub weight: Option<u32>,
    /// Bots a day; 0: any number, whatever the plan says.
    pub daily_limit: Option<u32>,
    /// Bots at a time; 0: any number.
    pub concurrency_limit: Option<u32>,
    /// Processor that its bots' runners ask for, in thousandths; no plan says anything of it.
    pub cpu_millis: Option<u32>,
    /// Memory that they ask for, in MiB; likewise.
    pub memory_mb: Option<u32>,
}

/// What holds for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Lower is first.
    pub priority: u32,
    /// At least 1.
    pub weight: u32,
    /// Bots a day; none: any number.
    pub daily_limit: Option<u32>,
    /// Bots at a time; none: any number.
    pub concurrency_limit: Option<u32>,
    /// Processor that its bots' runners ask for, in thousandths; none: as their provider's.
    pub cpu_millis: Option<u32>,
    /// Memory that they ask for, in MiB; none: as their provider's.
    pub memory_mb: Option<u32>,
}

impl Terms {
    /// What holds for a tenant of that plan.
    #[must_use]
    pub fn of(plan: Plan, limits: Limits, own: Own) -> Self {
        let limit = |limit: u32| (limit > 0).then_some(limit);
        Self {
            priority: own.priority.unwrap_or(plan.priority()),
            weight: own.weight.unwrap_or(plan.weight()).max(1),
            daily_limit: limit(own.daily_limit.unwrap_or(limits.daily)),
            concurrency_limit: limit(own.concurrency_limit.unwrap_or(limits.concurrency)),
            cpu_millis: own.cpu_millis,
            memory_mb: own.memory_mb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_word_comes_before_its_plans() {
        let limits = Limits { daily: 100, concurrency: 0 };
        let plain = Terms::of(Plan::Professional, limits, Own::default());
        let expected = Terms {
            priority: 50,
            weight: 4,
            daily_limit: Some(100),
            concurrency_limit: None,
            cpu_millis: None,
            memory_mb: None,
        };
        assert_eq!(plain, expected);
        let own = Own {
            priority: Some(7),
            weight: Some(9),
            daily_limit: Some(0),
            concurrency_limit: Some(3),
            cpu_millis: Some(800),
            memory_mb: None,
        };
        let expected = Terms {
            priority: 7,
            weight: 9,
            daily_limit: None,
            concurrency_limit: Some(3),
            cpu_millis: Some(800),
            memory_mb: None,
        };
        assert_eq!(Terms::of(Plan::Free, limits, own), expected);
    }

    #[test]
    fn higher_plans_have_higher_priority() {
        assert_eq!(Plan::ALL.map(Plan::priority), [200, 100, 50, 10]);
        assert!(Plan::ALL.is_sorted_by_key(|plan| plan.weight()));
        assert_eq!("gold".parse::<Plan>(), Err(UnknownPlan));
        assert!(Plan::ALL.into_iter().all(|plan| plan.as_str().parse() == Ok(plan)));
    }
}
