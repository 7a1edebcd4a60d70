//! Makes bots: concurrent callers share one transaction, and an idempotency key makes one bot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_contracts::messages::BotCreated;
use greenroom_contracts::proto::v1::{Bot, SchedulerCreateRequest};
use greenroom_domain::bot::{BotState, Decision, Effect, Event, decide};
use greenroom_domain::{BotId, Shard, TenantId};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use super::{Door, answer, status};
use crate::rows::{AttemptJson, NewBotJson, Stored, TimelineJson};
use crate::writer::{Writer, say_public, state_changed};
use crate::{Error, limits, store};

/// A bot to be made.
pub(crate) struct Create {
    stored: Stored,
    key: String,
    request: String,
}

pub async fn create(door: &Door, request: SchedulerCreateRequest) -> Result<Bot, Status> {
    let caller = request.caller.ok_or_else(|| Status::invalid_argument("caller: is missing"))?;
    let create = request.create.ok_or_else(|| Status::invalid_argument("create: is missing"))?;
    let stored = limits::new_bot(&caller, &create, door.writer.now(), &door.config)?;
    let tenant = stored.bot.tenant;
    let hash = Sha256::digest(create.bot.unwrap_or_default().encode_to_vec());
    let request = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = door.creates.ask(Create { stored, key: create.idempotency_key, request }).await;
    let bot = match made.ok_or(Error::Stopping)? {
        Ok(Ok(bot)) => bot,
        Ok(Err(Code::AlreadyExists)) => return Err(Error::KeyReused.into()),
        Ok(Err(code)) => return Err(Status::new(code, "the bot was not made")),
        Err(error) => return Err(status(&error)),
    };
    let stored = store::get(door.writer.store().pool(), tenant, bot).await.map_err(Error::from)?;
    Ok(answer::bot(&stored.ok_or_else(super::no_such_bot)?))
}

pub(crate) async fn create_all(writer: &Writer, batch: Vec<Create>) -> Vec<Result<Result<BotId, Code>, Arc<Error>>> {
    let count = batch.len();
    match try_create_all(writer, batch).await {
        Ok(made) => made.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = Arc::new(error);
            (0..count).map(|_| Err(error.clone())).collect()
        }
    }
}

