//! The pool manager's SQL, all of it. Nothing here is asked for a tenant: slots are the installation's.

mod assign;
mod breakers;
mod lists;
mod platforms;
mod pools;
mod slots;
mod standing;
mod stats;

use std::time::Duration;

use greenroom_domain::{
    AssignmentId, Attempt, OwnerKind, PlatformName, Provider, RunnerId, RunnerSpec, SlotId, Standing, Timestamp,
};
use greenroom_store::{Error, SqlTimestamp, sql_time, sql_time_opt};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::policy::{Assignment, State};
use crate::room::{Idle, Stands, Warm};

pub use assign::{Gift, Times, give, lock_platforms, rooms};
pub use breakers::{Key, all_breakers, breakers, deaf_breakers, save_breakers};
pub use lists::{List, Page, Shows, complete_lists, forget_lists, keep_page, losses, orphans};
pub use platforms::{
    Platform, align_slots, exhaust, lock_platform, misaligned, no_longer_exhausted, no_longer_full, platforms,
    raise_version, save_platform, set_provider_limit, sync_installation, sync_platforms, want,
};
pub use pools::{
    Decided, PoolRow, PoolShown, Scaling, forget_scalings, keep_samples, platforms_with_pools, pools, pools_shown,
    rows_of, save_decided, save_waiting, scalings, sync_pools,
};
pub use slots::{SlotRow, described, free_slot, set_cordoned, slot, slots};
pub use standing::{
    Stood, all_standing, forget_standing, plan_standing, platforms_to_tend, save_descriptions, save_standing, soil,
    standing, standing_losses, standing_orphans,
};
pub use stats::{Counted, counts, forget_history, history, keep_history, known, provider_limits};

/// An assignment as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub runner: RunnerId,
    pub id: AssignmentId,
    pub assignment: Assignment,
    pub platform: Option<PlatformName>,
    pub slot_id: Option<SlotId>,
    pub slot_name: String,
    /// Of the standing slot, where it is one.
    pub generation: Option<u32>,
    pub provider: Provider,
    pub spec: Option<RunnerSpec>,
    pub traceparent: Option<String>,
}

impl Stored {
    /// The standing slot that it has, where it is one.
    pub fn standing(&self) -> Option<Standing> {
        Some(Standing { slot: self.slot_id?, generation: self.generation? })
    }
}

/// What a row says of a standing slot; none: it is a slot for anybody.
fn stands(pool: &str, generation: i32) -> Result<Option<Stands>, Error> {
    if pool.is_empty() {
        return Ok(None);
    }
    let pool = Provider::new(pool).map_err(|error| Error::row("slots.pool", error))?;
    Ok(Some(Stands { pool, generation: u32::try_from(generation).unwrap_or(0) }))
}

const COLUMNS: &str = "kind, owner_id, attempt, id, state, platform, slot_id, slot_name, generation, provider, spec, traceparent, start_by, observed, grace_ms, wake_at, asserts, starts";

fn runner_of(row: &PgRow) -> Result<RunnerId, Error> {
    let kind: String = row.try_get("kind")?;
    Ok(RunnerId {
        kind: kind.parse::<OwnerKind>().map_err(|error| Error::row("assignments.kind", error))?,
        id: row.try_get("owner_id")?,
        attempt: Attempt(u32::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(0)),
    })
}

fn stored(row: &PgRow) -> Result<Stored, Error> {
    let state: String = row.try_get("state")?;
    let platform: Option<String> = row.try_get("platform")?;
    let spec: String = row.try_get("spec")?;
    let provider: String = row.try_get("provider")?;
    Ok(Stored {
        runner: runner_of(row)?,
        id: AssignmentId::from_uuid(row.try_get("id")?),
        assignment: Assignment {
            state: State::parse(&state).ok_or_else(|| Error::row("assignments.state", state))?,
            start_by: row.try_get::<SqlTimestamp, _>("start_by")?.to_jiff(),
            observed: row.try_get("observed")?,
            grace: Duration::from_millis(u64::try_from(row.try_get::<i64, _>("grace_ms")?).unwrap_or(0)),
            wake_at: row.try_get::<Option<SqlTimestamp>, _>("wake_at")?.map(SqlTimestamp::to_jiff),
            asserts: u32::try_from(row.try_get::<i32, _>("asserts")?).unwrap_or(0),
            starts: u32::try_from(row.try_get::<i32, _>("starts")?).unwrap_or(0),
        },
        platform: platform
            .map(PlatformName::new)
            .transpose()
            .map_err(|error| Error::row("assignments.platform", error))?,
        slot_id: row.try_get::<Option<Uuid>, _>("slot_id")?.map(SlotId::from_uuid),
        slot_name: row.try_get("slot_name")?,
        generation: row.try_get::<Option<i32>, _>("generation")?.map(|n| u32::try_from(n).unwrap_or(0)),
        provider: Provider::new(provider).map_err(|error| Error::row("assignments.provider", error))?,
        // A closing stands there without a spec.
        spec: if spec.is_empty() {
            None
        } else {
            Some(serde_json::from_str(&spec).map_err(|error| Error::row("assignments.spec", error))?)
        },
        traceparent: row.try_get("traceparent")?,
    })
}

