//! The platforms that bots try which name none: as the settings say, or an operator while they run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use greenroom_domain::PlatformName;
use sqlx::PgPool;

use crate::{Error, store};

/// How old what another replica was told may be here.
pub const LOOK: Duration = Duration::from_secs(2);

/// What holds now.
pub struct Order {
    setting: Vec<PlatformName>,
    operators: Mutex<Vec<PlatformName>>,
}

impl Order {
    pub fn new(setting: Vec<PlatformName>) -> Self {
        Self { setting, operators: Mutex::default() }
    }

    /// What PLATFORM_PRIORITY says.
    pub fn setting(&self) -> &[PlatformName] {
        &self.setting
    }

    /// What holds, and whether an operator has set it.
    pub fn now(&self) -> (Vec<PlatformName>, bool) {
        holds(&self.setting, &self.operators.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An operator's order; empty: none.
    pub fn learn(&self, order: Vec<PlatformName>) {
        *self.operators.lock().unwrap_or_else(PoisonError::into_inner) = order;
    }

    /// Hears what another replica was told.
    pub async fn refresh(&self, pool: &PgPool) -> Result<Option<Duration>, Error> {
        self.learn(store::platform_order(pool).await?);
        Ok(None)
    }
}

/// An operator's order, without the platforms that are no more; when nothing is left of it, the settings'.
fn holds(setting: &[PlatformName], operators: &[PlatformName]) -> (Vec<PlatformName>, bool) {
    let left: Vec<_> = operators.iter().filter(|name| setting.contains(name)).cloned().collect();
    if left.is_empty() { (setting.to_vec(), false) } else { (left, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_order_holds_as_long_as_there_is_something_of_it() {
        let names =
            |names: &[&str]| -> Vec<_> { names.iter().map(|name| PlatformName::new(*name).expect("a name")).collect() };
        let setting = names(&["docker", "aws"]);
        assert_eq!(holds(&setting, &[]), (setting.clone(), false));
        assert_eq!(holds(&setting, &names(&["aws", "docker"])), (names(&["aws", "docker"]), true));
        assert_eq!(holds(&setting, &names(&["k8s", "aws"])), (names(&["aws"]), true));
        assert_eq!(holds(&setting, &names(&["k8s"])), (setting.clone(), false));
    }
}
