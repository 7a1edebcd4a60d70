//! Storing entries: what is known about their lanes, and the one statement that writes them.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::Enqueue;
use greenroom_domain::{OwnerKind, PlatformName, RunnerId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{int, keys, runner_of};
use crate::lanes::{Lane, Pool, Served};

/// One at a time gives turns, until the transaction ends: for order and never for correctness.
pub async fn lock_lanes(connection: &mut PgConnection) -> Result<(), Error> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('greenroom queue lanes', 0))";
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}

/// What is known about one that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It has an entry.
    pub there: bool,
    /// The turn of the last in its lane.
    pub last: Option<i64>,
    /// The turn of the first in its lane whose place is after its own.
    pub next: Option<i64>,
}

/// What is known about those who come: who, into which lane, and at which place in it. The answers come in the same order.
pub async fn standing(
    connection: &mut PgConnection,
    coming: &[(RunnerId, Lane, Timestamp, Timestamp)],
) -> Result<Vec<Standing>, Error> {
    let (kinds, ids, attempts) = keys(coming.iter().map(|(runner, ..)| runner));
    // entries_pkey, and both ends of entries_lane
    let rows = sqlx::query(
        "SELECT coalesce((SELECT true FROM queue.entries e
                           WHERE e.owner_id = k.owner_id AND e.attempt = k.attempt AND e.kind = k.kind), false) AS there,
                (SELECT e.turn FROM queue.entries e
                  WHERE e.priority = k.priority AND e.tenant_id = k.tenant_id
                  ORDER BY e.lane_at DESC, e.queued_at DESC, e.owner_id DESC LIMIT 1) AS last,
                (SELECT e.turn FROM queue.entries e
                  WHERE e.priority = k.priority AND e.tenant_id = k.tenant_id
                    AND (e.lane_at, e.queued_at, e.owner_id) > (k.lane_at, k.queued_at, k.owner_id)
                  ORDER BY e.lane_at, e.queued_at, e.owner_id LIMIT 1) AS next
           FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::integer[], $5::uuid[], $6::timestamptz[],
                       $7::timestamptz[]) WITH ORDINALITY
                AS k (kind, owner_id, attempt, priority, tenant_id, lane_at, queued_at, nth)
          ORDER BY k.nth",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(coming.iter().map(|(_, (priority, _), ..)| int(*priority)).collect::<Vec<_>>())
    .bind(coming.iter().map(|(_, (_, tenant), ..)| tenant.uuid()).collect::<Vec<Uuid>>())
    .bind(coming.iter().map(|(_, _, lane_at, _)| sql_time(*lane_at)).collect::<Vec<SqlTimestamp>>())
    .bind(coming.iter().map(|(.., queued_at)| sql_time(*queued_at)).collect::<Vec<SqlTimestamp>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Standing { there: row.try_get("there")?, last: row.try_get("last")?, next: row.try_get("next")? })
        })
        .collect()
}

