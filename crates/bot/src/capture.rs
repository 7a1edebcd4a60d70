//! What the meeting sounds like: a script inside the page (`capture/capture.js`) mixes and records the incoming tracks
//! and hands the parts out through a CDP binding; here they are taken and put into the [`Spool`].

use std::time::Duration;

use base64::Engine as _;
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::browser::{Called, Error, Tab};
use crate::parts::Spool;

/// What the parts are.
pub const MEDIA_TYPE: &str = "audio/webm;codecs=opus";

/// How long the recorder in the page may take to start, or to hand out its last part.
const SETTLE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Ready,
    Started,
    Stopped,
}

/// The recorder of one tab.
pub struct Recorder {
    tab: Tab,
    control: String,
    stage: watch::Receiver<Stage>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Message {
    Started,
    Part {
        #[serde(rename = "offsetMs")]
        offset_ms: u64,
        data: String,
    },
    Stopped,
    Error {
        name: String,
    },
}

impl Recorder {
    /// Puts the recorder into every page the tab will open. Nothing is recorded before [`Recorder::start`].
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn install(tab: Tab, spool: Spool) -> Result<Self, Error> {
        let name = format!("greenroom_{}", Uuid::new_v4().simple());
        let calls = tab.bind(&name).await?;
        tab.before_pages(include_str!("capture/capture.js").replace("BINDING", &name)).await?;
        let (tell, stage) = watch::channel(Stage::Ready);
        tokio::spawn(take(calls, spool, tell).in_current_span());
        Ok(Self { tab, control: format!("globalThis.{name}_control"), stage })
    }

    /// Begins to record; parts hold `part` of sound each.
    ///
    /// # Errors
    /// When the page cannot record.
    pub async fn start(&mut self, part: Duration) -> Result<(), Error> {
        let expression = format!("{}.start({}), true", self.control, part.as_millis());
        self.tab.ask::<bool>("start to record", &expression).await?;
        self.reach(Stage::Started, "start to record").await
    }

    /// Ends the recording; when it returns, the last part is in the spool.
    ///
    /// # Errors
    /// When the page is gone: what was handed out before is safe.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let expression = format!("{}.stop(), true", self.control);
        self.tab.ask::<bool>("stop to record", &expression).await?;
        self.reach(Stage::Stopped, "stop to record").await
    }

    /// How long nothing was heard.
    pub async fn quiet_for(&self) -> Option<Duration> {
        let quiet = self.tab.ask::<u64>("listen", &format!("{}.quietMs()", self.control)).await;
        quiet.ok().map(Duration::from_millis)
    }

    async fn reach(&mut self, stage: Stage, doing: &'static str) -> Result<(), Error> {
        match timeout(SETTLE, self.stage.wait_for(|now| *now >= stage)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Gone),
            Err(_) => Err(Error::Command { doing, why: "no answer in time" }),
        }
    }
}

async fn take(mut calls: impl Stream<Item = Called> + Unpin, spool: Spool, stage: watch::Sender<Stage>) {
    while let Some(Called(text)) = calls.next().await {
        match serde_json::from_str(&text) {
            Ok(Message::Started) => drop(stage.send(Stage::Started)),
            Ok(Message::Stopped) => drop(stage.send(Stage::Stopped)),
            Ok(Message::Part { offset_ms, data }) => match base64::engine::general_purpose::STANDARD.decode(data) {
                Ok(content) => spool.put(offset_ms, content).await,
                Err(_) => {
                    tracing::error!(event = "recording.part_unreadable", "a part of the recording could not be decoded")
                }
            },
            Ok(Message::Error { name }) => {
                // A DOMException's name is one word; anything else did not come from the recorder.
                let name = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
                tracing::error!(event = "recording.failed", error = name, "the recorder in the page failed");
            }
            Err(_) => {
                tracing::warn!(event = "recording.message_unreadable", "the page said something we do not understand")
            }
        }
    }
}
