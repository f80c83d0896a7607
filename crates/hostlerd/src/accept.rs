//! What a spec has to pass before the supervisor is asked: the same for a workload and for each unit of a stack.

use hostler_linux::clock;
use hostler_linux::spawn::hard_limit;
use hostler_model::spec::{Rlimit, Spec};
use hostler_model::workload::Identity;
use hostler_model::{Problem, ProblemKind, limits};
use hostler_provision::{Caller, Users};
use hostler_supervisor::schedule;

use crate::isolation;
use crate::limited::check_limits;
use crate::node::Node;

/// Completes it with what is this node's, and says who it runs as, or why it cannot be.
pub(crate) fn judge(
    node: &Node,
    caller: &Caller,
    spec: &mut Spec,
    accept: impl FnOnce(&Caller, &Spec, &Users) -> Result<Identity, Problem>,
) -> Result<Identity, Problem> {
    isolation::resolve(node, caller, spec)?;
    // Whether he may have it comes first: what follows runs the OCI runtime that he names, with the node's rights.
    let identity = accept(caller, spec, &node.users)?;
    check_limits(node, caller, &spec.limits)?;
    if let Some(container) = &spec.container {
        node.oci.find(container.oci_runtime.as_ref())?;
    }
    check_rlimits(caller, &spec.rlimits)?;
    check_room(node, spec)?;
    if let Some(plan) = &spec.schedule {
        schedule::check(plan, clock::wall_ms())?;
    }
    Ok(identity)
}

/// A pool that is full says so before anything is accepted. What waits in a queue comes when there is room.
fn check_room(node: &Node, spec: &Spec) -> Result<(), Problem> {
    let Some(vm) = spec.vm.as_ref().filter(|_| spec.queue.is_none() && spec.schedule.is_none()) else { return Ok(()) };
    match node.runtime.full_pool(vm) {
        None => Ok(()),
        Some(pool) => {
            let detail = format!("pool {pool} has as many machines as it may have, and none of them waits");
            let problem = Problem::new(ProblemKind::TryAgain, detail);
            Err(Problem { retry_after_s: Some(limits::POOL_RETRY_AFTER_S), ..problem })
        }
    }
}

/// The agent sets limits as root. Without asking, a workload gets the daemon's own; beyond these only the node's owner
/// may go.
pub(crate) fn check_rlimits(caller: &Caller, rlimits: &[Rlimit]) -> Result<(), Problem> {
    let raised =
        |rlimit: &&Rlimit| hard_limit(rlimit.kind).is_some_and(|most| rlimit.hard.is_none_or(|hard| hard > most));
    match rlimits.iter().find(raised) {
        Some(rlimit) if !caller.is_owner() => {
            let detail =
                format!("user {} may not raise the limit {:?} above the daemon's own", caller.uid, rlimit.kind);
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
        _ => Ok(()),
    }
}
