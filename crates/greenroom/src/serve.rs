//! Runs services: any of them, in one process, on one chassis.

use std::str::FromStr;

use greenroom_bus::Bus;
use greenroom_chassis::telemetry::Telemetry;
use greenroom_chassis::{Clock, Host, Process};
use greenroom_deployer::Deployers;
use greenroom_tasks::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::configuration::{Configuration, Doors};
use crate::platforms::Home;

/// A service that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Gateway,
    Accounts,
    Scheduler,
    Queue,
    PoolManager,
    Deployer,
    HeartbeatMonitor,
    Recordings,
}

impl Service {
    /// All of them, in the order in which a request meets them.
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Accounts,
        Self::Scheduler,
        Self::Queue,
        Self::PoolManager,
        Self::Deployer,
        Self::HeartbeatMonitor,
        Self::Recordings,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Accounts => "accounts",
            Self::Scheduler => "scheduler",
            Self::Queue => "queue",
            Self::PoolManager => "pool-manager",
            Self::Deployer => "deployer",
            Self::HeartbeatMonitor => "heartbeat-monitor",
            Self::Recordings => "recordings",
        }
    }
}

/// `all`, or a service's name.
#[derive(Debug, Clone)]
pub struct Named(pub Vec<Service>);

impl FromStr for Named {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "all" {
            return Ok(Self(Service::ALL.to_vec()));
        }
        match Service::ALL.into_iter().find(|service| service.as_str() == name) {
            Some(service) => Ok(Self(vec![service])),
            None => Err(format!(
                "there is no service {name}; there is all, {}",
                Service::ALL.map(Service::as_str).join(", ")
            )),
        }
    }
}

/// A process that is ready to run.
pub struct Ready {
    pub process: Process,
    pub host: Host,
    pub drain: std::time::Duration,
}

/// Puts services into a process.
///
/// # Errors
/// When NATS' address is none, or a database's.
pub async fn build(
    configuration: Configuration,
    doors: Doors,
    services: &[Service],
    telemetry: Telemetry,
) -> Result<Ready, Error> {
    let Configuration { common, peers, .. } = configuration;
    let name = match services {
        [one] => one.as_str(),
        _ => "all",
    };
    let bus = Bus::connect(&common.nats_url, common.installation.clone(), name).await?;
    let host = Host {
        installation: common.installation,
        tasks: Tasks::default(),
        bus: bus.clone(),
        clock: Clock::steady(common.clock, common.clock_offset),
        peers,
        secret: common.secret,
        time_scale: common.time_scale,
        drain: common.drain.mul_f64(0.75),
        ack_wait: common.ack_wait,
    };
    let mut process = Process::new(telemetry, host.tasks.clone());
    process.watch_descriptors();
    let stop = process.stop();
    process.supervise("clock", host.clock.watch(stop.clone()));
    process.health().require("nats", {
        let bus = bus.clone();
        move || {
            let bus = bus.clone();
            async move { bus.works() }
        }
    });
    process.health().require_each({
        let bus = bus.clone();
        move || bus.refusing().into_iter().map(|refusing| (format!("stream {}", refusing.stream), false)).collect()
    });
    process.supervise("watch of nats", {
        let stop = stop.clone();
        async move { bus.watch(stop).await }
    });
    let mut outer = None;
    for service in services {
        match service {
            Service::Gateway => {
                let gateway = greenroom_gateway::Service::build(&configuration.gateway, &host).map_err(plain)?;
                gateway.register(&mut process);
                outer = Some(gateway.router());
                run(&process, *service, &stop, |stop| gateway.run(stop));
            }
            Service::Accounts => {
                let accounts = greenroom_accounts::Service::build(&configuration.accounts, &host).map_err(plain)?;
                accounts.register(&mut process);
                run(&process, *service, &stop, |stop| accounts.run(stop));
            }
            Service::Scheduler => {
                let scheduler =
                    greenroom_scheduler::Service::build(configuration.scheduler.clone(), &host).map_err(plain)?;
                scheduler.register(&mut process);
                run(&process, *service, &stop, |stop| scheduler.run(stop));
            }
            Service::Queue => {
                let queue = greenroom_queue::Service::build(configuration.queue.clone(), &host).map_err(plain)?;
                queue.register(&mut process);
                run(&process, *service, &stop, |stop| queue.run(stop));
            }
            Service::PoolManager => {
                let pool =
                    greenroom_pool_manager::Service::build(configuration.pool_manager.clone(), &host).map_err(plain)?;
                pool.register(&mut process);
                run(&process, *service, &stop, |stop| pool.run(stop));
            }
            Service::Deployer => {
                let deployers = Deployers::default();
                deployers.register(&mut process);
                for platform in &configuration.pool_manager.platforms {
                    let failed = |error| Error::Plain(format!("platform {}: {error}", platform.name));
                    let make = configuration.deployers.get(&platform.name);
                    let make = make.ok_or_else(|| failed("this program cannot drive it".to_owned()))?;
                    let home =
                        Home { installation: host.installation.clone(), clock: host.clock, tasks: host.tasks.clone() };
                    let driven = make(platform.name.clone(), home).await.map_err(failed)?;
                    let running = driven.run(&host, &mut process, &deployers, stop.clone());
                    process.supervise(format!("deployer {}", platform.name), running);
                }
            }
            Service::HeartbeatMonitor => {
                let monitor = greenroom_heartbeat_monitor::Service::build(&configuration.heartbeat_monitor, &host)
                    .map_err(plain)?;
                monitor.register(&mut process);
                run(&process, *service, &stop, |stop| monitor.run(stop));
            }
            Service::Recordings => {
                let recordings =
                    greenroom_recordings::Service::build(&configuration.recordings, &host).map_err(plain)?;
                recordings.register(&mut process);
                run(&process, *service, &stop, |stop| recordings.run(stop));
            }
        }
    }
    let listener = |listener| TcpListener::from_std(listener).map_err(Error::machine("listen"));
    process.serve_inner(listener(doors.inner)?, host.peers.inner().clone());
    if let Some((door, router)) = doors.outer.zip(outer) {
        let router = router.merge(process.operations(false));
        process.serve_http("gateway's door", listener(door)?, router, configuration.limits.clone());
    }
    if let Some(door) = doors.operations {
        let router = process.operations(true);
        process.serve_http("operators' door", listener(door)?, router, configuration.limits.operations());
    }
    Ok(Ready { process, host, drain: common.drain })
}

