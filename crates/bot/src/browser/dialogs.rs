//! What a page may open that waits for a person: dialogs, and windows of its own. Nobody is there, so a dialog is accepted
//! and a window is closed; otherwise the page would stand still.

use std::collections::HashSet;
use std::sync::Arc;

use chromiumoxide::cdp::browser_protocol::page::{EventJavascriptDialogOpening, HandleJavaScriptDialogParams};
use chromiumoxide::cdp::browser_protocol::target::{CloseTargetParams, EventTargetCreated, TargetId};
use chromiumoxide::error::CdpError;
use chromiumoxide::{Browser, Page};
use futures::StreamExt as _;
use tokio::sync::Mutex;
use tracing::Instrument as _;

/// The tabs that we opened ourselves. Locked while one is being opened: its id is not known before.
pub(super) type Tabs = Arc<Mutex<HashSet<TargetId>>>;

/// Accepts every dialog of a page and its frames: `alert`, `confirm`, `prompt` and `beforeunload`.
pub(super) async fn accept(page: Page) -> Result<(), CdpError> {
    let mut dialogs = page.event_listener::<EventJavascriptDialogOpening>().await?;
    let answering = async move {
        while let Some(dialog) = dialogs.next().await {
            // Not its words: they are the page's.
            tracing::info!(event = "page.dialog", kind = dialog.r#type.as_ref(), "accepted a dialog of the page");
            let mut answer = HandleJavaScriptDialogParams::new(true);
            answer.prompt_text = dialog.default_prompt.clone();
            if let Err(error) = page.execute(answer).await {
                tracing::warn!(event = "page.dialog_stays", error = super::kind(&error), "could not answer a dialog");
            }
        }
    };
    tokio::spawn(answering.in_current_span());
    Ok(())
}

/// Closes every window that is not one of our tabs, from now on.
pub(super) async fn close_windows(browser: Arc<Browser>, ours: Tabs) -> Result<(), CdpError> {
    let mut opened = browser.event_listener::<EventTargetCreated>().await?;
    let closing = async move {
        while let Some(opened) = opened.next().await {
            let target = &opened.target_info;
            if target.r#type != "page" || ours.lock().await.contains(&target.target_id) {
                continue;
            }
            tracing::info!(event = "page.window", "closed a window that the page opened");
            if let Err(error) = browser.execute(CloseTargetParams::new(target.target_id.clone())).await {
                tracing::debug!(event = "page.window_stays", error = super::kind(&error), "could not close a window");
            }
        }
    };
    tokio::spawn(closing.in_current_span());
    Ok(())
}
