//! Stacks on real nodes.
//!
//! - `apply`: start along the graph, failures, conditions, mistakes, the way down
//! - `probes`: ready by tcp, http, exec and delay; liveness
//! - `changes`: re-apply, rolling and replaced generations, replicas
//! - `crash`: the daemon dies in between; startup files; the node goes down with its workloads
//! - `turns`: queues, schedules, hooks, protection, tags
//! - `examples`: the stacks in `examples/`

mod apply;
mod changes;
mod crash;
mod examples;
mod probes;
mod turns;

use std::path::PathBuf;

use hostler_api::stacks::{StackView, UnitView};
use hostler_tests::{PATIENCE, TestNode, until};

/// Writes a stack file into the node's working directory.
fn write(node: &TestNode, name: &str, text: &str) -> PathBuf {
    let path = node.work().join(format!("{name}.toml"));
    std::fs::write(&path, text).expect("writing a stack");
    path
}

/// Applies it, without waiting for its units.
fn apply(node: &TestNode, name: &str, text: &str) {
    let path = write(node, name, text);
    node.cli(&["stack", "apply", "-d", path.to_str().expect("a path")]).ok();
}

fn view(node: &TestNode, name: &str) -> StackView {
    node.block_on(node.api().stack(name)).unwrap_or_else(|error| panic!("stack {name}: {error}"))
}

fn unit(node: &TestNode, stack: &str, name: &str) -> UnitView {
    let view = view(node, stack);
    view.units.into_iter().find(|unit| unit.name.as_str() == name).unwrap_or_else(|| panic!("no unit {name}"))
}

/// Waits until the stack stands as wanted.
fn until_view(node: &TestNode, name: &str, what: &str, accept: impl Fn(&StackView) -> bool) -> StackView {
    let mut last = None;
    until(&format!("{what} of stack {name}"), PATIENCE, || {
        // It may not be there yet.
        let view = node.block_on(node.api().stack(name)).ok()?;
        let is_there = accept(&view);
        let text = format!("{:?}", view.units.iter().map(|unit| (&unit.name, &unit.state)).collect::<Vec<_>>());
        if last.as_ref() != Some(&text) {
            eprintln!("{text}");
            last = Some(text);
        }
        is_there.then_some(view)
    })
}

/// Waits until a unit is in the state of this word.
fn until_state(node: &TestNode, stack: &str, name: &str, word: &str) -> UnitView {
    until_view(node, stack, &format!("{name} {word}"), |view| {
        view.units.iter().any(|unit| unit.name.as_str() == name && unit.state.as_str() == word)
    });
    unit(node, stack, name)
}

/// The words of each unit's state, by name.
fn states(view: &StackView) -> Vec<(&str, &str)> {
    view.units.iter().map(|unit| (unit.name.as_str(), unit.state.as_str())).collect()
}

fn reason(unit: &UnitView) -> String {
    use hostler_model::stack::GenerationState::{Failed, Skipped, Stopped};
    match &unit.state {
        Failed { reason } | Skipped { reason } | Stopped { reason } => reason.clone(),
        other => format!("{other:?}"),
    }
}

fn touch(node: &TestNode, name: &str) {
    std::fs::write(node.work().join(name), "").expect("write");
}

/// The order in which names were written into `order`, a line each.
fn order(node: &TestNode) -> Vec<String> {
    let text = std::fs::read_to_string(node.work().join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
