//! From the isolation that is asked for to the one that is in force: a profile with changes on top, under the caller's rights.
//!
//! Isolation only takes away, so that anybody may ask for it; but what he names in it must be his to use. What needs root's
//! hands on somebody's behalf (another network, capabilities, this machine's users, files that are read for him) is
//! the owner's.

use std::collections::BTreeMap;

use hostler_model::container::{Network, Seccomp, Userns};
use hostler_model::isolation::{DEFAULT_PROFILE, Isolation};
use hostler_model::spec::Spec;
use hostler_model::{Problem, ProblemKind};

use crate::caller::Caller;

/// What isolation is resolved by.
#[derive(Debug, Clone, Copy)]
pub struct Profiles<'a> {
    /// Those of the node's configuration.
    pub configured: &'a BTreeMap<String, Isolation>,
    /// The kernel's version of landlock; 0 is none.
    pub landlock_abi: u32,
}

fn named(profiles: &Profiles<'_>, name: &str) -> Result<Isolation, Problem> {
    if let Some(built_in) = Isolation::built_in(name) {
        return Ok(built_in);
    }
    let Some(configured) = profiles.configured.get(name) else {
        let known: Vec<&str> =
            Isolation::BUILT_IN.into_iter().chain(profiles.configured.keys().map(String::as_str)).collect();
        let detail = format!("there is no isolation profile {name:?}; there are: {}", known.join(", "));
        return Err(Problem::new(ProblemKind::InvalidSpec, detail));
    };
    // The configuration was checked: its base is one that every node has.
    let base = configured.profile.as_deref().and_then(Isolation::built_in);
    let base = base.or_else(|| Isolation::built_in(DEFAULT_PROFILE)).unwrap_or_default();
    Ok(Isolation { profile: Some(name.to_owned()), ..configured.clone().on(base) })
}

/// Puts what is in force into the spec, if it is to be isolated.
pub fn resolve(caller: &Caller, spec: &mut Spec, profiles: &Profiles<'_>) -> Result<(), Problem> {
    let Some(isolation) = &mut spec.isolation else { return Ok(()) };
    isolation.check()?;
    let profile = named(profiles, isolation.profile.as_deref().unwrap_or(DEFAULT_PROFILE))?;
    let mut resolved = std::mem::take(&mut **isolation).on(profile);
    resolved.check()?;
    if let Some(landlock) = &mut resolved.landlock {
        if profiles.landlock_abi == 0 {
            let detail = "isolation.landlock: this kernel has no landlock; see: hostler doctor";
            return Err(Problem::new(ProblemKind::InvalidSpec, detail));
        }
        landlock.abi = Some(profiles.landlock_abi);
    }
    may_ask(caller, &resolved)?;
    **isolation = resolved;
    Ok(())
}

fn may_ask(caller: &Caller, isolation: &Isolation) -> Result<(), Problem> {
    let root_node = caller.node_uid == 0;
    let asked = [
        ("network.namespace", matches!(isolation.network(), Network::Namespace(_)), root_node),
        ("userns host", isolation.userns() == Userns::Host, root_node),
        ("capabilities", !isolation.capabilities().is_empty(), true),
        ("seccomp.file", matches!(isolation.seccomp(), Seccomp::File(_)), true),
    ];
    for (what, asked, possible) in asked {
        if asked && !caller.is_owner() {
            let detail = format!("isolation with {what} can be asked for by the node's owner only");
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
        if asked && !possible {
            let detail = format!("isolation with {what} needs a node that runs as root");
            return Err(Problem::new(ProblemKind::Forbidden, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Caller = Caller { uid: 0, gid: 0, node_uid: 0 };
    const ANN: Caller = Caller { uid: 4242, gid: 4242, node_uid: 0 };
    const ROOTLESS: Caller = Caller { uid: 4242, gid: 4242, node_uid: 4242 };

    fn resolved(caller: Caller, json: &str) -> Result<Isolation, Problem> {
        let configured = BTreeMap::from([(
            "web".to_owned(),
            serde_json::from_str(r#"{"profile":"strict","writable":["/data"]}"#).expect("json"),
        )]);
        let mut spec = Spec::new(vec!["true".into()]);
        spec.isolation = Some(serde_json::from_str(json).expect("json"));
        resolve(&caller, &mut spec, &Profiles { configured: &configured, landlock_abi: 3 })?;
        // Nothing changes when it is asked for once more.
        let once = spec.isolation.clone();
        resolve(&caller, &mut spec, &Profiles { configured: &configured, landlock_abi: 3 })?;
        assert_eq!(spec.isolation, once);
        Ok(*spec.isolation.expect("isolated"))
    }

    #[test]
    fn nothing_is_absent_from_what_is_in_force() {
        let default = resolved(ANN, "{}").expect("anybody may");
        assert_eq!(Some(default), Isolation::built_in("default"));
        let web = resolved(ROOT, r#"{"profile":"web","hidden":["/data/secret"]}"#).expect("configured");
        assert_eq!(web.profile.as_deref(), Some("web"));
        assert!(web.writable.contains(&"/data".into()) && web.hidden.contains(&"/data/secret".into()));
        assert!(web.hidden.contains(&"/home".into()), "of its base");
        let landlock = resolved(ANN, r#"{"landlock":{"read":["/usr"]}}"#).expect("anybody may");
        assert_eq!(landlock.landlock.and_then(|landlock| landlock.abi), Some(3));
        let unknown = resolved(ROOT, r#"{"profile":"nobody"}"#).expect_err("unknown");
        assert!(unknown.detail.contains("network-service, strict, web"), "{}", unknown.detail);
    }

    #[test]
    fn what_needs_the_hands_of_root_is_the_owners() {
        let cases = [
            (r#"{"network":{"namespace":"/run/netns/x"}}"#, false),
            (r#"{"userns":"host"}"#, false),
            (r#"{"profile":"network-service"}"#, false),
            (r#"{"capabilities":["NET_RAW"]}"#, true),
            (r#"{"seccomp":{"file":"/x"}}"#, true),
        ];
        for (json, rootless) in cases {
            assert_eq!(
                resolved(ANN, json).map(drop).map_err(|problem| problem.kind),
                Err(ProblemKind::Forbidden),
                "{json}"
            );
            assert!(resolved(ROOT, json).is_ok(), "{json}");
            assert_eq!(resolved(ROOTLESS, json).is_ok(), rootless, "{json}");
        }
        assert!(resolved(ANN, r#"{"network":"host","seccomp":"unconfined"}"#).is_ok());
    }
}