fn keys(runners: &[RunnerId]) -> (Vec<&'static str>, Vec<Uuid>, Vec<i32>) {
    (
        runners.iter().map(|runner| runner.kind.as_str()).collect(),
        runners.iter().map(|runner| runner.id).collect(),
        runners.iter().map(|runner| i32::try_from(runner.attempt.0).unwrap_or(i32::MAX)).collect(),
    )
}

/// Writes closings for runners that have no assignment; says which were closed by it.
pub async fn close(
    connection: &mut PgConnection,
    runners: &[RunnerId],
    now: Timestamp,
) -> Result<Vec<RunnerId>, Error> {
    let (kinds, ids, attempts) = keys(runners);
    let rows = sqlx::query(
        "INSERT INTO pool.assignments (kind, owner_id, attempt, id, state, slot_name, provider, spec, assigned_at, start_by,
                observed, grace_ms, asserts, ended_at)
         SELECT k.kind, k.owner_id, k.attempt, k.owner_id, 'closed', '', 'none', '', $4, $4, false, 0, 0, $4
           FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
          ORDER BY k.owner_id, k.attempt
         ON CONFLICT (kind, owner_id, attempt) DO NOTHING
         RETURNING kind, owner_id, attempt",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(sql_time(now))
    .fetch_all(connection)
    .await?;
    rows.iter().map(runner_of).collect()
}

