//! How a tab ends by itself: with its browser, with the process of its page, or because its page closed it.

use std::sync::{Arc, OnceLock};

use chromiumoxide::Browser;
use chromiumoxide::cdp::browser_protocol::target::{EventTargetCrashed, EventTargetDestroyed, TargetId};
use chromiumoxide::error::CdpError;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Error;

/// Whether a tab has ended, and how. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    browser: CancellationToken,
    tab: CancellationToken,
    crashed: Arc<OnceLock<bool>>,
}

impl Ends {
    pub fn new(browser: CancellationToken) -> Self {
        let tab = browser.child_token();
        Self { browser, tab, crashed: Arc::default() }
    }

    /// Listens to what becomes of a tab, as long as its browser lives.
    pub async fn watch(&self, browser: &Browser, tab: TargetId) -> Result<(), CdpError> {
        let mut crashed = browser.event_listener::<EventTargetCrashed>().await?;
        let mut destroyed = browser.event_listener::<EventTargetDestroyed>().await?;
        let ends = self.clone();
        let watching = async move {
            let crash = loop {
                tokio::select! {
                    Some(event) = crashed.next() => if event.target_id == tab { break true },
                    Some(event) = destroyed.next() => if event.target_id == tab { break false },
                    () = ends.tab.cancelled() => return,
                    else => return,
                }
            };
            let _ = ends.crashed.set(crash);
            ends.tab.cancel();
        };
        drop(greenroom_tasks::spawn("runner end of a tab", watching));
        Ok(())
    }

    /// Waits for the end.
    pub async fn end(&self) -> Error {
        self.tab.cancelled().await;
        match self.crashed.get() {
            _ if self.browser.is_cancelled() => Error::Gone,
            Some(true) => Error::Crashed,
            Some(false) => Error::Closed,
            None => Error::Gone,
        }
    }
}
