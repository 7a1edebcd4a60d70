//! Handling many messages in one go, and finding the one that spoils it.

use std::future::Future;
use std::time::Duration;

use greenroom_contracts::Header;
use greenroom_tasks::catch_panic;
use uuid::Uuid;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Handled, or nothing to do.
    Done,
    /// Not now: bring it again after a while.
    Retry(Duration),
    /// Never: set it aside, for this reason.
    Park(String),
}

/// Why a whole batch was not handled: nothing of it took effect.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What the handler needs is away. Nobody's fault, and no try.
    #[error("away: {0}")]
    Away(String),
    /// Something in the batch cannot be.
    #[error("{0}")]
    Data(String),
}

/// Takes batches of messages. All of a batch is one transaction.
pub trait BatchHandler: Send + Sync + 'static {
    /// A parsed message.
    type Input: Send + Sync;

    /// Parses a message. `None`: a type that is none of this handler's business (a newer service's, say).
    ///
    /// # Errors
    /// When it is ours and cannot be understood: it is parked, alone.
    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error>;

    /// Messages with the same key stand in a batch in the order in which they came.
    fn key(&self, input: &Self::Input) -> Uuid;

    /// Handles a batch: one outcome each, in order.
    fn handle(&self, batch: &[Self::Input]) -> impl Future<Output = Result<Vec<Outcome>, Failure>> + Send;
}

/// What became of a message, as the consumer loop needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The handler's word.
    Outcome(Outcome),
    /// It failed alone, so it is at fault.
    Culprit(String),
    /// Not reached: what the handler needs is away.
    Away,
}

/// Handles a batch; when something in it cannot be, halves it until the culprit is alone. Returns one answer each and, if
/// the handler's needs are away, why.
pub(crate) async fn settle<H: BatchHandler>(handler: &H, batch: &[H::Input]) -> (Vec<Settled>, Option<String>) {
    let mut settled = vec![Settled::Away; batch.len()];
    let mut parts = Vec::from([(0, batch.len())]);
    while let Some((from, to)) = parts.pop() {
        let part = from..to;
        if part.is_empty() {
            continue;
        }
        // What makes the handler panic is found as any other culprit is. Ending the process would bring it back to the next one.
        let handled = catch_panic(async { handler.handle(&batch[part.clone()]).await }).await;
        match handled.unwrap_or_else(|panicked| Err(Failure::Data(panicked.to_string()))) {
            Ok(outcomes) => {
                debug_assert_eq!(outcomes.len(), part.len(), "one outcome each");
                for (settled, outcome) in settled[part].iter_mut().zip(outcomes) {
                    *settled = Settled::Outcome(outcome);
                }
            }
            Err(Failure::Away(why)) => return (settled, Some(why)),
            Err(Failure::Data(why)) if part.len() == 1 => settled[part.start] = Settled::Culprit(why),
            Err(Failure::Data(_)) => {
                let middle = part.start + part.len() / 2;
                parts.push((middle, part.end));
                parts.push((part.start, middle));
            }
        }
    }
    (settled, None)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails on odd numbers, is away from 100 on, and counts its calls.
    struct Numbers(AtomicUsize);

    impl BatchHandler for Numbers {
        type Input = u32;

        fn parse(&self, _: &Header, _: &[u8]) -> Result<Option<u32>, serde_json::Error> {
            Ok(None)
        }

        fn key(&self, _: &u32) -> Uuid {
            Uuid::nil()
        }

        async fn handle(&self, batch: &[u32]) -> Result<Vec<Outcome>, Failure> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if batch.iter().any(|n| *n >= 100) {
                return Err(Failure::Away("gone".into()));
            }
            match batch.iter().find(|n| *n % 2 == 1) {
                Some(odd) => Err(Failure::Data(format!("{odd} is odd"))),
                None => Ok(vec![Outcome::Done; batch.len()]),
            }
        }
    }

    #[tokio::test]
    async fn a_culprit_is_found_alone_and_the_others_are_handled() {
        let handler = Numbers(AtomicUsize::new(0));
        let (settled, away) = settle(&handler, &[2, 4, 6, 7, 8, 10, 12, 14]).await;
        assert_eq!(away, None);
        for (index, settled) in settled.into_iter().enumerate() {
            let expected =
                if index == 3 { Settled::Culprit("7 is odd".into()) } else { Settled::Outcome(Outcome::Done) };
            assert_eq!(settled, expected, "{index}");
        }
        assert_eq!(handler.0.into_inner(), 7, "the whole, and two for each halving");
    }

    #[tokio::test]
    async fn nothing_is_blamed_when_the_store_is_away() {
        let (settled, away) = settle(&Numbers(AtomicUsize::new(0)), &[2, 100]).await;
        assert_eq!((settled, away), (vec![Settled::Away, Settled::Away], Some("gone".into())));
    }

    /// Panics on 13.
    struct Superstitious;

    impl BatchHandler for Superstitious {
        type Input = u32;

        fn parse(&self, _: &Header, _: &[u8]) -> Result<Option<u32>, serde_json::Error> {
            Ok(None)
        }

        fn key(&self, _: &u32) -> Uuid {
            Uuid::nil()
        }

        async fn handle(&self, batch: &[u32]) -> Result<Vec<Outcome>, Failure> {
            assert!(!batch.contains(&13), "13 is bad luck");
            Ok(vec![Outcome::Done; batch.len()])
        }
    }

    #[tokio::test]
    async fn a_message_that_makes_the_handler_panic_is_found_alone() {
        let (settled, away) = settle(&Superstitious, &[1, 2, 13, 4]).await;
        assert_eq!(away, None);
        let done = || Settled::Outcome(Outcome::Done);
        assert_eq!(settled, [done(), done(), Settled::Culprit("panicked: 13 is bad luck".to_owned()), done()]);
    }

    #[tokio::test]
    async fn an_empty_batch_is_nothing() {
        assert_eq!(settle(&Numbers(AtomicUsize::new(0)), &[]).await, (vec![], None));
    }
}
