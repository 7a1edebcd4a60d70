//! Which network addresses a meeting may be at: the one rule, asked at the door for literal addresses and by the runner's
//! proxy for every connection of its browser.
//!
//! A public address is permitted. An address of a special range is permitted only where the setting
//! `MEETING_ADDRESSES_ALLOWED` names its range. The ranges are those of IANA's special-purpose registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>, `…/iana-ipv6-special-registry`, as of 2025-10), with
//! multicast and the metadata addresses of clouds. IPv6 outside of 2000::/3 is not public.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What kind of address it is, where it is not a public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpecialAddress {
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, and unique local addresses of IPv6).
    Private,
    /// The network interface's own segment.
    LinkLocal,
    /// Where a cloud answers its machines, with their credentials.
    Metadata,
    /// Between a provider and its customers (carrier-grade NAT).
    Shared,
    /// Many receivers.
    Multicast,
    /// Anything else that is not a public address: unspecified, reserved, documentation, tests, transition mechanisms.
    Reserved,
}

impl fmt::Display for SpecialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Shared => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        })
    }
}

use SpecialAddress::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Shared};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last), prefix)
}

/// The first that holds an address says its kind.
const IPV4: [(Ipv4Net, SpecialAddress); 21] = [
    (v4(169, 254, 169, 254, 32), Metadata), // nearly every cloud
    (v4(169, 254, 170, 2, 32), Metadata),   // AWS ECS: credentials of the task
    (v4(169, 254, 170, 23, 32), Metadata),  // AWS EKS: credentials of the pod
    (v4(100, 100, 100, 200, 32), Metadata), // Alibaba Cloud
    (v4(192, 0, 0, 192, 32), Metadata),     // Oracle Cloud Classic
    (v4(168, 63, 129, 16, 32), Metadata),   // Azure's WireServer: a public address that only its machines reach
    (v4(0, 0, 0, 0, 8), Reserved),          // "this network"; Linux connects to itself for 0.0.0.0
    (v4(10, 0, 0, 0, 8), Private),
    (v4(100, 64, 0, 0, 10), Shared),
    (v4(127, 0, 0, 0, 8), Loopback),
    (v4(169, 254, 0, 0, 16), LinkLocal),
    (v4(172, 16, 0, 0, 12), Private),
    (v4(192, 0, 0, 0, 24), Reserved),   // IETF protocol assignments
    (v4(192, 0, 2, 0, 24), Reserved),   // documentation
    (v4(192, 88, 99, 0, 24), Reserved), // 6to4 relays, deprecated
    (v4(192, 168, 0, 0, 16), Private),
    (v4(198, 18, 0, 0, 15), Reserved),   // benchmarking
    (v4(198, 51, 100, 0, 24), Reserved), // documentation
    (v4(203, 0, 113, 0, 24), Reserved),  // documentation
    (v4(224, 0, 0, 0, 4), Multicast),
    (v4(240, 0, 0, 0, 4), Reserved), // with 255.255.255.255, broadcast
];

/// The first that holds an address says its kind.
const IPV6: [(Ipv6Net, SpecialAddress); 11] = [
    (v6(0xfd00, 0xec2, 0, 0, 0x254, 128), Metadata), // AWS
    (v6(0xfd20, 0xce, 0, 0, 0x254, 128), Metadata),  // Google Cloud
    (v6(0, 0, 0, 0, 1, 128), Loopback),
    (v6(0xfc00, 0, 0, 0, 0, 7), Private),
    (v6(0xfe80, 0, 0, 0, 0, 10), LinkLocal),
    (v6(0xff00, 0, 0, 0, 0, 8), Multicast),
    (v6(0x2001, 0, 0, 0, 0, 23), Reserved), // IETF protocol assignments, Teredo (2001::/32) among them
    (v6(0x2001, 0xdb8, 0, 0, 0, 32), Reserved), // documentation
    (v6(0x2002, 0, 0, 0, 0, 16), Reserved), // 6to4, which holds an IPv4 address
    (v6(0x3ffe, 0, 0, 0, 0, 16), Reserved), // 6bone, given back
    (v6(0x3fff, 0, 0, 0, 0, 20), Reserved), // documentation
];

/// All of IPv6 that is given out as public.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 0, 0, 3);
/// NAT64 (RFC 6052): the last four bytes are the IPv4 address that a translator connects to.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 0, 0, 96);

/// The address that a connection to this one ends at: IPv6 that stands for IPv4 is taken for what it stands for.
fn meant(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => address.to_canonical(),
    }
}

/// The kind of an address that is not public; `None`: it is public.
#[must_use]
pub fn special(address: IpAddr) -> Option<SpecialAddress> {
    match meant(address) {
        IpAddr::V4(v4) => IPV4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, kind)| *kind),
        IpAddr::V6(v6) => {
            let kind = IPV6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, kind)| *kind);
            kind.or((!GLOBAL_UNICAST.contains(&v6)).then_some(Reserved))
        }
    }
}

/// The addresses of a name that never leaves the machine: `localhost` and what ends in `.localhost` (RFC 6761).
#[must_use]
pub fn local_name(name: &str) -> Option<[IpAddr; 2]> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost").then_some([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// One range that is permitted although it is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedNetwork {
    /// `loopback`: 127.0.0.0/8 and ::1.
    Loopback,
    /// `private`: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and fc00::/7, without the metadata addresses of clouds.
    Private,
    /// A network, or a single address.
    Network(IpNet),
}

/// A word that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network: give loopback, private, an address or a network such as 10.1.0.0/16")]
pub struct InvalidNetwork(String);

impl FromStr for AllowedNetwork {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "private" => Ok(Self::Private),
            _ => {
                let address = || text.parse().map(|address: IpAddr| IpNet::from(address));
                text.parse().or_else(|_| address()).map(Self::Network).map_err(|_| InvalidNetwork(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for AllowedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Private => f.write_str("private"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl AllowedNetwork {
    fn covers(self, address: IpAddr, kind: SpecialAddress) -> bool {
        match self {
            Self::Loopback => kind == Loopback,
            Self::Private => kind == Private,
            Self::Network(network) => network.contains(&address) || network.contains(&meant(address)),
        }
    }
}

/// Ranges that are permitted although they are not public. The default permits none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Vec<AllowedNetwork>);

impl FromIterator<AllowedNetwork> for AllowedNetworks {
    fn from_iter<I: IntoIterator<Item = AllowedNetwork>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl AllowedNetworks {
    /// Permits these ranges. A word that is not understood permits nothing: it may come from a newer version.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        words.into_iter().filter_map(|word| word.parse().ok()).collect()
    }

    /// The words that [`AllowedNetworks::from_words`] understands.
    #[must_use]
    pub fn to_words(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Decides about one address.
    ///
    /// # Errors
    /// The kind of an address that is neither public nor in a range that is allowed.
    pub fn check(&self, address: IpAddr) -> Result<(), SpecialAddress> {
        match special(address) {
            Some(kind) if !self.0.iter().any(|allowed| allowed.covers(address, kind)) => Err(kind),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
