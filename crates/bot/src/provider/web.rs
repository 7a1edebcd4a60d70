//! Any page that carries Greenroom's `data-` attributes (`docs/adding-a-provider.md`): our demo room is one.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::Provider;
use crate::browser::proxy::Trouble;
use crate::browser::{Error, Tab};
use crate::contract::Meeting;
use crate::policy::{ADDRESS_REFUSED, BROWSER_LOST, Failure, NOT_A_WEB_ADDRESS, PAGE_LOST, Sight};

/// How long the page may take until it shows a state.
const OPEN: Duration = Duration::from_secs(30);
/// How long the lobby may take until it can be filled in.
const FILL: Duration = Duration::from_secs(15);
/// How long the page may take to leave.
const LEAVE: Duration = Duration::from_secs(3);
/// How long a lobby whose scripts have run is given for the rest, before it is filled in without it.
const REST: Duration = Duration::from_secs(5);
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
    /// With everything in it.
    loaded: bool,
    /// Its own scripts have run.
    ready: bool,
    error: Option<String>,
}

const UNREACHABLE: Failure = Failure::passing("page_unreachable", "the meeting page could not be reached");
const SLOW: Failure = Failure::passing("page_unreachable", "the meeting page did not answer in time");
const NO_STATE: Failure = Failure::passing("page_unreachable", "the page does not show data-greenroom-state");
const NO_BUTTON: Failure = Failure::passing("page_unreachable", "the lobby has no join button that can be pressed");
const ACCOUNT: Failure = Failure::lasting("sign_in_required", "the meeting page wants an account");
const NOT_FOUND: Failure = Failure::lasting("meeting_not_found", "there is no such meeting");

impl Provider for Web {
    async fn enter(&self, tab: &Tab, meeting: &Meeting, name: &str) -> Result<(), Failure> {
        let began = Instant::now();
        let asking = ask(tab, meeting, name, began, SLOW);
        tokio::pin!(asking);
        let failure = tokio::select! {
            asked = &mut asking => asked.err(),
            went = tab.navigate(&meeting.url) => match went {
                Ok(None) => asking.await.err(),
                // A page all the same, without a word: its status says why.
                Ok(Some(code)) if code == "ERR_HTTP_RESPONSE_CODE_FAILURE" => asking.await.err(),
                // A 401 that asks for a name and a password: the runner has none to give.
                Ok(Some(code)) if code == "ERR_INVALID_AUTH_CREDENTIALS" => Some(ACCOUNT),
                // It redirects to a file, to data, or to something of the browser itself.
                Ok(Some(code)) if code == "ERR_UNSAFE_REDIRECT" || code == "ERR_UNKNOWN_URL_SCHEME" => Some(NOT_A_WEB_ADDRESS),
                Ok(Some(code)) => Some(unreachable(tab, &code).await),
                Err(error) if error.is_end() => Some(error.failure()),
                // Its server is slow, or something that the page loads is: it has its time.
                Err(_) => asking.await.err(),
            },
        };
        failure.map_or(Ok(()), Err)
    }

    async fn ask(&self, tab: &Tab, meeting: &Meeting, name: &str) -> Result<(), Failure> {
        ask(tab, meeting, name, Instant::now(), PAGE_LOST).await
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
                None => Sight::Unclear,
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
                Sight::Unclear | Sight::Lobby | Sight::Denied | Sight::Ended | Sight::NotFound | Sight::Refused => {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Waits for the lobby, and fills it in. `unanswered` is why it could not be when the page never says anything.
async fn ask(tab: &Tab, meeting: &Meeting, name: &str, began: Instant, unanswered: Failure) -> Result<(), Failure> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let join = script(&format!("join({}, {})", text(name), text(&meeting.password)));
    let mut lobby = None;
    let mut failure = unanswered;
    loop {
        let deadline = lobby.map_or(began + OPEN, |since| since + FILL);
        match timeout_at(deadline, read(tab)).await {
            Ok(Ok(page)) => match (page.sight(), page.status) {
                (Some(Sight::Lobby), _) => {
                    let since = *lobby.get_or_insert_with(Instant::now);
                    failure = NO_BUTTON;
                    // A click before the page's scripts have run leads nowhere, or somewhere else.
                    let usable = page.loaded || (page.ready && since.elapsed() >= REST);
                    if usable
                        && let Ok(Ok(true)) = timeout_at(deadline, tab.ask::<bool>("fill in the lobby", &join)).await
                    {
                        return Ok(());
                    }
                }
                // Let in, told to wait or turned away without being asked for a name: seen by the next look.
                (Some(_), _) => return Ok(()),
                (None, Some(404 | 410)) => return Err(NOT_FOUND),
                (None, Some(401 | 403)) => return Err(ACCOUNT),
                (None, Some(500..)) if page.loaded => return Err(UNREACHABLE),
                (None, _) if matches!(timeout_at(deadline, refused(tab)).await, Ok(true)) => {
                    return Err(ADDRESS_REFUSED);
                }
                (None, Some(_)) => failure = NO_STATE,
                // Nothing is there yet.
                (None, None) => {}
            },
            Ok(Err(error)) if error.is_end() => return Err(error.failure()),
            Ok(Err(_)) => {}
            // While a page's server has not answered, nothing in the tab does.
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(if tab.browser_answers().await { failure } else { BROWSER_LOST });
        }
        sleep(PAUSE).await;
    }
}

/// What a network error says about who is at fault.
async fn unreachable(tab: &Tab, code: &str) -> Failure {
    let trouble = tab.trouble().await.ok().flatten();
    let why = trouble.map(|trouble| trouble.to_string()).unwrap_or_default();
    tracing::info!(event = "page.unreachable", error = code, why, "the meeting page could not be reached");
    match trouble {
        Some(Trouble::Refused(_)) => ADDRESS_REFUSED,
        Some(Trouble::NoAddress) => NOT_FOUND,
        Some(Trouble::Unreachable) | None => UNREACHABLE,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_state_is_understood_and_others_are_not() {
        let see = |state: Option<&str>| {
            Page {
                state: state.map(str::to_owned),
                people: Some(2),
                status: Some(200),
                loaded: true,
                ready: true,
                error: None,
            }
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
