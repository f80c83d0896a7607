//! Who gets a task: each call once, and each run once whose lines are to be searched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hostler_model::event::EventId;
use hostler_model::hook::{HookAction, HookCall, HookKey, HookOn};
use hostler_model::{RunId, Workload, limits};
use hostler_provision::Scope;
use hostler_supervisor::Fact;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::gates::Gates;
use super::{lines, request};
use crate::logs::Watcher;
use crate::node::Node;

/// What was committed, as far as it concerns hooks.
#[derive(Debug)]
pub(crate) enum News {
    /// A hook has fired; its call has its number.
    Call(Arc<HookCall>),
    /// A call needs nothing more.
    Done(HookKey),
    /// How a workload with patterns now stands.
    Workload(Arc<Workload>),
}

impl News {
    /// A workload is news here only if it has patterns.
    pub(crate) fn of_workload(workload: &Arc<Workload>) -> Option<Self> {
        let has_lines = workload.spec.hooks.iter().any(|hook| matches!(hook.on, HookOn::Line { .. }));
        has_lines.then(|| Self::Workload(workload.clone()))
    }
}

struct Dispatcher {
    node: Arc<Node>,
    watcher: Watcher,
    gates: Arc<Gates>,
    calls: HashMap<HookKey, AbortHandle>,
    lines: HashMap<RunId, AbortHandle>,
}

/// Begins with what was left by the last daemon, and goes on with the news; until its task is dropped.
pub(crate) async fn run(
    node: Arc<Node>,
    watcher: Watcher,
    left: Vec<HookCall>,
    mut news: mpsc::UnboundedReceiver<News>,
) {
    let mut dispatcher =
        Dispatcher { node, watcher, gates: Arc::default(), calls: HashMap::new(), lines: HashMap::new() };
    for call in left {
        dispatcher.take(News::Call(Arc::new(call)));
    }
    for workload in dispatcher.node.view.list(&Scope::All) {
        News::of_workload(&workload).into_iter().for_each(|news| dispatcher.take(news));
    }
    while let Some(news) = news.recv().await {
        dispatcher.take(news);
    }
}

impl Dispatcher {
    fn take(&mut self, news: News) {
        match news {
            News::Call(call) => self.call(call),
            News::Done(key) => {
                if let Some(task) = self.calls.remove(&key) {
                    task.abort();
                }
            }
            News::Workload(workload) => self.search(&workload),
        }
    }

    fn call(&mut self, call: Arc<HookCall>) {
        let key = call.key();
        if self.calls.contains_key(&key) {
            return;
        }
        let (node, gates) = (self.node.clone(), self.gates.clone());
        let event = EventId { journal: node.meta.store, sequence: call.sequence };
        let task = match call.definition.action {
            HookAction::Http { .. } => tokio::spawn(async move {
                let (attempts, result) = request::deliver(&call, event, &gates).await;
                crate::failpoint::hit("hook-called");
                node.tell(Fact::HookDelivered { key, attempts, result }).await;
            }),
            // Again and again, until there is room for it and its record says so.
            HookAction::Command { .. } => tokio::spawn(async move {
                loop {
                    crate::failpoint::hit("hook-due");
                    node.tell(Fact::HookDue { key, event }).await;
                    tokio::time::sleep(Duration::from_millis(limits::HOOK_ROOM_ASK_MS)).await;
                }
            }),
            HookAction::Start { .. } => return,
        };
        self.calls.insert(key, task.abort_handle());
    }

    /// The live run if any of its patterns is open, and those before it that were not read to their end.
    fn search(&mut self, workload: &Arc<Workload>) {
        self.lines.retain(|_, task| !task.is_finished());
        let mut open: Vec<(RunId, Vec<u8>)> = Vec::new();
        for tail in &workload.line_tails {
            open.push((RunId { workload: workload.id, number: tail.run }, tail.hooks.clone()));
        }
        if let Some(run) = workload.live_run() {
            let hooks = (0..).zip(&workload.spec.hooks).filter(|(_, hook)| matches!(hook.on, HookOn::Line { .. }));
            open.push((run.id, hooks.map(|(hook, _)| hook).filter(|hook| !run.hooks_fired.contains(hook)).collect()));
        }
        for (run, hooks) in open {
            // A run without an open pattern may still have to be told that it was read.
            let is_live = workload.live_run().is_some_and(|live| live.id == run);
            if self.lines.contains_key(&run) || (is_live && hooks.is_empty()) {
                continue;
            }
            let task =
                tokio::spawn(lines::search(self.node.clone(), self.watcher.clone(), workload.clone(), run, hooks));
            self.lines.insert(run, task.abort_handle());
        }
    }
}
