//! Stacks: what has to be looked up on this machine before and beside the supervisor's decisions.
//!
//! - [`apply`]: from a stack as it is written to the supervisor's request, the same for the door and for startup files
//! - [`conditions`]: gathers what a unit's condition asks about
//! - [`startup`]: the files in `startup.d`

pub(crate) mod conditions;
pub(crate) mod startup;

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::ids::{Namespace, StackName, UnitName};
use hostler_model::stack::{Mistake, Stack};
use hostler_model::{Problem, ProblemKind};
use hostler_provision::{Caller, accept_stack};
use hostler_supervisor::stack::{Retry, Wanted};
use hostler_supervisor::{ApplyStack, Request};

use crate::doors::http::workloads::{check_limits, check_rlimits};
use crate::node::Node;

/// The units that can be, and what is wrong with the others.
pub(crate) fn accept(
    node: &Node,
    caller: &Caller,
    stack: &Stack,
) -> Result<(BTreeMap<UnitName, Wanted>, Vec<Mistake>), Problem> {
    let accepted = accept_stack(caller, stack, &node.users, |spec| {
        check_limits(node, &spec.limits)?;
        check_rlimits(caller, &spec.rlimits)
    })?;
    let wanted = |(name, (plan, identity))| (name, Wanted { plan: Arc::new(plan), identity });
    Ok((accepted.units.into_iter().map(wanted).collect(), accepted.mistakes))
}

/// Makes a stack what it should be, as far as it is good. A stack of which nothing is left is refused.
pub(crate) async fn apply(
    node: &Node,
    caller: &Caller,
    (namespace, name): (Namespace, StackName),
    stack: &Stack,
    retry: Retry,
) -> Result<(), Problem> {
    let (units, mistakes) = accept(node, caller, stack)?;
    if units.is_empty() && !mistakes.is_empty() {
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        return Err(Problem::new(ProblemKind::InvalidSpec, told.join("\n")));
    }
    let asked = ApplyStack { namespace, name, units, mistakes, retry };
    node.request(Request::ApplyStack(Box::new(asked))).await.map(drop)
}
