//! What platforms show.

use greenroom_domain::{PlatformName, RunnerId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::PgConnection;
use uuid::Uuid;

use super::runner_of;

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    Runners,
    Slots,
}

impl Shows {
    fn as_str(self) -> &'static str {
        match self {
            Self::Runners => "runners",
            Self::Slots => "slots",
        }
    }
}

/// A page of a platform's list.
#[derive(Debug)]
pub struct Page<'a> {
    pub platform: &'a PlatformName,
    pub shows: Shows,
    pub list: Uuid,
    pub page: u32,
    pub last: bool,
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub names: Vec<String>,
}

pub async fn keep_page(connection: &mut PgConnection, page: &Page<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pool.lists (platform, list, page, last, began_at, ended_at, names, shows)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (platform, list, page) DO NOTHING",
    )
    .bind(page.platform.as_str())
    .bind(page.list)
    .bind(i32::try_from(page.page).unwrap_or(i32::MAX))
    .bind(page.last)
    .bind(sql_time(page.began_at))
    .bind(sql_time(page.ended_at))
    .bind(&page.names)
    .bind(page.shows.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// A whole list.
#[derive(Debug, sqlx::FromRow)]
pub struct List {
    pub list: Uuid,
    pub began_at: SqlTimestamp,
}

/// The newest two lists of a platform that are complete.
pub async fn complete_lists(
    connection: &mut PgConnection,
    platform: &PlatformName,
    shows: Shows,
) -> Result<Vec<List>, Error> {
    let sql = "SELECT list, min(began_at) AS began_at
                 FROM pool.lists
                WHERE platform = $1 AND shows = $2
                GROUP BY list
               HAVING count(*) = 1 + max(page) FILTER (WHERE last)
                ORDER BY min(began_at) DESC
                LIMIT 2";
    Ok(sqlx::query_as(sql).bind(platform.as_str()).bind(shows.as_str()).fetch_all(connection).await?)
}

/// Lists that are older than both.
pub async fn forget_lists(
    connection: &mut PgConnection,
    platform: &PlatformName,
    shows: Shows,
    before: SqlTimestamp,
) -> Result<(), Error> {
    let sql = "DELETE FROM pool.lists WHERE platform = $1 AND began_at < $2 AND shows = $3";
    sqlx::query(sql).bind(platform.as_str()).bind(before).bind(shows.as_str()).execute(connection).await?;
    Ok(())
}

/// Runners that both lists show and that nobody ought to run: not when the first of them was complete either.
pub async fn orphans(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<RunnerId>, Error> {
    let sql = "SELECT r.runner
                 FROM (SELECT unnest(names) AS runner FROM pool.lists WHERE platform = $1 AND list = $2
                       INTERSECT
                       SELECT unnest(names) FROM pool.lists WHERE platform = $1 AND list = $3) r
                WHERE NOT EXISTS (
                      SELECT 1 FROM pool.assignments a
                       WHERE a.kind || '-' || a.owner_id || '-' || a.attempt = r.runner
                         AND a.owner_id = substring(r.runner from '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}')::uuid
                         AND (a.state IN ('assigned', 'accepted', 'stopping') OR a.ended_at > $4))";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .bind(lists[1].began_at)
        .fetch_all(connection)
        .await?;
    // A name that is none of ours is none of our business.
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Accepted runners that neither list shows, although they were there before the first of them began.
pub async fn losses(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<RunnerId>, Error> {
    let sql = "SELECT a.kind, a.owner_id, a.attempt
                 FROM pool.assignments a
                WHERE a.platform = $1 AND a.state = 'accepted' AND a.accepted_at < $4
                  AND NOT EXISTS (
                      SELECT 1 FROM pool.lists l
                       WHERE l.platform = $1 AND l.list IN ($2, $3)
                         AND a.kind || '-' || a.owner_id || '-' || a.attempt = ANY(l.names))
                LIMIT 200";
    let rows = sqlx::query(sql)
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .bind(lists[1].began_at)
        .fetch_all(connection)
        .await?;
    rows.iter().map(runner_of).collect()
}
