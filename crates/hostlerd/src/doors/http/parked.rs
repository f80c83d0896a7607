//! A foreground run's streams, held for the client that asked for it until he comes for them. The door attaches the
//! moment the run is accepted, because the program may be over, and with `remove` even forgotten, before the client's
//! second request arrives. Who does not come in time is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_model::{RunId, limits};
use hostler_runtime::{AttachRequest, Attachment, Role};
use hostler_wire::AttachTarget;
use tokio::sync::{oneshot, watch};

use crate::node::Node;
use crate::node::view::Seen;

/// Streams that wait for their owner, and the workload as it was watched from before its acceptance.
pub(crate) struct Held {
    attachment: oneshot::Receiver<Option<Attachment>>,
    pub(crate) watched: watch::Receiver<Option<Seen>>,
}

impl Held {
    /// The streams; `None` when the agent has none to give, because the start failed.
    pub(crate) async fn attachment(self) -> Option<Attachment> {
        self.attachment.await.ok().flatten()
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

    /// Attaches to a run that was just accepted, and holds its streams.
    pub(crate) fn park(self: &Arc<Self>, run: RunId, watched: watch::Receiver<Option<Seen>>) {
        let (sender, attachment) = oneshot::channel();
        let held = Held { attachment, watched };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(run, held);
        let parked = self.clone();
        tokio::spawn(async move {
            let request = AttachRequest { target: AttachTarget::Main, role: Role::Owner, stdin: true, from: None };
            let attachment = parked.node.runtime.attach(run, request).await;
            if let Err(error) = &attachment {
                tracing::debug!(%run, %error, "no streams for a foreground run");
            }
            let _ = sender.send(attachment.ok());
            tokio::time::sleep(Duration::from_millis(limits::OWNER_GRACE_MS)).await;
            if parked.take(run).is_some() {
                parked.node.owner_gone(run).await;
            }
        });
    }

    /// The streams of this run, for its owner; once.
    pub(crate) fn take(&self, run: RunId) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }

    /// Streams held for the first run of a workload that may be removed by now.
    pub(crate) fn take_by_reference(&self, reference: &str) -> Option<(RunId, Held)> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let run = held.keys().find(|run| run.workload.to_string() == reference).copied()?;
        held.remove(&run).map(|held| (run, held))
    }
}
