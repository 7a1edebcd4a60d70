//! What the meeting sounds like: a script beside the page (`capture/capture.js`) mixes and records the incoming tracks
//! and hands the parts out through a CDP binding; here they are checked and put into the [`Spool`].
//!
//! A page is not trusted. The recorder and its binding live in a JavaScript world that pages do not reach; what comes out of
//! it is bounded all the same (`capture/budget.rs`) and has to be WebM (`capture/framer.rs`).

mod budget;
mod framer;

use std::time::Duration;

use base64::Engine as _;
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::browser::{Called, Error, Tab, World};
use crate::parts::Spool;
use budget::Budget;
use framer::Framer;

/// What the parts are.
pub const MEDIA_TYPE: &str = "audio/webm;codecs=opus";

/// How long the recorder in the page may take to start, or to hand out its last part.
const SETTLE: Duration = Duration::from_secs(8);

/// A part of 16 MiB, which the gateway would refuse, in base64.
const LONGEST_MESSAGE: usize = 22 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Ready,
    Started,
    Stopped,
}

/// The recorder of one tab.
pub struct Recorder {
    tab: Tab,
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
        let name = || format!("greenroom-{}", Uuid::new_v4().simple());
        let (binding, announced) = (name(), name());
        let calls = tab.bind(&binding).await?;
        let recorder = include_str!("capture/capture.js").replace("BINDING", &binding);
        tab.before_pages(World::Runner, recorder.replace("ANNOUNCED", &announced)).await?;
        tab.before_pages(World::Page, include_str!("capture/hook.js").replace("ANNOUNCED", &announced)).await?;
        let (tell, stage) = watch::channel(Stage::Ready);
        tokio::spawn(take(calls, spool, tell).in_current_span());
        Ok(Self { tab, stage })
    }

    /// Begins to record; parts hold `part` of sound each.
    ///
    /// # Errors
    /// When the page cannot record.
    pub async fn start(&mut self, part: Duration) -> Result<(), Error> {
        let expression = format!("greenroomRecorder.start({}), true", part.as_millis());
        self.tab.ask::<bool>("start to record", &expression).await?;
        self.reach(Stage::Started, "start to record").await
    }

    /// Ends the recording; when it returns, the last part is in the spool.
    ///
    /// # Errors
    /// When the page is gone: what was handed out before is safe.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.tab.ask::<bool>("stop to record", "greenroomRecorder.stop(), true").await?;
        self.reach(Stage::Stopped, "stop to record").await
    }

    /// How long nothing was heard.
    pub async fn quiet_for(&self) -> Option<Duration> {
        let quiet = self.tab.ask::<u64>("listen", "greenroomRecorder.quietMs()").await;
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
    let mut stream = None;
    while let Some(Called(text)) = calls.next().await {
        if text.len() > LONGEST_MESSAGE {
            tracing::error!(
                event = "recording.message_too_long",
                bytes = text.len(),
                "the page's recorder says too much"
            );
            stream = None;
            continue;
        }
        match serde_json::from_str(&text) {
            Ok(Message::Started) => {
                stream = Some(Incoming::default());
                let _ = stage.send(Stage::Started);
            }
            Ok(Message::Stopped) => {
                let _ = stage.send(Stage::Stopped);
            }
            Ok(Message::Part { offset_ms, data }) => {
                let Some(incoming) = &mut stream else {
                    tracing::debug!(event = "recording.part_dropped", "a part of a stream that is over or broken");
                    continue;
                };
                match incoming.part(offset_ms, &data) {
                    Ok((_, content)) if content.is_empty() => {}
                    Ok((offset_ms, content)) => spool.put(offset_ms, content).await,
                    Err(why) => {
                        // What follows would not fit to what came before.
                        stream = None;
                        tracing::error!(event = "recording.part_unreadable", why, "the recording ends here");
                    }
                }
            }
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

/// One stream of the recorder: from its start to its stop, or to the end of its document.
struct Incoming {
    began: Instant,
    budget: Budget,
    framer: Framer,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { began: Instant::now(), budget: Budget::default(), framer: Framer::default() }
    }
}

impl Incoming {
    /// Checks what the recorder handed out. Returns the part that is to be kept, which may be empty, and when it began.
    fn part(&mut self, offset_ms: u64, data: &str) -> Result<(u64, Vec<u8>), &'static str> {
        let elapsed = self.began.elapsed();
        let content = base64::engine::general_purpose::STANDARD.decode(data).map_err(|_| "it is not base64")?;
        if !self.budget.take(elapsed, content.len()) {
            return Err("it is more than sound can be");
        }
        let content = self.framer.feed(&content).map_err(|framer::NotWebm(why)| why)?;
        // By the page's clock, which may be wrong; a part did not begin in the future.
        let latest = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok((offset_ms.min(latest), content))
    }
}
