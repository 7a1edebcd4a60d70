//! Makes bots: concurrent callers share one statement, and an idempotency key makes one bot. Where a tenant has limits, or a
//! request a deduplication key, the statement stands in a transaction that looks at them first.

mod guarded;
mod newborn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use greenroom_contracts::bad_fields;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{Bot, CreateBotRequest};
use greenroom_domain::{BotId, TenantId};
use greenroom_store::halve;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{Door, answer, refusal};
use crate::new_bot::new_bot;
use crate::quota::{Limits, Over};
use crate::rows::Stored;
use crate::writer::Writer;
use crate::{Error, store};

use newborn::Newborn;

/// A bot to be made.
#[derive(Clone)]
pub(crate) struct Create {
    stored: Stored,
    key: String,
    /// SHA-256 in hexadecimal.
    request: String,
    limits: Limits,
    time_zone: String,
}

impl Create {
    /// Whether more has to be looked at than its own key.
    fn is_guarded(&self) -> bool {
        self.limits != Limits::default() || self.stored.deduplication_key().is_some()
    }
}

/// What came of it.
pub(crate) enum Created {
    /// It is made, and this is all of it: nothing has to be read.
    Made(Box<Stored>),
    /// The same request has made this one before.
    Before(BotId),
    /// Another request has had this key.
    KeyReused,
    /// Another one had this key, and it was forgotten just now: the next try makes a bot.
    KeyForgotten,
    /// This one is alive and has the deduplication key.
    Duplicate(BotId),
    /// A limit of the tenant's is reached.
    Over(Over),
}

/// Several callers share an error.
pub(crate) type Answer = Result<Created, Arc<Error>>;

pub async fn create(door: &Door, caller: Caller, create: CreateBotRequest) -> Result<Bot, Status> {
    let tenant = super::tenant(&caller.tenant_id)?;
    let now = door.writer.now();
    let stored = new_bot(&caller, &create, now, &door.config, &door.sizes);
    let key = create.idempotency_key;
    let request = hex(&Sha256::digest(create.settings.unwrap_or_default().encode_to_vec()));
    let stored = match stored {
        Ok(stored) => stored,
        // Its times may have passed since it was made, or a platform may be no more: it is answered nevertheless.
        Err(bad) => return made_before(door, tenant, key, &request).await?.ok_or_else(|| bad_fields(&bad)),
    };
    let limits = Limits { daily: caller.daily_limit, concurrent: caller.concurrency_limit };
    let asked = Create { stored, key, request, limits, time_zone: caller.time_zone };
    let lane = if asked.is_guarded() { &door.guarded_creates } else { &door.creates };
    match lane.ask(asked).await.map_err(Error::from)? {
        Ok(Created::Made(stored)) => Ok(answer::bot(&stored)),
        Ok(Created::Before(bot)) => read(door, tenant, bot).await,
        Ok(Created::KeyReused) => Err(Error::KeyReused.into()),
        Ok(Created::KeyForgotten) => Err(Status::aborted("the bot was not made")),
        Ok(Created::Duplicate(bot)) => Err(refusal::duplicate(bot)),
        Ok(Created::Over(over)) => Err(refusal::over(&over, now)),
        Err(error) => Err(error.as_ref().into()),
    }
}

async fn read(door: &Door, tenant: TenantId, bot: BotId) -> Result<Bot, Status> {
    let stored = store::get(door.writer.store().pool(), tenant, bot).await.map_err(Error::from)?;
    stored.map(|stored| answer::bot(&stored)).ok_or_else(super::no_such_bot)
}

/// The bot that the very same request has made.
async fn made_before(door: &Door, tenant: TenantId, key: String, request: &str) -> Result<Option<Bot>, Status> {
    if key.is_empty() || key.contains('\0') {
        return Ok(None);
    }
    let known = store::idempotent(door.writer.store().pool(), &[(tenant, key)]).await.map_err(Error::from)?;
    match known.into_iter().find(|(.., made_it)| made_it == request) {
        Some((_, _, bot, _)) => read(door, tenant, bot).await.map(Some),
        None => Ok(None),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a batch of bots, one answer each.
pub(crate) async fn create_all(writer: &Writer, batch: &[Create]) -> Vec<Answer> {
    let create = |part| create_part(writer, part).boxed();
    let answers = halve(batch, Error::is_refused, create).await;
    answers.into_iter().map(|answer| answer.and_then(|answer| answer)).collect()
}

async fn create_part(writer: &Writer, part: &[Create]) -> Result<Vec<Answer>, Error> {
    if part.iter().any(Create::is_guarded) {
        guarded::create(writer, part).await
    } else {
        try_create_all(writer, part).await
    }
}

async fn try_create_all(writer: &Writer, batch: &[Create]) -> Result<Vec<Answer>, Error> {
    let now = writer.now();
    // Whose key it is first, it is: among the callers of this batch as among batches.
    let mut keys: BTreeSet<(TenantId, &str)> = BTreeSet::new();
    let asked: Vec<&Create> = batch
        .iter()
        .filter(|create| create.key.is_empty() || keys.insert((create.stored.bot.tenant, &create.key)))
        .collect();
    let numbers = writer.numbers.take(asked.len()).await?;
    let mut newborn = Newborn::new(writer, now);
    for (create, number) in asked.into_iter().zip(numbers) {
        newborn.add(create, number);
    }
    let made = newborn.make().await?;
    Ok(settled(writer, batch.iter().collect(), made).await)
}

/// The answers to those who were tried: made, or the key was another's.
async fn settled(writer: &Writer, tried: Vec<&Create>, mut made: BTreeMap<BotId, Stored>) -> Vec<Answer> {
    let lost: Vec<(TenantId, String)> = tried
        .iter()
        .filter(|create| !made.contains_key(&create.stored.bot.id))
        .map(|create| (create.stored.bot.tenant, create.key.clone()))
        .collect();
    // A statement of its own: it sees the winner's row, for which the first one has waited. When it fails, the bots of the
    // others are made nevertheless.
    let known = if lost.is_empty() { Ok(Vec::new()) } else { store::idempotent(writer.store().pool(), &lost).await };
    let known = known.map_err(|error| Arc::new(error.into()));
    tried
        .into_iter()
        .map(|create| match made.remove(&create.stored.bot.id) {
            Some(stored) => Ok(Created::Made(Box::new(stored))),
            None => known.as_ref().map(|known| before(create, known)).map_err(Arc::clone),
        })
        .collect()
}

/// What became of the key that another one had first.
fn before(create: &Create, known: &[(TenantId, String, BotId, String)]) -> Created {
    let found = known.iter().find(|(tenant, key, ..)| *tenant == create.stored.bot.tenant && *key == create.key);
    match found {
        Some((_, _, bot, request)) if *request == create.request => Created::Before(*bot),
        Some(_) => Created::KeyReused,
        None => Created::KeyForgotten,
    }
}
