//! Standing slots: what becomes of them while nobody has them.
//!
//! Whoever changes one here holds its platform's lock. What somebody has changes without it, and is left alone here.

use greenroom_domain::{PlatformName, Provider, SlotId, Standing, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time, sql_time_opt};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::List;
use crate::names::slot_name;
use crate::standing::{Slot, State};

/// A standing slot as it is stored.
#[derive(Debug, Clone)]
pub struct Stood {
    pub id: SlotId,
    pub platform: PlatformName,
    pub pool: Provider,
    pub number: i32,
    pub slot: Slot,
}

impl Stood {
    pub fn standing(&self) -> Standing {
        Standing { slot: self.id, generation: self.slot.generation }
    }

    pub fn name(&self) -> String {
        slot_name(&self.platform, Some(&self.pool), self.number)
    }
}

const COLUMNS: &str = "id, platform, pool, number, state, generation, reset, renew, commanded_at, prepare_by, prepared_at, idle_since, wake_at, asserts, attempts, last_error, cordoned, uses";

fn state(text: &str) -> Option<State> {
    Some(match text {
        "preparing" => State::Preparing,
        "idle" => State::Idle,
        "deploying" | "busy" | "releasing" | "error" => State::Taken,
        "failed" => State::Failed,
        "retiring" => State::Retiring,
        "cordoned" => State::Cordoned,
        _ => return None,
    })
}

fn stood(row: &PgRow) -> Result<Stood, Error> {
    let time = |name| row.try_get::<Option<SqlTimestamp>, _>(name).map(|at| at.map(SqlTimestamp::to_jiff));
    let count = |name| row.try_get::<i32, _>(name).map(|number| u32::try_from(number).unwrap_or(0));
    let (platform, pool): (String, String) = (row.try_get("platform")?, row.try_get("pool")?);
    let text: String = row.try_get("state")?;
    Ok(Stood {
        id: SlotId::from_uuid(row.try_get("id")?),
        platform: PlatformName::new(platform).map_err(|error| Error::row("slots.platform", error))?,
        pool: Provider::new(pool).map_err(|error| Error::row("slots.pool", error))?,
        number: row.try_get("number")?,
        slot: Slot {
            state: state(&text).ok_or_else(|| Error::row("slots.state", text))?,
            generation: count("generation")?,
            reset: row.try_get("reset")?,
            renew: row.try_get("renew")?,
            commanded_at: time("commanded_at")?,
            prepare_by: time("prepare_by")?,
            prepared_at: time("prepared_at")?,
            idle_since: time("idle_since")?,
            wake_at: time("wake_at")?,
            asserts: count("asserts")?,
            attempts: count("attempts")?,
            last_error: row.try_get("last_error")?,
            cordoned: row.try_get("cordoned")?,
            uses: count("uses")?,
        },
    })
}

/// All standing slots of a platform, in the order of their names.
pub async fn all_standing(connection: &mut PgConnection, platform: &PlatformName) -> Result<Vec<Stood>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM pool.slots WHERE platform = $1 AND pool <> '' ORDER BY pool, number");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(platform.as_str()).fetch_all(connection).await?;
    rows.iter().map(stood).collect()
}

/// Those of these that are there.
pub async fn standing(connection: &mut PgConnection, ids: &[SlotId]) -> Result<Vec<Stood>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM pool.slots WHERE id = ANY($1) AND pool <> ''");
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(connection).await?;
    rows.iter().map(stood).collect()
}

/// Platforms with standing slots at which somebody has to look now, or that nobody has used since.
pub async fn platforms_to_tend(
    pool: &PgPool,
    now: Timestamp,
    stale: Option<Timestamp>,
) -> Result<Vec<PlatformName>, Error> {
    // slots_wake, slots_names
    let sql = "SELECT p.name FROM pool.platforms p
                WHERE EXISTS (SELECT 1 FROM pool.slots s WHERE s.platform = p.name AND s.wake_at <= $1)
                   OR $2::timestamptz IS NOT NULL AND EXISTS (
                      SELECT 1 FROM pool.slots s
                       WHERE s.platform = p.name AND s.pool <> '' AND s.state = 'idle' AND s.idle_since < $2)
                ORDER BY p.name";
    let names: Vec<String> =
        sqlx::query_scalar(sql).bind(sql_time(now)).bind(sql_time_opt(stale)).fetch_all(pool).await?;
    names.into_iter().map(|name| PlatformName::new(name).map_err(|error| Error::row("platforms.name", error))).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Preparing => "preparing",
        State::Idle => "idle",
        State::Taken => "busy",
        State::Failed => "failed",
        State::Retiring => "retiring",
        State::Cordoned => "cordoned",
    }
}

