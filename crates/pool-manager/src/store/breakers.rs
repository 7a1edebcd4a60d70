//! Breakers: a row as long as something has failed since the last success.

use greenroom_domain::{Attempt, OwnerKind, PlatformName, Provider, RunnerId};
use greenroom_store::{Error, SqlTimestamp, sql_time_opt};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::breaker::State;

/// Which breaker.
pub type Key = (PlatformName, Provider);

const COLUMNS: &str = "platform, provider, state, failures, probe_at, trips, probe_kind, probe_owner_id, probe_attempt";

fn breaker(row: &PgRow) -> Result<(Key, State), Error> {
    let (platform, provider): (String, String) = (row.try_get("platform")?, row.try_get("provider")?);
    let key = (
        PlatformName::new(platform).map_err(|error| Error::row("breakers.platform", error))?,
        Provider::new(provider).map_err(|error| Error::row("breakers.provider", error))?,
    );
    let number = |name| row.try_get::<i32, _>(name).map(|number| u32::try_from(number).unwrap_or(0));
    let state: String = row.try_get("state")?;
    let state = match state.as_str() {
        "closed" => State::Closed { failures: number("failures")? },
        "open" => State::Open { until: row.try_get::<SqlTimestamp, _>("probe_at")?.to_jiff(), trips: number("trips")? },
        "half_open" => State::HalfOpen { trips: number("trips")?, probe: probe(row)? },
        _ => return Err(Error::row("breakers.state", state)),
    };
    Ok((key, state))
}

fn probe(row: &PgRow) -> Result<Option<RunnerId>, Error> {
    let kind: Option<String> = row.try_get("probe_kind")?;
    kind.map(|kind| {
        Ok(RunnerId {
            kind: kind.parse::<OwnerKind>().map_err(|error| Error::row("breakers.probe_kind", error))?,
            id: row.try_get("probe_owner_id")?,
            attempt: Attempt(u32::try_from(row.try_get::<i32, _>("probe_attempt")?).unwrap_or(0)),
        })
    })
    .transpose()
}

/// Those of these that are there; locked until the transaction ends, where that is wanted. Whoever locks them has the
/// platforms' locks already, as whoever gives slots does.
pub async fn breakers(connection: &mut PgConnection, keys: &[Key], lock: bool) -> Result<Vec<(Key, State)>, Error> {
    let how = if lock { "ORDER BY platform, provider FOR UPDATE" } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.breakers
          WHERE (platform, provider) IN (SELECT * FROM unnest($1::text[], $2::text[])) {how}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(keys.iter().map(|(platform, _)| platform.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, provider)| provider.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    rows.iter().map(breaker).collect()
}

/// All of them, for operators.
pub async fn all_breakers(pool: &PgPool) -> Result<Vec<(Key, State)>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM pool.breakers ORDER BY platform, provider");
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.iter().map(breaker).collect()
}

/// Those of probes that nobody heard the end of: the assignment is resolved, and the breaker waits for it.
pub async fn deaf_breakers(pool: &PgPool) -> Result<Vec<(Key, State)>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.breakers b
          WHERE b.probe_kind IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM pool.assignments a
                             WHERE a.kind = b.probe_kind AND a.owner_id = b.probe_owner_id
                               AND a.attempt = b.probe_attempt AND a.state = 'assigned')"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
    rows.iter().map(breaker).collect()
}

/// Writes locked breakers. One without a failure has no row.
pub async fn save_breakers(connection: &mut PgConnection, changed: &[(Key, State)]) -> Result<(), Error> {
    let (gone, kept): (Vec<_>, Vec<_>) =
        changed.iter().partition(|(_, state)| matches!(state, State::Closed { failures: 0 }));
    let names = |of: &[&(Key, State)]| -> (Vec<String>, Vec<String>) {
        of.iter().map(|((platform, provider), _)| (platform.to_string(), provider.to_string())).unzip()
    };
    if !gone.is_empty() {
        let (platforms, providers) = names(&gone);
        let sql = "DELETE FROM pool.breakers
                    WHERE (platform, provider) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        sqlx::query(sql).bind(platforms).bind(providers).execute(&mut *connection).await?;
    }
    if kept.is_empty() {
        return Ok(());
    }
    let (platforms, providers) = names(&kept);
    let small = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut states: Vec<&str> = Vec::new();
    let (mut failures, mut trips, mut probe_at) = (Vec::new(), Vec::new(), Vec::new());
    let mut probes: Vec<Option<RunnerId>> = Vec::new();
    for (_, state) in &kept {
        let (word, failed, until, tripped, probe) = match *state {
            State::Closed { failures } => ("closed", failures, None, 0, None),
            State::Open { until, trips } => ("open", 0, Some(until), trips, None),
            State::HalfOpen { trips, probe } => ("half_open", 0, None, trips, probe),
        };
        states.push(word);
        failures.push(small(failed));
        trips.push(small(tripped));
        probe_at.push(sql_time_opt(until));
        probes.push(probe);
    }
    sqlx::query(
        "INSERT INTO pool.breakers (platform, provider, state, failures, probe_at, trips, probe_kind, probe_owner_id, probe_attempt)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::timestamptz[], $6::integer[],
                              $7::text[], $8::uuid[], $9::integer[])
         ON CONFLICT (platform, provider) DO UPDATE
            SET state = EXCLUDED.state, failures = EXCLUDED.failures, probe_at = EXCLUDED.probe_at, trips = EXCLUDED.trips,
                probe_kind = EXCLUDED.probe_kind, probe_owner_id = EXCLUDED.probe_owner_id,
                probe_attempt = EXCLUDED.probe_attempt",
    )
    .bind(platforms)
    .bind(providers)
    .bind(states)
    .bind(failures)
    .bind(probe_at)
    .bind(trips)
    .bind(probes.iter().map(|probe| probe.map(|probe| probe.kind.as_str())).collect::<Vec<_>>())
    .bind(probes.iter().map(|probe| probe.map(|probe| probe.id)).collect::<Vec<Option<Uuid>>>())
    .bind(probes.iter().map(|probe| probe.map(|probe| small(probe.attempt.0))).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
