//! Slots given by pool-manager, each with its start command and its event, all of it durable before the answer.

use std::time::{Duration, Instant};

use greenroom_chassis::InnerChannel;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::proto::internal::v1::{Ask, AssignRequest};
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Effort;
use crate::deployer::BenchDeployer;
use crate::error::Error;
use crate::figures::{Report, say};
use crate::house::{ASSIGN, House};
use crate::machine::{Cpu, settle};

/// How many ask at once.
pub const CALLERS: [usize; 3] = [1, 8, 64];
/// How many a dispatcher of the queue asks for in one call when many wait.
const BATCH: usize = 64;
/// How long one run takes.
pub const SECONDS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn measure(
    house: &House,
    deployer: &BenchDeployer,
    effort: Effort,
    report: &mut Report,
) -> Result<(), Error> {
    let pool = PoolServiceClient::new(house.channel("pool-manager")?);
    let single = CALLERS.map(|callers| (callers, 1));
    let batch = CALLERS.map(|callers| (callers, BATCH));
    for ((callers, asks), platform) in single.into_iter().chain(batch).zip(ASSIGN) {
        let how = if asks == 1 { "one a call".to_owned() } else { format!("{asks} a call") };
        settle(house).await;
        say(format!("assignments: {callers} callers, {how}"));
        let platform = PlatformName::new(platform).map_err(|error| Error::Plain(error.to_string()))?;
        let (began, cpu) = (Instant::now(), Cpu::of(house));
        let runners = assign(&pool, &platform, callers, asks, effort.seconds(SECONDS)).await?;
        let rate = runners.len() as f64 / began.elapsed().as_secs_f64();
        let note = Cpu::of(house).each(cpu, runners.len());
        report.rate(format!("assignments, {callers} callers, {how}"), rate, note);
        report.assigned.push((callers, asks, rate));
        // What was given is started and accepted before the next run.
        deployer.arrivals_of(&runners, PATIENCE).await;
    }
    Ok(())
}

/// Asks until the time is over or the platform is full. Returns the runners that have slots.
pub async fn assign(
    pool: &PoolServiceClient<InnerChannel>,
    platform: &PlatformName,
    callers: usize,
    asks: usize,
    length: Duration,
) -> Result<Vec<Uuid>, Error> {
    let until = Instant::now() + length;
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let (mut pool, platform) = (pool.clone(), platform.clone());
        asking.spawn(async move {
            let mut given = Vec::new();
            while Instant::now() < until {
                let specs: Vec<_> = (0..asks).map(|_| spec()).collect();
                let asks = specs.iter().map(|spec| Ask {
                    spec: Some(spec.into()),
                    platforms: vec![platform.to_string()],
                    traceparent: String::new(),
                });
                let answers = pool.assign(AssignRequest { asks: asks.collect() }).await?.into_inner().answers;
                let assigned = |outcome| outcome == Outcome::Assigned;
                let with = specs.iter().zip(&answers).filter(|(_, answer)| assigned(answer.outcome()));
                given.extend(with.map(|(spec, _)| spec.runner.id));
                if answers.iter().any(|answer| !assigned(answer.outcome())) {
                    break;
                }
            }
            Ok::<_, Error>(given)
        });
    }
    let given = asking.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(given.into_iter().flatten().collect())
}

fn spec() -> RunnerSpec {
    RunnerSpec {
        runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
        tenant: TenantId::from_uuid(Uuid::nil()),
        provider: Provider::new("web").expect("a valid name"),
        image: None,
        resources: Resources::default(),
        max_lifetime: Duration::from_secs(4 * 3600),
    }
}
