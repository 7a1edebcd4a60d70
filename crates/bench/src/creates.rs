//! From `POST /v1/bots` to the start command at the deployer, through every service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, header};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::deployer::BenchDeployer;
use crate::error::Error;
use crate::figures::{Report, Times, millis, say};
use crate::house::{BOTS, House};
use crate::machine::{Cpu, settle};
use crate::{Effort, pace};

/// Requests a second, and for how many seconds.
const RATES: [(u32, u64); 3] = [(10, 10), (100, 10), (1_000, 8)];
/// Callers who ask for the next bot when they have this one.
const CALLERS: [usize; 2] = [64, 256];
/// How long the last start may take after the last request.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pace at which the floor and the peers are compared.
pub const COMPARED: u32 = 100;
/// create → start may take so many times the floor.
const AIM: f64 = 1.5;

/// The gateway's door.
#[derive(Clone)]
struct Door {
    client: Client,
    url: String,
    authorization: String,
}

/// A bot that was made.
struct Made {
    id: Uuid,
    /// When its request was due.
    due: Instant,
    /// When its 201 was here.
    answered: Instant,
}

pub async fn measure(
    house: &House,
    deployer: &BenchDeployer,
    effort: Effort,
    report: &mut Report,
) -> Result<(), Error> {
    let door = Door {
        client: Client::builder().pool_max_idle_per_host(1_024).build()?,
        url: format!("{}/v1/bots", house.gateway()),
        authorization: format!("Bearer {}", house.key),
    };
    say("creates: warming up");
    let made = closed_loop(&door, 8, Duration::from_secs(3)).await?;
    started(deployer, &made).await;
    for (rate, seconds) in RATES {
        settle(house).await;
        say(format!("creates: {rate}/s, open loop"));
        let count = (effort.seconds(seconds).as_secs_f64() * f64::from(rate)) as usize;
        let (made, failed) = open_loop(&door, rate, count).await?;
        let starts = started(deployer, &made).await;
        let answers = Times::new(made.iter().map(|made| made.answered - made.due).collect());
        let times = starts.iter().zip(&made).filter_map(|(start, made)| Some(start.as_ref()?.duration_since(made.due)));
        let times = Times::new(times.collect());
        let lost = match (failed, made.len() - times.count()) {
            (0, 0) => String::new(),
            (failed, late) => format!(" ({failed} refused, {late} not started in time)"),
        };
        report.times(format!("create → 201, {rate}/s{lost}"), &answers);
        report.times(format!("create → start, {rate}/s{lost}"), &times);
        if rate == COMPARED {
            compare(report, &times);
            report.start_p99 = times.p99();
        }
    }
    for callers in CALLERS {
        settle(house).await;
        say(format!("creates: {callers} callers, closed loop"));
        let (began, cpu) = (Instant::now(), Cpu::of(house));
        let made = closed_loop(&door, callers, effort.seconds(5)).await?;
        let durable = made.len() as f64 / began.elapsed().as_secs_f64();
        let starts = started(deployer, &made).await;
        let last = starts.iter().flatten().max().copied().unwrap_or_else(Instant::now);
        let missing = starts.iter().filter(|start| start.is_none()).count();
        let answers = Times::new(made.iter().map(|made| made.answered - made.due).collect());
        let note = format!("201 p50 {}, p99 {}", millis(answers.p50()), millis(answers.p99()));
        report.rate(format!("creates to durable, {callers} callers"), durable, note);
        let until_last = (last - began).as_secs_f64();
        let note = match missing {
            0 => Cpu::of(house).each(cpu, made.len()),
            missing => format!("{missing} were not started in time"),
        };
        report.rate(format!("creates to started, {callers} callers"), (made.len() - missing) as f64 / until_last, note);
    }
    Ok(())
}

fn compare(report: &mut Report, times: &Times) {
    let aim = format!("create → start p50 at {COMPARED}/s over two commits and two hops");
    for (floor, how) in [(report.floor, "one after the other"), (report.floor_paced, "at the same pace")] {
        let Some((floor, p50)) = floor.zip(times.p50()) else { continue };
        let ratio = p50.as_secs_f64() / floor.two().as_secs_f64();
        let floor = millis(Some(floor.two()));
        report.aim(format!("{aim}, taken {how}"), format!("≤ {AIM}"), format!("{ratio:.2} (floor {floor})"));
    }
}

async fn started(deployer: &BenchDeployer, made: &[Made]) -> Vec<Option<Instant>> {
    let ids: Vec<_> = made.iter().map(|made| made.id).collect();
    deployer.arrivals_of(&ids, PATIENCE).await
}

/// Asks when it is time to ask, and counts from then: who has to wait before it can even ask has waited.
async fn open_loop(door: &Door, rate: u32, count: usize) -> Result<(Vec<Made>, usize), Error> {
    let mut due = pace::due(rate, count);
    let mut asking = JoinSet::new();
    while let Some(due) = due.recv().await {
        let door = door.clone();
        asking.spawn(async move { door.create(due).await });
    }
    let (mut made, mut failed) = (Vec::with_capacity(count), 0);
    for answer in asking.join_all().await {
        match answer {
            Ok(bot) => made.push(bot),
            Err(error) => {
                if failed == 0 {
                    say(format!("a create failed: {error}"));
                }
                failed += 1;
            }
        }
    }
    Ok((made, failed))
}

async fn closed_loop(door: &Door, callers: usize, length: Duration) -> Result<Vec<Made>, Error> {
    let over = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let (door, over) = (door.clone(), over.clone());
        asking.spawn(async move {
            let mut made = Vec::new();
            while !over.load(Ordering::Relaxed) {
                made.push(door.create(Instant::now()).await?);
            }
            Ok::<_, Error>(made)
        });
    }
    tokio::time::sleep(length).await;
    over.store(true, Ordering::Relaxed);
    let made = asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(made.into_iter().flatten().collect())
}

impl Door {
    async fn create(&self, due: Instant) -> Result<Made, Error> {
        let body = format!(
            r#"{{"meeting":{{"provider":"web","url":"https://meeting.example/room"}},"displayName":"Bench","platforms":["{BOTS}"]}}"#
        );
        let answer = self
            .client
            .post(&self.url)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        let answered = Instant::now();
        if status != StatusCode::CREATED {
            return Err(Error::Plain(format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
        let bot: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = bot["id"].as_str().and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| Error::Plain("the answer has no id".to_owned()))?;
        Ok(Made { id, due, answered })
    }
}
