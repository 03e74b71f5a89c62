//! Which addresses are for the public: everything else is refused, whatever name leads to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), prefix)
}

const V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "of this network itself"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared behind a carrier's NAT"),
    (v4(127, 0, 0, 0, 8), "this machine itself"),
    // The platform's own services on Azure: public by its number, and never on the internet.
    (v4(168, 63, 129, 16, 32), "a cloud's own service"),
    (v4(169, 254, 0, 0, 16), "link-local, where clouds keep their metadata"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "a relay to embedded addresses"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved or broadcast"),
];

/// Only this is assigned to the public. What embeds an IPv4 address is refused wholesale: it may be any of the above.
const V6_PUBLIC: Ipv6Net = v6(0x2000, 0, 0, 3);

const V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "this machine itself"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "an embedded IPv4 address"),
    (v6(0, 0, 0, 96), "unspecified, or an embedded IPv4 address"),
    (v6(0x64, 0xff9b, 0, 96), "an embedded IPv4 address"),
    (v6(0x64, 0xff9b, 1, 48), "an embedded IPv4 address"),
    (v6(0x2001, 0, 0, 23), "reserved for protocols, or an embedded IPv4 address"),
    (v6(0x2001, 0xdb8, 0, 32), "for documentation"),
    (v6(0x2002, 0, 0, 16), "an embedded IPv4 address"),
    (v6(0x3fff, 0, 0, 20), "for documentation"),
    (v6(0xfc00, 0, 0, 7), "private"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "site-local"),
    (v6(0xff00, 0, 0, 8), "multicast"),
];

/// Whether an address may be dialled: it is for the public and not this machine's own, or among those `allowed`.
///
/// # Errors
/// What it is instead, in words.
pub(super) fn check(address: IpAddr, allowed: &[IpNet]) -> Result<(), &'static str> {
    if allowed.iter().any(|net| net.contains(&address)) {
        return Ok(());
    }
    match not_public(address) {
        Some(what) => Err(what),
        None if is_own(address) => Err("one of this machine's own"),
        None => Ok(()),
    }
}

fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what),
        IpAddr::V6(address) => {
            let known = V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what);
            known.or((!V6_PUBLIC.contains(&address)).then_some("not assigned to the public"))
        }
    }
}

/// Whether an address is on one of this machine's interfaces: then it is what the kernel would send from. A datagram socket
/// is told where its packets would go, and sends none.
#[expect(clippy::disallowed_methods, reason = "asks the kernel for a route; nothing is sent, nothing listens")]
fn is_own(address: IpAddr) -> bool {
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_is_dialled() {
        for public in
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"]
                .into_iter()
                .chain(["2606:4700::1111", "2a00:1450::1", "2001:200::1", "3ffe::1"])
        {
            assert_eq!(not_public(public.parse().unwrap()), None, "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(not_public(other.parse().unwrap()).is_some(), "{other}");
        }
    }

    #[test]
    fn what_the_policy_allows_is_dialled_and_nothing_beside_it() {
        let allowed = ["10.1.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()];
        for (address, may) in
            [("10.1.2.3", true), ("10.2.0.1", false), ("fd00::7", true), ("fd01::7", false), ("::ffff:10.1.2.3", false)]
        {
            assert_eq!(check(address.parse().unwrap(), &allowed).is_ok(), may, "{address}");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        // Reserved: on no machine.
        assert!(!is_own(Ipv4Addr::new(240, 0, 0, 1).into()));
    }
}
