//! Choosing a port.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which Linux (32768) and macOS (49152) take the local ports of outgoing connections: otherwise
/// any client on this host could take our port while the server is being restarted.
const FIRST: u16 = 16_384;
const LAST: u16 = 32_767;

/// A port on 127.0.0.1 that nobody listens on at this moment. Somebody may take it before the server does, so callers
/// try again.
pub(crate) fn free() -> u16 {
    loop {
        let random = RandomState::new().hash_one(0);
        let port = FIRST + u16::try_from(random % u64::from(LAST - FIRST)).expect("the range is smaller than a u16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_in_range_and_differ() {
        let ports: std::collections::BTreeSet<u16> = (0..20).map(|_| free()).collect();
        assert!(ports.len() > 10, "{ports:?}");
        assert!(ports.iter().all(|port| (FIRST..LAST).contains(port)), "{ports:?}");
    }
}
