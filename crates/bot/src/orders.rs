//! Orders to this runner: its owner gives them in answers to beats and reports, the platform by signals.

use std::sync::Arc;

use tokio::sync::watch;

use crate::contract::Desired;
use crate::policy::Wish;

/// All wishes there can be. They only get more urgent: one who was told to leave is not told to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Continue,
    Leave,
    Terminate,
    Exit,
}

/// The most urgent order so far. Cheap to clone.
#[derive(Clone)]
pub struct Orders(Arc<watch::Sender<Order>>);

impl Orders {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Order::Continue)))
    }

    /// The owner wants the bot to leave its meeting.
    pub fn leave(&self) {
        self.raise(Order::Leave);
    }

    /// Follows an answer of the gateway.
    pub fn obey(&self, desired: Desired) {
        match desired {
            Desired::Leave => self.leave(),
            Desired::Exit => self.exit(),
            Desired::Unspecified | Desired::Continue => {}
        }
    }

    /// The platform ends this process: leave, flush, report, exit.
    pub fn terminate(&self) {
        self.raise(Order::Terminate);
    }

    /// This is not, or no longer, the attempt's runner: exit at once.
    pub fn exit(&self) {
        self.raise(Order::Exit);
    }

    /// What the policy is to know of it.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match *self.0.borrow() {
            // One that is to exit at once must not begin to leave, nor say so: whoever waits for `to_exit` ends it.
            Order::Continue | Order::Exit => Wish::None,
            Order::Leave => Wish::Leave,
            Order::Terminate => Wish::Terminate,
        }
    }

    /// Waits until the bot is to leave its meeting; never ends for one that is to exit at once.
    pub async fn to_leave(&self) {
        let _ = self.0.subscribe().wait_for(|order| matches!(order, Order::Leave | Order::Terminate)).await;
    }

    /// Waits until the platform ends this process.
    pub async fn to_terminate(&self) {
        let _ = self.0.subscribe().wait_for(|order| *order == Order::Terminate).await;
    }

    /// Waits until this process is to end without another word.
    pub async fn to_exit(&self) {
        let _ = self.0.subscribe().wait_for(|order| *order == Order::Exit).await;
    }

    fn raise(&self, order: Order) {
        self.0.send_if_modified(|now| {
            let more = order > *now;
            *now = order.max(*now);
            more
        });
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_only_get_more_urgent() {
        let orders = Orders::new();
        assert_eq!(orders.wish(), Wish::None);
        orders.terminate();
        orders.leave();
        assert_eq!(orders.wish(), Wish::Terminate);
    }

    #[tokio::test]
    async fn one_that_is_to_exit_does_not_begin_to_leave() {
        use futures::FutureExt as _;
        let orders = Orders::new();
        orders.exit();
        orders.terminate();
        assert_eq!(orders.wish(), Wish::None);
        assert_eq!(orders.to_leave().now_or_never(), None);
        assert_eq!(orders.to_exit().now_or_never(), Some(()));
    }
}
