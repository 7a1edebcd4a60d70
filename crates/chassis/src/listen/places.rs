//! Who holds connections: how many in all, how many from each address, and which of them have not sent a request yet.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::Limits;

/// The address a request came from: the caller's, or what a trusted proxy says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerAddress(pub IpAddr);

impl CallerAddress {
    /// What is counted as one caller: an IPv4 address, or an IPv6 network of 64 bits.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => {
                let bits = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(bits))
            }
            address => address,
        }
    }
}

/// Why a connection was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken by callers that have sent requests.
    All,
    /// This address holds too many.
    Address,
}

/// The places of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limits: Arc<Limits>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
    /// Connections without a request, oldest first.
    silent: BTreeMap<u64, CancellationToken>,
    next: u64,
}

impl Places {
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { limits, taken: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a connection. When all are taken, the oldest connection that has not sent a request is told to go.
    pub fn take(&self, peer: IpAddr) -> Result<Place, Full> {
        let network = CallerAddress(peer).network();
        let counted = !trusted(&self.limits.trusted_proxies, peer);
        let mut taken = self.lock();
        let mut evict = None;
        if counted && taken.by_network.get(&network).is_some_and(|count| *count >= self.limits.connections_per_address)
        {
            return Err(Full::Address);
        }
        if taken.all >= self.limits.connections {
            let (_, evicted) = taken.silent.pop_first().ok_or(Full::All)?;
            evict = Some(evicted);
        }
        taken.all += 1;
        if counted {
            *taken.by_network.entry(network).or_default() += 1;
        }
        let id = taken.next;
        taken.next += 1;
        let evicted = CancellationToken::new();
        taken.silent.insert(id, evicted.clone());
        drop(taken);
        if let Some(evict) = evict {
            evict.cancel();
        }
        Ok(Place { places: self.clone(), network: counted.then_some(network), id, evicted })
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.lock().all
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    network: Option<IpAddr>,
    id: u64,
    evicted: CancellationToken,
}

impl Place {
    /// The connection has sent a request: it is not told to go any more.
    pub fn keep(&self) {
        self.places.lock().silent.remove(&self.id);
    }

    /// Another connection takes this place.
    pub fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        taken.silent.remove(&self.id);
        if let Some(network) = self.network
            && let Some(count) = taken.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&network);
            }
        }
    }
}

fn trusted(proxies: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    proxies.iter().any(|proxy| proxy.contains(&address))
}

/// Where a request came from. `X-Forwarded-For` is read from its end, as long as trusted proxies wrote it: what stands before
/// the first other address may be made up by the caller.
pub(super) fn caller(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> CallerAddress {
    let mut caller = peer;
    if proxies.is_empty() || !trusted(proxies, peer) {
        return CallerAddress(caller);
    }
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        caller = address;
        if !trusted(proxies, address) {
            break;
        }
    }
    CallerAddress(caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn places(connections: usize, connections_per_address: usize) -> Places {
        let trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        Places::new(Arc::new(Limits { connections, connections_per_address, trusted_proxies, ..Limits::default() }))
    }

    #[test]
    fn an_address_has_its_share_and_a_trusted_proxy_has_all() {
        let places = places(10, 2);
        let held = [places.take(address("192.0.2.1")), places.take(address("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(places.take(address("192.0.2.1")).err(), Some(Full::Address));
        drop(held);
        let _v6 = [places.take(address("2001:db8::1")), places.take(address("2001:db8::2"))];
        assert_eq!(places.take(address("2001:db8::3")).err(), Some(Full::Address), "one network");
        assert!(places.take(address("2001:db8:0:1::3")).is_ok(), "another");
        let proxies: Vec<_> = (0..5).map(|_| places.take(address("10.1.2.3")).expect("a place")).collect();
        assert_eq!(places.count(), 2 + proxies.len());
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_oldest_silent_one() {
        let places = places(2, 2);
        let old = places.take(address("192.0.2.1")).expect("a place");
        let silent = places.take(address("192.0.2.1")).expect("a place");
        old.keep();
        let new = places.take(address("192.0.2.2")).expect("a place");
        assert!(silent.evicted().is_cancelled() && !old.evicted().is_cancelled());
        drop(silent);
        new.keep();
        assert_eq!(places.take(address("192.0.2.3")).err(), Some(Full::All), "nobody is silent");
        drop((old, new));
        let taken = places.lock();
        assert_eq!((taken.all, taken.by_network.len(), taken.silent.len()), (0, 0, 0));
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_came_from() {
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let with = |forwarded: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().expect("a header"));
            headers
        };
        for (peer, forwarded, expected) in [
            ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.7", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            let found = caller(address(peer), &with(forwarded), &proxies);
            assert_eq!(found.0, address(expected), "{peer} {forwarded}");
        }
        assert_eq!(caller(address("10.0.0.1"), &with("198.51.100.1"), &[]).0, address("10.0.0.1"), "nobody is trusted");
    }
}
