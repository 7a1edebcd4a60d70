//! The top of the hour: ten thousand bots that are due in the same second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenroom_domain::Timestamp;
use reqwest::{Client, StatusCode, header};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Effort;
use crate::deployer::BenchDeployer;
use crate::error::Error;
use crate::figures::{Report, Times, millis, say};
use crate::house::{BURST, BURST_SLOTS, House};
use crate::machine::{Cpu, settle};

/// So long before its start a bot asks for a slot: the default of `BOT_START_LEAD_MS`.
const LEAD: Duration = Duration::from_secs(60);
/// For the requests to be made before anything is due.
const NOTICE: Duration = Duration::from_secs(20);
const CALLERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
const AIM: Duration = Duration::from_secs(5);

pub async fn measure(
    house: &House,
    deployer: &BenchDeployer,
    effort: Effort,
    report: &mut Report,
) -> Result<(), Error> {
    settle(house).await;
    let count = effort.times(BURST_SLOTS);
    say(format!("burst: asking for {count} bots that are due in {} s", NOTICE.as_secs()));
    let due = Instant::now() + NOTICE;
    let start_at = Timestamp::now() + LEAD + NOTICE;
    let bots = ask(house, count, start_at).await?;
    if Instant::now() > due {
        say("burst: the requests took longer than until the bots were due: the figures mean nothing");
    }
    tokio::time::sleep_until(due.into()).await;
    say("burst: they are due");
    let cpu = Cpu::of(house);
    let starts = deployer.arrivals_of(&bots, PATIENCE).await;
    let late: Vec<Duration> = starts.iter().flatten().map(|at| at.saturating_duration_since(due)).collect();
    let missing = count - late.len();
    let last = late.iter().max().copied().unwrap_or_default();
    let late = Times::new(late);
    let lost =
        if missing == 0 { String::new() } else { format!(" ({missing} not started in {} s)", PATIENCE.as_secs()) };
    report.times(format!("burst: due → start of {count}{lost}"), &late);
    let rate = late.count() as f64 / last.as_secs_f64().max(1e-3);
    report.burst_rate = Some(rate);
    report.rate(
        format!("burst: starts until the last of {count}"),
        rate,
        format!("the last after {}; {}", millis(Some(last)), Cpu::of(house).each(cpu, count)),
    );
    report.aim(
        format!("burst: lateness p99 of {count}"),
        format!("< {} s", AIM.as_secs()),
        format!("{}{lost}", millis(late.p99())),
    );
    Ok(())
}

async fn ask(house: &House, count: usize, start_at: Timestamp) -> Result<Vec<Uuid>, Error> {
    let client = Client::builder().pool_max_idle_per_host(CALLERS).build()?;
    let body = format!(
        r#"{{"meeting":{{"provider":"web","url":"https://meeting.example/room"}},"displayName":"Bench","platforms":["{BURST}"],"startTime":"{start_at}"}}"#
    );
    let (url, authorization) = (format!("{}/v1/bots", house.gateway()), format!("Bearer {}", house.key));
    let left = Arc::new(AtomicUsize::new(count));
    let mut asking = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, url, authorization, body) = (client.clone(), url.clone(), authorization.clone(), body.clone());
        let left = left.clone();
        asking.spawn(async move {
            let mut made = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let request = client.post(&url).header(header::AUTHORIZATION, &authorization);
                let request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
                let answer = request.send().await?;
                let (status, body) = (answer.status(), answer.bytes().await?);
                if status != StatusCode::CREATED {
                    return Err(Error::Plain(format!("{status}: {}", String::from_utf8_lossy(&body))));
                }
                let bot: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let id = bot["id"].as_str().and_then(|id| id.parse().ok());
                made.push(id.ok_or_else(|| Error::Plain("the answer has no id".to_owned()))?);
            }
            Ok::<Vec<Uuid>, Error>(made)
        });
    }
    let made = asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(made.into_iter().flatten().collect())
}
