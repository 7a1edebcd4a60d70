//! `queue.enqueue` and `queue.withdraw`: one consumer, as a work queue has one.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Enqueue, Message, Withdraw};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, RunnerId};
use uuid::Uuid;

use crate::dispatch::Queue;
use crate::enqueue::{Wish, enqueue};
use crate::{Error, store};

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::commands(installation, "queue")];
    Subscription::new("queue", "queue", streams::commands(installation, "queue"), subjects)
}

pub struct Handler(pub Arc<Queue>);

pub enum Command {
    Enqueue(Box<Wish>),
    Withdraw(RunnerId, Option<String>),
}

impl BatchHandler for Handler {
    type Input = Command;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Command>, serde_json::Error> {
        let traceparent = header.traceparent.clone();
        Ok(match header.message_type.as_str() {
            Enqueue::TYPE => {
                let enqueue = serde_json::from_slice::<Envelope<Enqueue>>(body)?.data;
                Some(Command::Enqueue(Box::new(Wish { enqueue, traceparent })))
            }
            Withdraw::TYPE => {
                let withdraw = serde_json::from_slice::<Envelope<Withdraw>>(body)?.data;
                Some(Command::Withdraw(withdraw.runner, traceparent))
            }
            _ => None,
        })
    }

    fn key(&self, input: &Command) -> Uuid {
        match input {
            Command::Enqueue(wish) => wish.enqueue.runner.id,
            Command::Withdraw(runner, _) => runner.id,
        }
    }

    async fn handle(&self, batch: &[Command]) -> Result<Vec<Outcome>, Failure> {
        // Withdrawals first: a closing stands whatever comes after it.
        let withdrawals = batch.iter().filter_map(|command| match command {
            Command::Withdraw(runner, traceparent) => Some((*runner, traceparent.as_deref())),
            Command::Enqueue(_) => None,
        });
        withdraw(&self.0, &withdrawals.collect::<Vec<_>>()).await?;
        let wishes = batch.iter().filter_map(|command| match command {
            Command::Enqueue(wish) => Some((**wish).clone()),
            Command::Withdraw(..) => None,
        });
        enqueue(&self.0, &wishes.collect::<Vec<_>>()).await?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}

async fn withdraw(queue: &Queue, withdrawals: &[(RunnerId, Option<&str>)]) -> Result<(), Error> {
    if withdrawals.is_empty() {
        return Ok(());
    }
    let runners: Vec<RunnerId> = withdrawals.iter().map(|(runner, _)| *runner).collect();
    let closed = queue.pool.close(&runners, true).await?;
    let mut tx = queue.store.begin().await?;
    store::remove(&mut tx, &runners).await?;
    for ((runner, traceparent), _) in withdrawals.iter().zip(closed).filter(|(_, closed)| *closed) {
        queue.say_withdrawn(&mut tx, *runner, *traceparent);
    }
    tx.commit().await?;
    Ok(())
}
