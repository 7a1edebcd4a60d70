//! Heartbeats: core NATS to a real monitor in a process of its own, and its memory alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use greenroom_contracts::proto::internal::v1::ListExpectedRequest;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::{beat, runner_of, subjects};
use greenroom_domain::{PlatformName, RunnerId};
use greenroom_heartbeat_monitor::{Liveness, Moment, Taken};

use crate::Effort;
use crate::assignments;
use crate::error::Error;
use crate::figures::{Report, say, thousands};
use crate::house::{BOTS, House};
use crate::machine::{cpu_seconds, settle};

/// Beats a second that are published.
const RATES: [u32; 3] = [50_000, 100_000, 200_000];
const SECONDS: u64 = 4;
/// How many runners beat.
const RUNNERS: usize = 10_000;
/// Beats are published in so many portions a second.
const PORTIONS: u32 = 500;
/// One core of a monitor hears so many beats a second.
const AIM: u32 = 50_000;

pub async fn measure(house: &House, effort: Effort, report: &mut Report) -> Result<(), Error> {
    let runners = expected(house).await?;
    let (pid, operations) = house.start_monitor().await?;
    settle(house).await;
    let beats: Vec<(String, Bytes)> = runners
        .iter()
        .map(|runner| {
            let subject = subjects::beats(&house.installation, runner.shard());
            (subject, Bytes::copy_from_slice(&beat::encode(*runner)))
        })
        .collect();
    let mut best = 0.0_f64;
    for rate in RATES {
        say(format!("heartbeats: {}/s from {} runners", thousands(rate.into()), thousands(runners.len() as f64)));
        let (before, cpu) = (heard(&operations).await?, cpu_seconds(pid));
        let began = Instant::now();
        let sent = publish(house, &beats, rate, effort.seconds(SECONDS)).await?;
        let elapsed = began.elapsed().as_secs_f64();
        let after = settled(&operations).await?;
        let (heard, cpu) = (after - before, cpu_seconds(pid) - cpu);
        let lost = 100.0 * (1.0 - heard / sent as f64);
        let share = 100.0 * cpu / elapsed;
        let a_core = heard / cpu.max(1e-9);
        best = best.max(a_core);
        let note = format!("{lost:.1} % lost; {share:.0} % of a core: {} a second and core", thousands(a_core));
        report.rate(
            format!("heartbeats heard of {} sent a second", thousands(sent as f64 / elapsed)),
            heard / elapsed,
            note,
        );
    }
    report.aim("heartbeats a second on one core", format!("≥ {}", thousands(AIM.into())), thousands(best));
    report.rate("heartbeats, the monitor's memory alone", in_memory(&runners, effort), "one thread, without NATS");
    Ok(())
}

/// Runners that pool-manager expects to run; some are given slots where there are none.
async fn expected(house: &House) -> Result<Vec<RunnerId>, Error> {
    let mut pool = PoolServiceClient::new(house.channel("pool-manager")?).max_decoding_message_size(16 << 20);
    let began = Instant::now();
    let mut asked = false;
    loop {
        let request = ListExpectedRequest { page_token: String::new(), page_size: Some(5_000) };
        let mut page = pool.list_expected(request).await?.into_inner();
        let mut runners = Vec::new();
        loop {
            for expected in &page.runners {
                runners.push(runner_of(expected.runner.as_ref()).map_err(|error| Error::Plain(error.to_string()))?);
            }
            if page.next_page_token.is_empty() || runners.len() >= RUNNERS {
                break;
            }
            let request = ListExpectedRequest { page_token: page.next_page_token, page_size: Some(5_000) };
            page = pool.list_expected(request).await?.into_inner();
        }
        if runners.len() >= RUNNERS || began.elapsed() > Duration::from_secs(15) {
            runners.truncate(RUNNERS);
            return Ok(runners);
        }
        if !asked {
            say("heartbeats: giving slots to runners");
            let platform = PlatformName::new(BOTS).map_err(|error| Error::Plain(error.to_string()))?;
            let mut given = runners.len();
            while given < RUNNERS {
                given += assignments::assign(&pool, &platform, 8, 64, Duration::from_millis(500)).await?.len();
            }
            asked = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn publish(house: &House, beats: &[(String, Bytes)], rate: u32, length: Duration) -> Result<u64, Error> {
    let portion = (rate / PORTIONS) as usize;
    let began = Instant::now();
    let mut sent = 0_u64;
    let mut next = beats.iter().cycle();
    for index in 0.. {
        let due = began + Duration::from_secs(1) * index / PORTIONS;
        if due > began + length {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        for (subject, beat) in next.by_ref().take(portion) {
            let said = house.nats().publish(subject.clone(), beat.clone()).await;
            said.map_err(|error| Error::Nats(error.into()))?;
            sent += 1;
        }
    }
    house.nats().flush().await.map_err(|error| Error::Nats(error.into()))?;
    Ok(sent)
}

/// What the monitor says it has heard, when it hears no more.
async fn settled(operations: &str) -> Result<f64, Error> {
    let mut before = heard(operations).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = heard(operations).await?;
        if now <= before {
            return Ok(now);
        }
        before = now;
    }
}

async fn heard(operations: &str) -> Result<f64, Error> {
    let text = reqwest::get(format!("http://{operations}/metrics")).await?.text().await?;
    let lines = text.lines().filter(|line| line.starts_with("greenroom_heartbeat_beats") && line.contains("true"));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

fn in_memory(runners: &[RunnerId], effort: Effort) -> f64 {
    say("heartbeats: the monitor's memory alone");
    let Ok(platform) = PlatformName::new(BOTS) else { return 0.0 };
    let mut liveness = Liveness::new(Moment::default());
    liveness.expect(runners.iter().map(|runner| (*runner, platform.clone())), Moment::default());
    let beats: Vec<_> = runners.iter().map(|runner| beat::encode(*runner)).collect();
    let (began, length) = (Instant::now(), effort.seconds(2));
    let mut known = 0_u64;
    let mut round = 0;
    while began.elapsed() < length {
        round += 1;
        known += beats.iter().filter(|beat| liveness.beat(*beat, Moment(round)) == Taken::Known).count() as u64;
    }
    known as f64 / began.elapsed().as_secs_f64()
}
