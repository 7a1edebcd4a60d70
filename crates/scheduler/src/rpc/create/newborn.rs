//! What new bots write and say, gathered for one statement.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::BotCreated;
use greenroom_domain::bot::{BotState, Decision, Event, decide};
use greenroom_domain::{BotId, TenantId, Timestamp};
use greenroom_store::{Error, Outbox, Tx};

use super::Create;
use crate::rows::{AttemptJson, KeyJson, NewBotJson, NewRows, Stored, TimelineJson};
use crate::store;
use crate::writer::{Writer, ordered, say_public, state_changed};

/// Bots that are not made yet, and all that goes with them.
pub struct Newborn<'a> {
    writer: &'a Writer,
    now: Timestamp,
    bots: Vec<Stored>,
    rows: NewRows,
    outbox: Outbox,
}

impl<'a> Newborn<'a> {
    pub fn new(writer: &'a Writer, now: Timestamp) -> Self {
        let outbox = Outbox::new(writer.store());
        Self { writer, now, bots: Vec::new(), rows: NewRows::default(), outbox }
    }

    /// Adds one. If it is due, it is enqueued by the same statement: no sweep stands between a request and its start.
    pub fn add(&mut self, create: &Create, number: i64) {
        let mut stored = create.stored.clone();
        stored.details.number = number;
        stored.sequence = 1;
        let first = stored.bot.state;
        let mut effects = Vec::new();
        let ordered = ordered(&stored.bot, &self.writer.order);
        if let Decision::Advance { next, effects: following } =
            decide(ordered.as_ref().unwrap_or(&stored.bot), &Event::Tick, self.now, &self.writer.timing)
        {
            stored.bot = *next;
            stored.sequence = 2;
            effects = following;
        }
        let created =
            BotCreated { bot: stored.bot.id, number, state: first, provider: stored.details.provider.clone() };
        say_public(&mut self.outbox, &stored, 1, self.now, created);
        self.tell(stored.bot.id, 1, "created", first);
        if stored.sequence == 2 {
            say_public(&mut self.outbox, &stored, 2, self.now, state_changed(&stored, first));
            self.tell(stored.bot.id, 2, "due", stored.bot.state);
        }
        self.writer.say_effects(&mut self.outbox, &stored, &effects, self.now);
        self.rows
            .attempts
            .extend(stored.bot.attempt.iter().map(|attempt| AttemptJson::new(stored.bot.id, attempt, None)));
        self.rows.keys.extend((!create.key.is_empty()).then(|| KeyJson {
            tenant_id: stored.bot.tenant,
            key: create.key.clone(),
            request: create.request.clone(),
            bot_id: stored.bot.id,
            created_at: self.now,
        }));
        self.rows.bots.push(NewBotJson::new(&stored, !create.key.is_empty()));
        self.bots.push(stored);
    }

    fn tell(&mut self, bot: BotId, sequence: i64, what: &str, state: BotState) {
        self.rows.timeline.push(TimelineJson {
            bot_id: bot,
            sequence,
            at: self.now,
            what: what.to_owned(),
            state,
            attempt: 0,
            reason: None,
            detail: None,
        });
    }

    /// Makes them, but for those whose idempotency key is another's. Returns those that are made, as they are stored.
    pub async fn make(self) -> Result<BTreeMap<BotId, Stored>, Error> {
        let made = store::create(self.writer.store().pool(), &self.rows, &self.outbox).await?;
        Ok(self.committed(&made))
    }

    /// The same within a transaction that has locked these tenants, and that is committed here.
    pub async fn make_within(mut self, mut tx: Tx, counted: Vec<TenantId>) -> Result<BTreeMap<BotId, Stored>, Error> {
        self.rows.counted = counted;
        let made = store::create(&mut *tx, &self.rows, &self.outbox).await?;
        tx.commit().await?;
        Ok(self.committed(&made))
    }

    fn committed(self, made: &BTreeSet<BotId>) -> BTreeMap<BotId, Stored> {
        self.outbox.committed_for(|bot| made.contains(&BotId::from_uuid(bot)));
        let bots = self.bots.into_iter().map(|stored| (stored.bot.id, stored));
        let bots: BTreeMap<BotId, Stored> = bots.filter(|(bot, _)| made.contains(bot)).collect();
        self.writer.look_again(bots.values().filter_map(|stored| stored.bot.wake_at).min(), self.now);
        bots
    }
}
