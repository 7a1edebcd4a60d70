//! The queue's SQL, all of it. It looks across tenants: order is the installation's.
//!
//! An entry is in one of three places: `later`, `waits` or `claims`. Whoever moves it takes it out of one and puts it into
//! another by one statement. No row of `entries` is locked for that, so two who move one entry at the same time may leave a
//! row behind in a second place, or a row without an entry; both last until a claim comes upon them.
//!
//! Rows that another part of a statement has found are looked up in a subquery of their own (`OFFSET 0`) and taken by where
//! they lie: left to choose, Postgres joins two tables by reading all of one of them, as it does not know how few there are.
//! Only where rows are never changed in place, which is so for all but `entries`.

mod claim;
mod due;
mod position;
mod put;
mod remove;
mod stats;

use greenroom_domain::{Attempt, OwnerKind, RunnerId};
use greenroom_store::Error;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

pub use claim::{Claimed, claim, give_back, platforms};
pub use due::{Opening, Rise, come_back, due_to_rise, next_due, open, overdue, ready, rise, to_open};
pub use position::position;
pub use put::{EntryJson, Standing, lock_lanes, move_deadlines, put, served, standing};
pub use remove::{Removed, remove, served_on};
pub use stats::{Length, forget_turnover, lengths, turnover};

/// The end of a statement: what `back` returned waits (again), on every platform that is open to it. The primary key of
/// entries.
const WAIT: &str =
    "INSERT INTO queue.waits (platform, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since)
    SELECT p.platform, e.provider, e.priority, e.turn, e.queued_at, e.owner_id, e.attempt, e.kind, e.tier, e.since
      FROM back b
     CROSS JOIN LATERAL (
           SELECT * FROM queue.entries e
            WHERE e.owner_id = b.owner_id AND e.attempt = b.attempt AND e.kind = b.kind
           OFFSET 0) e
     CROSS JOIN LATERAL unnest(e.platforms[1:e.opened]) AS p (platform)
    ON CONFLICT DO NOTHING";

fn runner_of(row: &PgRow) -> Result<RunnerId, Error> {
    let kind: String = row.try_get("kind")?;
    Ok(RunnerId {
        kind: kind.parse::<OwnerKind>().map_err(|error| Error::row("entries.kind", error))?,
        id: row.try_get("owner_id")?,
        attempt: Attempt(u32::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(0)),
    })
}

fn keys<'a>(runners: impl IntoIterator<Item = &'a RunnerId>) -> (Vec<&'static str>, Vec<Uuid>, Vec<i32>) {
    let (mut kinds, mut ids, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for runner in runners {
        kinds.push(runner.kind.as_str());
        ids.push(runner.id);
        attempts.push(int(runner.attempt.0));
    }
    (kinds, ids, attempts)
}

/// As Postgres has it; what is beyond its integers is as good as the last of them.
fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The platforms and providers among these platforms for which somebody waits, or is being asked for.
pub async fn waited_for(pool: &PgPool, platforms: &[&str]) -> Result<Vec<(String, String)>, Error> {
    // waits_pkey and claims_pool, from one provider to the next.
    let sql = "SELECT DISTINCT p.platform, v.provider
                 FROM unnest($1::text[]) AS p (platform)
                CROSS JOIN LATERAL (
                      WITH RECURSIVE w AS (
                          (SELECT w.provider FROM queue.waits w WHERE w.platform = p.platform ORDER BY w.provider LIMIT 1)
                          UNION ALL
                          SELECT (SELECT o.provider FROM queue.waits o
                                   WHERE o.platform = p.platform AND o.provider > w.provider
                                   ORDER BY o.provider LIMIT 1)
                            FROM w WHERE w.provider IS NOT NULL),
                      c AS (
                          (SELECT c.provider FROM queue.claims c WHERE c.platform = p.platform ORDER BY c.provider LIMIT 1)
                          UNION ALL
                          SELECT (SELECT o.provider FROM queue.claims o
                                   WHERE o.platform = p.platform AND o.provider > c.provider
                                   ORDER BY o.provider LIMIT 1)
                            FROM c WHERE c.provider IS NOT NULL)
                      SELECT w.provider FROM w
                      UNION ALL
                      SELECT c.provider FROM c) v
                WHERE v.provider IS NOT NULL";
    Ok(sqlx::query_as(sql).bind(platforms).fetch_all(pool).await?)
}
