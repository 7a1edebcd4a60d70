//! The parts of the recording on their way: each is kept in a file until the gateway has it.
//!
//! The room is bounded by time: a runner without answers leaves after the orphan time-out (15 minutes), which is some
//! 90 parts of about 80 kB each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::capture::MEDIA_TYPE;
use crate::link::{Backoff, Error, Link};
use crate::orders::Orders;

/// Where parts are put. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    directory: Arc<PathBuf>,
    next: Arc<AtomicU32>,
    line: mpsc::UnboundedSender<Part>,
    waiting: Arc<watch::Sender<usize>>,
    lost: Arc<AtomicUsize>,
}

struct Part {
    index: u32,
    offset_ms: u64,
    content: Content,
}

enum Content {
    Kept(PathBuf),
    // When the disk refuses, memory is better than a lost part.
    Held(Vec<u8>),
}

/// The other end: sends the parts in their order.
pub struct Uploads {
    line: mpsc::UnboundedReceiver<Part>,
    waiting: Arc<watch::Sender<usize>>,
    lost: Arc<AtomicUsize>,
}

/// A spool that keeps its files in `directory` and counts up from `first`.
#[must_use]
pub fn spool(directory: PathBuf, first: u32) -> (Spool, Uploads) {
    let (line, parts) = mpsc::unbounded_channel();
    let waiting = Arc::new(watch::Sender::new(0));
    let spool = Spool {
        directory: Arc::new(directory),
        next: Arc::new(AtomicU32::new(first)),
        line,
        waiting: Arc::clone(&waiting),
        lost: Arc::default(),
    };
    let uploads = Uploads { line: parts, waiting, lost: Arc::clone(&spool.lost) };
    (spool, uploads)
}

impl Spool {
    /// Takes the next part.
    pub async fn put(&self, offset_ms: u64, content: Vec<u8>) {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(event = "recording.part", index, offset_ms, size_bytes = content.len(), "part recorded");
        let path = self.directory.join(format!("part-{index:06}"));
        let content = match tokio::fs::write(&path, &content).await {
            Ok(()) => Content::Kept(path),
            Err(error) => {
                tracing::warn!(event = "recording.part_in_memory", index, error = %error.kind(), "could not write a part");
                Content::Held(content)
            }
        };
        self.waiting.send_modify(|waiting| *waiting += 1);
        // Fails only when the uploads have ended, and then nobody wants the part any more.
        let _ = self.line.send(Part { index, offset_ms, content });
    }

    /// Waits until the gateway has every part.
    pub async fn flushed(&self) {
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// How many parts the gateway does not have: those that wait, and those that it will never get.
    #[must_use]
    pub fn missing(&self) -> usize {
        *self.waiting.borrow() + self.lost.load(Ordering::Relaxed)
    }
}

impl Uploads {
    /// Sends, for as long as the runner lives.
    pub async fn send(mut self, link: Link, orders: Orders) {
        while let Some(part) = self.line.recv().await {
            let mut backoff = Backoff::default();
            loop {
                let content = match &part.content {
                    Content::Held(content) => content.clone(),
                    Content::Kept(path) => match tokio::fs::read(path).await {
                        Ok(content) => content,
                        Err(error) => {
                            tracing::error!(event = "recording.part_lost", part.index, error = %error.kind(), "part lost");
                            self.lost.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    },
                };
                match link.put_part(part.index, part.offset_ms, MEDIA_TYPE, content).await {
                    Ok(()) => break,
                    Err(error @ Error::NotOurs(_)) => {
                        tracing::warn!(event = "recording.not_ours", error = %error, "fenced: another runner has this attempt");
                        orders.exit();
                        return;
                    }
                    Err(error @ (Error::Refused(_) | Error::Address)) => {
                        tracing::error!(event = "recording.part_refused", part.index, error = %error, "a part was refused");
                        self.lost.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    // A gateway whose storage takes nothing, because its disk is full, is as good as none.
                    Err(error @ Error::Away(_)) => {
                        tracing::debug!(event = "recording.unanswered", part.index, error = %error, "trying again");
                        sleep(backoff.wait()).await;
                    }
                }
            }
            if let Content::Kept(path) = &part.content {
                let _ = tokio::fs::remove_file(path).await;
            }
            self.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }
}
