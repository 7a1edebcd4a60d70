//! What happened, told in order: reports are kept until the gateway has acknowledged them, and sent again until then.

use greenroom_contracts::proto_timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::contract::RunnerReport;
use crate::contract::runner_report::Report;
use crate::link::{Backoff, Error, Link};
use crate::orders::Orders;

/// At most so many reports go in one call.
const BATCH: usize = 50;

/// The reports of one attempt. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    kept: Arc<Mutex<Kept>>,
    waiting: Arc<watch::Sender<usize>>,
}

/// What is not yet acknowledged, and the sequence.
#[derive(Debug, Default)]
struct Kept {
    last: u64,
    reports: VecDeque<RunnerReport>,
}

impl Kept {
    fn add(&mut self, report: Report, at: Option<jiff::Timestamp>) {
        self.last += 1;
        self.reports.push_back(RunnerReport { sequence: self.last, at: at.map(proto_timestamp), report: Some(report) });
    }

    fn acknowledge(&mut self, sequence: u64) {
        while self.reports.front().is_some_and(|report| report.sequence <= sequence) {
            self.reports.pop_front();
        }
    }

    fn batch(&self) -> Vec<RunnerReport> {
        self.reports.iter().take(BATCH).cloned().collect()
    }
}

impl Reports {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { kept: Arc::default(), waiting: Arc::new(watch::Sender::new(0)) }
    }

    /// Adds what has just happened. It is sent as soon as everything before it is acknowledged.
    pub fn add(&self, report: Report) {
        let mut kept = self.kept();
        kept.add(report, Some(jiff::Timestamp::now()));
        self.waiting.send_replace(kept.reports.len());
    }

    /// Waits until nothing is left to send.
    pub async fn flushed(&self) {
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
    }

    /// How many are not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Sends, for as long as the runner lives.
    pub async fn send(self, link: Link, orders: Orders) {
        let mut waiting = self.waiting.subscribe();
        let mut backoff = Backoff::default();
        while waiting.wait_for(|waiting| *waiting > 0).await.is_ok() {
            let batch = self.kept().batch();
            match link.report(batch).await {
                Ok(answer) => {
                    orders.obey(answer.desired());
                    let before = self.waiting();
                    let mut kept = self.kept();
                    kept.acknowledge(answer.acknowledged);
                    let left = kept.reports.len();
                    self.waiting.send_replace(left);
                    drop(kept);
                    if left < before {
                        backoff.reset();
                        continue;
                    }
                }
                Err(error @ Error::NotOurs(_)) => {
                    tracing::warn!(event = "report.not_ours", error = %error, "fenced: another runner has this attempt");
                    orders.exit();
                    return;
                }
                Err(error @ (Error::Refused(_) | Error::Address)) => {
                    tracing::error!(event = "report.refused", error = %error, "a report was refused; trying again");
                }
                Err(error @ Error::Away(_)) => {
                    tracing::debug!(event = "report.unanswered", error = %error, "trying again");
                }
            }
            sleep(backoff.wait()).await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Note;

    fn sequences(reports: &[RunnerReport]) -> Vec<u64> {
        reports.iter().map(|report| report.sequence).collect()
    }

    #[test]
    fn sequences_rise_without_a_gap_and_only_what_is_acknowledged_goes() {
        let mut kept = Kept::default();
        for text in ["a", "b", "c"] {
            kept.add(Report::Note(Note { text: text.to_owned() }), None);
        }
        assert_eq!(sequences(&kept.batch()), [1, 2, 3]);
        kept.acknowledge(2);
        assert_eq!(sequences(&kept.batch()), [3]);
        kept.acknowledge(1);
        assert_eq!(sequences(&kept.batch()), [3]);
        kept.add(Report::Note(Note::default()), None);
        assert_eq!(sequences(&kept.batch()), [3, 4]);
        kept.acknowledge(99);
        assert!(kept.batch().is_empty());
    }

    #[test]
    fn a_long_backlog_goes_in_batches_from_its_start() {
        let mut kept = Kept::default();
        for _ in 0..120 {
            kept.add(Report::Note(Note::default()), None);
        }
        let batch = sequences(&kept.batch());
        assert_eq!((batch.len(), batch[0]), (BATCH, 1));
    }
}
