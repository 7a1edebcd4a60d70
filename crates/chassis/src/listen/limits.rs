//! What a listener grants its callers.

use std::time::Duration;

use ipnet::IpNet;

use crate::Settings;

/// Limits of a listener. They hold before anybody has shown a key or a token.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once. At most half of the file descriptors of the process are used, whatever is set.
    pub connections: usize,
    /// Most connections at once from one address (IPv6: one /64).
    pub connections_per_address: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// How long a new connection may take to send the headers of its first request.
    pub header_timeout: Duration,
    /// How long a request body may pause. The whole body may take this long and a second for each 64 KiB of it.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// How long a caller may leave an answer that waits for it untouched.
    pub stall_timeout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections take no more than one in so many of the file descriptors of the process.
    pub descriptor_share: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_per_address: 4_096,
            streams: 100,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(60),
            trusted_proxies: Vec::new(),
            descriptor_share: 2,
        }
    }
}

impl Limits {
    /// Reads the limits of the gateway's listener. The other listeners have the same time-outs.
    pub fn parse(settings: &mut Settings) -> Self {
        let default = Self::default();
        let limits = Self {
            connections: settings.get(
                "HTTP_CONNECTIONS",
                &default.connections.to_string(),
                "Most connections to the gateway at once; never more than half of the file descriptors the process may open. When all are taken, a new one takes the place of the oldest that has not sent a request.",
            ),
            connections_per_address: settings.get(
                "HTTP_CONNECTIONS_PER_ADDRESS",
                &default.connections_per_address.to_string(),
                "Most connections to the gateway at once from one address (IPv6: one /64). Half of all by default: runners behind one NAT share an address. Trusted proxies are not limited.",
            ),
            streams: settings.get(
                "HTTP_STREAMS_PER_CONNECTION",
                &default.streams.to_string(),
                "Most requests at once on one HTTP/2 connection to the gateway.",
            ),
            header_timeout: settings.millis(
                "HTTP_HEADER_TIMEOUT_MS",
                default.header_timeout,
                "Milliseconds that a new connection may take to send the headers of its first request.",
            ),
            body_timeout: settings.millis(
                "HTTP_BODY_TIMEOUT_MS",
                default.body_timeout,
                "Milliseconds that a request body may pause. The whole body may take this long, and one second more for each 64 KiB of it.",
            ),
            idle_timeout: settings.millis(
                "HTTP_IDLE_TIMEOUT_MS",
                default.idle_timeout,
                "Milliseconds that a connection may stay open without a request. Longer than proxies keep theirs (60 s), so that the proxy closes first.",
            ),
            stall_timeout: settings.millis(
                "HTTP_STALL_TIMEOUT_MS",
                default.stall_timeout,
                "Milliseconds that a caller may leave an answer untouched that waits for it; then its request ends. A slow line that takes some of it now and then is not cut off.",
            ),
            trusted_proxies: settings.list(
                "TRUSTED_PROXIES",
                "",
                "Addresses of proxies in front of the gateway, such as 10.0.0.0/8,192.0.2.7/32: only their X-Forwarded-For is believed. Without it every caller is known by the address of its connection.",
            ),
            descriptor_share: default.descriptor_share,
        };
        for (name, value) in [
            ("HTTP_CONNECTIONS", limits.connections),
            ("HTTP_CONNECTIONS_PER_ADDRESS", limits.connections_per_address),
            ("HTTP_STREAMS_PER_CONNECTION", limits.streams as usize),
        ] {
            if value == 0 {
                settings.problem(name, "must be at least 1");
            }
        }
        for (name, value) in [
            ("HTTP_HEADER_TIMEOUT_MS", limits.header_timeout),
            ("HTTP_BODY_TIMEOUT_MS", limits.body_timeout),
            ("HTTP_IDLE_TIMEOUT_MS", limits.idle_timeout),
            ("HTTP_STALL_TIMEOUT_MS", limits.stall_timeout),
        ] {
            if value < Duration::from_millis(100) {
                settings.problem(name, "must be at least 100");
            }
        }
        limits
    }

    /// The limits of the listener for other services: few connections, and many requests on each of them.
    #[must_use]
    pub fn inner(&self) -> Self {
        Self {
            connections: 2_048,
            connections_per_address: 1_024,
            streams: 2_000,
            // A gateway takes a download as fast as its own caller does.
            stall_timeout: Duration::from_secs(600),
            descriptor_share: 8,
            ..self.clone()
        }
    }

    /// The limits of the operators' listener.
    #[must_use]
    pub fn operations(&self) -> Self {
        Self { connections: 256, connections_per_address: 128, descriptor_share: 16, ..self.clone() }
    }

    /// The same, with no more connections than `descriptors` allow for.
    pub(super) fn within(mut self, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        self.connections = self.connections.min(descriptors / self.descriptor_share).max(1);
        self.connections_per_address = self.connections_per_address.min(self.connections.div_ceil(2));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        let limits = Limits::default();
        let sum = |descriptors| {
            [limits.clone(), limits.inner(), limits.operations()]
                .map(|limits| limits.within(descriptors).connections)
                .iter()
                .sum::<usize>()
        };
        assert!(sum(1_024) <= 704, "{}", sum(1_024));
        assert_eq!(limits.clone().within(1 << 20).connections, limits.connections);
        let few = limits.within(1_024);
        assert_eq!((few.connections, few.connections_per_address), (512, 256));
    }

    #[test]
    fn bad_limits_are_named() {
        let given = [("HTTP_CONNECTIONS", "0"), ("TRUSTED_PROXIES", "10.0.0.0/8,proxy"), ("HTTP_IDLE_TIMEOUT_MS", "1")];
        let mut settings = Settings::new(given.map(|(name, value)| (name.to_owned(), value.to_owned())), "");
        let limits = Limits::parse(&mut settings);
        assert_eq!(limits.trusted_proxies.len(), 1);
        let problems = settings.finish().expect_err("three problems").0;
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
