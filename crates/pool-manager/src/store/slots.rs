//! Slots, one by one: for operators.

use greenroom_domain::{PlatformName, RunnerId, SlotId, Timestamp};
use greenroom_store::{Error, SqlTimestamp};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::runner_of;
use crate::names::{Named, slot_name};
use crate::room::Stands;

/// A slot and who has it.
#[derive(Debug, Clone)]
pub struct SlotRow {
    pub id: SlotId,
    pub platform: PlatformName,
    pub number: i32,
    /// As it is stored: see [`SlotRow::shown`].
    pub state: String,
    pub provider: Option<String>,
    pub cordoned: bool,
    pub last_used_at: Option<Timestamp>,
    pub runner: Option<RunnerId>,
    /// Since when it has it.
    pub since: Option<Timestamp>,
    /// None: it is none that stands.
    pub stands: Option<Stands>,
    pub uses: i32,
    pub last_error: Option<String>,
}

impl SlotRow {
    pub fn name(&self) -> String {
        slot_name(&self.platform, self.stands.as_ref().map(|stands| &stands.pool), self.number)
    }

    /// The state as people know it.
    pub fn shown(&self) -> &str {
        match self.state.as_str() {
            "preparing" => "deploying",
            "failed" => "error",
            "retiring" => "releasing",
            state => state,
        }
    }
}

/// The states that people know by this name.
fn stored(shown: &str) -> Vec<&str> {
    match shown {
        "deploying" => vec!["deploying", "preparing"],
        "error" => vec!["error", "failed"],
        "releasing" => vec!["releasing", "retiring"],
        state => vec![state],
    }
}

// assignments_one_owner finds who has a slot.
const SELECT: &str = "SELECT s.id, s.platform, s.number, s.state, s.provider, s.cordoned, s.last_used_at,
                             s.pool, s.generation, s.uses, s.last_error,
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
        stands: super::stands(row.try_get("pool")?, row.try_get("generation")?)?,
        uses: row.try_get("uses")?,
        last_error: row.try_get("last_error")?,
    })
}

/// Slots after this one, in the order of platforms and numbers.
pub async fn slots(
    pool: &PgPool,
    platform: Option<&PlatformName>,
    state: Option<&str>,
    after: (&str, &str, i32),
    limit: i64,
) -> Result<Vec<SlotRow>, Error> {
    // By the key (platform, pool, number).
    let sql = format!(
        "{SELECT} WHERE (s.platform, s.pool, s.number) > ($3, $4, $5)
             AND ($1::text IS NULL OR s.platform = $1) AND ($2::text[] IS NULL OR s.state = ANY($2))
           ORDER BY s.platform, s.pool, s.number LIMIT $6"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(platform.map(PlatformName::as_str))
        .bind(state.map(stored))
        .bind(after.0)
        .bind(after.1)
        .bind(after.2)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.iter().map(slot_row).collect()
}

/// The standing slots that people can see on their platforms, each with what is shown beside it now.
pub async fn described(pool: &PgPool) -> Result<Vec<(SlotRow, String)>, Error> {
    let select = SELECT.replacen("SELECT", "SELECT s.description,", 1);
    let sql = format!(
        "{select} WHERE s.pool <> '' AND s.prepared_at IS NOT NULL AND s.state NOT IN ('preparing', 'retiring')"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.iter().map(|row| Ok((slot_row(row)?, row.try_get("description")?))).collect()
}

/// One slot; none: there is no such.
pub async fn slot(connection: &mut PgConnection, name: &Named) -> Result<Option<SlotRow>, Error> {
    // The keys (platform, pool, number) and slots_names.
    let (sql, whose, number) = match name {
        Named::Row(platform, number) => {
            (format!("{SELECT} WHERE s.platform = $1 AND s.pool = '' AND s.number = $2"), platform.as_str(), number)
        }
        Named::Standing(provider, number) => {
            (format!("{SELECT} WHERE s.pool = $1 AND s.pool <> '' AND s.number = $2"), provider.as_str(), number)
        }
    };
    let row = sqlx::query(AssertSqlSafe(sql)).bind(whose).bind(*number).fetch_optional(connection).await?;
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
                  SET state = CASE WHEN s.cordoned OR (s.pool = '' AND s.number > p.row_limit) THEN 'cordoned' ELSE 'idle' END
                 FROM pool.platforms p
                WHERE s.id = $1 AND s.state = $2 AND p.name = s.platform
                  AND NOT EXISTS (SELECT 1 FROM pool.assignments a
                                   WHERE a.slot_id = s.id AND a.state IN ('assigned', 'accepted', 'stopping'))";
    Ok(sqlx::query(sql).bind(id.uuid()).bind(state).execute(connection).await?.rows_affected() == 1)
}