/// What is being served in these pools.
pub async fn served(connection: &mut PgConnection, pools: &BTreeSet<Pool>) -> Result<Served, Error> {
    // turns_pkey, and the first of waits_pkey within a pool and priority
    let rows = sqlx::query(
        "SELECT (SELECT t.turn FROM queue.turns t WHERE t.priority = k.priority) AS turn,
                (SELECT w.turn FROM queue.waits w
                  WHERE w.platform = k.platform AND w.provider = k.provider AND w.priority = k.priority
                  ORDER BY w.turn LIMIT 1) AS head
           FROM unnest($1::text[], $2::text[], $3::integer[]) WITH ORDINALITY AS k (platform, provider, priority, nth)
          ORDER BY k.nth",
    )
    .bind(pools.iter().map(|(platform, ..)| platform.as_str()).collect::<Vec<_>>())
    .bind(pools.iter().map(|(_, provider, _)| provider.as_str()).collect::<Vec<_>>())
    .bind(pools.iter().map(|(.., priority)| int(*priority)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let (mut turns, mut heads) = (BTreeMap::new(), BTreeMap::new());
    for (pool, row) in pools.iter().zip(&rows) {
        if let Some(turn) = row.try_get("turn")? {
            turns.insert(pool.2, turn);
        }
        if let Some(head) = row.try_get("head")? {
            heads.insert(pool.clone(), head);
        }
    }
    Ok(Served { turns, heads })
}

/// An entry, as JSON for one INSERT of many.
#[derive(Debug, Serialize)]
pub struct EntryJson<'a> {
    kind: OwnerKind,
    owner_id: Uuid,
    attempt: i32,
    tenant_id: TenantId,
    provider: &'a str,
    spec: String,
    platforms: &'a [PlatformName],
    pub opened: usize,
    pub open_at: Option<Timestamp>,
    tier: i32,
    priority: i32,
    rise_at: Option<Timestamp>,
    weight: i32,
    lane_at: Timestamp,
    pub turn: i64,
    queued_at: Timestamp,
    not_before: Timestamp,
    since: Timestamp,
    deadline: Timestamp,
    revision: i64,
    traceparent: Option<&'a str>,
}

impl<'a> EntryJson<'a> {
    /// An entry that comes now, at a priority that it has until `rise_at`. It has no platforms and no turn yet.
    pub fn new(
        enqueue: &'a Enqueue,
        traceparent: Option<&'a str>,
        now: Timestamp,
        (priority, rise_at): (u32, Option<Timestamp>),
    ) -> Self {
        Self {
            kind: enqueue.runner.kind,
            owner_id: enqueue.runner.id,
            attempt: int(enqueue.runner.attempt.0),
            tenant_id: enqueue.spec.tenant,
            provider: enqueue.spec.provider.as_str(),
            spec: serde_json::to_string(&enqueue.spec).expect("plain data"),
            platforms: &enqueue.platforms,
            opened: 0,
            open_at: None,
            tier: int(enqueue.priority),
            priority: int(priority),
            rise_at,
            weight: int(enqueue.weight),
            lane_at: enqueue.queued_at,
            turn: 0,
            queued_at: enqueue.queued_at,
            not_before: enqueue.not_before,
            since: now.max(enqueue.not_before),
            deadline: enqueue.deadline,
            revision: enqueue.revision,
            traceparent,
        }
    }
}

/// Stores entries; those that are there stay as they are. Says which are new.
pub async fn put(
    connection: &mut PgConnection,
    entries: &[EntryJson<'_>],
    now: Timestamp,
) -> Result<Vec<RunnerId>, Error> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH new AS (
             INSERT INTO queue.entries (kind, owner_id, attempt, tenant_id, provider, spec, platforms, opened, open_at, tier,
                    priority, rise_at, weight, lane_at, turn, queued_at, not_before, since, deadline, revision,
                    traceparent)
             SELECT kind, owner_id, attempt, tenant_id, provider, spec, platforms, opened, open_at, tier,
                    priority, rise_at, weight, lane_at, turn, queued_at, not_before, since, deadline, revision,
                    traceparent
               FROM jsonb_to_recordset($1) AS e (
                    kind text, owner_id uuid, attempt integer, tenant_id uuid, provider text, spec text, platforms text[],
                    opened integer, open_at timestamptz, tier integer, priority integer, rise_at timestamptz,
                    weight integer, lane_at timestamptz, turn bigint, queued_at timestamptz, not_before timestamptz,
                    since timestamptz, deadline timestamptz, revision bigint, traceparent text)
              ORDER BY owner_id, attempt, kind
             ON CONFLICT (owner_id, attempt, kind) DO NOTHING
             RETURNING kind, owner_id, attempt, provider, platforms, opened, priority, turn, queued_at, not_before, tier,
                       since),
         later AS (
             INSERT INTO queue.later (not_before, kind, owner_id, attempt)
             SELECT n.not_before, n.kind, n.owner_id, n.attempt FROM new n WHERE n.not_before > $2),
         waits AS (
             INSERT INTO queue.waits (platform, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since)
             SELECT p.platform, n.provider, n.priority, n.turn, n.queued_at, n.owner_id, n.attempt, n.kind, n.tier, n.since
               FROM new n CROSS JOIN LATERAL unnest(n.platforms[1:n.opened]) AS p (platform)
              WHERE n.not_before <= $2
             ON CONFLICT DO NOTHING),
         counted AS (
             INSERT INTO queue.lengths AS l (platform, tier, part, waiting)
             SELECT p.platform, n.tier, pg_backend_pid() % 16, count(*)
               FROM new n CROSS JOIN LATERAL unnest(n.platforms[1:n.opened]) AS p (platform)
              GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (platform, tier, part) DO UPDATE SET waiting = l.waiting + excluded.waiting)
         SELECT kind, owner_id, attempt FROM new",
    )
    .bind(Json(entries))
    .bind(sql_time(now))
    .fetch_all(connection)
    .await?;
    rows.iter().map(runner_of).collect()
}

/// Gives entries that are there the deadlines that their owners have moved, where nothing newer is known.
pub async fn move_deadlines(connection: &mut PgConnection, enqueued: &[&Enqueue]) -> Result<(), Error> {
    // Always in the same order, as two batches may tell of the same entries.
    let mut enqueued = enqueued.to_vec();
    enqueued.sort_unstable_by_key(|one| one.runner);
    let (kinds, ids, attempts) = keys(enqueued.iter().map(|one| &one.runner));
    // entries_pkey
    sqlx::query(
        "UPDATE queue.entries e SET deadline = k.deadline, revision = k.revision
           FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::timestamptz[], $5::bigint[])
                AS k (kind, owner_id, attempt, deadline, revision)
          WHERE e.owner_id = ANY ($2) AND e.owner_id = k.owner_id AND e.attempt = k.attempt AND e.kind = k.kind
            AND e.revision < k.revision",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(enqueued.iter().map(|one| sql_time(one.deadline)).collect::<Vec<SqlTimestamp>>())
    .bind(enqueued.iter().map(|one| one.revision).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
