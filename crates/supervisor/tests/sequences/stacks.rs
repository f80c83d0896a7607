//! The part of the sequences that is about stacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::ids::{Namespace, StackName, UnitName};
use hostler_model::record::Record;
use hostler_model::schedule::Schedule;
use hostler_model::spec::{RestartWhen, Spec};
use hostler_model::stack::condition::Condition;
use hostler_model::stack::probe::{Probe, Readiness, ReadyWhen, TimedProbe};
use hostler_model::stack::{GenerationState, StackRecord, UnitKind, UnitPlan, UnitRecord, Update};
use hostler_model::workload::{Desired, Identity, Workload};
use hostler_supervisor::stack::{Retry, Wanted};
use hostler_supervisor::{ApplyStack, Request, State};

use super::Disk;
use super::values::queue_name;

/// Writes what a batch says of stacks.
pub(super) fn commit(disk: &mut Disk, record: &Record) {
    match record {
        Record::Stack(stack) => {
            disk.stacks.insert(stack.name.clone(), StackRecord::clone(stack));
        }
        Record::StackRemoved(_, name) => {
            disk.stacks.remove(name).expect("removed once");
            assert!(!disk.units.keys().any(|(stack, _)| stack == name), "removed with units");
        }
        Record::StackUnit(_, stack, unit) => {
            disk.units.insert((stack.clone(), unit.name.clone()), UnitRecord::clone(unit));
        }
        Record::StackUnitRemoved(_, stack, unit) => {
            disk.units.remove(&(stack.clone(), unit.clone())).expect("removed once");
        }
        other => panic!("not about a stack: {other:?}"),
    }
}

/// The state is what replay gives.
pub(super) fn check(state: &State, disk: &Disk) {
    for (stack, units) in state.stacks() {
        assert_eq!(Some(stack), disk.stacks.get(&stack.name));
        let of_stack = disk.units.iter().filter(|((name, _), _)| *name == stack.name);
        let written: BTreeMap<_, _> = of_stack.map(|((_, unit), record)| (unit.clone(), record.clone())).collect();
        assert_eq!(*units, written, "units are what replay gives");
    }
    assert_eq!(state.stacks().count(), disk.stacks.len());
    for workload in state.workloads().values() {
        check_member(state, workload);
    }
}

/// A job is what its unit says: under way while that starts, and with a plan that stands while that is ready.
fn check_member(state: &State, workload: &Workload) {
    let Some(member) = workload.stack.as_ref().filter(|member| member.kind == UnitKind::Job) else { return };
    let mut stacks = state.stacks().filter(|(stack, _)| stack.name == member.stack);
    let Some(unit) = stacks.find_map(|(_, units)| units.get(&member.unit)) else { return };
    let generations = std::iter::once(&unit.current).chain(&unit.next);
    let Some(generation) = generations.into_iter().find(|of| of.number == member.generation) else { return };
    match generation.state {
        GenerationState::Starting { .. } => {
            let under_way = workload.live_run().is_some() || workload.queued.is_some();
            assert!(under_way || workload.restart_at_boot_ms.is_some(), "nothing is under way: {workload:?}");
        }
        GenerationState::Ready if workload.schedule.is_some() && workload.live_run().is_none() => {
            assert_ne!(workload.desired, Desired::Stopped, "ready without a plan: {workload:?}");
        }
        GenerationState::Failed { .. } if workload.schedule.is_some() => {
            assert_ne!(workload.desired, Desired::Run, "a plan goes on though its unit has failed: {workload:?}");
        }
        _ => {}
    }
}

pub(super) fn stack_name() -> StackName {
    "s".parse().expect("a name")
}

/// A database, a job that needs it, and two replicas of a service that need both, one of the kinds of readiness each.
pub(super) fn apply_stack(present: u8, version: u8) -> Request {
    let name = |text: &str| -> UnitName { text.parse().expect("a name") };
    let mut units = BTreeMap::new();
    for (index, unit) in ["db", "job", "web", "log"].into_iter().enumerate() {
        if present & (1 << index) == 0 {
            continue;
        }
        let there = |other: u8| present & (1 << other) != 0;
        let mut spec = Spec::new(vec!["true".into()]);
        spec.env = vec![format!("V={}", if index == 3 { 0 } else { version }).as_str().into()];
        spec.restart.when = if index == 1 { RestartWhen::Never } else { RestartWhen::Always };
        // The job in its three kinds: at once, in its turn, by a schedule that waits for its turn.
        let has_turn = index == 1 && version > 0;
        spec.queue = has_turn.then(|| queue_name(0));
        spec.schedule =
            (index == 1 && version == 2).then(|| Box::new(Schedule { every_ms: Some(5_000), ..Schedule::default() }));
        spec.hooks = super::hooks::some(index == 1 || index == 3).into();
        spec.protected = index == 3;
        // One in its own network, and one in a network that others make as well.
        spec.container = match (index, version) {
            (0, 2) => Some(super::networks::attached(3)),
            (2, 1) => Some(super::networks::attached(0)),
            _ => None,
        };
        let requires =
            [0u8, 1].into_iter().filter(|other| index == 2 && there(*other) || index == 1 && *other == 0 && there(0));
        let probe = Probe::Tcp { host: "x".to_owned(), port: 1 };
        let when = match index {
            0 => ReadyWhen::Delay { delay_ms: 3_000 },
            1 => ReadyWhen::Success,
            2 => ReadyWhen::Probe(TimedProbe { probe, interval_ms: 1, timeout_ms: 1 }),
            _ => ReadyWhen::Started,
        };
        let plan = UnitPlan {
            kind: if index == 1 { UnitKind::Job } else { UnitKind::Service },
            spec,
            after: Vec::new(),
            requires: requires.map(|other| name(["db", "job"][usize::from(other)])).collect(),
            ready: Readiness { when, deadline_ms: (index != 1).then_some(30_000) },
            condition: (index == 3).then(|| Condition { arch: Some("x".to_owned()), ..Condition::default() }),
            liveness: None,
            replicas: if index == 2 { u32::from(version) } else { 1 },
            update: if index == 0 { Update::Replace } else { Update::Rolling },
        };
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        units.insert(name(unit), Wanted { plan: Arc::new(plan), identity });
    }
    let retry = if version == 2 { Retry::Nothing } else { Retry::Settled };
    let asked = ApplyStack {
        namespace: Namespace::owner(),
        name: stack_name(),
        units,
        queues: [(queue_name(version), 2)].into(),
        networks: super::networks::described(version),
        mistakes: Vec::new(),
        retry,
    };
    Request::ApplyStack(Box::new(asked))
}
