//! The outbox's SQL, all of it. The schema's name is a constant of the code, never of a request.

use std::time::Duration;

use greenroom_bus::{Epoch, Outgoing};
use greenroom_domain::{MessageId, Timestamp};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::{Outbox, Row};
use crate::{Error, SqlTimestamp};

/// SQLSTATE of a partition that would take rows which the default partition has.
const CHECK_VIOLATION: &str = "23514";

/// A row's place in the stream, once it has one.
#[derive(Debug, Clone)]
pub struct Sent {
    pub created_at: Timestamp,
    pub id: MessageId,
    pub epoch: Epoch,
    pub sequence: u64,
}

pub async fn insert(connection: &mut PgConnection, schema: &str, outbox: &Outbox) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO {schema}.outbox (created_at, id, subject, body)
         SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::text[], $4::bytea[])"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(outbox.created_at())
        .bind(outbox.ids())
        .bind(outbox.subjects())
        .bind(outbox.bodies())
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn mark_sent(pool: &PgPool, schema: &str, sent: &[Sent]) -> Result<(), Error> {
    let sql = format!(
        "UPDATE {schema}.outbox o
            SET epoch = s.epoch, sequence = s.sequence
           FROM unnest($1::timestamptz[], $2::uuid[], $3::bigint[], $4::bigint[]) AS s (created_at, id, epoch, sequence)
          WHERE o.created_at = s.created_at AND o.id = s.id"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(sent.iter().map(|sent| sent.created_at.into()).collect::<Vec<SqlTimestamp>>())
        .bind(sent.iter().map(|sent| sent.id.uuid()).collect::<Vec<Uuid>>())
        .bind(sent.iter().map(|sent| sent.epoch.0.as_microsecond()).collect::<Vec<i64>>())
        .bind(sent.iter().map(|sent| i64::try_from(sent.sequence).unwrap_or(i64::MAX)).collect::<Vec<i64>>())
        .execute(pool)
        .await?;
    Ok(())
}

/// What was committed before `before` and is not known to be sent; and what was committed by a clock that was ahead.
pub async fn unsent(
    pool: &PgPool,
    schema: &str,
    before: Timestamp,
    ahead: Timestamp,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    // outbox_unsent
    let sql = format!(
        "SELECT created_at, id, subject, body
           FROM {schema}.outbox
          WHERE sequence IS NULL AND (created_at < $1 OR created_at > $2)
          ORDER BY created_at
          LIMIT $3"
    );
    rows(
        sqlx::query(AssertSqlSafe(sql))
            .bind(SqlTimestamp::from(before))
            .bind(SqlTimestamp::from(ahead))
            .bind(limit)
            .fetch_all(pool)
            .await?,
    )
}

/// Events that were sent to another making of the stream than `epoch`, a page of them after a key.
pub async fn sent_elsewhere(
    pool: &PgPool,
    schema: &str,
    events: &str,
    epoch: Epoch,
    after: (Timestamp, MessageId),
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let sql = format!(
        "SELECT created_at, id, subject, body
           FROM {schema}.outbox
          WHERE (created_at, id) > ($1, $2) AND sequence IS NOT NULL AND epoch <> $3 AND starts_with(subject, $4)
          ORDER BY created_at, id
          LIMIT $5"
    );
    rows(
        sqlx::query(AssertSqlSafe(sql))
            .bind(SqlTimestamp::from(after.0))
            .bind(after.1.uuid())
            .bind(epoch.0.as_microsecond())
            .bind(events)
            .bind(limit)
            .fetch_all(pool)
            .await?,
    )
}

/// The newest event that this making of the stream is said to have.
pub async fn newest_sent(
    pool: &PgPool,
    schema: &str,
    events: &str,
    epoch: Epoch,
    since: Timestamp,
) -> Result<Option<(MessageId, u64)>, Error> {
    let sql = format!(
        "SELECT id, sequence
           FROM {schema}.outbox
          WHERE created_at >= $3 AND epoch = $1 AND starts_with(subject, $2)
          ORDER BY created_at DESC, id DESC
          LIMIT 1"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(epoch.0.as_microsecond())
        .bind(events)
        .bind(SqlTimestamp::from(since))
        .fetch_optional(pool)
        .await?;
    row.map(|row| {
        let sequence: i64 = row.try_get("sequence")?;
        Ok((MessageId::from_uuid(row.try_get("id")?), u64::try_from(sequence).unwrap_or(0)))
    })
    .transpose()
}

/// Forgets that this making of the stream was said to have events: it has lost its tail.
pub async fn forget(pool: &PgPool, schema: &str, events: &str, epoch: Epoch) -> Result<(), Error> {
    let sql = format!("UPDATE {schema}.outbox SET epoch = 0 WHERE epoch = $1 AND starts_with(subject, $2)");
    sqlx::query(AssertSqlSafe(sql)).bind(epoch.0.as_microsecond()).bind(events).execute(pool).await?;
    Ok(())
}

fn rows(rows: Vec<sqlx::postgres::PgRow>) -> Result<Vec<Row>, Error> {
    rows.into_iter()
        .map(|row| {
            let body: Vec<u8> = row.try_get("body")?;
            Ok(Row {
                created_at: row.try_get::<SqlTimestamp, _>("created_at")?.to_jiff(),
                message: Outgoing {
                    id: MessageId::from_uuid(row.try_get("id")?),
                    subject: row.try_get("subject")?,
                    body: body.into(),
                },
            })
        })
        .collect()
}

/// Makes the partitions of yesterday (a clock may be behind) to the day after tomorrow. A day of which the default partition
/// has rows already gets none: that one goes on taking them.
pub async fn make_partitions(pool: &PgPool, schema: &str, today: Timestamp) -> Result<(), Error> {
    let today = today.to_zoned(TimeZone::UTC).date();
    for offset in -1..=2 {
        let day = today.saturating_add(offset.days());
        let next = day.saturating_add(1.day());
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {schema}.outbox_{} PARTITION OF {schema}.outbox
             FOR VALUES FROM ('{day} 00:00:00+00') TO ('{next} 00:00:00+00')
             WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
            day.strftime("%Y%m%d")
        );
        match sqlx::query(AssertSqlSafe(sql)).execute(pool).await.map_err(Error::from) {
            Ok(_) => {}
            Err(error) if error.has_code(CHECK_VIOLATION) => {
                tracing::debug!(schema, %day, "the default partition has rows of this day and keeps them");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Drops the partitions of which even the last row is older than `kept`, and deletes such rows of the default partition. What
/// is not sent yet stays: a clock that was set ahead makes everything old at once.
pub async fn drop_partitions(pool: &PgPool, schema: &str, now: Timestamp, kept: Duration) -> Result<(), Error> {
    let oldest = now - kept - SignedDuration::from_hours(24);
    let oldest_name = oldest.to_zoned(TimeZone::UTC).date().strftime("outbox_%Y%m%d").to_string();
    let sql = "SELECT c.relname::text AS name
                 FROM pg_catalog.pg_inherits i
                 JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                 JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
                WHERE n.nspname = $1 AND p.relname = 'outbox' AND c.relname < $2";
    let old: Vec<String> = sqlx::query_scalar(sql).bind(schema).bind(oldest_name).fetch_all(pool).await?;
    for name in old {
        let unsent = format!("SELECT EXISTS (SELECT FROM {schema}.{name} WHERE sequence IS NULL)");
        if sqlx::query_scalar(AssertSqlSafe(unsent)).fetch_one(pool).await? {
            tracing::warn!(schema, partition = name, "an old partition of the outbox has unsent rows and is kept");
            continue;
        }
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {schema}.{name}"))).execute(pool).await?;
    }
    let sql = format!("DELETE FROM {schema}.outbox_default WHERE created_at < $1 AND sequence IS NOT NULL");
    sqlx::query(AssertSqlSafe(sql)).bind(SqlTimestamp::from(oldest)).execute(pool).await?;
    Ok(())
}
