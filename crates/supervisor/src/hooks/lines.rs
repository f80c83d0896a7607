//! Lines that matched. Whoever reads the logs may be behind: a run can be over, and another one live, when its last
//! lines have been searched. Until then the workload remembers which of its hooks may still fire ([`LineTail`]).

use hostler_model::hook::{HookContext, HookOn, LineTail};
use hostler_model::ids::RunId;
use hostler_model::workload::{Desired, RunState, Workload};
use hostler_model::{ByteString, Now, limits};

use crate::input::{MatchedLine, Outcome};
use crate::state::State;

impl State {
    pub(crate) fn line_matched(&mut self, run: RunId, hook: u8, line: MatchedLine, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.edit(run.workload) else { return };
        let is_line =
            workload.spec.hooks.get(usize::from(hook)).is_some_and(|hook| matches!(hook.on, HookOn::Line { .. }));
        if !is_line || !mark(&mut workload, run, hook) {
            return;
        }
        let live = workload.live_run().filter(|live| live.id == run);
        let mut text = line.text.as_bytes().to_vec();
        text.truncate(limits::HOOK_LINE_MAX);
        let context = HookContext {
            pid: live.and_then(|live| live.pid),
            end: None,
            line: Some(ByteString::from(text)),
            stream: Some(line.stream),
        };
        self.fire_hook(&mut workload, run, hook, context, now, out);
        self.put(workload, out);
    }

    /// The whole output of a run that is over was searched.
    pub(crate) fn lines_read(&mut self, run: RunId, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.edit(run.workload) else { return };
        let before = workload.line_tails.len();
        workload.line_tails.retain(|tail| tail.run != run.number);
        if workload.line_tails.len() == before {
            return;
        }
        let waited = workload.spec.remove
            && workload.desired == Desired::Run
            && workload.line_tails.is_empty()
            && workload.is_at_rest();
        let id = workload.id;
        self.put(workload, out);
        if waited {
            self.remove(id, now, out);
        }
    }

    /// The run has just ended: its last lines may still be unread.
    pub(super) fn keep_tail(workload: &mut Workload) {
        let Some(run) = workload.run.as_ref().filter(|run| !matches!(run.state, RunState::Failed { .. })) else {
            return;
        };
        let open = (0..)
            .zip(&workload.spec.hooks)
            .filter(|(number, hook)| matches!(hook.on, HookOn::Line { .. }) && !run.hooks_fired.contains(number));
        let hooks: Vec<u8> = open.map(|(number, _)| number).collect();
        if hooks.is_empty() {
            return;
        }
        let run = run.id.number;
        if workload.line_tails.len() >= limits::LINE_TAILS_MAX {
            workload.line_tails.remove(0);
        }
        workload.line_tails.push(LineTail { run, hooks });
    }
}

/// Notes that this hook of this run has fired; whether that is news.
fn mark(workload: &mut Workload, run: RunId, hook: u8) -> bool {
    if let Some(current) = workload.run.as_mut().filter(|current| current.id == run) {
        if current.hooks_fired.contains(&hook) {
            return false;
        }
        let over = current.state.is_final();
        if over && !workload.line_tails.iter().any(|tail| tail.run == run.number) {
            return false;
        }
        current.hooks_fired.push(hook);
        take(workload, run, hook);
        return true;
    }
    take(workload, run, hook)
}

/// Takes the hook out of the tail of a run that is over; whether it was there.
fn take(workload: &mut Workload, run: RunId, hook: u8) -> bool {
    let Some(tail) = workload.line_tails.iter_mut().find(|tail| tail.run == run.number) else { return false };
    let before = tail.hooks.len();
    tail.hooks.retain(|open| *open != hook);
    tail.hooks.len() < before
}
