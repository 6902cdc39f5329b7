//! Networks, and which of them may connect.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits, as in `10.0.0.0/8` or `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// With zeros behind the prefix.
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is in it. One of IPv4 is one, also when it comes in the clothes of IPv6.
    fn holds(self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.first)
    }
}

/// The address with zeros behind the prefix; nothing if it has less bits than that.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let behind = 32_u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V4((address.to_bits() & mask).into()))
        }
        IpAddr::V6(address) => {
            let behind = 128_u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V6((address.to_bits() & mask).into()))
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network, as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if address != address.to_canonical() {
            return Err(format!("{text:?} is an address of IPv4; write it as one"));
        }
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // A sign or a zero in front is read differently elsewhere.
            Some(text) if !text.starts_with(['+', '0']) || text == "0" => {
                text.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => whole,
        };
        let first = masked(address, prefix).ok_or_else(wrong)?;
        if first != address {
            return Err(format!("{text:?} has bits behind its prefix; {first}/{prefix} has not"));
        }
        Ok(Self { first, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// From where peers may connect.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedNetworks(Option<Vec<Network>>);

impl AllowedNetworks {
    /// From this machine alone.
    pub fn near() -> Self {
        let near = |first: IpAddr, prefix| Network { first, prefix };
        let whole = near(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        Self::only(vec![near(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), whole])
    }

    /// From these networks, and from nowhere else. This machine is no exception.
    pub fn only(networks: Vec<Network>) -> Self {
        Self(Some(networks))
    }

    /// Whether a peer at this address may connect.
    pub fn allow(&self, peer: IpAddr) -> bool {
        self.0.as_ref().is_none_or(|networks| networks.iter().any(|network| network.holds(peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(networks: &[&str], peer: &str, expected: bool) {
        let only = networks.iter().map(|text| text.parse().unwrap()).collect();
        let found = AllowedNetworks::only(only).allow(peer.parse().unwrap());
        assert_eq!(found, expected, "{peer} in {networks:?}");
    }

    #[test]
    fn an_address_is_in_the_networks_whose_prefix_it_has() {
        check(&["10.0.0.0/8"], "10.255.255.255", true);
        check(&["10.0.0.0/8"], "11.0.0.0", false);
        check(&["10.0.0.0/8"], "9.255.255.255", false);
        check(&["10.1.2.0/23"], "10.1.3.255", true);
        check(&["10.1.2.0/23"], "10.1.4.0", false);
        check(&["192.0.2.7"], "192.0.2.7", true);
        check(&["192.0.2.7/32"], "192.0.2.8", false);
        check(&["0.0.0.0/0"], "255.255.255.255", true);
        check(&["128.0.0.0/1"], "127.0.0.1", false);
        check(&["2001:db8::/32"], "2001:db8:ffff::1", true);
        check(&["2001:db8::/32"], "2001:db9::", false);
        check(&["2001:db8::/33"], "2001:db8:8000::", false);
        check(&["::1"], "::1", true);
        check(&["::/0"], "fe80::1", true);
        check(&["10.0.0.0/8", "::1"], "::1", true);
        check(&[], "127.0.0.1", false);
        assert!(AllowedNetworks::default().allow("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn the_two_families_are_not_mixed() {
        // A listener at [::] sees the peers of IPv4 like this.
        check(&["10.0.0.0/8"], "::ffff:10.1.1.1", true);
        check(&["10.0.0.0/8"], "::ffff:11.1.1.1", false);
        check(&["::/0"], "::ffff:10.1.1.1", false);
        check(&["::/0"], "10.1.1.1", false);
        check(&["0.0.0.0/0"], "fe80::1", false);
        check(&["127.0.0.1"], "::1", false);
        check(&["10.0.0.0/8"], "::10.1.1.1", false);
    }

    #[test]
    fn networks_as_text() {
        for text in ["10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "010.0.0.0/8",
            "::/129",
            "[::1]",
            "::ffff:10.0.0.0/104",
            "localhost",
            " 10.0.0.0/8",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
