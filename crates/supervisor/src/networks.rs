//! Networks: which there are, and who is in them. A network goes only when nobody is in it and nobody is about to be:
//! so whoever starts in one finds it there.
//!
//! Not here: what is done to the machine for one, and which addresses are free on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostler_model::event::{Event, EventKind};
use hostler_model::ids::{Namespace, NetworkName, RunId, StackName, UnitName, WorkloadName};
use hostler_model::network::{self, NetworkRecord};
use hostler_model::record::{Record, Urgency};
use hostler_model::spec::Spec;
use hostler_model::stack::{Mistake, UnitKind};
use hostler_model::{Now, Problem, ProblemKind, limits};

use crate::input::{Action, Outcome, Reply};
use crate::request::{Answer, conflict};
use crate::stack::Wanted;
use crate::stacks::Key;
use crate::state::State;

/// Whose, and which.
pub(crate) type NetworkKey = (Namespace, NetworkName);

/// So many of those who use a network are named.
const USERS_NAMED: usize = 3;

/// Who keeps a network from being removed.
#[derive(Debug, Default)]
struct Users {
    stacks: Vec<StackName>,
    /// Those that are not of these stacks.
    workloads: Vec<WorkloadName>,
}

impl State {
    /// All networks, by whose they are and their names.
    #[must_use]
    pub fn networks(&self) -> &BTreeMap<(Namespace, NetworkName), Arc<NetworkRecord>> {
        &self.networks
    }

    /// Whether the network that a workload of this namespace is to be in is there, and has places for what it is.
    pub(crate) fn has_network(&self, namespace: &Namespace, spec: &Spec) -> Result<(), Problem> {
        let Some(attachment) = spec.attachment() else { return Ok(()) };
        match self.networks.get(&(namespace.clone(), attachment.name.clone())) {
            Some(record) if spec.vm.is_some() && record.spec.cni.is_some() => Err(network::no_guests(&attachment.name)),
            Some(_) => Ok(()),
            None => Err(network::unknown(namespace, &attachment.name)),
        }
    }

    pub(crate) fn create_network(&mut self, record: NetworkRecord, now: Now, out: &mut Outcome) -> Answer {
        self.can_record()?;
        self.make_network(record, now, out).map(Reply::Network)
    }

    fn make_network(
        &mut self,
        record: NetworkRecord,
        now: Now,
        out: &mut Outcome,
    ) -> Result<Arc<NetworkRecord>, Problem> {
        let key = (record.namespace.clone(), record.name.clone());
        if self.networks.contains_key(&key) {
            let name = &record.name;
            let detail = format!(
                "{name} is the name of a network already; take another name, or remove it with: hostler network rm {name}"
            );
            return Err(Problem::new(ProblemKind::NameInUse, detail));
        }
        if self.networks.len() >= limits::NETWORKS_MAX {
            let detail = format!(
                "there are {} networks, the most a node has; remove one with: hostler network rm",
                limits::NETWORKS_MAX
            );
            return Err(Problem::new(ProblemKind::LimitReached, detail));
        }
        for other in self.networks.values() {
            if other.id == record.id {
                return Err(conflict(format!("network {} has this id by chance; try again", other.name)));
            }
            if let Some((ours, theirs)) = record.overlap(other) {
                let whose = match other.namespace == record.namespace {
                    true => String::new(),
                    false => format!(" of namespace {}", other.namespace),
                };
                return Err(conflict(format!(
                    "{ours} overlaps {theirs} of network {}{whose}; take another range, or none and let the node choose",
                    other.name
                )));
            }
        }
        // Who passes on a network that was there does not know what it would be now.
        if record.bridge.is_none() && record.spec.cni.is_none() {
            return Err(conflict(format!("network {} was removed meanwhile; try again", record.name)));
        }
        let record = Arc::new(record);
        let kind = EventKind::NetworkCreated { network: Box::new(NetworkRecord::clone(&record)) };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        out.batch.records.push(Record::Network(record.clone()));
        // What is prepared for it in the same step comes after this.
        out.early.push(Action::AddNetwork(record.clone()));
        self.networks.insert(key, record.clone());
        Ok(record)
    }

