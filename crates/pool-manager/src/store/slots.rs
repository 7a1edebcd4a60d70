//! Slots, one by one: for operators.

use greenroom_domain::{PlatformName, RunnerId, SlotId, Timestamp};
use greenroom_store::{Error, SqlTimestamp};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::runner_of;

/// A slot and who has it.
#[derive(Debug, Clone)]
pub struct SlotRow {
    pub id: SlotId,
    pub platform: PlatformName,
    pub number: i32,
    pub state: String,
    pub provider: Option<String>,
    pub cordoned: bool,
    pub last_used_at: Option<Timestamp>,
    pub runner: Option<RunnerId>,
    /// Since when it has it.
    pub since: Option<Timestamp>,
}

// assignments_one_owner finds who has a slot.
const SELECT: &str = "SELECT s.id, s.platform, s.number, s.state, s.provider, s.cordoned, s.last_used_at,
                             a.kind, a.owner_id, a.attempt, a.assigned_at
                        FROM pool.slots s
                        LEFT JOIN pool.assignments a ON a.slot_id = s.id AND a.state IN ('assigned', 'accepted', 'stopping')";

fn slot_row(row: &PgRow) -> Result<SlotRow, Error> {
    let platform: String = row.try_get("platform")?;
    let owner: Option<Uuid> = row.try_get("owner_id")?;
    let time = |name| row.try_get::<Option<SqlTimestamp>, _>(name).map(|at| at.map(SqlTimestamp::to_jiff));
    Ok(SlotRow {
        id: SlotId::from_uuid(row.try_get("id")?),
        platform: PlatformName::new(platform).map_err(|error| Error::row("slots.platform", error))?,
        number: row.try_get("number")?,
        state: row.try_get("state")?,
        provider: row.try_get("provider")?,
        cordoned: row.try_get("cordoned")?,
        last_used_at: time("last_used_at")?,
        runner: owner.map(|_| runner_of(row)).transpose()?,
        since: time("assigned_at")?,
    })
}

/// Slots after this one, in the order of platforms and numbers.
pub async fn slots(
    pool: &PgPool,
    platform: Option<&PlatformName>,
    state: Option<&str>,
    after: (&str, i32),
    limit: i64,
) -> Result<Vec<SlotRow>, Error> {
    // By the key (platform, number).
    let sql = format!(
        "{SELECT} WHERE (s.platform, s.number) > ($3, $4)
             AND ($1::text IS NULL OR s.platform = $1) AND ($2::text IS NULL OR s.state = $2)
           ORDER BY s.platform, s.number LIMIT $5"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(platform.map(PlatformName::as_str))
        .bind(state)
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.iter().map(slot_row).collect()
}

/// One slot; none: there is no such.
pub async fn slot(
    connection: &mut PgConnection,
    platform: &PlatformName,
    number: i32,
) -> Result<Option<SlotRow>, Error> {
    let sql = format!("{SELECT} WHERE s.platform = $1 AND s.number = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(platform.as_str()).bind(number).fetch_optional(connection).await?;
    row.as_ref().map(slot_row).transpose()
}

/// Notes an operator's word. What follows for the slot's state is done under the platform's lock: whoever holds a slot's row
/// may wait for the platform's.
pub async fn set_cordoned(connection: &mut PgConnection, id: SlotId, cordoned: bool) -> Result<(), Error> {
    let sql = "UPDATE pool.slots SET cordoned = $2 WHERE id = $1 AND cordoned <> $2";
    sqlx::query(sql).bind(id.uuid()).bind(cordoned).execute(connection).await?;
    Ok(())
}

/// Frees a slot that nobody has, if it is still in that state.
pub async fn free_slot(connection: &mut PgConnection, id: SlotId, state: &str) -> Result<bool, Error> {
    let sql = "UPDATE pool.slots s
                  SET state = CASE WHEN s.cordoned OR s.number > p.slot_limit THEN 'cordoned' ELSE 'idle' END
                 FROM pool.platforms p
                WHERE s.id = $1 AND s.state = $2 AND p.name = s.platform
                  AND NOT EXISTS (SELECT 1 FROM pool.assignments a
                                   WHERE a.slot_id = s.id AND a.state IN ('assigned', 'accepted', 'stopping'))";
    Ok(sqlx::query(sql).bind(id.uuid()).bind(state).execute(connection).await?.rows_affected() == 1)
}
