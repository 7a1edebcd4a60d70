//! What the figures were taken on.

use std::fs;
use std::time::{Duration, Instant};

use sqlx::Connection;

use crate::error::Error;
use crate::house::House;

/// How long a backlog may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Cores, memory, versions, and the settings that a commit's price depends on.
pub async fn facts(house: &House) -> Result<Vec<(String, String)>, Error> {
    let mut connection = sqlx::PgConnection::connect(&house.database_url()).await?;
    let mut settings = Vec::new();
    for name in ["server_version", "fsync", "synchronous_commit", "wal_sync_method"] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&mut connection).await?;
        settings.push(value);
    }
    let nats = house.nats().server_info().version;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = line_of("/proc/meminfo", "MemTotal").and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    let memory = memory.map_or_else(|| "?".to_owned(), |kib| format!("{:.0} GiB", kib as f64 / f64::from(1 << 20)));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok([
        ("machine", format!("{cores} cores ({processor}), {memory} memory, Linux {}", kernel.trim())),
        ("load before", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("greenroom", format!("{} ({build})", env!("CARGO_PKG_VERSION"))),
        (
            "Postgres",
            format!("{}, fsync {}, synchronous_commit {}, {}", settings[0], settings[1], settings[2], settings[3]),
        ),
        ("nats-server", format!("{nats}, file storage, synced lazily, one replica")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec())
}

/// What the parts have had of the cores since the machine started, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    services: f64,
    postgres: f64,
    nats: f64,
    bench: f64,
}

impl Cpu {
    pub fn of(house: &House) -> Self {
        let (services, postgres, nats) = house.pids();
        Self {
            services: cpu_seconds(services),
            postgres: with_children(postgres),
            nats: cpu_seconds(nats),
            bench: cpu_seconds(std::process::id()),
        }
    }

    /// What was used since then for each of so many pieces of work, in words.
    pub fn each(self, before: Self, count: usize) -> String {
        let each = |now: f64, before: f64| format!("{:.2}", (now - before) * 1e3 / count.max(1) as f64);
        format!(
            "CPU ms each: services {}, Postgres {}, nats {}, bench {}",
            each(self.services, before.services),
            each(self.postgres, before.postgres),
            each(self.nats, before.nats),
            each(self.bench, before.bench),
        )
    }
}

/// Waits until the services have worked off what the last run left behind, but not for ever: it would be counted with the
/// next one.
pub async fn settle(house: &House) {
    let (services, ..) = house.pids();
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let before = cpu_seconds(services);
        tokio::time::sleep(Duration::from_millis(400)).await;
        if cpu_seconds(services) - before < 0.03 {
            return;
        }
    }
}

/// What a process has had of the cores, in user and system mode.
pub fn cpu_seconds(pid: u32) -> f64 {
    seconds_at(pid, OWN)
}

/// The same for a process and its children, those that have ended included.
fn with_children(pid: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|process| parent(*process) == Some(pid));
    seconds_at(pid, ALL) + children.map(cpu_seconds).sum::<f64>()
}

/// Where `/proc/<pid>/stat` has them, counted from the state: user and system mode; and those of children that ended.
const OWN: &[usize] = &[11, 12];
const ALL: &[usize] = &[11, 12, 13, 14];

fn seconds_at(pid: u32, fields: &[usize]) -> f64 {
    // The kernel counts in hundredths.
    let ticks = |stat: &[String]| fields.iter().filter_map(|field| stat.get(*field)?.parse::<f64>().ok()).sum::<f64>();
    stat(pid).map_or(0.0, |stat| ticks(&stat) / 100.0)
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
