//! Networks at the door: who may make one, and remove one.
//!
//! What is made is the machine's: bridges, addresses, rules, and programs that are called as root. So for now only the
//! node's owner may, on a node that runs as root; others see the networks of their own namespace.

use hostler_model::{Problem, ProblemKind};

use crate::caller::Caller;

/// Whether the caller may make or remove networks.
pub fn may_change_networks(caller: &Caller) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ProblemKind::Forbidden, detail));
    if !caller.is_owner() {
        return refuse("networks can be made and removed by the node's owner only");
    }
    if caller.node_uid != 0 {
        return refuse("networks need a node that runs as root");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_root_node_and_nobody_else() {
        for (uid, node_uid, word) in [(0, 0, None), (1000, 0, Some("owner only")), (1000, 1000, Some("as root"))] {
            let refused = may_change_networks(&Caller { uid, gid: uid, node_uid }).err();
            assert_eq!(refused.is_some(), word.is_some(), "{uid} {node_uid}");
            assert!(refused.is_none_or(|problem| problem.detail.contains(word.unwrap_or_default())));
        }
    }
}
