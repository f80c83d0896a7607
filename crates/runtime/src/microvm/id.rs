//! Names of virtual machines. One becomes a directory, so it is parsed before it is used.

use std::fmt;
use std::str::FromStr;

use hostler_model::limits;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Longest id that Firecracker takes, bytes.
const FIRECRACKER_ID_MAX: usize = 64;
/// Bytes of a digest that tell ids apart which would be the same otherwise.
const DIGEST: usize = 8;

/// The name of a VM: 1 to 76 letters and digits of ASCII, with single `.`, `_` or `-` between them. Safe as a path
/// component: it is never empty, hidden, `..`, nor has it a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId(String);

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing, or too much.
    #[error("an id of a VM has 1 to {} characters", limits::VM_ID_LENGTH_MAX)]
    Length,
    /// A character that has no place in it.
    #[error("an id of a VM has letters, digits and single . _ - between them, but no {0:?}")]
    Character(char),
    /// A separator at an end, or beside another one.
    #[error("an id of a VM has . _ - only between letters and digits, one at a time")]
    Separator,
}

impl FromStr for VmId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > limits::VM_ID_LENGTH_MAX {
            return Err(IdError::Length);
        }
        let is_separator = |c: char| matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !is_separator(*c)) {
            return Err(IdError::Character(other));
        }
        // Split at separators, every part has something in it.
        match text.split(is_separator).any(str::is_empty) {
            true => Err(IdError::Separator),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl VmId {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that Firecracker and its jailer take: at most 64 letters, digits and `-`. One that has to be changed gets
    /// a digest of the whole, so that two VMs never share one.
    #[must_use]
    pub fn for_firecracker(&self) -> String {
        let plain: String = self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        if plain == self.0 && plain.len() <= FIRECRACKER_ID_MAX {
            return plain;
        }
        let digest: String = self.digest("firecracker")[..DIGEST].iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = plain.len().min(FIRECRACKER_ID_MAX - 1 - digest.len());
        format!("{}-{digest}", &plain[..kept])
    }

    /// The hardware address of a card of this VM: locally administered, of one station, the same each time.
    #[must_use]
    pub fn mac(&self, card: u8) -> [u8; 6] {
        let digest = self.digest(&format!("mac {card}"));
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[..6]);
        mac[0] = (mac[0] & !0x01) | 0x02;
        mac
    }

    fn digest(&self, of: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in ["hostler vm", of, &self.0] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_path_components() {
        let longest = "a".repeat(76);
        for good in ["default", "a.b.c", "under_scores", "a", "0-1_2.3", &longest] {
            assert_eq!(good.parse::<VmId>().unwrap().to_string(), good);
        }
        let too_long = "a".repeat(77);
        let bad = [
            "", ".", "..", ".a", "a.", "-a", "a-", "_a", "a_", "a..b", "a.-b", "a__b", "/", "a/b", "../a", "a b",
            "a\0", "a\n", "ä", "a%2f", &too_long,
        ];
        for bad in bad {
            assert!(bad.parse::<VmId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn firecracker_ids_are_short_plain_and_different() {
        let a76 = "a".repeat(76);
        let a75b = format!("{}b", "a".repeat(75));
        let ids = ["default", "a.b", "a_b", "a-b", &a76, &a75b];
        let made: HashSet<String> = ids.iter().map(|id| id.parse::<VmId>().unwrap().for_firecracker()).collect();
        assert_eq!(made.len(), ids.len());
        for id in &made {
            assert!((1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{id}");
        }
        assert!(made.contains("default") && made.contains("a-b"));
    }

    #[test]
    fn hardware_addresses_are_local_and_distinct() {
        let mut seen = HashSet::new();
        for number in 0..2_000 {
            let id: VmId = format!("vm-{number}").parse().unwrap();
            for card in 0..4 {
                let mac = id.mac(card);
                assert_eq!(mac[0] & 0x03, 0x02, "local, not for a group");
                assert_eq!(mac, id.mac(card));
                assert!(seen.insert(mac));
            }
        }
    }
}
