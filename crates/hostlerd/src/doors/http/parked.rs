//! A foreground run's streams, held for the client that asked for it until he comes for them. The door attaches before
//! the run is accepted, because the program may be over, and with `remove` even forgotten, before the client's second
//! request arrives. Who does not come in time is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_model::{Namespace, RunId, limits};
use hostler_provision::Scope;
use hostler_runtime::{Ahead, AttachRequest, Attachment, Role};
use hostler_wire::AttachTarget;
use tokio::sync::watch;

use crate::node::Node;
use crate::node::view::Seen;

/// Streams that wait for their owner, and the workload as it was watched from before its acceptance.
pub(crate) struct Held {
    attachment: Option<Ahead>,
    pub(crate) watched: watch::Receiver<Option<Seen>>,
}

impl Held {
    /// Whether there are streams, and not only an owner who is expected.
    pub(crate) fn has_streams(&self) -> bool {
        self.attachment.is_some()
    }

    /// The streams; `None` when the agent has none to give, because the start failed.
    pub(crate) async fn attachment(self) -> Option<Attachment> {
        self.attachment?.await.ok()?.ok()
    }
}

pub(crate) struct Parked {
    node: Arc<Node>,
    held: Mutex<HashMap<RunId, Held>>,
}

impl Parked {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, held: Mutex::default() }
    }

    /// Asks for the streams of a run that is about to be accepted. Dropped when it is not.
    pub(crate) fn attach_ahead(&self, run: RunId) -> Ahead {
        let request = AttachRequest { target: AttachTarget::Main, role: Role::Owner, stdin: true, from: None };
        self.node.runtime.attach_ahead(run, request)
    }

    /// Holds the streams of a run that was just accepted.
    pub(crate) fn park(self: &Arc<Self>, run: RunId, streams: Ahead, watched: watch::Receiver<Option<Seen>>) {
        self.hold(run, Held { attachment: Some(streams), watched });
        let parked = self.clone();
        tokio::spawn(async move { parked.wait_for_owner(run).await });
    }

    /// Expects the owners of the foreground runs that were adopted: their connections broke with the last daemon.
    pub(crate) fn expect_owners(self: &Arc<Self>) {
        for workload in self.node.view.list(&Scope::All) {
            // One that waits for its restart has no live run, and an owner all the same.
            let next = workload.queued.map(|_| RunId { workload: workload.id, number: workload.runs + 1 });
            let run = next.or(workload.run.as_ref().map(|run| run.id));
            let Some(run) = run.filter(|_| !workload.is_at_rest()) else {
                continue;
            };
            if workload.spec.remove && workload.spec.stdio.owner {
                self.hold(run, Held { attachment: None, watched: self.node.view.watch(workload.id) });
                let parked = self.clone();
                tokio::spawn(async move { parked.wait_for_owner(run).await });
            }
        }
    }

    fn hold(&self, run: RunId, held: Held) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(run, held);
    }

    async fn wait_for_owner(&self, run: RunId) {
        tokio::time::sleep(Duration::from_millis(limits::OWNER_GRACE_MS)).await;
        if self.take(run).is_some() {
            self.node.owner_gone(run.workload).await;
        }
    }

    /// The streams of this run, for its owner; once.
    pub(crate) fn take(&self, run: RunId) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }

    /// Whether anything is held for the owner of this run.
    pub(crate) fn holds(&self, run: RunId) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// The run of a workload of this namespace that is removed by now, and whose streams are still held.
    pub(crate) fn removed(&self, namespace: &Namespace, reference: &str) -> Option<RunId> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_his =
            |held: &Held| held.watched.borrow().as_ref().is_some_and(|seen| seen.workload.namespace == *namespace);
        let (run, _) = held.iter().find(|(run, held)| run.workload.to_string() == reference && is_his(held))?;
        Some(*run)
    }
}
