//! What can be judged of a network that is to be made.

use super::{NetworkRecord, NewNetwork};
use crate::error::Problem;
use crate::ids::NetworkName;
use crate::spec::invalid;

impl NewNetwork {
    /// Everything that can be judged without looking at the machine.
    pub fn check(&self) -> Result<(), Problem> {
        check_name(&self.name).map_err(|what| invalid("name", &what))?;
        self.spec.check()
    }
}

/// Where a network is named, two words mean something else.
pub(crate) fn check_name(name: &NetworkName) -> Result<(), String> {
    match name.as_str() {
        word @ ("none" | "host") => Err(format!("{word} means something else where a network is named")),
        _ => Ok(()),
    }
}

impl NetworkRecord {
    /// Addresses that both networks have, as the range of this one that contains or is contained.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<(String, String)> {
        let (ours, theirs) = (self.bridge.as_ref()?, other.bridge.as_ref()?);
        if ours.subnet.overlaps(&theirs.subnet) {
            return Some((ours.subnet.to_string(), theirs.subnet.to_string()));
        }
        let (ours, theirs) = (ours.subnet6?, theirs.subnet6?);
        ours.overlaps(&theirs).then(|| (ours.to_string(), theirs.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use crate::network::{Bridge, NetworkRecord, NetworkSpec, NewNetwork};

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for (name, good) in [("blue", true), ("host", false), ("none", false), ("hosts", true)] {
            let new = NewNetwork { name: name.parse().expect("a name"), spec: NetworkSpec::default() };
            assert_eq!(new.check().is_ok(), good, "{name}");
        }
    }

    #[test]
    fn overlaps_are_found_in_both_families() {
        let record = |subnet: &str, subnet6: Option<&str>| {
            let subnet6 = subnet6.map(|subnet6| subnet6.parse().expect("a range"));
            let spec = NetworkSpec::default();
            NetworkRecord {
                id: crate::NetworkId::from_bytes([0; 3]),
                namespace: crate::Namespace::owner(),
                name: "blue".parse().expect("a name"),
                bridge: Some(Bridge::new(&spec, subnet.parse().expect("a range"), subnet6)),
                spec,
                created_at_ms: 0,
            }
        };
        let one = record("10.1.0.0/16", Some("fd00:1::/64"));
        assert_eq!(one.overlap(&record("10.1.2.0/24", None)), Some(("10.1.0.0/16".into(), "10.1.2.0/24".into())));
        assert_eq!(record("10.1.2.0/24", None).overlap(&one), Some(("10.1.2.0/24".into(), "10.1.0.0/16".into())));
        let six = one.overlap(&record("10.2.0.0/16", Some("fd00:1::/64")));
        assert_eq!(six, Some(("fd00:1::/64".into(), "fd00:1::/64".into())));
        assert_eq!(one.overlap(&record("10.2.0.0/16", Some("fd00:2::/64"))), None);
        assert_eq!(one.overlap(&record("10.2.0.0/16", None)), None);
    }
}
