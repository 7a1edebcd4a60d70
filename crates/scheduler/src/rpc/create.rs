//! Makes bots: concurrent callers share one statement, and an idempotency key makes one bot.

mod newborn;

use std::collections::BTreeSet;
use std::sync::Arc;

use greenroom_contracts::proto::v1::{Bot, SchedulerCreateRequest};
use greenroom_domain::{BotId, TenantId};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{Door, answer, status};
use crate::rows::Stored;
use crate::writer::Writer;
use crate::{Error, limits, store};

use newborn::Newborn;

/// A bot to be made.
pub(crate) struct Create {
    stored: Stored,
    key: String,
    /// SHA-256 in hexadecimal.
    request: String,
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
}

/// Several callers share an error.
pub(crate) type Answer = Result<Created, Arc<Error>>;

pub async fn create(door: &Door, request: SchedulerCreateRequest) -> Result<Bot, Status> {
    let caller = request.caller.ok_or_else(|| Status::invalid_argument("caller: is missing"))?;
    let create = request.create.ok_or_else(|| Status::invalid_argument("create: is missing"))?;
    let stored = limits::new_bot(&caller, &create, door.writer.now(), &door.config)?;
    let tenant = stored.bot.tenant;
    let hash = Sha256::digest(create.bot.unwrap_or_default().encode_to_vec());
    let asked = Create { stored, key: create.idempotency_key, request: hex(&hash) };
    match door.creates.ask(asked).await.ok_or(Error::Stopping)? {
        Ok(Created::Made(stored)) => Ok(answer::bot(&stored)),
        Ok(Created::Before(bot)) => {
            let stored = store::get(door.writer.store().pool(), tenant, bot).await.map_err(Error::from)?;
            Ok(answer::bot(&stored.ok_or_else(super::no_such_bot)?))
        }
        Ok(Created::KeyReused) => Err(Error::KeyReused.into()),
        Ok(Created::KeyForgotten) => Err(Status::aborted("the bot was not made")),
        Err(error) => Err(status(&error)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a batch of bots, one answer each. When Postgres refuses it, it is halved until the culprit is alone (as the bus does
/// with messages): one request that cannot be must not fail the others.
pub(crate) async fn create_all(writer: &Writer, batch: &[Create]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    // The parts that are to be done, the first of them last.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match try_create_all(writer, part).await {
            Ok(part) => answers.extend(part),
            // Refused, so nothing of it was written.
            Err(Error::Store(error)) if !error.is_away() => match part.split_at(part.len() / 2) {
                ([], _) => answers.push(Err(Arc::new(error.into()))),
                (first, second) => parts.extend([second, first]),
            },
            // The other parts would fail as well, each after as long a wait.
            Err(error) => {
                let error = Arc::new(error);
                answers.extend((answers.len()..batch.len()).map(|_| Err(error.clone())));
                return answers;
            }
        }
    }
    answers
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
    let mut made = newborn.make().await?;
    let lost: Vec<(TenantId, String)> = batch
        .iter()
        .filter(|create| !made.contains_key(&create.stored.bot.id))
        .map(|create| (create.stored.bot.tenant, create.key.clone()))
        .collect();
    // A statement of its own: it sees the winner's row, for which the first one has waited. When it fails, the bots of the
    // others are made nevertheless.
    let known = if lost.is_empty() { Ok(Vec::new()) } else { store::idempotent(writer.store().pool(), &lost).await };
    let known = known.map_err(|error| Arc::new(error.into()));
    Ok(batch
        .iter()
        .map(|create| match made.remove(&create.stored.bot.id) {
            Some(stored) => Ok(Created::Made(Box::new(stored))),
            None => known.as_ref().map(|known| before(create, known)).map_err(Arc::clone),
        })
        .collect())
}

/// What became of the key that another one had first.
fn before(create: &Create, known: &[(TenantId, String, BotId, Vec<u8>)]) -> Created {
    let found = known.iter().find(|(tenant, key, ..)| *tenant == create.stored.bot.tenant && *key == create.key);
    match found {
        Some((_, _, bot, request)) if hex(request) == create.request => Created::Before(*bot),
        Some(_) => Created::KeyReused,
        None => Created::KeyForgotten,
    }
}
