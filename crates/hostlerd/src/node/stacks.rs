//! The part of the view that is about stacks: committed records, and the workloads that belong to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostler_api::stacks::{MemberView, NextView, StackView, UnitView};
use hostler_model::ids::{Namespace, StackName, UnitName, WorkloadId};
use hostler_model::record::Record;
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::workload::Workload;
use hostler_supervisor::stack::Units;

type Key = (Namespace, StackName);

/// What was committed of all stacks.
#[derive(Default)]
pub(super) struct SeenStacks {
    records: BTreeMap<Key, Arc<StackRecord>>,
    units: BTreeMap<Key, BTreeMap<UnitName, Arc<UnitRecord>>>,
    members: BTreeMap<Key, BTreeSet<WorkloadId>>,
}

impl SeenStacks {
    pub(super) fn begin_with(&mut self, record: &StackRecord, units: &Units) {
        let key = (record.namespace.clone(), record.name.clone());
        let units = units.iter().map(|(name, unit)| (name.clone(), Arc::new(unit.clone())));
        self.units.insert(key.clone(), units.collect());
        self.records.insert(key, Arc::new(record.clone()));
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Stack(stack) => {
                self.records.insert((stack.namespace.clone(), stack.name.clone()), stack.clone());
            }
            Record::StackRemoved(namespace, stack) => {
                let key = (namespace.clone(), stack.clone());
                self.records.remove(&key);
                self.units.remove(&key);
            }
            Record::StackUnit(namespace, stack, unit) => {
                let units = self.units.entry((namespace.clone(), stack.clone())).or_default();
                units.insert(unit.name.clone(), unit.clone());
            }
            Record::StackUnitRemoved(namespace, stack, unit) => {
                if let Some(units) = self.units.get_mut(&(namespace.clone(), stack.clone())) {
                    units.remove(unit);
                }
            }
            _ => {}
        }
    }

    /// A workload that may be a replica.
    pub(super) fn member(&mut self, workload: &Workload) {
        if let Some(member) = &workload.stack {
            let key = (workload.namespace.clone(), member.stack.clone());
            self.members.entry(key).or_default().insert(workload.id);
        }
    }

    pub(super) fn member_gone(&mut self, workload: &Workload) {
        let Some(member) = &workload.stack else { return };
        let key = (workload.namespace.clone(), member.stack.clone());
        if let Some(members) = self.members.get_mut(&key) {
            members.remove(&workload.id);
            if members.is_empty() {
                self.members.remove(&key);
            }
        }
    }

    pub(super) fn names<'a>(&'a self, namespace: &'a Namespace) -> impl Iterator<Item = &'a StackName> {
        self.records.keys().filter(move |(of, _)| of == namespace).map(|(_, name)| name)
    }

    pub(super) fn units(&self, namespace: &Namespace, name: &StackName) -> Units {
        let units = self.units.get(&(namespace.clone(), name.clone()));
        units.into_iter().flatten().map(|(name, unit)| (name.clone(), UnitRecord::clone(unit))).collect()
    }

    pub(super) fn view(
        &self,
        namespace: &Namespace,
        name: &StackName,
        workloads: &BTreeMap<WorkloadId, Arc<Workload>>,
    ) -> Option<StackView> {
        let key = (namespace.clone(), name.clone());
        let record = self.records.get(&key)?;
        let nothing = BTreeMap::new();
        let units = self.units.get(&key).unwrap_or(&nothing);
        let mut members: BTreeMap<&UnitName, Vec<MemberView>> = BTreeMap::new();
        for workload in self.members.get(&key).into_iter().flatten().filter_map(|id| workloads.get(id)) {
            let Some(member) = &workload.stack else { continue };
            let run = workload.run.as_ref();
            members.entry(&member.unit).or_default().push(MemberView {
                workload: workload.id,
                name: workload.name.clone(),
                replica: member.replica,
                generation: member.generation,
                phase: workload.phase(),
                ready: workload.live_run().is_some_and(|run| run.ready_at_ms.is_some()),
                pid: run.and_then(|run| run.pid),
                exit_code: run.and_then(|run| run.state.shell_code()),
                runs: workload.runs,
            });
        }
        let unit = |unit: &Arc<UnitRecord>| {
            let mut members = members.remove(&unit.name).unwrap_or_default();
            members.sort_by_key(|member| (member.generation, member.replica));
            let plan = &unit.current.plan;
            UnitView {
                name: unit.name.clone(),
                kind: plan.kind,
                leaving: unit.leaving,
                requires: plan.requires.clone(),
                after: plan.after.clone(),
                replicas: plan.replicas,
                schedule: plan.spec.schedule.as_ref().map(|schedule| schedule.words()),
                generation: unit.current.number,
                state: unit.current.state.clone(),
                next: unit.next.as_ref().map(|next| NextView { generation: next.number, state: next.state.clone() }),
                members,
            }
        };
        Some(StackView {
            name: name.clone(),
            namespace: namespace.clone(),
            revision: record.revision,
            applied_at_ms: record.applied_at_ms,
            down: record.down,
            settled: !record.down && is_settled(units),
            units: units.values().map(unit).collect(),
            mistakes: record.mistakes.clone(),
        })
    }
}

/// Nothing more happens by itself. What leaves may stay for the sake of an old version that stays.
fn is_settled(units: &BTreeMap<UnitName, Arc<UnitRecord>>) -> bool {
    let has_stayed = units.values().filter_map(|unit| unit.next.as_ref()).any(|next| next.state.is_settled());
    units.values().all(|unit| {
        let next = unit.next.as_ref().is_none_or(|next| next.state.is_settled());
        next && (unit.current.state.is_settled() || (unit.leaving && has_stayed))
    })
}
