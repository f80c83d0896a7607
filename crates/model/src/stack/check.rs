//! All mistakes of a stack, each with its path (`service.web.ready.http: …`). A unit with a mistake is left out with
//! its reason, and with it those that require it; the others stay usable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::{UnitKind, UnitPlan};
use super::{Stack, unit};
use crate::ids::{NetworkName, QueueName, UnitName};
use crate::limits;
use crate::network::NetworkSpec;
use crate::queue::QueueChange;

mod cycles;
mod networks;
mod resources;
mod schedule;
mod values;

/// Something in a stack that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mistake {
    /// Where: `service.web.ready.http`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub what: String,
    /// The unit that is left out for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Mistakes on their way out.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, path: &str, what: impl Into<String>) {
        self.0.push(Mistake { path: path.to_owned(), what: what.into(), unit: None });
    }
}

/// A stack, judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// The units without a mistake.
    pub units: BTreeMap<UnitName, UnitPlan>,
    /// The queues without a mistake, and how many jobs of each may run at one time.
    pub queues: BTreeMap<QueueName, u32>,
    /// The networks without a mistake.
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
    /// Everything that is wrong, in the order of the paths.
    pub mistakes: Vec<Mistake>,
}

impl Checked {
    /// Leaves a unit out for a reason that was found elsewhere, and with it those that require it.
    pub fn drop_unit(&mut self, name: &UnitName, field: &str, what: impl Into<String>) {
        let Some(plan) = self.units.remove(name) else { return };
        let path = path_of(plan.kind, name.as_str());
        let path = if field.is_empty() { path } else { format!("{path}.{field}") };
        self.mistakes.push(Mistake { path, what: what.into(), unit: Some(name.to_string()) });
        self.drop_dependents();
    }

    /// The same for a refusal of its spec.
    pub fn refuse_unit(&mut self, name: &UnitName, refusal: &str) {
        let (field, what) = values::located(refusal);
        self.drop_unit(name, &field, what);
    }

    /// Whoever requires what is not there cannot start. Order alone means nothing without the other: that edge goes.
    fn drop_dependents(&mut self) {
        loop {
            let lacking = self.units.iter().find_map(|(name, plan)| {
                let missing = plan.requires.iter().find(|other| !self.units.contains_key(*other))?;
                Some((name.clone(), plan.kind, missing.clone()))
            });
            let Some((name, kind, missing)) = lacking else { break };
            self.units.remove(&name);
            let path = format!("{}.requires", path_of(kind, name.as_str()));
            let what = format!("{missing} is left out for its mistakes");
            self.mistakes.push(Mistake { path, what, unit: Some(name.to_string()) });
        }
        let known: BTreeSet<UnitName> = self.units.keys().cloned().collect();
        for plan in self.units.values_mut() {
            plan.after.retain(|other| known.contains(other));
        }
    }
}

fn path_of(kind: UnitKind, name: &str) -> String {
    format!("{}.{name}", kind.as_str())
}

/// Judges a stack. Its `env_file`s and relative paths must have been resolved before.
#[must_use]
pub fn check(stack: &Stack) -> Checked {
    let mut checked = Checked::default();
    let services = stack.service.iter().map(|(name, unit)| (UnitKind::Service, name, unit));
    let jobs = stack.job.iter().map(|(name, unit)| (UnitKind::Job, name, unit));
    let mut members = 0;
    for (kind, name, unit) in services.chain(jobs) {
        let path = path_of(kind, name);
        let mut mistakes = Mistakes::default();
        let parsed = name.parse::<UnitName>();
        if let Err(error) = &parsed {
            mistakes.add(&path, error.to_string());
        }
        if kind == UnitKind::Job && stack.service.contains_key(name) {
            mistakes.add(&path, format!("there is a service of this name: [service.{name}]"));
        }
        let plan = values::plan(kind, &path, unit, &mut mistakes);
        check_names(stack, &path, name, unit, &mut mistakes);
        members += unit.replicas.unwrap_or(1) as usize;
        if checked.units.len() >= limits::STACK_UNITS_MAX || members > limits::STACK_MEMBERS_MAX {
            let (units, members) = (limits::STACK_UNITS_MAX, limits::STACK_MEMBERS_MAX);
            mistakes.add(&path, format!("is one too many: a stack has at most {units} units and {members} replicas"));
        }
        let good = mistakes.0.is_empty();
        checked.mistakes.extend(mistakes.0.into_iter().map(|m| Mistake { unit: Some(name.clone()), ..m }));
        if let (true, Ok(name), Some(plan)) = (good, parsed, plan) {
            checked.units.insert(name, plan);
        }
    }
    check_queues(stack, &mut checked);
    networks::check(stack, &mut checked);
    // Circles are looked for among all that could be read, before anything is left out for somebody else's sake.
    for circle in cycles::find(&checked.units) {
        drop_circle(&mut checked, &circle);
    }
    checked.drop_dependents();
    checked
}

