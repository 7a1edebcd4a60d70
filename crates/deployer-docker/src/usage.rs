//! What a container takes: pure.

use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use greenroom_domain::{Timestamp, Usage};

use crate::look::time;

/// Reads a sample; none: it says nothing, as those of containers that ended do.
pub(crate) fn sample(stats: &ContainerStatsResponse, started: Timestamp) -> Option<Usage> {
    let cpu = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage.filter(|total| *total > 0)?;
    let read = time(stats.read.as_deref())?;
    let networks = stats.networks.as_ref();
    let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        networks.map(|networks| networks.values().filter_map(of).sum())
    };
    Some(Usage {
        cpu_ms: cpu / 1_000_000,
        peak_memory_bytes: stats.memory_stats.as_ref().map(memory).unwrap_or_default(),
        lasted_ms: millis_between(started, read),
        received_bytes: sum(|network| network.rx_bytes),
        sent_bytes: sum(|network| network.tx_bytes),
    })
}

/// What it could not do without at this moment: without files in the page cache, which are given back when somebody needs the
/// room. (cgroup v1 keeps a peak, with the cache in it: every runner that records would seem to need all it may have.)
fn memory(stats: &ContainerMemoryStats) -> u64 {
    let cache =
        stats.stats.as_ref().and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    stats.usage.unwrap_or_default().saturating_sub(cache.copied().unwrap_or_default())
}

/// What is known in the end: the last sample, and how long it really ran.
pub(crate) fn in_the_end(last: Usage, ran: Option<(Timestamp, Option<Timestamp>)>) -> Usage {
    match ran {
        Some((started, Some(finished))) => Usage { lasted_ms: millis_between(started, finished), ..last },
        _ => last,
    }
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn samples_are_read_of_either_kind_of_cgroup() {
        let stats = |inactive: &str| -> ContainerStatsResponse {
            let stats = json!({
                "read": at(60).to_string(),
                "cpu_stats": { "cpu_usage": { "total_usage": 30_500_000_000u64 } },
                "memory_stats": { "usage": 900, "max_usage": 5000, "stats": { inactive: 300 } },
                "networks": { "eth0": { "rx_bytes": 7, "tx_bytes": 2 }, "eth1": { "rx_bytes": 1, "tx_bytes": 1 } },
            });
            serde_json::from_value(stats).expect("stats")
        };
        let expected = Usage {
            cpu_ms: 30_500,
            peak_memory_bytes: 600,
            lasted_ms: 60_000,
            received_bytes: Some(8),
            sent_bytes: Some(3),
        };
        assert_eq!(sample(&stats("total_inactive_file"), at(0)), Some(expected));
        assert_eq!(sample(&stats("inactive_file"), at(0)), Some(expected));
    }

    #[test]
    fn the_dead_take_nothing_that_anybody_should_learn_from() {
        let dead = json!({ "read": "0001-01-01T00:00:00Z", "cpu_stats": { "cpu_usage": { "total_usage": 0 } }, "memory_stats": {} });
        assert_eq!(sample(&serde_json::from_value(dead).expect("stats"), at(0)), None);
        assert_eq!(sample(&ContainerStatsResponse::default(), at(0)), None);
    }

    #[test]
    fn in_the_end_it_is_known_how_long_it_ran() {
        let last = Usage { cpu_ms: 5, lasted_ms: 10_000, ..Usage::default() };
        assert_eq!(in_the_end(last, Some((at(0), Some(at(14))))).lasted_ms, 14_000);
        assert_eq!(in_the_end(last, Some((at(0), None))), last);
        assert_eq!(in_the_end(last, None), last);
    }
}
