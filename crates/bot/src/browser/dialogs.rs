//! What a page may open that waits for a person: dialogs, and windows of its own. Nobody is there, so a dialog is accepted
//! and a window is closed; otherwise the page would stand still.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::page::{EventJavascriptDialogOpening, HandleJavaScriptDialogParams};
use chromiumoxide::cdp::browser_protocol::target::{CloseTargetParams, EventTargetCreated, TargetId};
use chromiumoxide::error::CdpError;
use chromiumoxide::{Browser, Page};
use futures::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::Instrument as _;

/// So many lines about one kind of thing that a page does are written at once, and as many again in each period: a page may do it
/// a thousand times a second.
const LINES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);

/// Bounds what a page has us write. Another one for each kind of line.
#[derive(Debug, Default)]
pub(super) struct Often {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Often {
    /// Whether to write a line now: then, how many were left out since the last one.
    pub(super) fn line(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= PERIOD) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The tabs that we opened ourselves. Locked while one is being opened: its id is not known before.
pub(super) type Tabs = Arc<Mutex<HashSet<TargetId>>>;

/// Accepts every dialog of a page and its frames: `alert`, `confirm`, `prompt` and `beforeunload`.
pub(super) async fn accept(page: Page) -> Result<(), CdpError> {
    let mut dialogs = page.event_listener::<EventJavascriptDialogOpening>().await?;
    let (mut accepted, mut stayed) = (Often::default(), Often::default());
    let answering = async move {
        while let Some(dialog) = dialogs.next().await {
            // Not its words: they are the page's.
            if let Some(left_out) = accepted.line(Instant::now()) {
                let kind = dialog.r#type.as_ref();
                tracing::info!(event = "page.dialog", kind, left_out, "accepted a dialog of the page");
            }
            let mut answer = HandleJavaScriptDialogParams::new(true);
            answer.prompt_text = dialog.default_prompt.clone();
            if let Err(error) = page.execute(answer).await
                && let Some(left_out) = stayed.line(Instant::now())
            {
                tracing::warn!(
                    left_out,
                    event = "page.dialog_stays",
                    error = super::kind(&error),
                    "could not answer a dialog"
                );
            }
        }
    };
    drop(greenroom_tasks::spawn("runner dialogs", answering.in_current_span()));
    Ok(())
}

/// Closes every window that is not one of our tabs, from now on.
pub(super) async fn close_windows(browser: Arc<Browser>, ours: Tabs) -> Result<(), CdpError> {
    let mut opened = browser.event_listener::<EventTargetCreated>().await?;
    let (mut closed, mut stayed) = (Often::default(), Often::default());
    let closing = async move {
        while let Some(opened) = opened.next().await {
            let target = &opened.target_info;
            if target.r#type != "page" || ours.lock().await.contains(&target.target_id) {
                continue;
            }
            if let Some(left_out) = closed.line(Instant::now()) {
                tracing::info!(event = "page.window", left_out, "closed a window that the page opened");
            }
            if let Err(error) = browser.execute(CloseTargetParams::new(target.target_id.clone())).await
                && let Some(left_out) = stayed.line(Instant::now())
            {
                tracing::debug!(
                    left_out,
                    event = "page.window_stays",
                    error = super::kind(&error),
                    "could not close a window"
                );
            }
        }
    };
    drop(greenroom_tasks::spawn("runner windows", closing.in_current_span()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_page_actions_are_logged_rarely() {
        let (mut often, began) = (Often::default(), Instant::now());
        let written: Vec<_> = (0..100_000).filter_map(|n| often.line(began + Duration::from_millis(n))).collect();
        assert_eq!(written.len(), 10, "five in each minute that has begun");
        assert_eq!(written.iter().sum::<u64>(), 60_000 - 5, "left out in the first minute, and told in the second");
    }
}
