use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
}

fn allowed(words: &[&str]) -> AllowedNetworks {
    words.iter().map(|word| word.parse::<AllowedNetwork>().expect("a network")).collect()
}

#[test]
fn every_special_range_is_refused_at_both_ends_and_its_neighbours_are_not() {
    // First and last address of each range of IANA's registries, and the public ones beside it.
    for (first, last, kind, neighbours) in [
        ("0.0.0.0", "0.255.255.255", Reserved, vec!["1.0.0.0"]),
        ("10.0.0.0", "10.255.255.255", Private, vec!["9.255.255.255", "11.0.0.0"]),
        ("100.64.0.0", "100.127.255.255", Shared, vec!["100.63.255.255", "100.128.0.0"]),
        ("127.0.0.0", "127.255.255.255", Loopback, vec!["126.255.255.255", "128.0.0.0"]),
        ("169.254.0.0", "169.254.255.255", LinkLocal, vec!["169.253.255.255", "169.255.0.0"]),
        ("172.16.0.0", "172.31.255.255", Private, vec!["172.15.255.255", "172.32.0.0"]),
        ("192.0.0.0", "192.0.0.255", Reserved, vec!["191.255.255.255", "192.0.1.0"]),
        ("192.0.2.0", "192.0.2.255", Reserved, vec!["192.0.1.255", "192.0.3.0"]),
        ("192.88.99.0", "192.88.99.255", Reserved, vec!["192.88.98.255", "192.88.100.0"]),
        ("192.168.0.0", "192.168.255.255", Private, vec!["192.167.255.255", "192.169.0.0"]),
        ("198.18.0.0", "198.19.255.255", Reserved, vec!["198.17.255.255", "198.20.0.0"]),
        ("198.51.100.0", "198.51.100.255", Reserved, vec!["198.51.99.255", "198.51.101.0"]),
        ("203.0.113.0", "203.0.113.255", Reserved, vec!["203.0.112.255", "203.0.114.0"]),
        ("224.0.0.0", "239.255.255.255", Multicast, vec!["223.255.255.255"]),
        ("240.0.0.0", "255.255.255.255", Reserved, vec![]),
        ("::", "::", Reserved, vec![]),
        ("::1", "::1", Loopback, vec![]),
        // IPv4-compatible, deprecated: outside of what is given out as public.
        ("::7f00:1", "::ffff", Reserved, vec![]),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Reserved, vec![]),
        ("100::", "100::ffff:ffff:ffff:ffff", Reserved, vec![]),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec!["2001:200::", "2000::"]),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec!["2001:db7::", "2001:db9::"]),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec!["2003::"]),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec!["3fff:1000::"]),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec![]),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private, vec![]),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LinkLocal, vec![]),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved, vec![]),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Multicast, vec![]),
    ] {
        for address in [first, last] {
            assert_eq!(AllowedNetworks::default().check(ip(address)), Err(kind), "{address}");
        }
        for address in neighbours {
            assert_eq!(AllowedNetworks::default().check(ip(address)), Ok(()), "{address}");
        }
    }
}

#[test]
fn metadata_addresses_are_permitted_only_by_name() {
    let words = allowed(&["loopback", "private"]);
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
    ] {
        assert_eq!(words.check(ip(address)), Err(Metadata), "{address}");
        assert_eq!(allowed(&[address]).check(ip(address)), Ok(()), "{address}");
    }
}

#[test]
fn ipv6_that_stands_for_ipv4_is_judged_as_what_it_stands_for() {
    for (address, expected) in [
        ("::ffff:127.0.0.1", Err(Loopback)),
        ("::ffff:169.254.169.254", Err(Metadata)),
        ("::ffff:93.184.215.14", Ok(())),
        ("64:ff9b::10.0.0.1", Err(Private)),
        ("64:ff9b::93.184.215.14", Ok(())),
        // 6to4 and Teredo carry an address that nobody has to have: refused as a whole.
        ("2002:7f00:1::", Err(Reserved)),
        ("2002:5db8:d70e::", Err(Reserved)),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Err(Reserved)),
    ] {
        assert_eq!(AllowedNetworks::default().check(ip(address)), expected, "{address}");
    }
}

