//! Ranges of addresses, each with one spelling: `10.1.2.0/24`, and not `10.1.2.3/24`.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubnetError {
    /// Not `ADDRESS/LENGTH`.
    #[error("{text:?} is not a range of {family} addresses such as {example}")]
    Text {
        /// What was given.
        text: String,
        /// Which addresses.
        family: &'static str,
        /// How it is written.
        example: &'static str,
    },
    /// Bits beyond the length.
    #[error("{text:?} is an address within the range {range}: write that")]
    Host {
        /// What was given.
        text: String,
        /// The range.
        range: String,
    },
}

macro_rules! subnet {
    ($(#[$doc:meta])* $name:ident, $net:ty, $address:ty, $family:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($net);

        impl $name {
            /// Its first address, which is nobody's.
            #[must_use]
            pub fn network(&self) -> $address {
                self.0.network()
            }

            /// How many leading bits all of it shares.
            #[must_use]
            pub fn length(&self) -> u8 {
                self.0.prefix_len()
            }

            /// Whether the address is in it.
            #[must_use]
            pub fn contains(&self, address: $address) -> bool {
                self.0.contains(&address)
            }

            /// Whether both have an address in common.
            #[must_use]
            pub fn overlaps(&self, other: &Self) -> bool {
                self.0.contains(&other.network()) || other.0.contains(&self.network())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = SubnetError;
            fn from_str(text: &str) -> Result<Self, SubnetError> {
                let net: $net = text.parse().map_err(|_| SubnetError::Text {
                    text: text.chars().take(80).collect(),
                    family: $family,
                    example: $example,
                })?;
                if net.addr() != net.network() {
                    return Err(SubnetError::Host { text: text.to_owned(), range: net.trunc().to_string() });
                }
                Ok(Self(net))
            }
        }

        crate::ids::text_serde!($name);
    };
}

subnet! {
    /// A range of IPv4 addresses.
    Subnet4, Ipv4Net, Ipv4Addr, "IPv4", "10.1.2.0/24"
}
subnet! {
    /// A range of IPv6 addresses.
    Subnet6, Ipv6Net, Ipv6Addr, "IPv6", "fd12:3456::/64"
}

impl Subnet4 {
    /// The range around this address.
    ///
    /// # Panics
    /// When the length is above 32.
    #[must_use]
    pub fn around(address: Ipv4Addr, length: u8) -> Self {
        Self(Ipv4Net::new(address, length).expect("a length of at most 32").trunc())
    }

    /// The address at this place; the first is 0.
    #[must_use]
    pub fn nth(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network().to_bits().wrapping_add(place))
    }

    /// Where in the range the address is.
    #[must_use]
    pub fn place_of(&self, address: Ipv4Addr) -> Option<u32> {
        self.contains(address).then(|| address.to_bits() - self.network().to_bits())
    }

    /// Addresses that machines can have: all but the first and the last.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        (u32::MAX >> self.length().min(31)).saturating_sub(1)
    }

    /// Whether a machine can have this address of it.
    #[must_use]
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        self.place_of(address).is_some_and(|place| place >= 1 && place <= self.hosts())
    }

    /// Whether workloads can have addresses of it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let first = self.network();
        let bad = first.is_multicast()
            || first.is_loopback()
            || first.is_link_local()
            || first.octets()[0] == 0
            || first.octets()[0] >= 240;
        (8..=30).contains(&self.length()) && !bad
    }
}

impl Subnet6 {
    /// The range around this address.
    ///
    /// # Panics
    /// When the length is above 128.
    #[must_use]
    pub fn around(address: Ipv6Addr, length: u8) -> Self {
        Self(Ipv6Net::new(address, length).expect("a length of at most 128").trunc())
    }

    /// The address at this place; the first is 0.
    #[must_use]
    pub fn nth(&self, place: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network().to_bits().wrapping_add(u128::from(place)))
    }

    /// Whether workloads can have addresses of it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let first = self.network();
        let bad = first.is_multicast()
            || first.is_unspecified()
            || first.is_loopback()
            || first.segments()[0] & 0xffc0 == 0xfe80;
        (48..=112).contains(&self.length()) && !bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_have_one_spelling() {
        assert_eq!("10.1.2.0/24".parse::<Subnet4>().expect("valid").to_string(), "10.1.2.0/24");
        for bad in ["10.1.2.0", "10.1.2.3/24", "10.1.2.0/33", "10.1.2/24", "", "fd00::/64"] {
            assert!(bad.parse::<Subnet4>().is_err(), "{bad}");
        }
        let why = "10.1.2.3/24".parse::<Subnet4>().expect_err("within").to_string();
        assert!(why.contains("10.1.2.0/24"), "{why}");
        assert!("fd00::1/64".parse::<Subnet6>().is_err());
        assert_eq!("fd00::/64".parse::<Subnet6>().expect("valid").nth(2).to_string(), "fd00::2");
        let small: Subnet4 = "10.0.0.0/30".parse().expect("valid");
        assert_eq!((small.hosts(), small.is_host(Ipv4Addr::new(10, 0, 0, 3))), (2, false));
    }

    proptest! {
        #[test]
        fn places_and_addresses_agree(bits in any::<u32>(), length in 8_u8..=30, place in any::<u32>()) {
            let subnet = Subnet4::around(Ipv4Addr::from_bits(bits), length);
            prop_assert!(subnet.contains(Ipv4Addr::from_bits(bits)));
            let place = 1 + place % subnet.hosts();
            let address = subnet.nth(place);
            prop_assert!(subnet.is_host(address));
            prop_assert_eq!(subnet.place_of(address), Some(place));
            prop_assert!(subnet.overlaps(&Subnet4::around(address, 30)));
        }
    }
}
