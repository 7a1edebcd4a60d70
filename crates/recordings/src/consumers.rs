//! What this service hears on the bus: one consumer for both messages, so that a batch is one transaction.

mod bot_state_changed;
mod runner_gone;

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_chassis::Clock;
use greenroom_contracts::messages::{BotStateChanged, Message, RunnerGone};
use greenroom_contracts::{Header, streams, subjects};
use greenroom_domain::{BotId, Installation, TenantId};
use greenroom_store::Store;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::policy::{Fact, Limits};
use crate::{across, store};

/// A fact about a bot's recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    bot: BotId,
    /// Named by the bot's events, not by its runners'.
    tenant: Option<TenantId>,
    /// The bot's.
    traceparent: Option<String>,
    fact: Fact,
}

/// What is listened to.
pub fn subscription(installation: &Installation) -> Subscription {
    let subjects =
        vec![subjects::event(installation, "bot", "state_changed"), subjects::event(installation, "runner", "gone")];
    Subscription::new("recordings", "recordings", streams::events(installation), subjects)
}

/// Folds what is heard into the recordings.
pub struct Handler {
    pub store: Store,
    pub clock: Clock,
    pub limits: Limits,
    pub signal: Arc<Notify>,
}

impl BatchHandler for Handler {
    type Input = Heard;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Heard>, serde_json::Error> {
        match header.message_type.as_str() {
            BotStateChanged::TYPE => bot_state_changed::parse(header, body),
            RunnerGone::TYPE => runner_gone::parse(header, body),
            _ => Ok(None),
        }
    }

    fn key(&self, heard: &Heard) -> Uuid {
        heard.bot.uuid()
    }

    async fn handle(&self, batch: &[Heard]) -> Result<Vec<Outcome>, Failure> {
        self.fold(batch).await?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}

impl Handler {
    async fn fold(&self, batch: &[Heard]) -> Result<(), greenroom_store::Error> {
        let now = self.clock.now();
        let over: Vec<_> =
            batch.iter().filter_map(|heard| Some((heard.tenant?, heard.bot, heard.traceparent.clone()))).collect();
        let mut bots: Vec<_> = batch.iter().map(|heard| heard.bot).collect();
        bots.dedup();
        let mut tx = self.store.begin().await?;
        if !over.is_empty() {
            across::make(&mut tx, &over, now).await?;
        }
        // A runner of a bot that has no row yet has recorded nothing, and the bot's end comes with a grace.
        let rows = across::lock(&mut tx, &bots).await?;
        let mut changed = Vec::new();
        for row in rows {
            let before = row.progress()?;
            let mut progress = before.clone();
            for heard in batch.iter().filter(|heard| heard.bot == row.bot()) {
                progress.hear(heard.fact, now);
            }
            if progress != before {
                changed.push((row.tenant(), row.bot(), progress));
            }
        }
        let due = changed.iter().any(|(_, _, progress)| progress.due(&self.limits).is_some());
        if !changed.is_empty() {
            store::save(&mut tx, &changed, &self.limits).await?;
        }
        tx.commit().await?;
        if due {
            self.signal.notify_one();
        }
        Ok(())
    }
}
