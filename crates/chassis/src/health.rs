//! Whether a process is alive, and whether it is ready.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock};

use futures::future::join_all;

/// A question that is answered now.
pub type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Several questions, which become known only while the process runs.
pub type Checks = Arc<dyn Fn() -> BTreeMap<String, bool> + Send + Sync>;

/// What has to be true for a process to be ready. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<BTreeMap<String, Check>>>,
    several: Arc<RwLock<Vec<Checks>>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    /// Adds a condition.
    pub fn require<F, Fut>(&self, name: impl Into<String>, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.into(), check);
    }

    /// Adds conditions whose names are known only when they are asked for, such as the streams that refuse messages.
    pub fn require_each(&self, checks: impl Fn() -> BTreeMap<String, bool> + Send + Sync + 'static) {
        self.several.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(Arc::new(checks));
    }

    /// Every condition and whether it holds now.
    pub async fn look(&self) -> BTreeMap<String, bool> {
        let checks: Vec<_> = {
            let checks = self.checks.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            checks.iter().map(|(name, check)| (name.clone(), check.clone())).collect()
        };
        // Together: a database that does not answer is waited for once, and not once for each service.
        let asked = checks.into_iter().map(|(name, check)| async move { (name, check().await) });
        let mut holds: BTreeMap<String, bool> = join_all(asked).await.into_iter().collect();
        let several = self.several.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        holds.extend(several.iter().flat_map(|checks| checks()));
        holds
    }
}