/// Reads assignments as they are.
pub async fn read(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<Vec<Stored>, Error> {
    select(connection, runners, "").await
}

/// Reads assignments and locks them until the transaction ends, in the order of their keys.
pub async fn lock(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<Vec<Stored>, Error> {
    select(connection, runners, "ORDER BY kind, owner_id, attempt FOR UPDATE").await
}

async fn select(connection: &mut PgConnection, runners: &[RunnerId], how: &str) -> Result<Vec<Stored>, Error> {
    let (kinds, ids, attempts) = keys(runners);
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.assignments
          WHERE (kind, owner_id, attempt) IN (SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[])) {how}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(kinds).bind(ids).bind(attempts).fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

/// Assignments at which somebody has to look now.
pub async fn awake(connection: &mut PgConnection, now: Timestamp, limit: i64) -> Result<Vec<Stored>, Error> {
    // assignments_wake
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.assignments
          WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(sql_time(now)).bind(limit).fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

/// What changed about an assignment.
#[derive(Debug)]
pub struct Changed {
    pub runner: RunnerId,
    pub slot_id: Option<SlotId>,
    pub before: State,
    pub after: Assignment,
    /// It ended without proof: what is left of it is in the slot.
    pub dirty: bool,
}

/// Writes what changed about locked assignments, and about the slots they have. Returns those that came free. A standing slot
/// that was given so often (0: never), or is dirty, is renewed first.
pub async fn update(
    connection: &mut PgConnection,
    changed: &[Changed],
    max_uses: u32,
    now: Timestamp,
) -> Result<Vec<(PlatformName, Idle)>, Error> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let runners: Vec<RunnerId> = changed.iter().map(|change| change.runner).collect();
    let (kinds, ids, attempts) = keys(&runners);
    sqlx::query(
        "UPDATE pool.assignments a
            SET state = c.state, observed = c.observed, grace_ms = c.grace_ms, wake_at = c.wake_at, asserts = c.asserts,
                starts = c.starts,
                accepted_at = CASE WHEN c.state = 'accepted' THEN coalesce(a.accepted_at, $9) ELSE a.accepted_at END,
                ended_at = CASE WHEN c.state = 'over' THEN coalesce(a.ended_at, $9) ELSE a.ended_at END
           FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::text[], $5::boolean[], $6::bigint[],
                       $7::timestamptz[], $8::integer[], $10::integer[])
                AS c (kind, owner_id, attempt, state, observed, grace_ms, wake_at, asserts, starts)
          WHERE a.kind = c.kind AND a.owner_id = c.owner_id AND a.attempt = c.attempt",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(changed.iter().map(|change| change.after.state.as_str()).collect::<Vec<_>>())
    .bind(changed.iter().map(|change| change.after.observed).collect::<Vec<_>>())
    .bind(
        changed
            .iter()
            .map(|change| i64::try_from(change.after.grace.as_millis()).unwrap_or(i64::MAX))
            .collect::<Vec<_>>(),
    )
    .bind(changed.iter().map(|change| sql_time_opt(change.after.wake_at)).collect::<Vec<_>>())
    .bind(changed.iter().map(|change| i32::try_from(change.after.asserts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(sql_time(now))
    .bind(changed.iter().map(|change| i32::try_from(change.after.starts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    let slots: Vec<(Uuid, &str, bool)> = changed
        .iter()
        .filter(|change| change.before.slot() != change.after.state.slot())
        .filter_map(|change| change.slot_id.map(|slot| (slot.uuid(), change.after.state.slot(), change.dirty)))
        .collect();
    if slots.is_empty() {
        return Ok(Vec::new());
    }
    const RENEW: &str = "(c.state = 'idle' AND s.pool <> '' AND (s.dirty OR c.dirty OR ($5 > 0 AND s.uses >= $5)))";
    // A slot above the limit, or one that an operator has cordoned, is not idle again.
    let sql = format!(
        "UPDATE pool.slots s
            SET state = CASE WHEN c.state <> 'idle' THEN c.state
                             WHEN {RENEW} THEN 'retiring'
                             WHEN s.cordoned OR (s.pool = '' AND s.number > p.row_limit) THEN 'cordoned'
                             ELSE 'idle' END,
                last_used_at = CASE WHEN c.state = 'idle' THEN $3 ELSE s.last_used_at END,
                idle_since = CASE WHEN c.state = 'idle' AND NOT {RENEW} THEN $3 END,
                renew = {RENEW},
                wake_at = CASE WHEN {RENEW} THEN $3 END,
                asserts = 0
           FROM unnest($1::uuid[], $2::text[], $4::boolean[]) AS c (id, state, dirty), pool.platforms p
          WHERE s.id = c.id AND p.name = s.platform
         RETURNING s.id, s.platform, s.number, s.state, s.provider, s.image, s.last_used_at, s.pool, s.generation"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(slots.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(slots.iter().map(|(_, state, _)| *state).collect::<Vec<_>>())
        .bind(sql_time(now))
        .bind(slots.iter().map(|(.., dirty)| *dirty).collect::<Vec<_>>())
        .bind(i32::try_from(max_uses).unwrap_or(i32::MAX))
        .fetch_all(connection)
        .await?;
    let mut freed = Vec::new();
    for row in &rows {
        if row.try_get::<&str, _>("state")? != "idle" {
            continue;
        }
        let platform: String = row.try_get("platform")?;
        let (provider, image): (Option<String>, String) = (row.try_get("provider")?, row.try_get("image")?);
        let slot = Idle {
            id: SlotId::from_uuid(row.try_get("id")?),
            number: row.try_get("number")?,
            last_used_at: row.try_get::<Option<SqlTimestamp>, _>("last_used_at")?.map(SqlTimestamp::to_jiff),
            warm: provider.map(|provider| Warm::new(provider, image)),
            stands: stands(row.try_get("pool")?, row.try_get("generation")?)?,
        };
        freed.push((PlatformName::new(platform).map_err(|error| Error::row("slots.platform", error))?, slot));
    }
    Ok(freed)
}

/// Accepted runners, a page of them after a key.
pub async fn expected(
    pool: &PgPool,
    after: Option<RunnerId>,
    limit: i64,
) -> Result<Vec<(RunnerId, String, Timestamp)>, Error> {
    // assignments_expected
    let sql = "SELECT kind, owner_id, attempt, platform, coalesce(accepted_at, assigned_at) AS since
                 FROM pool.assignments
                WHERE state = 'accepted' AND (owner_id, attempt) > ($1, $2)
                ORDER BY owner_id, attempt
                LIMIT $3";
    let (id, attempt) =
        after.map_or((Uuid::nil(), 0), |runner| (runner.id, i32::try_from(runner.attempt.0).unwrap_or(i32::MAX)));
    let rows = sqlx::query(sql).bind(id).bind(attempt).bind(limit).fetch_all(pool).await?;
    rows.iter()
        .map(|row| Ok((runner_of(row)?, row.try_get("platform")?, row.try_get::<SqlTimestamp, _>("since")?.to_jiff())))
        .collect()
}

/// What is over or closed is kept for a day: longer than any late message.
pub async fn forget(pool: &PgPool, before: Timestamp) -> Result<u64, Error> {
    let sql = "DELETE FROM pool.assignments
                WHERE (kind, owner_id, attempt) IN (
                      SELECT kind, owner_id, attempt FROM pool.assignments WHERE ended_at < $1 LIMIT 5000)";
    Ok(sqlx::query(sql).bind(sql_time(before)).execute(pool).await?.rows_affected())
}
