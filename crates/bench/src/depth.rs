//! Whether it matters how many wait: a runner goes, and the next of those who wait is started. Beside a thousand, beside a
//! million for the same full platform, and on a platform beside one for which a million wait.

use std::time::{Duration, Instant};

use greenroom_bus::{Bus, Outgoing};
use greenroom_contracts::messages::RunnerGone;
use greenroom_contracts::{Envelope, Origin};
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp};
use sqlx::{Connection, PgConnection};
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::Effort;
use crate::deployer::BenchDeployer;
use crate::error::Error;
use crate::figures::{Report, Times, say};
use crate::house::{DEPTH, DEPTH_SLOTS, House};
use crate::machine::settle;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Of each.
const TURNS: usize = 400;
/// What the next one costs with many, over what it costs with few.
const AIM: f64 = 1.3;
/// Whoever waits is asked for by the queue's own sweep at the latest.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(
    house: &House,
    deployer: &BenchDeployer,
    effort: Effort,
    report: &mut Report,
) -> Result<(), Error> {
    let many = effort.times(MANY);
    let bus = house.bus("bench-depth").await?;
    let mut sql = PgConnection::connect(&house.database_url()).await?;
    let mut turns = Vec::new();
    // Enough for every turn; those who are left at the end are few.
    for (platform, waiting, what) in [
        (DEPTH[0], FEW, format!("{FEW} wait")),
        (DEPTH[1], many, format!("{many} wait")),
        (DEPTH[2], FEW, format!("{FEW} wait, and {many} for a full platform beside it")),
    ] {
        say(format!("depth: {what}"));
        let mut line = Line::fill(&mut sql, &bus, deployer, platform, waiting).await?;
        settle(house).await;
        let times = Times::new(line.turns(effort.times(TURNS)).await?);
        report.times(format!("depth: gone → next start, {what}"), &times);
        turns.push((what, times));
    }
    let [(_, few), many @ ..] = &turns[..] else { return Ok(()) };
    for (what, times) in many {
        for (name, of) in [("p50", Times::p50 as fn(&Times) -> Option<Duration>), ("p99", Times::p99)] {
            let ratio = of(times).unwrap_or_default().as_secs_f64() / of(few).unwrap_or_default().as_secs_f64();
            report.aim(
                format!("depth: gone → next start {name}, {what}, over {FEW} wait"),
                format!("≤ {AIM}"),
                format!("{ratio:.2}"),
            );
        }
    }
    Ok(())
}

/// A full platform, and those who wait for it.
struct Line<'a> {
    platform: PlatformName,
    bus: &'a Bus,
    starts: tokio::sync::broadcast::Receiver<(RunnerId, PlatformName, Instant)>,
    running: Vec<RunnerId>,
}

impl<'a> Line<'a> {
    async fn fill(
        sql: &mut PgConnection,
        bus: &'a Bus,
        deployer: &BenchDeployer,
        platform: &str,
        waiting: usize,
    ) -> Result<Self, Error> {
        let starts = deployer.starts();
        let platform = PlatformName::new(platform).map_err(|error| Error::Plain(error.to_string()))?;
        let mut line = Self { platform, bus, starts, running: Vec::new() };
        // One more than wait for each of its slots.
        line.store(sql, waiting + DEPTH_SLOTS).await?;
        for _ in 0..DEPTH_SLOTS {
            let (runner, _) = line.next().await?;
            line.running.push(runner);
        }
        Ok(line)
    }

    /// Stores who waits as the queue stores them: a hundred tenants, by turns.
    async fn store(&self, sql: &mut PgConnection, count: usize) -> Result<(), Error> {
        let runner = RunnerId::of_bot(BotId::from_uuid(Uuid::nil()), Attempt::FIRST);
        let spec = RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("a valid name"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(4 * 3600),
        };
        let spec = serde_json::to_string(&spec).map_err(|error| Error::Plain(error.to_string()))?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut tx = sql.begin().await?;
        sqlx::query(
            "WITH new AS (
                 INSERT INTO queue.entries (kind, owner_id, attempt, tenant_id, provider, spec, platforms, opened, tier,
                     priority, weight, lane_at, turn, queued_at, not_before, since, deadline)
                 SELECT 'bot', id, 1, md5((n % 100)::text)::uuid, 'web', replace($1, $2, id::text), ARRAY[$3], 1, 100, 100, 1,
                        at, n / 100 * 5040, at, at, at, at + interval '1 day'
                   FROM generate_series(1, $4::bigint) AS n
                  CROSS JOIN LATERAL (SELECT gen_random_uuid() AS id,
                                             to_timestamp($5::float8) + n * interval '1 microsecond' AS at) one
                 RETURNING *)
             INSERT INTO queue.waits (platform, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since)
             SELECT $3, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since FROM new",
        )
        .bind(spec)
        .bind(Uuid::nil().to_string())
        .bind(self.platform.as_str())
        .bind(count)
        .bind(Timestamp::now().as_microsecond() as f64 / 1e6)
        .execute(&mut *tx)
        .await?;
        sqlx::query("INSERT INTO queue.lengths (platform, tier, part, waiting) VALUES ($1, 100, 0, $2)")
            .bind(self.platform.as_str())
            .bind(count)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        for table in ["queue.entries", "queue.waits"] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(&mut *sql).await?;
        }
        sqlx::raw_sql("CHECKPOINT").execute(&mut *sql).await?;
        Ok(())
    }

    /// The next that is started here.
    async fn next(&mut self) -> Result<(RunnerId, Instant), Error> {
        let next = async {
            loop {
                match self.starts.recv().await {
                    Ok((runner, platform, at)) if platform == self.platform => return Some((runner, at)),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let late = || Error::Plain(format!("nobody was started on {} within {PATIENCE:?}", self.platform));
        match tokio::time::timeout(PATIENCE, next).await {
            Ok(Some(next)) => Ok(next),
            Ok(None) | Err(_) => Err(late()),
        }
    }

    /// One goes and one comes, so many times: how long each took.
    async fn turns(&mut self, count: usize) -> Result<Vec<Duration>, Error> {
        let origin = Origin { installation: self.bus.installation().clone(), service: "deployer" };
        let mut times = Vec::new();
        for turn in 0..count {
            let place = turn % self.running.len();
            let gone = RunnerGone {
                never_started: false,
                runner: self.running[place],
                platform: self.platform.clone(),
                exit: None,
                observed: true,
                usage: None,
            };
            let envelope = Envelope::new(&origin, Timestamp::now(), gone);
            let began = Instant::now();
            for said in self.bus.publish_all(&[Outgoing::new(self.bus.installation(), envelope)]).await {
                said?;
            }
            let (runner, at) = self.next().await?;
            times.push(at.saturating_duration_since(began));
            self.running[place] = runner;
        }
        Ok(times)
    }
}
