//! Values as people write them: a number where a text is meant, one where several are possible, a command as a line.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A text that may also be written as a number or as true or false: `port = 8080` is as good as `port = "8080"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Written(pub String);

impl Written {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Written {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Written".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "number", "boolean"]})
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(untagged))]
#[serde(untagged)]
pub enum Several {
    /// None at all.
    #[default]
    #[serde(skip)]
    None,
    /// One.
    One(String),
    /// Any number.
    Many(Vec<String>),
}

impl From<Vec<String>> for Several {
    fn from(many: Vec<String>) -> Self {
        if many.is_empty() { Self::None } else { Self::Many(many) }
    }
}

impl Several {
    /// Nothing was written.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Several;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Several, E> {
                Ok(Several::One(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Several, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Several::Many)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Several {
    /// As a command: a list is program and arguments, a text is a line for `sh -c`.
    #[must_use]
    pub fn command(&self) -> Vec<crate::ByteString> {
        match self {
            Self::None => Vec::new(),
            Self::One(line) => vec!["sh".into(), "-c".into(), line.as_str().into()],
            Self::Many(words) => words.iter().map(|word| word.as_str().into()).collect(),
        }
    }
}
