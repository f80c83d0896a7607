//! A new version of a stack over the old one. What is unchanged is left alone; what failed before is tried again when
//! somebody asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostler_model::ids::UnitName;
use hostler_model::stack::{Generation, GenerationState, Then, UnitPlan, UnitRecord};
use hostler_model::workload::Identity;

use super::{MemberKey, Members, Units};

/// A unit as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub plan: Arc<UnitPlan>,
    /// As whom.
    pub identity: Identity,
}

/// What becomes of units that are as they should be, and not in service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Those that failed, were left out or were stopped are tried again: somebody asked.
    Settled,
    /// They stay: the daemon came up and read its startup files again.
    Nothing,
}

/// What a new version would do to one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// These keys differ.
    Changed(Vec<&'static str>),
    /// Replicas come or go; the others are left alone.
    Scaled(u32, u32),
}

/// What would change; units that would not are left out.
#[must_use]
pub fn diff(units: &Units, wanted: &BTreeMap<UnitName, Wanted>) -> BTreeMap<UnitName, Change> {
    let names: BTreeSet<&UnitName> = units.keys().chain(wanted.keys()).collect();
    let change = |name: &UnitName| match (units.get(name).filter(|unit| !unit.leaving), wanted.get(name)) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(unit), Some(wanted)) => {
            let old = &target(unit).plan;
            if old.differs_in_replicas_only(&wanted.plan) {
                return Some(Change::Scaled(old.replicas, wanted.plan.replicas));
            }
            let keys = old.differences(&wanted.plan);
            (!keys.is_empty()).then_some(Change::Changed(keys))
        }
        (None, None) => None,
    };
    names.into_iter().filter_map(|name| Some((name.clone(), change(name)?))).collect()
}

/// The version that was asked for last.
fn target(unit: &UnitRecord) -> &Generation {
    unit.next.as_ref().unwrap_or(&unit.current)
}

/// Makes these the units that should be. What follows is told by [`advance`](super::advance()).
pub fn apply(units: &mut Units, wanted: BTreeMap<UnitName, Wanted>, retry: Retry, members: &Members) {
    for unit in units.values_mut().filter(|unit| !wanted.contains_key(&unit.name)) {
        unit.leaving = true;
        unit.next = None;
    }
    for (name, Wanted { plan, identity }) in wanted {
        let Some(unit) = units.get_mut(&name) else {
            let current = Generation { number: 1, plan, identity, state: GenerationState::waiting() };
            units.insert(name.clone(), UnitRecord { name, leaving: false, current, next: None, generations: 1 });
            continue;
        };
        if std::mem::take(&mut unit.leaving)
            && let GenerationState::Stopping { then } = &mut unit.current.state
            && *then == Then::Gone
        {
            *then = Then::Replaced;
        }
        change(unit, plan, identity);
        if retry == Retry::Settled {
            again(unit, members);
        }
    }
}

fn change(unit: &mut UnitRecord, plan: Arc<UnitPlan>, identity: Identity) {
    if *unit.current.plan == *plan {
        // The way back from a change that is under way, too.
        unit.next = None;
        return;
    }
    if unit.next.as_ref().is_some_and(|next| *next.plan == *plan) {
        return;
    }
    if unit.current.plan.differs_in_replicas_only(&plan) {
        unit.next = None;
        unit.current.plan = plan;
        return;
    }
    unit.generations += 1;
    unit.next = Some(Generation { number: unit.generations, plan, identity, state: GenerationState::waiting() });
}

/// What is wanted and not in service starts anew, and of one that is and lasts, the replicas that are at rest.
fn again(unit: &mut UnitRecord, members: &Members) {
    use GenerationState::{Failed, Ready, Skipped, Stopped};
    let name = unit.name.clone();
    let generation = unit.next.as_mut().unwrap_or(&mut unit.current);
    let rests = |replica| {
        let key = MemberKey { unit: name.clone(), generation: generation.number, replica };
        members.get(&key).is_some_and(|state| !state.is_up())
    };
    let again = match generation.state {
        Failed { .. } | Skipped { .. } | Stopped { .. } => true,
        Ready => generation.plan.lasts() && (0..generation.plan.replicas).any(rests),
        _ => false,
    };
    if again {
        generation.state = GenerationState::waiting();
    }
}

/// Every unit goes, each after those that depend on it.
pub fn take_down(units: &mut Units) {
    apply(units, BTreeMap::new(), Retry::Nothing, &Members::new());
}
