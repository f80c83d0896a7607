//! Hooks in the simulated machine: what was told of them, and what must hold.

use std::collections::{BTreeMap, HashSet};

use hostler_model::event::{Event, EventKind};
use hostler_model::hook::{Hook, HookAction, HookCall, HookKey, HookOn, HookTrigger};
use hostler_model::ids::{RunId, StoreId, WorkloadId};
use hostler_model::log_stream::LogStream;
use hostler_model::workload::Workload;
use hostler_supervisor::{Fact, MatchedLine};

/// Places of the hooks in [`some`].
const STARTED: u8 = 0;
const LINE: u8 = 2;
const END: u8 = 5;

/// None, or one of each trigger, with every action among them.
pub fn some(any: bool) -> Vec<Hook> {
    let http = || HookAction::Http { url: "http://localhost/".to_owned(), headers: BTreeMap::new() };
    let command = || HookAction::Command { command: vec!["true".into()], env: Vec::new() };
    // The name that the first workload of a world gets.
    let start = || HookAction::Start { workload: "true-010000".parse().expect("a name") };
    let hook = |on, action| Hook { on, action, deadline_ms: 1_000, attempts: 2 };
    let line = HookOn::Line { pattern: "x".to_owned(), stream: None };
    let all = vec![
        hook(HookOn::Started, http()),
        hook(HookOn::Delay { after_ms: 1_500 }, command()),
        hook(line, start()),
        hook(HookOn::Success, http()),
        hook(HookOn::Failure, command()),
        hook(HookOn::End, start()),
    ];
    if any { all } else { Vec::new() }
}

/// What the journal says of hooks, and the calls on disk.
#[derive(Default)]
pub struct Hooks {
    pub calls: BTreeMap<HookKey, HookCall>,
    fired: HashSet<HookKey>,
    over: HashSet<HookKey>,
}

impl Hooks {
    pub fn event(&mut self, event: &Event) {
        let run = event.subject.as_ref().and_then(|subject| subject.run);
        match event.kind {
            EventKind::HookFired { hook, on } => {
                let run = run.expect("of a run");
                assert!(self.fired.insert((run, hook)), "hook {hook} of {run} fired twice");
                // Success and failure are told apart, once for each run.
                let other = match on {
                    HookTrigger::Success => Some(hook + 1),
                    HookTrigger::Failure => Some(hook - 1),
                    _ => None,
                };
                assert!(other.is_none_or(|other| !self.fired.contains(&(run, other))), "{run} did both");
            }
            EventKind::HookSucceeded { hook, .. } | EventKind::HookFailed { hook, .. } => {
                let key = (run.expect("of a run"), hook);
                assert!(self.fired.contains(&key), "an outcome of {key:?}, which did not fire");
                assert!(self.over.insert(key), "{key:?} has two outcomes");
            }
            _ => {}
        }
    }

    /// Of a run that was told to have started.
    pub fn started(&self, workload: &Workload, run: RunId) {
        let hooks = !workload.spec.hooks.is_empty();
        assert!(!hooks || self.fired.contains(&(run, STARTED)), "{run} started, and its hook did not fire");
    }

    /// Of a workload that will not run again by itself.
    pub fn at_rest(&self, workload: &Workload) {
        let Some(run) = workload.run.as_ref().filter(|run| run.state.is_final()) else { return };
        let hooks = !workload.spec.hooks.is_empty();
        assert!(!hooks || self.fired.contains(&(run.id, END)), "{} is at rest, and its hook did not fire", run.id);
        assert!(workload.hook_of.is_none(), "{} is at rest without an outcome", workload.name);
    }

    /// The calls in memory are those on disk, but for numbers that come with the commit.
    pub fn check(&self, calls: &BTreeMap<HookKey, std::sync::Arc<HookCall>>) {
        assert!(calls.keys().eq(self.calls.keys()), "the calls are what replay gives");
        for (key, call) in calls {
            let kept = &self.calls[key];
            assert_eq!(HookCall { sequence: kept.sequence, ..HookCall::clone(call) }, *kept);
            assert!(kept.sequence > 0);
        }
    }

    /// Every call that fired and has no outcome yet is kept somewhere.
    pub fn settled(&self) {
        assert_eq!(self.fired, self.over, "fired without an outcome");
    }

    /// Something happens to a call: its request is over, its command is due.
    pub fn happen(&self, which: usize, good: bool) -> Option<Fact> {
        let keys: Vec<_> = self.calls.keys().copied().collect();
        let key = *keys.get(which % keys.len().max(1))?;
        let call = &self.calls[&key];
        let event = hostler_model::event::EventId { journal: StoreId::from_bytes([1; 8]), sequence: call.sequence };
        Some(match call.definition.action {
            HookAction::Http { .. } => {
                let result = if good { Ok(()) } else { Err("refused".to_owned()) };
                Fact::HookDelivered { key, attempts: 2, result }
            }
            HookAction::Command { .. } => Fact::HookDue { key, event },
            HookAction::Start { .. } => panic!("starts are never calls"),
        })
    }
}

/// The reader of logs tells of a line, or that it has read all there was; rightly or long after the fact.
pub fn read(workloads: &BTreeMap<WorkloadId, std::sync::Arc<Workload>>, which: usize, matched: bool) -> Option<Fact> {
    let mut runs = Vec::new();
    for workload in workloads.values() {
        let tails = workload.line_tails.iter().map(|tail| (tail.run, true));
        let live = workload.live_run().map(|run| (run.id.number, false));
        runs.extend(tails.chain(live).map(|(number, over)| (RunId { workload: workload.id, number }, over)));
    }
    let (run, over) = *runs.get(which % runs.len().max(1))?;
    let line = MatchedLine { text: "x".into(), stream: LogStream::Stdout };
    match (matched, over) {
        (true, _) => Some(Fact::LineMatched { run, hook: LINE, line }),
        (false, true) => Some(Fact::LinesRead { run }),
        (false, false) => None,
    }
}