    pub(crate) fn remove_network(
        &mut self,
        namespace: Namespace,
        name: NetworkName,
        now: Now,
        out: &mut Outcome,
    ) -> Answer {
        let key = (namespace, name);
        if !self.networks.contains_key(&key) {
            let detail = format!("there is no network {} in namespace {}; see: hostler network ls", key.1, key.0);
            return Err(Problem::new(ProblemKind::NotFound, detail));
        }
        let users = self.users_of(&key);
        if !users.is_empty() {
            return Err(conflict(users.words(&key.1)));
        }
        self.forget_network(&key, now, out);
        Ok(Reply::Done)
    }

    fn users_of(&self, key: &NetworkKey) -> Users {
        let stacks = self.stacks.users_of_network(key);
        let counted = |stack: &StackName| stacks.contains(stack);
        let workloads = self.in_network(key).filter(|workload| {
            let stack = workload.stack.as_ref().map(|member| &member.stack);
            !stack.is_some_and(counted)
        });
        Users { workloads: workloads.map(|workload| workload.name.clone()).collect(), stacks }
    }

    /// Workloads that are in it, or will be by themselves.
    fn in_network(&self, key: &NetworkKey) -> impl Iterator<Item = &hostler_model::Workload> {
        let all = self.workloads.values().map(|workload| &**workload);
        all.filter(|workload| {
            let network = workload.spec.attachment().map(|attachment| &attachment.name);
            network == Some(&key.1) && workload.namespace == key.0 && !workload.is_at_rest()
        })
    }

    fn forget_network(&mut self, key: &NetworkKey, now: Now, out: &mut Outcome) {
        let Some(record) = self.networks.remove(key) else { return };
        out.batch.records.push(Record::NetworkRemoved(key.0.clone(), key.1.clone()));
        let kind = EventKind::NetworkRemoved { network: Box::new(NetworkRecord::clone(&record)) };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        out.actions.push(Action::RemoveNetwork(record.id));
    }

    /// Makes the networks that a stack describes; which of those that are there it has made. What cannot be is a mistake
    /// and keeps nothing else back.
    pub(crate) fn make_networks(
        &mut self,
        key: &Key,
        networks: Vec<NetworkRecord>,
        units: &BTreeMap<UnitName, Wanted>,
        mistakes: &mut Vec<Mistake>,
        now: Now,
        out: &mut Outcome,
    ) -> Vec<NetworkName> {
        let mut made = self.stacks.networks_of(key);
        let mut described = Vec::new();
        for record in networks {
            let name = record.name.clone();
            described.push(name.clone());
            let wrong = match self.networks.get(&(key.0.clone(), name.clone())) {
                Some(known) if known.spec != record.spec => Some(format!(
                    "is there already and differs: end what is in it, then hostler network rm {name}, or describe another one"
                )),
                // Of one that several stacks describe, the last to go takes it along.
                Some(_) => {
                    let shared = self.stacks.others_made(key, &name) && !made.contains(&name);
                    made.extend(shared.then(|| name.clone()));
                    None
                }
                None => match self.make_network(record, now, out) {
                    Ok(_) => {
                        made.retain(|known| *known != name);
                        made.push(name.clone());
                        None
                    }
                    Err(problem) => Some(problem.detail),
                },
            };
            let mistake = wrong.map(|what| Mistake { path: format!("network.{name}"), what, unit: None });
            mistakes.extend(mistake);
        }
        self.drop_undescribed(key, &mut made, &described, units, now, out);
        made
    }

