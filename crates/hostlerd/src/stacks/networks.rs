//! The networks that a stack describes: what each would be on this machine. Whether one is made, kept or refused is the
//! supervisor's to say.

use std::collections::BTreeMap;

use hostler_model::ids::{Namespace, NetworkName};
use hostler_model::network::{NetworkRecord, NetworkSpec, NewNetwork};
use hostler_model::stack::Mistake;

use crate::node::Node;

/// A record for each; for what cannot be, a mistake.
pub(super) async fn choose(
    node: &Node,
    namespace: &Namespace,
    networks: BTreeMap<NetworkName, NetworkSpec>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<NetworkRecord> {
    let mut known = node.view.all_networks();
    let mut chosen = Vec::new();
    for (name, spec) in networks {
        if let Some(there) = known.iter().find(|it| it.namespace == *namespace && it.name == name) {
            // What was chosen for another description means nothing for this one.
            let bridge = there.bridge.clone().filter(|_| there.spec == spec);
            chosen.push(NetworkRecord { spec, bridge, ..there.clone() });
            continue;
        }
        let path = format!("network.{name}");
        match node.networks.choose(namespace, NewNetwork { name, spec }, known.clone()).await {
            Ok(record) => {
                known.push(record.clone());
                chosen.push(record);
            }
            Err(problem) => mistakes.push(Mistake { path, what: problem.detail, unit: None }),
        }
    }
    chosen
}
