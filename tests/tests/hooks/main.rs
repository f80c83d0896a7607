//! Hooks on a real node: every trigger, every action, and what happens when daemon or receiver fail.
//!
//! - `triggers`: what makes a hook fire, and how often
//! - `actions`: what is done, and its outcome
//! - `deaths`: the daemon dies between a trigger and its outcome, or is not there when it comes

mod actions;
mod deaths;
mod triggers;

use hostler_api::stream::EventView;
use hostler_model::Spec;
use hostler_model::event::EventKind;
use hostler_model::hook::{Hook, HookAction, HookOn};
use hostler_tests::TestNode;
use hostler_tests::events::is_of;

fn hook(on: HookOn, action: HookAction) -> Hook {
    Hook { on, action, deadline_ms: 20_000, attempts: 5 }
}

fn http(url: String) -> HookAction {
    HookAction::Http { url, headers: std::collections::BTreeMap::new() }
}

fn shell(text: &str) -> HookAction {
    HookAction::Command { command: ["sh", "-c", text].map(Into::into).to_vec(), env: Vec::new() }
}

fn start(name: &str) -> HookAction {
    HookAction::Start { workload: name.parse().expect("a name") }
}

fn line(pattern: &str) -> HookOn {
    HookOn::Line { pattern: pattern.to_owned(), stream: None }
}

/// A script of this name with these hooks.
fn script(node: &TestNode, name: &str, text: &str, hooks: Vec<Hook>) -> Spec {
    let mut spec = node.script(text);
    spec.name = Some(name.parse().expect("a name"));
    spec.hooks = hooks.into();
    spec
}

/// Waits for the outcome of a hook of the workload's run.
fn outcome(node: &TestNode, workload: &str, number: u8) -> EventView {
    node.wait_event(&format!("the outcome of hook {number} of {workload}"), |event| {
        is_of(event, workload)
            && matches!(&event.event.kind,
                EventKind::HookSucceeded { hook, .. } | EventKind::HookFailed { hook, .. } if *hook == number)
    })
}

/// Attempts it took, or attempts and what went wrong.
fn told(event: &EventView) -> Result<u32, (u32, String)> {
    match &event.event.kind {
        EventKind::HookSucceeded { attempts, .. } => Ok(*attempts),
        EventKind::HookFailed { attempts, message, .. } => Err((*attempts, message.clone())),
        other => panic!("no outcome: {other:?}"),
    }
}

/// The words of a workload's events, in their order.
fn story(node: &TestNode, workload: &str) -> Vec<String> {
    let events = node.journal().into_iter().filter(|event| is_of(event, workload));
    let word = |event: EventView| match event.event.kind {
        EventKind::HookFired { hook, on } => format!("fired {hook} {}", on.as_str()),
        EventKind::HookSucceeded { hook, .. } => format!("succeeded {hook}"),
        EventKind::HookFailed { hook, .. } => format!("failed {hook}"),
        other => other.name().to_owned(),
    };
    events.map(word).collect()
}

/// The id of the event with which a hook fired.
fn fired(node: &TestNode, workload: &str, number: u8) -> String {
    let all = node.journal().into_iter().filter(|event| is_of(event, workload));
    let mut ids = all.filter(|event| matches!(event.event.kind, EventKind::HookFired { hook, .. } if hook == number));
    let id = ids.next().unwrap_or_else(|| panic!("hook {number} of {workload} did not fire")).id;
    assert!(ids.next().is_none(), "hook {number} of {workload} fired twice");
    id
}
