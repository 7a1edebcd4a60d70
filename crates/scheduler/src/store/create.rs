//! New bots: across tenants, as callers share a statement.

use std::collections::BTreeSet;

use greenroom_domain::{BotId, TenantId};
use greenroom_store::{Error, Outbox};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::{ATTEMPT, LINE, columns};
use crate::rows::NewRows;

const COUNTED: &str = ",
         counted AS (
              UPDATE scheduler.usage u
                 SET made = u.made + m.bots
                FROM (SELECT tenant_id, count(*) AS bots FROM made GROUP BY tenant_id) m
               WHERE u.tenant_id = m.tenant_id AND u.tenant_id = ANY($10))";

/// Numbers for bots that are to be made, from the sequence of the column.
pub async fn numbers(pool: &PgPool, count: usize) -> Result<Vec<i64>, Error> {
    let sql = "SELECT nextval('scheduler.bots_number_seq') FROM generate_series(1, $1)";
    Ok(sqlx::query_scalar(sql).bind(i64::try_from(count).unwrap_or(i64::MAX)).fetch_all(pool).await?)
}

/// Makes bots with all that goes with them, and returns which: all but those whose idempotency key is another's.
///
/// One statement, which commits itself: a caller waits for one round trip, and for one flush of the log. (Each statement of a
/// transaction would be a round trip, and so would BEGIN and COMMIT.) A key that another transaction has written and not
/// committed is waited for; keys are claimed in their order, so that no two batches wait for each other. What depends on a bot
/// is joined to `made` as a set, and no table is read: there is no plan that could be a bad one.
///
/// What tenants have made is counted for those in `new.counted`, whose rows are there and locked by this transaction.
pub async fn create(executor: impl PgExecutor<'_>, new: &NewRows, outbox: &Outbox) -> Result<BTreeSet<BotId>, Error> {
    let counted = if new.counted.is_empty() { "" } else { COUNTED };
    let (attempt, line) = (columns(ATTEMPT), columns(LINE));
    let sql = format!(
        "WITH won AS (
              INSERT INTO scheduler.idempotency (tenant_id, key, request, bot_id, created_at)
              SELECT tenant_id, key, decode(request, 'hex'), bot_id, created_at
                FROM jsonb_to_recordset($1) AS k (
                     tenant_id uuid, key text, request text, bot_id uuid, created_at timestamptz)
               ORDER BY tenant_id, key
              ON CONFLICT (tenant_id, key) DO NOTHING
              RETURNING bot_id),
         made AS (
              INSERT INTO scheduler.bots (id, number, shard, tenant_id, version, sequence, state, state_since, reason, provider, settings, start_at,
                     end_at, priority, chain, chain_from, failures, queued_at, queue_deadline, joined_at, wake_at, asserts, attempt,
                     deduplication_key, weight, cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb, traceparent, created_at,
                     updated_at)
              SELECT id, number, shard, tenant_id, version, sequence, state, state_since, reason, provider, settings, start_at,
                     end_at, priority, chain, chain_from, failures, queued_at, queue_deadline, joined_at, wake_at, asserts, attempt,
                     deduplication_key, weight, cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb, traceparent, created_at,
                     updated_at
                FROM jsonb_to_recordset($2) AS n (
                     id uuid, number bigint, keyed boolean, shard smallint, tenant_id uuid, version bigint,
                     sequence bigint, state text, state_since timestamptz, reason text, provider text, settings jsonb,
                     start_at timestamptz, end_at timestamptz, priority integer, chain text[], chain_from integer, failures integer,
                     queued_at timestamptz, queue_deadline timestamptz, joined_at timestamptz, wake_at timestamptz,
                     asserts integer, attempt integer, deduplication_key text, weight integer, cpu_millis integer,
                     memory_mb integer, cpu_limit_millis integer, memory_limit_mb integer, traceparent text,
                     created_at timestamptz, updated_at timestamptz)
               WHERE NOT n.keyed OR n.id IN (SELECT bot_id FROM won)
              RETURNING id, tenant_id),
         tried AS (
              INSERT INTO scheduler.attempts ({attempt})
              SELECT {attempt} FROM jsonb_to_recordset($3) AS a ({ATTEMPT})
               WHERE a.bot_id IN (SELECT id FROM made)),
         told AS (
              INSERT INTO scheduler.timeline ({line})
              SELECT {line} FROM jsonb_to_recordset($4) AS t ({LINE})
               WHERE t.bot_id IN (SELECT id FROM made)),
         said AS (
              INSERT INTO scheduler.outbox (created_at, id, subject, body)
              SELECT o.created_at, o.id, o.subject, o.body
                FROM unnest($5::uuid[], $6::timestamptz[], $7::uuid[], $8::text[], $9::bytea[])
                     AS o (bot_id, created_at, id, subject, body)
               WHERE o.bot_id IN (SELECT id FROM made)){counted}
         SELECT id FROM made"
    );
    let query = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(Json(&new.keys))
        .bind(Json(&new.bots))
        .bind(Json(&new.attempts))
        .bind(Json(&new.timeline))
        .bind(outbox.whose())
        .bind(outbox.created_at())
        .bind(outbox.ids())
        .bind(outbox.subjects())
        .bind(outbox.bodies());
    let counted: Vec<Uuid> = new.counted.iter().map(|tenant| tenant.uuid()).collect();
    let query = if counted.is_empty() { query } else { query.bind(counted) };
    let made: Vec<Uuid> = query.fetch_all(executor).await?;
    Ok(made.into_iter().map(BotId::from_uuid).collect())
}

/// What became of an idempotency key: the bot that has it and the request it came with.
pub async fn idempotent(
    executor: impl PgExecutor<'_>,
    keys: &[(TenantId, String)],
) -> Result<Vec<(TenantId, String, BotId, String)>, Error> {
    let rows = sqlx::query(
        "SELECT i.tenant_id, i.key, i.bot_id, encode(i.request, 'hex') AS request
           FROM scheduler.idempotency i
           JOIN unnest($1::uuid[], $2::text[]) AS k (tenant_id, key) USING (tenant_id, key)",
    )
    .bind(keys.iter().map(|(tenant, _)| tenant.uuid()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok((
                TenantId::from_uuid(row.try_get("tenant_id")?),
                row.try_get("key")?,
                BotId::from_uuid(row.try_get("bot_id")?),
                row.try_get("request")?,
            ))
        })
        .collect()
}