    /// What the stack no longer describes goes, unless somebody is in it; then it goes with the stack.
    fn drop_undescribed(
        &mut self,
        key: &Key,
        made: &mut Vec<NetworkName>,
        described: &[NetworkName],
        units: &BTreeMap<UnitName, Wanted>,
        now: Now,
        out: &mut Outcome,
    ) {
        for name in made.iter().filter(|name| !described.contains(name)) {
            let wanted = units.values().any(|unit| unit.plan.spec.attachment().is_some_and(|to| to.name == *name));
            if !wanted {
                self.forget_unused(key, name, now, out);
            }
        }
        made.retain(|name| self.networks.contains_key(&(key.0.clone(), name.clone())));
    }

    /// The stack is gone: the networks that it made go too, but for those that others are in or described.
    pub(crate) fn forget_networks(&mut self, key: &Key, networks: &[NetworkName], now: Now, out: &mut Outcome) {
        for name in networks {
            self.forget_unused(key, name, now, out);
        }
    }

    fn forget_unused(&mut self, key: &Key, name: &NetworkName, now: Now, out: &mut Outcome) {
        let of = (key.0.clone(), name.clone());
        let others = self.stacks.users_of_network(&of).iter().any(|stack| *stack != key.1);
        if !others && self.in_network(&of).next().is_none() {
            self.forget_network(&of, now, out);
        }
    }

    /// What a run is in was found broken when the daemon came up.
    pub(crate) fn network_lost(&mut self, run: RunId, problem: String, now: Now, out: &mut Outcome) {
        let Some(workload) = self.live_run(run) else { return };
        Self::event(&workload, EventKind::RunNetworkLost { problem }, now, out);
        out.batch.urgency = Urgency::Prompt;
    }
}

/// Units in a network that is not as their stack describes it would be in another one: they are left out, and those that
/// require them.
pub(crate) fn leave_out(units: &mut BTreeMap<UnitName, Wanted>, mistakes: &mut Vec<Mistake>) {
    let names = mistakes.iter().filter_map(|mistake| mistake.path.strip_prefix("network."));
    let wrong: BTreeSet<String> = names.map(str::to_owned).collect();
    let mut out: BTreeSet<UnitName> = units
        .iter()
        .filter(|(_, unit)| unit.plan.spec.attachment().is_some_and(|to| wrong.contains(to.name.as_str())))
        .map(|(name, _)| name.clone())
        .collect();
    loop {
        let more: Vec<_> = units
            .iter()
            .filter(|(name, unit)| !out.contains(*name) && unit.plan.requires.iter().any(|it| out.contains(it)))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        out.extend(more);
    }
    for name in out {
        let Some(unit) = units.remove(&name) else { continue };
        let kind = match unit.plan.kind {
            UnitKind::Service => "service",
            UnitKind::Job => "job",
        };
        let what = match unit.plan.spec.attachment().filter(|to| wrong.contains(to.name.as_str())) {
            Some(to) => format!("is in network {}, which is not as it is described", to.name),
            None => "requires a unit whose network is not as it is described".to_owned(),
        };
        mistakes.push(Mistake { path: format!("{kind}.{name}"), what, unit: Some(name.to_string()) });
    }
}

impl Users {
    fn is_empty(&self) -> bool {
        self.stacks.is_empty() && self.workloads.is_empty()
    }

    /// Why the network stays, and what to do about it.
    fn words(&self, network: &NetworkName) -> String {
        let stacks = self.stacks.iter().map(|stack| format!("stack {stack}"));
        let mut all: Vec<_> = stacks.chain(self.workloads.iter().map(ToString::to_string)).collect();
        let more = all.len().saturating_sub(USERS_NAMED);
        all.truncate(USERS_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mut ways: Vec<_> =
            self.stacks.iter().take(USERS_NAMED).map(|stack| format!("hostler stack down {stack}")).collect();
        let named = self.workloads.iter().take(USERS_NAMED - ways.len());
        let names: Vec<_> = named.map(WorkloadName::as_str).collect();
        if !names.is_empty() {
            ways.push(format!("hostler stop {}", names.join(" ")));
        }
        let (used, ways) = (all.join(", "), ways.join(" && "));
        format!(
            "network {network} is used by {used}{more}; end these first, with: {ways}{}",
            if more.is_empty() { "" } else { " …" }
        )
    }
}
