//! Who stops before whom. Units that stop go in reverse order of their start: whoever depends on one comes first.
//!
//! What is in service may be of different versions of the stack, in which a depends on b and b on a. A stop must not
//! wait for ever for that: of such a circle the edge that closes it is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use hostler_model::ids::UnitName;
use hostler_model::stack::GenerationState;

use super::Units;

/// Units that have to stop before others: the others, by unit.
pub(super) struct Order<'a> {
    /// For each unit, those that depend on it.
    dependents: BTreeMap<&'a UnitName, Vec<&'a UnitName>>,
}

impl<'a> Order<'a> {
    pub(super) fn of(units: &'a Units) -> Self {
        let mut edges: BTreeMap<&UnitName, BTreeSet<&UnitName>> = BTreeMap::new();
        for unit in units.values() {
            let generations = std::iter::once(&unit.current).chain(&unit.next);
            let live = generations.filter(|generation| may_run(&generation.state));
            let others =
                live.flat_map(|generation| generation.plan.dependencies()).filter(|other| **other != unit.name);
            edges.entry(&unit.name).or_default().extend(others);
        }
        Self { dependents: without_circles(&edges) }
    }

    /// Those that depend on this one, and may run.
    pub(super) fn dependents(&self, unit: &UnitName) -> &[&'a UnitName] {
        self.dependents.get(unit).map_or(&[], Vec::as_slice)
    }
}

fn may_run(state: &GenerationState) -> bool {
    state.is_up() || matches!(state, GenerationState::Stopping { .. })
}

/// The edges turned round, those left off that close a circle. Without recursion: a chain may be long.
fn without_circles<'a>(
    edges: &BTreeMap<&'a UnitName, BTreeSet<&'a UnitName>>,
) -> BTreeMap<&'a UnitName, Vec<&'a UnitName>> {
    let mut turned: BTreeMap<&UnitName, Vec<&UnitName>> = BTreeMap::new();
    let (mut on_path, mut done) = (BTreeSet::new(), BTreeSet::new());
    for start in edges.keys().copied() {
        if done.contains(start) {
            continue;
        }
        let targets = |unit: &UnitName| edges.get(unit).into_iter().flatten().copied().collect::<Vec<_>>();
        on_path.insert(start);
        let mut path = vec![(start, targets(start))];
        while let Some((unit, rest)) = path.last_mut() {
            let unit = *unit;
            let Some(other) = rest.pop() else {
                on_path.remove(unit);
                done.insert(unit);
                path.pop();
                continue;
            };
            if on_path.contains(other) {
                continue;
            }
            turned.entry(other).or_default().push(unit);
            if !done.contains(other) && edges.contains_key(other) {
                on_path.insert(other);
                path.push((other, targets(other)));
            }
        }
    }
    turned
}
