//! Task definitions that were looked up: a family's latest revision for a minute, a revision for ever, as it never changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use greenroom_deployer::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::Api;
use crate::definition::Definition;

/// How long a revision counts as a family's latest. A new one is run at once all the same, as starts name the family: what is
/// taken from here is its container's name and its network.
const LATEST: Duration = Duration::from_secs(60);
/// More revisions than anybody has at work.
const MOST: usize = 1000;

#[derive(Debug)]
pub struct Catalogue {
    api: Arc<Api>,
    /// The container that is the runner, where it is not the first essential one.
    container: Option<String>,
    /// Held while one is looked up: of a hundred that want it, one asks.
    families: Mutex<HashMap<String, (Instant, Arc<Definition>)>>,
    revisions: Mutex<HashMap<String, Arc<Definition>>>,
}

impl Catalogue {
    pub fn new(api: Arc<Api>, container: Option<String>) -> Self {
        Self { api, container, families: Mutex::default(), revisions: Mutex::default() }
    }

    /// The latest revision of a family.
    pub async fn latest(&self, family: &str) -> Result<Arc<Definition>, Error> {
        let mut families = self.families.lock().await;
        if let Some((at, known)) = families.get(family)
            && at.elapsed() < LATEST
        {
            return Ok(known.clone());
        }
        let found = self.look_up(family).await?;
        families.insert(family.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    /// That revision.
    pub async fn revision(&self, arn: &str) -> Result<Arc<Definition>, Error> {
        let mut revisions = self.revisions.lock().await;
        if let Some(known) = revisions.get(arn) {
            return Ok(known.clone());
        }
        let found = self.look_up(arn).await?;
        if revisions.len() >= MOST {
            revisions.clear();
        }
        revisions.insert(arn.to_owned(), found.clone());
        Ok(found)
    }

    async fn look_up(&self, name: &str) -> Result<Arc<Definition>, Error> {
        let found = self.api.describe_task_definition(name).await?;
        Definition::read(&found, self.container.as_deref()).map(Arc::new)
    }
}
