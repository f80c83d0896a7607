//! From a stack as it is written to what the supervisor is asked: each unit under the same rules as a workload of its
//! own. One that is refused is left out with the reason, and with it those that require it.

use std::collections::{BTreeMap, BTreeSet};

use hostler_model::Problem;
use hostler_model::ids::{NetworkName, QueueName, UnitName};
use hostler_model::network::NetworkSpec;
use hostler_model::spec::Spec;
use hostler_model::stack::probe::ReadyWhen;
use hostler_model::stack::{Mistake, Stack, UnitPlan, check};
use hostler_model::workload::Identity;

use crate::caller::Caller;
use crate::network::may_change_networks;
use crate::pattern::Pattern;

/// A stack, verified.
#[derive(Debug)]
pub struct AcceptedStack {
    /// The units that can be, and who they run as.
    pub units: BTreeMap<UnitName, (UnitPlan, Identity)>,
    /// The queues that it describes, and how many jobs of each may run at one time.
    pub queues: BTreeMap<QueueName, u32>,
    /// The networks that it describes.
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
    /// What is wrong with the others.
    pub mistakes: Vec<Mistake>,
}

/// Checks a stack. `accept` completes a unit's spec with what is this node's, judges it as that of a workload, and says
/// who it runs as.
pub fn accept_stack(
    caller: &Caller,
    stack: &Stack,
    accept: impl Fn(&mut Spec) -> Result<Identity, Problem>,
) -> Result<AcceptedStack, Problem> {
    caller.admit()?;
    let mut checked = check(stack);
    let mut identities = BTreeMap::new();
    for name in checked.units.keys().cloned().collect::<Vec<_>>() {
        let Some(plan) = checked.units.get_mut(&name) else { continue };
        if !caller.is_owner() && looks_around(plan) {
            // The daemon would look for him with eyes that are not his.
            checked.drop_unit(&name, "condition", "asks for a file or a variable: only the node's owner may");
            continue;
        }
        if let ReadyWhen::Match { pattern } = &plan.ready.when
            && let Err(why) = Pattern::new(pattern)
        {
            checked.drop_unit(&name, "ready.match", why);
            continue;
        }
        match accept(&mut plan.spec) {
            Ok(identity) => drop(identities.insert(name, identity)),
            Err(problem) => checked.refuse_unit(&name, &problem.detail),
        }
    }
    if let Err(problem) = may_change_networks(caller) {
        let refused = std::mem::take(&mut checked.networks).into_keys();
        let mistake = |name| Mistake { path: format!("network.{name}"), what: problem.detail.clone(), unit: None };
        checked.mistakes.extend(refused.map(mistake));
    }
    let (queues, networks, mistakes) = (checked.queues, checked.networks, checked.mistakes);
    let units = checked.units.into_iter().filter_map(|(name, plan)| {
        let identity = identities.remove(&name)?;
        Some((name, (plan, identity)))
    });
    Ok(AcceptedStack { units: units.collect(), queues, networks, mistakes })
}

fn looks_around(plan: &UnitPlan) -> bool {
    let (mut files, mut env) = (BTreeSet::new(), BTreeSet::new());
    if let Some(condition) = &plan.condition {
        condition.asks(&mut files, &mut env);
    }
    !files.is_empty() || !env.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::accept_later;
    use crate::users::Users;

    fn accepted(caller: Caller, json: &str) -> (Vec<String>, Vec<String>) {
        let stack: Stack = serde_json::from_str(json).expect("a stack");
        let users = Users::default();
        let accept = |spec: &mut Spec| match spec.limits.pids {
            Some(7) => Err(Problem::new(hostler_model::ProblemKind::LimitUnavailable, "no sevens here")),
            _ => accept_later(&caller, spec, &users),
        };
        let accepted = accept_stack(&caller, &stack, accept).expect("admitted");
        let names = accepted.units.keys().map(ToString::to_string).collect();
        (names, accepted.mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn one_that_is_refused_leaves_the_others() {
        let json = r#"{"service":{"a":{"command":"x","user":"nobody-here"},"b":{"command":"x","requires":"a"},
            "c":{"command":["/not/there/yet"]},"d":{"command":"x","limits":{"pids":7}},
            "e":{"command":"x","condition":{"not":{"file":"/secret"}}},
            "f":{"command":"x","ready":{"match":"up("}},
            "h":{"command":"x","hooks":[{"on":{"line":{"pattern":"("}},"action":{"start":{"workload":"y"}}}]},"g":{"command":"x","ready":{"match":"^up$"}}}}"#;
        let (names, mistakes) = accepted(Caller { uid: 0, gid: 0, node_uid: 0 }, json);
        assert_eq!(names, ["c", "e", "g"]);
        assert!(mistakes[0].starts_with("service.a: ") && mistakes[0].contains("nobody-here"), "{mistakes:?}");
        assert_eq!(mistakes[1..3], ["service.b.requires: a is left out for its mistakes", "service.d: no sevens here"]);
        assert!(mistakes[3].starts_with("service.f.ready.match: "), "{mistakes:?}");
        assert!(mistakes[4].starts_with("service.h.hooks[0].on.line.pattern: ") && mistakes.len() == 5, "{mistakes:?}");
        let (names, _) = accepted(Caller { uid: 4242, gid: 4242, node_uid: 0 }, json);
        assert_eq!(names, ["c", "g"], "nobody else may look for files");
    }
}