/// Writes what changed about standing slots that nobody has.
pub async fn save_standing(connection: &mut PgConnection, changed: &[&Stood]) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<serde_json::Value> = changed
        .iter()
        .map(|stood| {
            let slot = &stood.slot;
            serde_json::json!({
                "id": stood.id, "state": word(slot.state), "generation": slot.generation, "reset": slot.reset,
                "renew": slot.renew, "commanded_at": slot.commanded_at, "prepare_by": slot.prepare_by,
                "prepared_at": slot.prepared_at, "idle_since": slot.idle_since, "wake_at": slot.wake_at,
                "asserts": slot.asserts, "attempts": slot.attempts, "last_error": slot.last_error, "uses": slot.uses,
            })
        })
        .collect();
    sqlx::query(
        "UPDATE pool.slots s
            SET state = c.state, generation = c.generation, reset = c.reset, renew = c.renew, commanded_at = c.commanded_at,
                prepare_by = c.prepare_by, prepared_at = c.prepared_at, idle_since = c.idle_since, wake_at = c.wake_at,
                asserts = c.asserts, attempts = c.attempts, last_error = c.last_error, uses = c.uses,
                dirty = s.dirty AND s.generation = c.generation,
                description = CASE WHEN s.generation = c.generation THEN s.description ELSE '' END
           FROM jsonb_to_recordset($1) AS c (id uuid, state text, generation integer, reset boolean, renew boolean,
                commanded_at timestamptz, prepare_by timestamptz, prepared_at timestamptz, idle_since timestamptz,
                wake_at timestamptz, asserts integer, attempts integer, last_error text, uses integer)
          WHERE s.id = c.id AND s.state IN ('preparing', 'idle', 'failed', 'retiring', 'cordoned')",
    )
    .bind(serde_json::Value::Array(rows))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets standing slots that are gone and not wanted.
pub async fn forget_standing(connection: &mut PgConnection, ids: &[SlotId]) -> Result<(), Error> {
    let sql = "DELETE FROM pool.slots WHERE id = ANY($1) AND state IN ('preparing', 'retiring')";
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query(sql).bind(ids).execute(connection).await?;
    Ok(())
}

/// Plans standing slots, with the least numbers that no slot of that provider has anywhere. Fewer when somebody else takes the
/// same numbers; then the next look plans the rest.
pub async fn plan_standing(
    connection: &mut PgConnection,
    platform: &PlatformName,
    pool: &Provider,
    count: u32,
    now: Timestamp,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = (0..count).map(|_| SlotId::generate().uuid()).collect();
    sqlx::query(
        "INSERT INTO pool.slots (id, platform, pool, provider, number, state, generation, wake_at)
         SELECT i.id, $1, $2, $2, n.number, 'preparing', 1, $4
           FROM (SELECT n, row_number() OVER (ORDER BY n) AS place, n AS number
                   FROM generate_series(1, (SELECT count(*) FROM pool.slots WHERE pool = $2)::integer + cardinality($3)) AS n
                  WHERE NOT EXISTS (SELECT 1 FROM pool.slots s WHERE s.pool = $2 AND s.number = n)
                  ORDER BY n LIMIT cardinality($3)) n
           JOIN unnest($3::uuid[]) WITH ORDINALITY AS i (id, place) ON i.place = n.place
         ON CONFLICT DO NOTHING",
    )
    .bind(platform.as_str())
    .bind(pool.as_str())
    .bind(ids)
    .bind(sql_time(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// It is not given to anybody else before it was renewed.
pub async fn soil(connection: &mut PgConnection, ids: &[SlotId]) -> Result<(), Error> {
    let sql = "UPDATE pool.slots SET dirty = true WHERE id = ANY($1) AND NOT dirty";
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query(sql).bind(ids).execute(connection).await?;
    Ok(())
}

/// Standing slots that both lists show and that ought not to be there: of no slot, or of a generation that is past.
pub async fn standing_orphans(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<Standing>, Error> {
    let sql = "SELECT unnest(names) FROM pool.lists WHERE platform = $1 AND list = $2
               INTERSECT
               SELECT unnest(names) FROM pool.lists WHERE platform = $1 AND list = $3";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .fetch_all(&mut *connection)
        .await?;
    // A name that is none of ours is none of our business.
    let shown: Vec<Standing> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let ids: Vec<SlotId> = shown.iter().map(|standing| standing.slot).collect();
    let known = standing(connection, &ids).await?;
    let wanted =
        |standing: &Standing| known.iter().any(|stood| stood.standing() == *standing && stood.platform == *platform);
    Ok(shown.into_iter().filter(|standing| !wanted(standing)).collect())
}

/// Standing slots that neither list shows, although they were ready before the first of them began.
pub async fn standing_losses(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<Stood>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.slots s
          WHERE s.platform = $1 AND s.pool <> '' AND s.state NOT IN ('preparing', 'failed', 'retiring')
            AND s.prepared_at < $4
            AND NOT EXISTS (SELECT 1 FROM pool.lists l
                             WHERE l.platform = $1 AND l.list IN ($2, $3)
                               AND s.id || '-' || s.generation = ANY(l.names))"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .bind(lists[1].began_at)
        .fetch_all(connection)
        .await?;
    rows.iter().map(stood).collect()
}

/// Notes what people are shown. Those that somebody is changing are left for the next time.
pub async fn save_descriptions(connection: &mut PgConnection, said: &[(SlotId, String)]) -> Result<Vec<SlotId>, Error> {
    let sql = "WITH free AS (SELECT id FROM pool.slots WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED)
               UPDATE pool.slots s SET description = d.description
                 FROM unnest($1::uuid[], $2::text[]) AS d (id, description)
                WHERE s.id = d.id AND s.id IN (SELECT id FROM free)
               RETURNING s.id";
    let ids: Vec<Uuid> = sqlx::query_scalar(sql)
        .bind(said.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(SlotId::from_uuid).collect())
}
