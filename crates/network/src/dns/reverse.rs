//! Names of addresses: `4.3.2.1.in-addr.arpa`, and the same of IPv6 (RFC 3596).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a reverse name is about, or is below.
pub(super) fn reverse(labels: &[&[u8]]) -> Option<Reverse> {
    let suffix = |start: usize| labels.len().checked_sub(start).map(|at| labels.split_at(at));
    let is = |labels: &[&[u8]], family: &str| {
        labels[0].eq_ignore_ascii_case(family.as_bytes()) && labels[1].eq_ignore_ascii_case(b"arpa")
    };
    if let Some((below, [octets @ .., family, arpa])) = suffix(6)
        && is(&[family, arpa], "in-addr")
    {
        let mut address = [0; 4];
        for (to, label) in address.iter_mut().rev().zip(octets) {
            *to = std::str::from_utf8(label).ok()?.parse().ok()?;
        }
        return Some(Reverse { address: Ipv4Addr::from(address).into(), exact: below.is_empty() });
    }
    if let Some((below, [nibbles @ .., family, arpa])) = suffix(34)
        && is(&[family, arpa], "ip6")
    {
        let mut address = 0_u128;
        for label in nibbles.iter().rev() {
            let [digit] = label else { return None };
            address = address << 4 | u128::from(char::from(*digit).to_digit(16)?);
        }
        return Some(Reverse { address: Ipv6Addr::from_bits(address).into(), exact: below.is_empty() });
    }
    None
}

/// What a reverse name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reverse {
    pub(super) address: IpAddr,
    /// The name is the address's own, not one below it.
    pub(super) exact: bool,
}
