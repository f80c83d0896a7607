//! A part of a spec that is its default in most of them. A hundred thousand jobs that wait pay a pointer for it.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type whose default can be shared by all who have it.
pub trait Shared: Default + PartialEq + Clone + 'static {
    /// The default, made once.
    fn shared() -> &'static Self;
}

/// Makes types [`Shared`].
macro_rules! shared {
    ($($type:ty),* $(,)?) => {$(
        impl $crate::seldom::Shared for $type {
            fn shared() -> &'static Self {
                static DEFAULT: std::sync::LazyLock<$type> = std::sync::LazyLock::new(<$type>::default);
                &DEFAULT
            }
        }
    )*};
}
pub(crate) use shared;

/// `T`, kept only when it is not its default. In JSON it is a `T`.
#[derive(Debug, Clone, Default)]
pub struct Seldom<T>(Option<Box<T>>);

impl<T: Shared> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::shared())
    }
}

impl<T: Shared> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Shared> From<T> for Seldom<T> {
    fn from(value: T) -> Self {
        Self((value != *T::shared()).then(|| Box::new(value)))
    }
}

impl<T: Shared> Seldom<T> {
    /// Whether it is the default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        **self == *T::shared()
    }
}

impl<'a, T: Shared> IntoIterator for &'a Seldom<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (**self).into_iter()
    }
}

/// Whether it was ever touched makes no difference.
impl<T: Shared> PartialEq for Seldom<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Shared + Eq> Eq for Seldom<T> {}

impl<T: Shared + Serialize> Serialize for Seldom<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Shared + Deserialize<'de>> Deserialize<'de> for Seldom<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Seldom<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Stdio;

    #[test]
    fn what_was_touched_and_is_the_default_equals_what_was_not() {
        let mut touched = Seldom::from(Stdio { owner: true, ..Stdio::default() });
        assert_ne!(touched, Seldom::default());
        touched.owner = false;
        assert_eq!(touched, Seldom::default());
        let json = serde_json::to_string(&touched).expect("print");
        assert_eq!(serde_json::from_str::<Seldom<Stdio>>(&json).expect("parse"), touched);
    }
}