async fn try_create_all(writer: &Writer, batch: Vec<Create>) -> Result<Vec<Result<BotId, Code>>, Error> {
    let now = writer.now();
    let mut tx = writer.store().begin().await?;

    // Whose key it is first, it is: among the callers of this batch as among batches.
    let mut claims: BTreeMap<(TenantId, &str), store::KeyJson> = BTreeMap::new();
    for create in batch.iter().filter(|create| !create.key.is_empty()) {
        claims.entry((create.stored.bot.tenant, &create.key)).or_insert_with(|| store::KeyJson {
            tenant_id: create.stored.bot.tenant,
            key: create.key.clone(),
            request: create.request.clone(),
            bot_id: create.stored.bot.id,
            created_at: now,
        });
    }
    let claims: Vec<store::KeyJson> = claims.into_values().collect();
    let won: BTreeSet<BotId> =
        if claims.is_empty() { BTreeSet::new() } else { store::claim(&mut tx, &claims).await?.into_iter().collect() };
    let lost: Vec<(TenantId, String)> = batch
        .iter()
        .filter(|create| !create.key.is_empty() && !won.contains(&create.stored.bot.id))
        .map(|create| (create.stored.bot.tenant, create.key.clone()))
        .collect();
    let known = if lost.is_empty() { Vec::new() } else { store::idempotent(&mut tx, &lost).await? };

    let mut answers = Vec::with_capacity(batch.len());
    let mut made = Vec::new();
    for create in batch {
        if create.key.is_empty() || won.contains(&create.stored.bot.id) {
            answers.push(Ok(create.stored.bot.id));
            made.push(create.stored);
            continue;
        }
        let found = known
            .iter()
            .find(|(tenant, key, _, _)| *tenant == create.stored.bot.tenant && *key == create.key)
            .map(|(_, _, bot, request)| (*bot, request.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
        answers.push(match found {
            Some((bot, request)) if request == create.request => Ok(bot),
            Some(_) => Err(Code::AlreadyExists),
            None => Err(Code::Aborted),
        });
    }
    write(writer, &mut tx, made, now).await?;
    tx.commit().await?;
    Ok(answers)
}

async fn write(
    writer: &Writer,
    tx: &mut greenroom_store::Tx,
    made: Vec<Stored>,
    now: greenroom_domain::Timestamp,
) -> Result<(), Error> {
    if made.is_empty() {
        return Ok(());
    }
    // A bot that is due is enqueued in the same transaction: no sweep stands between a request and its start.
    let mut bots: Vec<(Stored, BotState, Vec<Effect>)> = made
        .into_iter()
        .map(|mut stored| {
            stored.sequence = 1;
            let first = stored.bot.state;
            let mut effects = Vec::new();
            if let Decision::Advance { next, effects: following } =
                decide(&stored.bot, &Event::Tick, now, &writer.timing)
            {
                stored.bot = *next;
                stored.sequence = 2;
                effects = following;
            }
            (stored, first, effects)
        })
        .collect();
    let rows: Vec<NewBotJson> = bots.iter().map(|(stored, _, _)| row(stored)).collect();
    let numbers: BTreeMap<BotId, i64> = store::insert(tx, &rows).await?.into_iter().collect();
    let mut attempts = Vec::new();
    let mut timeline = Vec::new();
    for (stored, first, effects) in &mut bots {
        stored.details.number = numbers.get(&stored.bot.id).copied().unwrap_or_default();
        let mut line = |sequence, what: &str, state| {
            timeline.push(TimelineJson {
                bot_id: stored.bot.id,
                sequence,
                at: now,
                what: what.to_owned(),
                state,
                attempt: 0,
                reason: None,
                detail: None,
            });
        };
        line(1, "created", *first);
        if stored.sequence == 2 {
            line(2, "due", stored.bot.state);
        }
        attempts.extend(stored.bot.attempt.iter().map(|attempt| AttemptJson::new(stored.bot.id, attempt, None)));
        let created = BotCreated {
            bot: stored.bot.id,
            number: stored.details.number,
            state: *first,
            provider: stored.details.provider.clone(),
        };
        say_public(tx, stored, 1, now, created);
        if stored.sequence == 2 {
            say_public(tx, stored, 2, now, state_changed(stored, *first));
        }
        writer.say_effects(tx, stored, effects, now);
    }
    store::put_attempts(tx, &attempts).await?;
    store::tell(tx, &timeline).await?;
    // What was asserted now is looked at again after `assert_first`, and the sweep comes by before that: to wake it for every
    // bot would be a sweep a bot.
    if bots.iter().any(|(stored, _, _)| stored.bot.wake_at.is_some_and(|at| at < now + writer.timing.assert_first)) {
        writer.sooner.notify_one();
    }
    Ok(())
}

fn row(stored: &Stored) -> NewBotJson {
    let (bot, details) = (&stored.bot, &stored.details);
    NewBotJson {
        id: bot.id,
        shard: Shard::of(bot.id.uuid()).number(),
        tenant_id: bot.tenant,
        provider: details.provider.to_string(),
        meeting_url: details.meeting_url.clone(),
        meeting_id: details.meeting_id.clone(),
        meeting_password: details.meeting_password.clone(),
        display_name: details.display_name.clone(),
        image: details.image.clone(),
        start_at: bot.start_at,
        end_at: bot.end_at,
        recording_enabled: details.recording_enabled,
        priority: details.priority,
        chain: bot.chain.clone(),
        max_retries: bot.policy.max_retries,
        rejoin: bot.policy.rejoin,
        queue_timeout_ms: bot.policy.queue_timeout.as_millis(),
        waiting_room_timeout_ms: bot.policy.waiting_room_timeout.as_millis(),
        no_one_joined_timeout_ms: details.no_one_joined.as_millis(),
        everyone_left_timeout_ms: details.everyone_left.as_millis(),
        inactivity_timeout_ms: details.inactivity.as_millis(),
        max_duration_ms: bot.policy.max_duration.as_millis(),
        metadata: details.metadata.clone(),
        traceparent: details.traceparent.clone(),
        created_at: details.created_at,
        changing: stored.into(),
    }
}
