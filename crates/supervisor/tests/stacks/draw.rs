//! Generated stacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostler_model::ids::UnitName;
use hostler_model::schedule::Schedule;
use hostler_model::spec::Spec;
use hostler_model::stack::condition::Condition;
use hostler_model::stack::probe::{Readiness, ReadyWhen};
use hostler_model::stack::{UnitKind, UnitPlan, Update};
use hostler_model::workload::Identity;
use hostler_supervisor::stack::Wanted;
use proptest::prelude::*;

/// A unit as it is generated. What it depends on has a lower number, so there is no circle within one version.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub present: bool,
    pub job: bool,
    /// Of a job: it has a schedule.
    pub scheduled: bool,
    pub requires: Vec<usize>,
    pub after: Vec<usize>,
    pub replicas: u32,
    pub replace: bool,
    pub condition: bool,
    pub version: u8,
    /// Turns the order of the names round, so that two versions may depend on each other.
    pub reversed: bool,
}

pub const UNITS: usize = 7;

fn drawn() -> impl Strategy<Value = Drawn> {
    let edges = || prop::collection::vec(0..UNITS, 0..3);
    (
        (prop::bool::weighted(0.85), prop::bool::weighted(0.3), edges(), edges(), any::<bool>()),
        (0u32..4, any::<bool>(), prop::bool::weighted(0.2), 0u8..2),
    )
        .prop_map(|((present, job, requires, after, scheduled), (replicas, replace, condition, version))| Drawn {
            present,
            job,
            scheduled,
            requires,
            after,
            replicas,
            replace,
            condition,
            version,
            reversed: false,
        })
}

pub fn version() -> impl Strategy<Value = Vec<Drawn>> {
    (prop::collection::vec(drawn(), UNITS), any::<bool>()).prop_map(|(mut units, reversed)| {
        for unit in &mut units {
            unit.reversed = reversed;
        }
        units
    })
}

pub fn name(number: usize) -> UnitName {
    format!("u{number}").parse().expect("a name")
}

pub fn wanted(units: &[Drawn]) -> BTreeMap<UnitName, Wanted> {
    let number = |index: usize, reversed: bool| if reversed { UNITS - 1 - index } else { index };
    let present: Vec<bool> = units.iter().map(|unit| unit.present).collect();
    let plan = |(index, unit): (usize, &Drawn)| {
        let edges = |edges: &[usize]| {
            let names: BTreeSet<usize> =
                edges.iter().copied().filter(|other| *other < index && present[*other]).collect();
            names.into_iter().map(|other| name(number(other, unit.reversed))).collect()
        };
        let mut spec = Spec::new(vec!["true".into()]);
        spec.env = vec![format!("VERSION={}", unit.version).as_str().into()];
        spec.schedule =
            (unit.job && unit.scheduled).then(|| Schedule { every_ms: Some(1_000), ..Schedule::default() }.into());
        let kind = if unit.job { UnitKind::Job } else { UnitKind::Service };
        let ready = match kind {
            UnitKind::Job => Readiness { when: ReadyWhen::Success, deadline_ms: None },
            UnitKind::Service => Readiness { when: ReadyWhen::Started, deadline_ms: Some(60_000) },
        };
        let plan = UnitPlan {
            kind,
            spec,
            after: edges(&unit.after),
            requires: edges(&unit.requires),
            ready,
            condition: unit.condition.then(Condition::default),
            liveness: None,
            replicas: if unit.job { 1 } else { unit.replicas },
            update: if unit.replace { Update::Replace } else { Update::Rolling },
        };
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        (name(number(index, unit.reversed)), Wanted { plan: Arc::new(plan), identity })
    };
    units.iter().enumerate().filter(|(_, unit)| unit.present).map(plan).collect()
}