fn plain(error: impl std::error::Error) -> Error {
    Error::Plain(error.to_string())
}

fn run<Fut>(process: &Process, service: Service, stop: &CancellationToken, start: impl FnOnce(CancellationToken) -> Fut)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    process.supervise(service.as_str(), start(stop.clone()));
}

/// Brings every schema up to date.
///
/// # Errors
/// When Postgres is away or refuses.
pub async fn migrate(configuration: &Configuration, host: &Host) -> Result<(), Error> {
    let now = host.clock.now();
    let accounts = greenroom_accounts::store(&configuration.accounts, host).map_err(plain)?;
    let recordings = greenroom_recordings::store(&configuration.recordings, host).map_err(plain)?;
    let scheduler = greenroom_scheduler::Service::build(configuration.scheduler.clone(), host).map_err(plain)?;
    let queue = greenroom_queue::Service::build(configuration.queue.clone(), host).map_err(plain)?;
    let pool = greenroom_pool_manager::Service::build(configuration.pool_manager.clone(), host).map_err(plain)?;
    for store in [&accounts, scheduler.store(), queue.store(), pool.store(), &recordings] {
        store.wait().await;
        store.migrate(now).await?;
        tracing::info!(service = store.origin().service, "schema is up to date");
    }
    Ok(())
}

/// Ends a process on SIGTERM and SIGINT; a second one ends it at once.
pub fn on_signals(process: &Process) -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::machine("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::machine("listen for SIGINT"))?;
    let stop = process.stop();
    process.supervise("signals", async move {
        let mut signal = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = signal() => stop.cancel(),
        }
        // Not waited for, as tasks of the process are: the end of the others does not depend on it.
        drop(greenroom_tasks::spawn("second signal", async move {
            signal().await;
            tracing::warn!("second stop signal, exiting at once");
            std::process::exit(130);
        }));
    });
    Ok(())
}
