//! The one-slot statement of the systems that Greenroom grew out of: one slot, one statement, one commit; no command, no
//! event, no limits. In the same Postgres, on a table as theirs, with as many free slots as our platforms have.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use crate::Effort;
use crate::assignments::{CALLERS, SECONDS};
use crate::error::Error;
use crate::figures::{Report, say};
use crate::house::{House, SLOTS};
use crate::machine::settle;

/// Batch assignment at so many callers …
const COMPARED: usize = 64;
/// … gives so many times as many slots.
const AIM: f64 = 8.0;

const STATEMENT: &str = r#"UPDATE bot_pool_slots
    SET status = 'busy', "assignedBotId" = $1, "lastUsedAt" = to_timestamp($2 / 1e6)::timestamp
  WHERE id = (SELECT id FROM bot_pool_slots
               WHERE status = 'idle'
               ORDER BY "lastUsedAt" ASC NULLS FIRST
               LIMIT 1
                 FOR UPDATE SKIP LOCKED)
RETURNING *"#;

/// The index that the statement would need; theirs has one on the status alone.
const MADE_FOR_IT: &str =
    r#"CREATE INDEX made_for_it ON bot_pool_slots ("lastUsedAt" ASC NULLS FIRST) WHERE status = 'idle'"#;

pub async fn measure(house: &House, effort: Effort, report: &mut Report) -> Result<(), Error> {
    settle(house).await;
    for (index, how) in [(None, "its own indexes"), (Some(MADE_FOR_IT), "an index made for it")] {
        for callers in CALLERS {
            say(format!("one-slot statement: {callers} callers, {how}"));
            make(house, index).await?;
            let rate = run(house, callers, effort.seconds(SECONDS)).await?;
            report.rate(format!("one-slot statement, {callers} callers, {how}"), rate, "");
            if callers == COMPARED {
                compare(report, rate, how);
            }
        }
    }
    Ok(())
}

fn compare(report: &mut Report, one_slot: f64, how: &str) {
    let compared = report.assigned.iter().filter(|(callers, ..)| *callers == COMPARED).copied().collect::<Vec<_>>();
    for (callers, asks, rate) in compared {
        let what = format!("assignments at {callers} callers, {asks} a call, over the one-slot statement with {how}");
        report.aim(what, format!("≥ {AIM:.0}"), format!("{:.1}", rate / one_slot));
    }
}

async fn make(house: &House, index: Option<&'static str>) -> Result<(), Error> {
    let mut connection = PgConnection::connect(&house.database_url()).await?;
    let table = format!(
        r#"DROP TABLE IF EXISTS bot_pool_slots;
           CREATE TABLE bot_pool_slots (
               id SERIAL PRIMARY KEY, "coolifyServiceUuid" VARCHAR(255), "slotName" VARCHAR(255),
               status VARCHAR(50), "assignedBotId" INTEGER, "lastUsedAt" TIMESTAMP, "errorMessage" TEXT);
           CREATE INDEX idx_bot_pool_slots_status ON bot_pool_slots (status);
           CREATE INDEX idx_bot_pool_slots_assigned_bot ON bot_pool_slots ("assignedBotId");
           INSERT INTO bot_pool_slots ("coolifyServiceUuid", "slotName", status)
           SELECT md5(n::text), 'pool-web-' || lpad(n::text, 3, '0'), 'idle' FROM generate_series(1, {SLOTS}) AS n"#
    );
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&mut connection).await?;
    for statement in index.into_iter().chain(["VACUUM ANALYZE bot_pool_slots"]) {
        sqlx::raw_sql(statement).execute(&mut connection).await?;
    }
    Ok(())
}

async fn run(house: &House, callers: usize, length: Duration) -> Result<f64, Error> {
    let mut connections = Vec::new();
    for _ in 0..callers {
        connections.push(PgConnection::connect(&house.database_url()).await?);
    }
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for (caller, mut connection) in connections.into_iter().enumerate() {
        asking.spawn(async move {
            let mut given = 0_u32;
            while began.elapsed() < length {
                let bot = i32::try_from(caller).unwrap_or(0);
                let micros = i64::try_from(began.elapsed().as_micros()).unwrap_or(0);
                let row = sqlx::query(STATEMENT).bind(bot).bind(micros).fetch_optional(&mut connection).await?;
                if row.is_none() {
                    break;
                }
                given += 1;
            }
            Ok::<_, Error>(given)
        });
    }
    let given = asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(f64::from(given.iter().sum::<u32>()) / began.elapsed().as_secs_f64())
}