/// A queue with a mistake is as if it were not described: its jobs run one at a time.
fn check_queues(stack: &Stack, checked: &mut Checked) {
    for (name, queue) in &stack.queue {
        let path = format!("queue.{name}");
        let parallel = queue.parallel.unwrap_or(1);
        let mistake = match name.parse::<QueueName>() {
            Err(error) => Some((path, error.to_string())),
            Ok(_) if checked.queues.len() >= limits::STACK_QUEUES_MAX => {
                Some((path, format!("is one too many: a stack has at most {} queues", limits::STACK_QUEUES_MAX)))
            }
            Ok(name) => match (QueueChange { parallel: Some(parallel), ..QueueChange::default() }).check() {
                Err(problem) => Some((path + ".parallel", problem.detail.trim_start_matches("parallel ").to_owned())),
                Ok(()) => {
                    checked.queues.insert(name, parallel);
                    None
                }
            },
        };
        checked.mistakes.extend(mistake.map(|(path, what)| Mistake { path, what, unit: None }));
    }
}

/// Every unit of a circle goes; the path is told once for each.
fn drop_circle(checked: &mut Checked, circle: &[UnitName]) {
    for (index, name) in circle.iter().enumerate() {
        let Some(plan) = checked.units.remove(name) else { continue };
        let next = &circle[(index + 1) % circle.len()];
        let field = if plan.requires.contains(next) { "requires" } else { "after" };
        let around = circle.iter().cycle().skip(index).take(circle.len() + 1).map(UnitName::as_str);
        let path = format!("{}.{field}", path_of(plan.kind, name.as_str()));
        let what = format!("goes round in a circle: {}", around.collect::<Vec<_>>().join(" → "));
        checked.mistakes.push(Mistake { path, what, unit: Some(name.to_string()) });
    }
}

fn check_names(stack: &Stack, path: &str, name: &str, unit: &unit::Unit, mistakes: &mut Mistakes) {
    for (field, names) in [("after", unit.after.as_slice()), ("requires", unit.requires.as_slice())] {
        let path = format!("{path}.{field}");
        if names.len() > limits::STACK_EDGES_MAX {
            mistakes.add(&path, format!("has more than {} names", limits::STACK_EDGES_MAX));
        }
        for other in names {
            if other == name {
                mistakes.add(&path, format!("{name} cannot wait for itself"));
            } else if !stack.service.contains_key(other) && !stack.job.contains_key(other) {
                let near = near(stack, other).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                let shown: String = other.chars().take(60).collect();
                mistakes.add(&path, format!("there is no unit {shown:?} in this stack{near}"));
            }
        }
    }
}

/// A name that differs in one place.
fn near<'a>(stack: &'a Stack, text: &str) -> Option<&'a str> {
    let known = stack.service.keys().chain(stack.job.keys());
    known.map(String::as_str).find(|known| {
        let prefix = known.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        let (known, text) = (&known.as_bytes()[prefix..], &text.as_bytes()[prefix..]);
        let suffix = known.iter().rev().zip(text.iter().rev()).take_while(|(a, b)| a == b).count();
        known.len() - suffix <= 1 && text.len() - suffix <= 1
    })
}

#[cfg(test)]
mod tests;
