//! Linux capabilities by name, see capabilities(7).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names without `CAP_`, in the kernel's order: the number of a capability is its place here.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Permits what file owners may do on anybody's files.
    pub const CHOWN: Self = Self(0);
    /// Permits ports below 1,024.
    pub const NET_BIND_SERVICE: Self = Self(10);
    /// Permits changing the network.
    pub const NET_ADMIN: Self = Self(12);
    /// Nearly everything else.
    pub const SYS_ADMIN: Self = Self(21);

    /// Every one there is a name for.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }

    /// The kernel's number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The capability with this number of the kernel's.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// As OCI configurations write it: `CAP_CHOWN`.
    #[must_use]
    pub fn oci_name(self) -> String {
        format!("CAP_{}", NAMES[usize::from(self.0)])
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[usize::from(self.0)])
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not the name of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a capability; see capabilities(7), such as NET_ADMIN")]
pub struct UnknownCapability {
    /// What was given, shortened.
    pub text: String,
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// With or without `CAP_`, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let place = NAMES.iter().position(|known| *known == name);
        place
            .and_then(|place| u8::try_from(place).ok())
            .map(Self)
            .ok_or_else(|| UnknownCapability { text: text.chars().take(40).collect() })
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Capability {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Capability".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A capability of capabilities(7), with or without CAP_, such as NET_ADMIN.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_Net_Admin"] {
            let capability: Capability = text.parse().expect(text);
            assert_eq!((capability.number(), capability.to_string().as_str()), (12, "NET_ADMIN"));
        }
        assert_eq!(Capability::SYS_ADMIN.oci_name(), "CAP_SYS_ADMIN");
        assert_eq!(Capability::all().count(), 41);
        assert_eq!(Capability::from_number(40).map(|last| last.to_string()).as_deref(), Some("CHECKPOINT_RESTORE"));
        assert_eq!(Capability::from_number(41), None);
        for text in ["", "CAP_", "ALL", "CAP_CAP_CHOWN", "CHOWN "] {
            assert!(text.parse::<Capability>().is_err(), "{text:?}");
        }
    }
}
