//! Stacks: what has to be looked up on this machine before and beside the supervisor's decisions.
//!
//! - [`apply`]: from a stack as it is written to the supervisor's request, the same for the door and for startup files
//! - [`conditions`]: gathers what a unit's condition asks about
//! - `networks`: what the networks that a stack describes would be on this machine
//! - [`startup`]: the files in `startup.d`

pub(crate) mod conditions;
mod networks;
pub(crate) mod startup;

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::ids::{Namespace, NetworkName, QueueName, StackName, UnitName};
use hostler_model::network::NetworkSpec;
use hostler_model::stack::{Mistake, Stack};
use hostler_model::{Problem, ProblemKind};
use hostler_provision::{Caller, accept_later, accept_stack};
use hostler_supervisor::stack::{Retry, Wanted};
use hostler_supervisor::{ApplyStack, Request};

use crate::accept::judge;
use crate::node::Node;

/// A stack as it should be.
pub(crate) struct Accepted {
    /// The units that can be.
    pub(crate) units: BTreeMap<UnitName, Wanted>,
    /// The queues, and how many jobs of each run at one time.
    pub(crate) queues: BTreeMap<QueueName, u32>,
    /// The networks that it describes.
    pub(crate) networks: BTreeMap<NetworkName, NetworkSpec>,
    /// What is wrong with the others.
    pub(crate) mistakes: Vec<Mistake>,
}

/// What of a stack can be on this node.
pub(crate) fn accept(node: &Node, caller: &Caller, stack: &Stack) -> Result<Accepted, Problem> {
    let accepted = accept_stack(caller, stack, |spec| judge(node, caller, spec, accept_later))?;
    let wanted = |(name, (plan, identity))| (name, Wanted { plan: Arc::new(plan), identity });
    let units = accepted.units.into_iter().map(wanted).collect();
    Ok(Accepted { units, queues: accepted.queues, networks: accepted.networks, mistakes: accepted.mistakes })
}

/// Makes a stack what it should be, as far as it is good. A stack of which nothing is left is refused.
pub(crate) async fn apply(
    node: &Node,
    caller: &Caller,
    (namespace, name): (Namespace, StackName),
    stack: &Stack,
    retry: Retry,
) -> Result<(), Problem> {
    let Accepted { units, queues, networks, mut mistakes } = accept(node, caller, stack)?;
    if units.is_empty() && !mistakes.is_empty() {
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        return Err(Problem::new(ProblemKind::InvalidSpec, told.join("\n")));
    }
    let networks = networks::choose(node, &namespace, networks, &mut mistakes).await;
    let asked = ApplyStack { namespace, name, units, queues, networks, mistakes, retry };
    node.request(Request::ApplyStack(Box::new(asked))).await.map(drop)
}
