//! Records the sound of a meeting: a script beside the page (`capture/capture.js`) mixes and records the incoming tracks
//! and hands the parts out through a CDP binding; here they are checked and put into the [`Spool`].
//!
//! A page is not trusted. The recorder and its binding live in a JavaScript world that pages do not reach; what comes out of
//! it is bounded all the same (`capture/budget.rs`) and has to be WebM (`capture/framer.rs`).

mod budget;
mod framer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// The page hands out so much at a time, and the runner makes parts of it: what is still in the page goes with its document.
const PIECE: Duration = Duration::from_secs(1);

/// A part of 16 MiB, which the gateway would refuse, in base64.
const LONGEST_MESSAGE: usize = 22 << 20;

/// A part that has grown so large is handed in at once; a piece more still fits.
const LARGEST_PART: usize = 2 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    Ready,
    Started,
    Stopped,
}

/// The recorder of one tab.
pub struct Recorder {
    tab: Tab,
    stage: watch::Sender<Stage>,
    /// When it began to record for the first time; parts say how long after that they began.
    began: Option<Instant>,
    taken: Arc<Taken>,
}

/// What was taken so far.
struct Taken {
    /// When the current recording began, in milliseconds after the first.
    base_ms: AtomicU64,
    /// When the last piece came, or the recording began.
    last: Mutex<Instant>,
    /// How many pieces came that hold something.
    pieces: AtomicU64,
    /// Of how many pieces a part is made.
    in_part: AtomicU64,
    spool: Spool,
    hand: tokio::sync::Mutex<Hand>,
}

/// The part that is being made.
#[derive(Debug, Default)]
struct Hand {
    offset_ms: u64,
    pieces: u64,
    content: Vec<u8>,
}

impl Taken {
    fn mark(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Adds a piece to the part in hand, and hands the part in when it is long enough.
    async fn add(&self, offset_ms: u64, content: Vec<u8>) {
        let mut hand = self.hand.lock().await;
        if hand.pieces == 0 {
            hand.offset_ms = offset_ms;
        }
        hand.pieces += 1;
        hand.content.extend_from_slice(&content);
        self.mark();
        self.pieces.fetch_add(1, Ordering::Relaxed);
        if hand.pieces >= self.in_part.load(Ordering::Relaxed) || hand.content.len() >= LARGEST_PART {
            self.put(&mut hand).await;
        }
    }

    /// Hands in the part in hand, however short it is.
    async fn hand_in(&self) {
        self.put(&mut *self.hand.lock().await).await;
    }

    async fn put(&self, hand: &mut Hand) {
        let hand = std::mem::take(hand);
        if !hand.content.is_empty() {
            self.spool.put(hand.offset_ms, hand.content).await;
        }
    }
}

/// How the recorder is.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Pulse {
    /// It is there, and at work.
    pub recording: bool,
    /// Milliseconds since something was heard last.
    #[serde(rename = "quietMs")]
    pub quiet_ms: u64,
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
        let stage = watch::Sender::new(Stage::Ready);
        let taken = Arc::new(Taken {
            base_ms: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
            pieces: AtomicU64::new(0),
            in_part: AtomicU64::new(1),
            spool,
            hand: tokio::sync::Mutex::default(),
        });
        let taking = take(calls, stage.clone(), taken.clone()).in_current_span();
        drop(greenroom_tasks::spawn("runner capture", taking));
        Ok(Self { tab, stage, began: None, taken })
    }

    /// Begins to record, or to record anew in a page that was loaded anew; parts hold `part` of sound each.
    ///
    /// # Errors
    /// When the page cannot record.
    pub async fn start(&mut self, part: Duration) -> Result<(), Error> {
        let base = self.began.get_or_insert_with(Instant::now).elapsed();
        self.taken.base_ms.store(u64::try_from(base.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.stage.send_replace(Stage::Ready);
        self.taken.mark();
        // A part has two pieces at least.
        let piece = PIECE.min(part / 2).max(Duration::from_millis(1));
        let in_part = part.as_millis().div_ceil(piece.as_millis());
        self.taken.in_part.store(u64::try_from(in_part).unwrap_or(u64::MAX), Ordering::Relaxed);
        let expression = format!("greenroomRecorder.start({}), true", piece.as_millis());
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

    /// How the recorder in the page is.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn pulse(&self) -> Result<Pulse, Error> {
        self.tab.ask("listen", "greenroomRecorder.pulse()").await
    }

    /// For how long nothing has come of a recording that was begun.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.taken.silent_for()
    }

    /// How many pieces of sound have come so far. It only grows.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.taken.pieces.load(Ordering::Relaxed)
    }

    /// Hands in what has come, when no more is to be expected.
    pub async fn hand_in(&self) {
        self.taken.hand_in().await;
    }

    async fn reach(&mut self, stage: Stage, doing: &'static str) -> Result<(), Error> {
        match timeout(SETTLE, self.stage.subscribe().wait_for(|now| *now >= stage)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Gone),
            Err(_) => Err(Error::Command { doing, why: "no answer in time" }),
        }
    }
}

async fn take(mut calls: impl Stream<Item = Called> + Unpin, stage: watch::Sender<Stage>, taken: Arc<Taken>) {
    let mut stream = None;
    while let Some(Called(text)) = calls.next().await {
        if text.len() > LONGEST_MESSAGE {
            tracing::error!(event = "recording.message_too_long", bytes = text.len(), "recorder exceeded its budget");
            stream = None;
            continue;
        }
        match serde_json::from_str(&text) {
            Ok(Message::Started) => {
                // The bytes in hand belong to the stream before.
                taken.hand_in().await;
                stream = Some(Incoming::new(taken.base_ms.load(Ordering::Relaxed)));
                stage.send_replace(Stage::Started);
            }
            Ok(Message::Stopped) => {
                taken.hand_in().await;
                stage.send_replace(Stage::Stopped);
            }
            Ok(Message::Part { offset_ms, data }) => {
                let Some(incoming) = &mut stream else {
                    tracing::debug!(event = "recording.part_dropped", "ignored a part of an ended stream");
                    continue;
                };
                match incoming.part(offset_ms, &data) {
                    Ok((_, content)) if content.is_empty() => {}
                    Ok((offset_ms, content)) => {
                        taken.add(offset_ms, content).await;
                    }
                    Err(why) => {
                        // What follows would not fit to what came before.
                        stream = None;
                        taken.hand_in().await;
                        tracing::error!(event = "recording.part_unreadable", why, "recording stream ended");
                    }
                }
            }
            Ok(Message::Error { name }) => {
                // A DOMException's name is one word; anything else did not come from the recorder.
                let name = name.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
                tracing::error!(event = "recording.failed", error = name, "the recorder in the page failed");
            }
            Err(_) => {
                tracing::warn!(event = "recording.message_unreadable", "ignored an unknown recorder message")
            }
        }
    }
}

/// One stream of the recorder: from its start to its stop, or to the end of its document.
struct Incoming {
    began: Instant,
    /// How long after the first stream this one began.
    base_ms: u64,
    budget: Budget,
    framer: Framer,
}

impl Incoming {
    fn new(base_ms: u64) -> Self {
        Self { began: Instant::now(), base_ms, budget: Budget::default(), framer: Framer::default() }
    }

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
        Ok((self.base_ms.saturating_add(offset_ms.min(latest)), content))
    }
}
