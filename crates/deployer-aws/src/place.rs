//! Where a runner may run, best first: which capacity is tried, and for whom.

use std::collections::BTreeSet;
use std::str::FromStr;

use greenroom_domain::{Attempt, Provider, RunnerSpec};

/// Fargate's own capacity providers. Every other one is machines of somebody's own.
pub const FARGATE: &str = "FARGATE";
/// Lent: it may be asked back with two minutes' notice.
pub const FARGATE_SPOT: &str = "FARGATE_SPOT";

/// Which bots may run on capacity that is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// None.
    Never,
    /// Those in their first attempt: whoever lost one goes on where nobody asks it back.
    FirstAttempt,
    /// All.
    Always,
}

impl FromStr for Spot {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "never" => Ok(Self::Never),
            "first-attempt" => Ok(Self::FirstAttempt),
            "always" => Ok(Self::Always),
            _ => Err("expected never, first-attempt or always".to_owned()),
        }
    }
}

/// Capacity that is tried as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Fargate on demand, by launch type: the cluster need not be associated with its capacity provider.
    Fargate,
    /// A capacity provider of the cluster.
    Provider(String),
}

impl Place {
    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Fargate => FARGATE,
            Self::Provider(name) => name,
        }
    }

    /// Whether AWS brings the machines.
    #[must_use]
    pub fn is_fargate(&self) -> bool {
        matches!(self.name(), FARGATE | FARGATE_SPOT)
    }
}

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The cluster's capacity providers in the order in which they are tried; none: Fargate.
    pub providers: Vec<String>,
    /// Which bots may be lent capacity.
    pub spot: Spot,
    /// Only bots of these providers may; none: those of all.
    pub spot_for: BTreeSet<Provider>,
}

impl Places {
    /// Those that are tried for this runner, in order; each only when the one before it has no room.
    #[must_use]
    pub fn of(&self, spec: &RunnerSpec) -> Vec<Place> {
        let attempt = match self.spot {
            Spot::Never => false,
            Spot::FirstAttempt => spec.runner.attempt == Attempt::FIRST,
            Spot::Always => true,
        };
        let lent = attempt && (self.spot_for.is_empty() || self.spot_for.contains(&spec.provider));
        if self.providers.is_empty() {
            let spot = lent.then(|| Place::Provider(FARGATE_SPOT.to_owned()));
            return spot.into_iter().chain([Place::Fargate]).collect();
        }
        let may = self.providers.iter().filter(|name| lent || *name != FARGATE_SPOT);
        may.map(|name| Place::Provider(name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_domain::{BotId, Resources, RunnerId, TenantId};

    use super::*;

    fn provider(name: &str) -> Provider {
        Provider::new(name).expect("valid")
    }

    fn tried(providers: &[&str], spot: &str, spot_for: &[&str], attempt: u32) -> String {
        let places = Places {
            providers: providers.iter().map(|name| (*name).to_owned()).collect(),
            spot: spot.parse().expect("valid"),
            spot_for: spot_for.iter().map(|name| provider(name)).collect(),
        };
        let spec = RunnerSpec {
            runner: RunnerId::of_bot(BotId::generate(), Attempt(attempt)),
            tenant: TenantId::generate(),
            provider: provider("zoom"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(60),
        };
        places.of(&spec).iter().map(Place::name).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn spot_comes_first_if_allowed_and_on_demand_is_the_fallback() {
        for (providers, spot, spot_for, attempt, expected) in [
            (&[][..], "never", &[][..], 1, "FARGATE"),
            (&[], "first-attempt", &[], 1, "FARGATE_SPOT,FARGATE"),
            (&[], "first-attempt", &[], 2, "FARGATE"),
            (&[], "always", &[], 9, "FARGATE_SPOT,FARGATE"),
            (&[], "always", &["zoom"], 1, "FARGATE_SPOT,FARGATE"),
            (&[], "always", &["web"], 1, "FARGATE"),
            (&["ours", "FARGATE_SPOT", "FARGATE"], "first-attempt", &[], 1, "ours,FARGATE_SPOT,FARGATE"),
            (&["ours", "FARGATE_SPOT", "FARGATE"], "first-attempt", &[], 2, "ours,FARGATE"),
            (&["ours"], "never", &[], 1, "ours"),
        ] {
            assert_eq!(
                tried(providers, spot, spot_for, attempt),
                expected,
                "{providers:?} {spot} {spot_for:?} {attempt}"
            );
        }
        assert!(!Place::Provider("ours".to_owned()).is_fargate());
        assert!("sometimes".parse::<Spot>().is_err());
    }
}