#[test]
fn a_range_is_permitted_by_word_address_or_network() {
    for (words, permits, refuses) in [
        (
            vec!["loopback"],
            vec!["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"],
            vec!["0.0.0.0", "10.0.0.1", "::"],
        ),
        (vec!["private"], vec!["10.0.0.1", "172.16.0.1", "192.168.1.1", "fd12::1"], vec!["127.0.0.1", "100.64.0.1"]),
        (vec!["127.0.0.2"], vec!["127.0.0.2", "::ffff:127.0.0.2"], vec!["127.0.0.1", "127.0.0.3"]),
        (vec!["10.1.0.0/16", "fd12::/16"], vec!["10.1.255.255", "fd12::1"], vec!["10.2.0.0", "fd13::1"]),
        (vec!["0.0.0.0/0", "::/0"], vec!["0.0.0.0", "169.254.169.254", "ff02::1", "::1"], vec![]),
        (vec![], vec!["93.184.215.14", "2606:2800:21f::1"], vec!["127.0.0.1"]),
    ] {
        let allowed = allowed(&words);
        assert_eq!(AllowedNetworks::from_words(allowed.to_words().iter().map(String::as_str)), allowed);
        for address in permits {
            assert_eq!(allowed.check(ip(address)), Ok(()), "{words:?} {address}");
        }
        for address in refuses {
            assert!(allowed.check(ip(address)).is_err(), "{words:?} {address}");
        }
    }
}

#[test]
fn a_word_that_names_no_network_is_an_error_and_permits_nothing_on_the_wire() {
    for word in ["", "Loopback", "localhost", "10.0.0.0/33", "10.0.0", "all", "*", "127.1", "fe80::1%eth0"] {
        assert!(word.parse::<AllowedNetwork>().is_err(), "{word:?}");
    }
    assert_eq!(AllowedNetworks::from_words(["all", "*"]), AllowedNetworks::default());
}

#[test]
fn localhost_is_known_in_every_spelling() {
    for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.LocalHost."] {
        assert!(local_name(name).is_some(), "{name}");
    }
    for name in ["localhost.example.com", "notlocalhost", "example.com", "", "."] {
        assert!(local_name(name).is_none(), "{name}");
    }
}

proptest! {
    /// Whatever the standard library calls special is refused, and a mapped or translated form changes nothing.
    #[test]
    fn every_ipv4_address_is_judged_alike_in_each_of_its_forms(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let judged = AllowedNetworks::default().check(v4.into());
        if v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
            || v4.is_documentation() || v4.is_unspecified()
        {
            prop_assert!(judged.is_err(), "{}", v4);
        }
        let [a, b, c, d] = v4.octets();
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, pair(a, b), pair(c, d));
        prop_assert_eq!(AllowedNetworks::default().check(v4.to_ipv6_mapped().into()), judged);
        prop_assert_eq!(AllowedNetworks::default().check(nat64.into()), judged);
    }

    #[test]
    fn special_ipv6_addresses_of_std_are_refused(bits: u128) {
        let v6 = Ipv6Addr::from_bits(bits);
        if v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unique_local()
            || v6.is_unicast_link_local()
        {
            prop_assert!(AllowedNetworks::default().check(v6.into()).is_err(), "{}", v6);
        }
    }

    /// An allowed network permits its own addresses, and no special address outside of it.
    #[test]
    fn an_allowed_network_permits_its_own_and_nothing_else(net: u32, prefix in 0_u8..=32, address: u32) {
        let net = Ipv4Net::new(Ipv4Addr::from_bits(net), prefix).expect("a prefix of at most 32");
        let address = Ipv4Addr::from_bits(address);
        let permitted = allowed(&[&net.to_string()]).check(address.into()).is_ok();
        prop_assert_eq!(permitted, net.contains(&address) || special(address.into()).is_none());
        prop_assert!(allowed(&[&net.to_string()]).check(net.network().into()).is_ok());
    }
}
