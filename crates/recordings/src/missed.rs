//! Behind the bot's events stands a sweep: a recording to which nothing was added for a while may belong to a bot that is
//! over, and whose event never came. Its owner is asked.

use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::{Clock, InnerChannel};
use greenroom_contracts::bot_state;
use greenroom_contracts::on_behalf_of;
use greenroom_contracts::proto::v1::GetBotRequest;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_domain::bot::BotState;
use greenroom_store::Store;
use tokio::sync::Notify;
use tonic::Code;

use crate::policy::{Fact, Limits};
use crate::store::Row;
use crate::{Error, across, store};

/// Asked about in one turn.
const MOST: i64 = 100;

/// Asks owners about bots of which nothing was heard.
pub struct Missed {
    pub store: Store,
    pub clock: Clock,
    pub limits: Limits,
    pub signal: Arc<Notify>,
    pub scheduler: InnerChannel,
    /// A recording is quiet when no part has come for so long, and asked about again after so long.
    pub quiet: Duration,
}

impl Missed {
    /// One turn of the sweep.
    pub async fn turn(&self) -> Result<Option<Duration>, Error> {
        let now = self.clock.now();
        let before = now - self.quiet;
        let rows = across::quiet(self.store.pool(), before, before, MOST).await?;
        let mut asked = Vec::new();
        for row in rows {
            match self.ask(&row).await {
                Ok(over) => {
                    asked.push(row.bot_id);
                    if let Some(attempt) = over {
                        self.over(&row, attempt).await?;
                    }
                }
                // The others would wait as long for the same answer.
                Err(error) => {
                    tracing::warn!(error = error.message(), "cannot ask the scheduler about ended bots");
                    break;
                }
            }
        }
        if !asked.is_empty() {
            across::asked(self.store.pool(), &asked, now).await?;
        }
        Ok(None)
    }

    /// The last attempt of a bot that is over.
    async fn ask(&self, row: &Row) -> Result<Option<u32>, tonic::Status> {
        let request = on_behalf_of(row.tenant(), GetBotRequest { bot_id: row.bot_id.to_string() });
        match BotServiceClient::new(self.scheduler.clone()).get_bot(request).await {
            Ok(bot) => {
                let bot = bot.into_inner();
                let over = bot_state(bot.state()).is_some_and(BotState::is_terminal);
                Ok(over.then_some(bot.attempt))
            }
            // Nothing to conclude from: its parts stay where they are.
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn over(&self, row: &Row, attempt: u32) -> Result<(), Error> {
        let (tenant, bot, now) = (row.tenant(), row.bot(), self.clock.now());
        let mut tx = self.store.begin().await?;
        let mut progress = store::lock(&mut tx, tenant, bot, now).await?.progress()?;
        progress.hear(Fact::BotOver { attempt }, now);
        store::save(&mut tx, &[(tenant, bot, progress)], &self.limits).await?;
        tx.commit().await?;
        tracing::info!(bot.id = %bot, attempt, "ended bot found without an event");
        self.signal.notify_one();
        Ok(())
    }
}
