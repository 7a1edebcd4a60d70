//! The host of the demo meeting: a headless tab of its own that plays the melody, lets knockers in and ends the meeting.

use std::time::Duration;

use greenroom_bot::browser::{AllowedNetworks, Browser, Error, Scratch, Tab};
use greenroom_bot::config::BrowserSettings;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::room::Room;

const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// The host. Dropping it kills its browser.
pub struct Host {
    browser: Browser,
    tab: Tab,
}

impl Host {
    /// Opens the room and starts the meeting.
    ///
    /// # Errors
    /// When the browser does not work.
    pub async fn start(room: &Room, settings: &BrowserSettings) -> Result<Self, Error> {
        let scratch = Scratch::new("host").map_err(Error::Profile)?;
        let allowed = AllowedNetworks::from_iter([room.network()]);
        let browser = Browser::launch(settings, scratch, &allowed).await?;
        let tab = browser.tab().await?;
        tab.navigate(&room.host_url()).await?;
        let host = Self { browser, tab };
        host.until("start the meeting", "press('join', 'Ada Lovelace')").await?;
        host.until("start the meeting", "state() === 'joined'").await?;
        Ok(host)
    }

    /// Waits until somebody knocks.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn knocked(&self) -> Result<(), Error> {
        while !self.holds("wait for a knock", "!!part('admit')").await? {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Lets the first who knocks in.
    ///
    /// # Errors
    /// When nobody knocks, or the browser is gone.
    pub async fn admit(&self) -> Result<(), Error> {
        self.until("admit", "press('admit')").await
    }

    /// Turns the first who knocks away.
    ///
    /// # Errors
    /// When nobody knocks, or the browser is gone.
    pub async fn deny(&self) -> Result<(), Error> {
        self.until("deny", "press('deny')").await
    }

    /// How many are in the meeting, the host included.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn people(&self) -> Result<u32, Error> {
        self.ask("count", "people()").await
    }

    /// Ends the meeting for everybody.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn end(&self) -> Result<(), Error> {
        self.until("end the meeting", "press('end')").await
    }

    /// Leaves the meeting to the others.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn leave(&self) -> Result<(), Error> {
        self.until("leave the meeting", "press('leave')").await
    }

    /// What the host sees.
    #[must_use]
    pub fn tab(&self) -> &Tab {
        &self.tab
    }

    /// Ends when the host's browser is gone.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.browser.gone()
    }

    /// Closes the host's browser.
    pub async fn close(self) {
        self.browser.close().await;
    }

    async fn until(&self, doing: &'static str, condition: &str) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.holds(doing, condition).await {
                Ok(true) => return Ok(()),
                Err(Error::Gone) => return Err(Error::Gone),
                // The page may still be loading.
                Ok(false) | Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                Ok(false) => return Err(Error::Command { doing, why: "the page does not offer it" }),
                Err(error) => return Err(error),
            }
        }
    }

    async fn holds(&self, doing: &'static str, condition: &str) -> Result<bool, Error> {
        self.ask(doing, condition).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, doing: &'static str, expression: &str) -> Result<T, Error> {
        const WORDS: &str = "
            const part = (name) => [...document.querySelectorAll(`[data-greenroom=\"${name}\"]`)].find((e) => e.getClientRects().length);
            const room = document.querySelector('[data-greenroom-state]');
            const state = () => room?.dataset.greenroomState;
            const people = () => Number(room.dataset.greenroomParticipants);
            const press = (name, text) => {
              const button = part(name);
              if (!button || button.disabled) return false;
              if (text) part('name-input').value = text;
              button.click();
              return true;
            };";
        self.tab.ask(doing, &format!("(() => {{ {WORDS} return {expression}; }})()")).await
    }
}
