//! What the figures were taken on.

use std::fs;

use sqlx::Connection;

use crate::error::Error;
use crate::house::House;

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

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
