//! Typed identifiers. Ids are random and short, so that a prefix is enough to type; they never tell order.
//! All are validated before they become part of a path, and each type has exactly one spelling.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not the fixed number of lower-case hexadecimal digits.
    #[error("{text:?} is not {what}: expected {digits} lower-case hexadecimal digits")]
    Hex {
        /// What was expected.
        what: &'static str,
        /// What was given.
        text: String,
        /// How many digits it should have.
        digits: usize,
    },
    /// Not `<workload id>-<number>`.
    #[error("{0:?} is not a run id: expected <workload id>-<number>")]
    Run(String),
    /// A name with characters, a first character or a length that names do not have.
    #[error("{text:?} is not a valid {what}: use 1 to {max} of a-z A-Z 0-9 . _ - and begin with a letter or digit")]
    Name {
        /// What was expected.
        what: &'static str,
        /// What was given.
        text: String,
        /// The longest allowed.
        max: usize,
    },
    /// A name with a dot where the dot separates names.
    #[error("{text:?} is not a valid {what}: it has no dot")]
    Dot {
        /// What was expected.
        what: &'static str,
        /// What was given.
        text: String,
    },
}

fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], IdError> {
    let error = || IdError::Hex { what, text: text.chars().take(80).collect(), digits: N * 2 };
    let raw = text.as_bytes();
    if raw.len() != N * 2 {
        return Err(error());
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(error()),
    };
    let mut out = [0; N];
    for (index, pair) in raw.chunks_exact(2).enumerate() {
        out[index] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// How many hexadecimal digits it is written with.
            pub const DIGITS: usize = $bytes * 2;

            /// Makes an id from fresh random bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes it was made from.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex($what, text).map(Self)
            }
        }

        text_serde!($name);
    };
}

/// Serde and schema through `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string"})
            }
        }
    };
}

pub(crate) use text_serde;

hex_id! {
    /// A workload, for as long as it exists.
    WorkloadId, 6, "a workload id"
}
hex_id! {
    /// A sandbox: an agent and its directory.
    SandboxId, 6, "a sandbox id"
}
hex_id! {
    /// One exec inside a run.
    ExecId, 4, "an exec id"
}
hex_id! {
    /// A store, and with it the node it belongs to; also the journal part of event ids.
    StoreId, 8, "a store id"
}
hex_id! {
    /// Short mark in every machine-global name of a node; 15 characters is all a link name has.
    NodeTag, 3, "a node tag"
}

hex_id! {
    /// A network: part of the names of its links, and so as short as they have to be.
    NetworkId, 3, "a network id"
}
hex_id! {
    /// A set-up in a network: a namespace with an interface and addresses.
    SetupId, 4, "a set-up id"
}

/// One incarnation of a workload: `<workload id>-<number>`, numbers from 1 upwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// Whose run it is.
    pub workload: WorkloadId,
    /// Counts the workload's runs from 1, never re-used.
    pub number: u32,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.workload, self.number)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::Run(text.chars().take(80).collect());
        let (workload, number) = text.split_once('-').ok_or_else(error)?;
        let run =
            Self { workload: workload.parse().map_err(|_| error())?, number: number.parse().map_err(|_| error())? };
        // One spelling only: "…-01" or "…-+1" would be a second name for the same directory.
        if run.number == 0 || run.to_string() != text { Err(error()) } else { Ok(run) }
    }
}

text_serde!(RunId);

fn check_name(what: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    let raw = text.as_bytes();
    let good = !raw.is_empty()
        && raw.len() <= max
        && raw[0].is_ascii_alphanumeric()
        && raw.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    if good { Ok(()) } else { Err(IdError::Name { what, text: text.chars().take(80).collect(), max }) }
}

/// A name that is part of another one: the same without dots.
fn check_part(what: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    if text.contains('.') {
        return Err(IdError::Dot { what, text: text.chars().take(80).collect() });
    }
    check_name(what, text, max)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        name_type! { $(#[$doc])* $name, $what, $max, check_name }
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $check($what, text, $max).map(|()| Self(text.into()))
            }
        }

        text_serde!($name);
    };
}

name_type! {
    /// A workload's name, unique in its namespace.
    WorkloadName, "workload name", limits::NAME_LENGTH_MAX
}
name_type! {
    /// A checkpoint's name, unique among those of its workload.
    CheckpointName, "checkpoint name", limits::NAME_LENGTH_MAX
}
name_type! {
    /// A queue's name, unique in its namespace.
    QueueName, "queue name", limits::NAME_LENGTH_MAX
}
name_type! {
    /// A network's name, unique in its namespace.
    NetworkName, "network name", limits::NETWORK_NAME_LENGTH_MAX
}
name_type! {
    /// A stack's name, unique in its namespace. It has no dot, so that `<stack>.<unit>` has one meaning.
    StackName, "stack name", limits::STACK_NAME_LENGTH_MAX, check_part
}
name_type! {
    /// The name of a service or job, unique in its stack. It has no dot.
    UnitName, "unit name", limits::UNIT_NAME_LENGTH_MAX, check_part
}
name_type! {
    /// Whose workloads: each caller has one, and sees only that one unless he is root.
    Namespace, "namespace", limits::NAME_LENGTH_MAX
}

impl Namespace {
    /// The namespace of the node's owner: root, or the user a rootless daemon runs as.
    #[must_use]
    pub fn owner() -> Self {
        Self("default".into())
    }

    /// The namespace of any other user. By number: a number cannot be forged through a directory service.
    #[must_use]
    pub fn of_uid(uid: u32) -> Self {
        Self(format!("u{uid}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id: WorkloadId = "00ff1234abcd".parse().expect("valid");
        assert_eq!(id.to_string(), "00ff1234abcd");
        for bad in ["00FF1234ABCD", "00ff1234abc", "00ff1234abcde", "../../etc/pa", "00ff1234abcé"] {
            assert!(bad.parse::<WorkloadId>().is_err(), "{bad}");
        }
        assert!("00ff1234abcd-7".parse::<RunId>().is_ok());
        for bad in ["00ff1234abcd", "00ff1234abcd-0", "00ff1234abcd-01", "00ff1234abcd-+1", "x-1"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_become_paths_or_options() {
        for good in ["a", "web-1", "A.b_c", "7"] {
            assert!(good.parse::<WorkloadName>().is_ok(), "{good}");
        }
        let long = "x".repeat(limits::NAME_LENGTH_MAX + 1);
        for bad in ["", ".", "..", "-rf", "a/b", "a b", "ü", "a\0", long.as_str()] {
            assert!(bad.parse::<WorkloadName>().is_err(), "{bad:?}");
        }
    }
}
