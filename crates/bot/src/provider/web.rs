//! Any page that carries Greenroom's `data-` attributes (`docs/adding-a-provider.md`): our demo room is one.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Provider;
use crate::browser::proxy::Trouble;
use crate::browser::{Error, Tab};
use crate::contract::Meeting;
use crate::policy::{ADDRESS_REFUSED, BROWSER_LOST, Failure, Sight};

/// How long the page may take until it shows a state.
const OPEN: Duration = Duration::from_secs(30);
/// How long the lobby may take until it can be filled in.
const FILL: Duration = Duration::from_secs(15);
/// How long the page may take to leave.
const LEAVE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);

/// The adapter.
#[derive(Debug, Default, Clone, Copy)]
pub struct Web;

/// What `web.js` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    state: Option<String>,
    people: Option<u32>,
    status: Option<u16>,
    loaded: bool,
    error: Option<String>,
}

const UNREACHABLE: Failure = Failure::passing("page_unreachable", "the meeting page could not be reached");
const NOT_FOUND: Failure = Failure::lasting("meeting_not_found", "there is no such meeting");

impl Provider for Web {
    async fn enter(&self, tab: &Tab, meeting: &Meeting, name: &str) -> Result<(), Failure> {
        match tab.navigate(&meeting.url).await.map_err(lost)?.as_deref() {
            None => {}
            Some(code) => {
                let trouble = tab.trouble().await.map_err(lost)?;
                let why = trouble.map(|trouble| trouble.to_string()).unwrap_or_default();
                tracing::info!(event = "page.unreachable", error = code, why, "the meeting page could not be reached");
                return Err(match trouble {
                    Some(Trouble::Refused(_)) => ADDRESS_REFUSED,
                    Some(Trouble::NoAddress) => NOT_FOUND,
                    Some(Trouble::Unreachable) | None => UNREACHABLE,
                });
            }
        }
        let deadline = Instant::now() + OPEN;
        loop {
            if let Ok(page) = read(tab).await {
                match (page.sight(), page.status) {
                    (Some(Sight::Lobby), _) => break,
                    // Let in, told to wait or turned away without being asked for a name: seen by the next look.
                    (Some(_), _) => return Ok(()),
                    (None, Some(404 | 410)) => return Err(NOT_FOUND),
                    (None, Some(401 | 403)) => {
                        return Err(Failure::lasting("sign_in_required", "the meeting page wants an account"));
                    }
                    (None, Some(500..)) if page.loaded => return Err(UNREACHABLE),
                    (None, _) if refused(tab).await => return Err(ADDRESS_REFUSED),
                    (None, _) => {}
                }
            }
            if Instant::now() > deadline {
                return Err(Failure::passing("page_unreachable", "the page does not show data-greenroom-state"));
            }
            sleep(PAUSE).await;
        }
        self.fill_in(tab, meeting, name).await
    }

    async fn look(&self, tab: &Tab) -> Result<Sight, Error> {
        let page = read(tab).await?;
        Ok(match page.status {
            Some(404 | 410) if page.state.is_none() => Sight::NotFound,
            _ if page.error.as_deref() == Some("password") => Sight::Denied,
            _ => match page.sight() {
                Some(sight) => sight,
                None if refused(tab).await => Sight::Refused,
                // A page that shows nothing is taken to be on its way; the limits say for how long.
                None => Sight::Lobby,
            },
        })
    }

    async fn leave(&self, tab: &Tab) -> Result<(), Error> {
        let script = script("leave()");
        if !tab.ask::<bool>("leave", &script).await? {
            return Ok(());
        }
        let deadline = Instant::now() + LEAVE;
        while Instant::now() < deadline {
            match self.look(tab).await? {
                Sight::Joined { .. } | Sight::Waiting => sleep(PAUSE).await,
                Sight::Lobby | Sight::Denied | Sight::Ended | Sight::NotFound | Sight::Refused => break,
            }
        }
        Ok(())
    }
}

impl Web {
    async fn fill_in(self, tab: &Tab, meeting: &Meeting, name: &str) -> Result<(), Failure> {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let script = script(&format!("join({}, {})", text(name), text(&meeting.password)));
        let deadline = Instant::now() + FILL;
        loop {
            if let Ok(true) = tab.ask::<bool>("fill in the lobby", &script).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::passing("page_unreachable", "the lobby has no join button that can be pressed"));
            }
            sleep(PAUSE).await;
        }
    }
}

impl Page {
    fn sight(&self) -> Option<Sight> {
        Some(match self.state.as_deref()? {
            "lobby" => Sight::Lobby,
            "waiting" => Sight::Waiting,
            "joined" => Sight::Joined { people: self.people },
            "denied" => Sight::Denied,
            "ended" => Sight::Ended,
            "not-found" => Sight::NotFound,
            _ => return None,
        })
    }
}

async fn read(tab: &Tab) -> Result<Page, Error> {
    tab.ask("look at the page", &script("look()")).await
}

/// Whether the page went to where it may not go.
async fn refused(tab: &Tab) -> bool {
    matches!(tab.trouble().await, Ok(Some(Trouble::Refused(_))))
}

fn script(call: &str) -> String {
    format!("({}).{call}", include_str!("web.js").trim())
}

fn lost(_: Error) -> Failure {
    BROWSER_LOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_state_is_understood_and_others_are_not() {
        let see = |state: Option<&str>| {
            Page { state: state.map(str::to_owned), people: Some(2), status: Some(200), loaded: true, error: None }
                .sight()
        };
        for (state, sight) in [
            ("lobby", Sight::Lobby),
            ("waiting", Sight::Waiting),
            ("joined", Sight::Joined { people: Some(2) }),
            ("denied", Sight::Denied),
            ("ended", Sight::Ended),
            ("not-found", Sight::NotFound),
        ] {
            assert_eq!(see(Some(state)), Some(sight));
        }
        assert_eq!(see(Some("something else")), None);
        assert_eq!(see(None), None);
    }
}
