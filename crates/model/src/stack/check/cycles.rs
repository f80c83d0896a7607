//! Circles in what waits for what.

use std::collections::BTreeMap;

use crate::ids::UnitName;
use crate::stack::plan::UnitPlan;

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    OnPath,
    Done,
}

/// One circle for each group of units that wait for each other in the end. Without recursion: a chain may be long.
pub(super) fn find(units: &BTreeMap<UnitName, UnitPlan>) -> Vec<Vec<UnitName>> {
    let mut circles = Vec::new();
    let mut left: BTreeMap<&UnitName, &UnitPlan> = units.iter().collect();
    // What was taken out for one circle is no part of another: the rest is looked at again.
    while let Some(circle) = find_one(&left) {
        left.retain(|name, _| !circle.contains(name));
        circles.push(circle);
    }
    circles
}

fn find_one(units: &BTreeMap<&UnitName, &UnitPlan>) -> Option<Vec<UnitName>> {
    let mut seen: BTreeMap<&UnitName, Seen> = BTreeMap::new();
    for start in units.keys().copied() {
        if seen.contains_key(start) {
            continue;
        }
        seen.insert(start, Seen::OnPath);
        let mut path = vec![(start, dependencies(units, start))];
        while let Some((name, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                seen.insert(name, Seen::Done);
                path.pop();
                continue;
            };
            match seen.get(next) {
                Some(Seen::Done) => {}
                Some(Seen::OnPath) => {
                    let circle = path.iter().map(|(name, _)| *name).skip_while(|name| *name != next);
                    return Some(circle.cloned().collect());
                }
                None => {
                    seen.insert(next, Seen::OnPath);
                    path.push((next, dependencies(units, next)));
                }
            }
        }
    }
    None
}

/// In reverse, so that they are popped in the order in which they were written.
fn dependencies<'a>(units: &BTreeMap<&'a UnitName, &'a UnitPlan>, name: &UnitName) -> Vec<&'a UnitName> {
    let plan = units.get(name).copied();
    let mut names: Vec<_> =
        plan.into_iter().flat_map(UnitPlan::dependencies).filter(|name| units.contains_key(*name)).collect();
    names.reverse();
    names
}
