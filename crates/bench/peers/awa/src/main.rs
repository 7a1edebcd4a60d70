//! awa with jobs that do nothing. Arguments: the database's URL, jobs a second, paced jobs, jobs to drain.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use awa::{
    Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, insert, insert_many, insert_with, migrations,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

type Done<T> = Result<T, Box<dyn Error>>;

/// As many as graphile-worker has beside it.
const WORKERS: u32 = 24;
/// A drain is over after so long, and its rate is that of the jobs that were done by then: however slow it is, it has one.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);
/// For jobs that were added and have not started.
const STARTED_WITHIN: Duration = Duration::from_secs(20);
/// For what is in hand, at the end.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize, JobArgs)]
struct Paced {
    index: usize,
}

#[derive(Serialize, Deserialize, JobArgs)]
struct Drained {}

fn say(line: serde_json::Value) {
    println!("{line}");
}

fn to(queue: &str) -> InsertOpts {
    InsertOpts { queue: queue.to_owned(), ..InsertOpts::default() }
}

#[tokio::main]
async fn main() -> Done<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("a database's URL is missing")?;
    let numbers = arguments.map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let [rate, paced, drained] = numbers[..] else { return Err("three numbers are missing".into()) };
    // A connection for each that works, and for what it does beside.
    let pool = PgPoolOptions::new().max_connections(WORKERS + 8).connect(&url).await?;
    migrations::run(&pool).await?;
    say(serde_json::json!({ "versions": "awa 0.6.9" }));
    latency(&pool, rate, paced).await?;
    let own = QueueConfig { max_workers: WORKERS, claim_batch_size: 1, claimers: 8, ..QueueConfig::default() };
    drain(&pool, drained, "one", own, format!("{WORKERS} at once, 8 that claim one at a time"), false).await?;
    let many = QueueConfig { max_workers: 500, ..QueueConfig::default() };
    let how = format!("500 at once, claimed {} at a time", many.claim_batch_size);
    drain(&pool, drained, "many", many, how, true).await
}

async fn latency(pool: &PgPool, rate: usize, paced: usize) -> Done<()> {
    // The first second is for warming up.
    let count = paced + rate;
    let began = Instant::now() + Duration::from_millis(500);
    let due = move |index: usize| began + Duration::from_secs_f64(index as f64 / rate as f64);
    let started: Arc<Mutex<Vec<Option<Instant>>>> = Arc::new(Mutex::new(vec![None; count]));
    let seen = started.clone();
    let client = Client::builder(pool.clone())
        .queue("paced", QueueConfig { max_workers: WORKERS, ..QueueConfig::default() })
        .register::<Paced, _, _>(move |job, _| {
            let seen = seen.clone();
            async move {
                seen.lock().expect("no panic")[job.index].get_or_insert_with(Instant::now);
                Ok(JobResult::Completed)
            }
        })
        .build()?;
    client.start().await?;
    let mut adding = Vec::new();
    for index in 0..count {
        tokio::time::sleep_until(due(index).into()).await;
        let pool = pool.clone();
        adding.push(tokio::spawn(async move { insert_with(&pool, &Paced { index }, to("paced")).await.map(|_| ()) }));
    }
    for added in adding {
        added.await??;
    }
    let added = Instant::now();
    while started.lock().expect("no panic").iter().any(Option::is_none) && added.elapsed() < STARTED_WITHIN {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.shutdown(STOPPED_WITHIN).await;
    let missing = started.lock().expect("no panic").iter().filter(|at| at.is_none()).count();
    if missing > 0 {
        let within = STARTED_WITHIN.as_secs();
        return Err(format!("error: {missing} of {count} paced jobs had not started {within} s after the last was added").into());
    }
    let started = started.lock().expect("no panic").clone();
    let late = started.iter().enumerate().skip(rate);
    let millis: Vec<f64> =
        late.filter_map(|(index, at)| Some((*at)?.saturating_duration_since(due(index)).as_secs_f64() * 1e3)).collect();
    say(serde_json::json!({ "rate": rate, "how": "LISTEN", "millis": millis }));
    Ok(())
}

async fn drain(pool: &PgPool, jobs: usize, queue: &str, config: QueueConfig, how: String, batched: bool) -> Done<()> {
    let job = || insert::params_with(&Drained {}, to(queue));
    for added in (0..jobs).step_by(1_000) {
        let some: Vec<InsertParams> = (added..jobs.min(added + 1_000)).map(|_| job()).collect::<Result<_, _>>()?;
        insert_many(pool, &some).await?;
    }
    sqlx::raw_sql("VACUUM ANALYZE").execute(pool).await?;
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let client = Client::builder(pool.clone())
        .queue(queue, config)
        .register::<Drained, _, _>(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(JobResult::Completed) }
        })
        .build()?;
    let began = Instant::now();
    client.start().await?;
    while done.load(Ordering::Relaxed) < jobs && began.elapsed() < DRAINED_WITHIN {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Stopped is when the last completion is in the database.
    client.shutdown(STOPPED_WITHIN).await;
    let (jobs, seconds) = (done.load(Ordering::Relaxed).min(jobs), began.elapsed().as_secs_f64());
    say(serde_json::json!({ "how": how, "batched": batched, "jobs": jobs, "seconds": seconds }));
    Ok(())
}
