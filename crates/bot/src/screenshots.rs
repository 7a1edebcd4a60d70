//! What the page looked like: at each change of state and on failure. Best effort: a picture never holds anything up for
//! long and is never tried again.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::browser::Tab;
use crate::link::Link;

/// How long a picture may keep the runner from its work, and from its end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pictures of one attempt. Cheap to clone.
#[derive(Clone)]
pub struct Screenshots {
    link: Link,
    sending: TaskTracker,
}

impl Screenshots {
    /// None yet.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, sending: TaskTracker::new() }
    }

    /// Takes a picture now, and sends it in the background.
    pub async fn take(&self, tab: &Tab, label: &'static str) {
        let picture = match timeout(PATIENCE, tab.screenshot()).await {
            Ok(Ok(picture)) => picture,
            Ok(Err(error)) => {
                return tracing::debug!(event = "screenshot.failed", label, error = %error, "cannot take a screenshot");
            }
            Err(_) => return tracing::debug!(event = "screenshot.failed", label, "no picture in time"),
        };
        let link = self.link.clone();
        let send = async move {
            if let Err(error) = link.put_screenshot(label, picture).await {
                tracing::debug!(event = "screenshot.unanswered", label, error = %error, "cannot upload a screenshot");
            }
        };
        drop(greenroom_tasks::spawn("runner screenshot", self.sending.track_future(send.in_current_span())));
    }

    /// Waits until every picture has arrived, or for as long as they are worth.
    pub async fn flushed(&self) {
        self.sending.close();
        let _ = timeout(PATIENCE, self.sending.wait()).await;
    }
}
