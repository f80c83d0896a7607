//! The loop around `State::step`: gathers inputs, decides them in one go, hands the batch to the store's writer, and
//! goes on. It waits for nothing but inputs and timers, and for the writer only when its queue is full.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use hostler_linux::clock;
use hostler_model::container::Container;
use hostler_model::launch::Launch;
use hostler_model::limits;
use hostler_model::workload::Workload;
use hostler_provision::launch::{self, Places, launch_of};
use hostler_runtime::Runtime;
use hostler_store::Store;
use hostler_supervisor::input::Token;
use hostler_supervisor::{Action, Fact, Input, Outcome, State};
use tokio::sync::{Semaphore, mpsc, watch};

use super::alarm::Alarm;
use super::permissions::Permissions;
use super::publisher::{Publication, ReplySender};
use super::{DiesAlone, Failure, Message, now};
use crate::networks::NetworkRoom;
use crate::oci::OciRuntimes;
use crate::probes::Prober;

pub(crate) struct Decider {
    state: State,
    store: Store,
    published: mpsc::UnboundedSender<Publication>,
    runtime: Runtime,
    prober: Prober,
    launcher: Launcher,
    alarm: Alarm,
    /// One permit for each batch that the writer may hold.
    room: Arc<Semaphore>,
    failure: watch::Sender<Option<Failure>>,
    permissions: Permissions,
    waiting: HashMap<Token, ReplySender>,
    next_token: Token,
}

/// What of the node goes into every launch.
pub(crate) struct Launcher {
    pub(crate) places: Places,
    /// Programs can be run as anybody.
    pub(crate) may_change_user: bool,
    pub(crate) oci: Arc<OciRuntimes>,
    /// Told of a network before anything is prepared for it.
    pub(crate) networks: Arc<NetworkRoom>,
}

impl Launcher {
    fn launch_of(&self, workload: &Workload) -> Option<Launch> {
        let oci = |container: &Container| self.oci.runtime_of(container);
        let node = launch::Node { places: &self.places, may_change_user: self.may_change_user, oci: &oci };
        if workload.spec.container.as_ref().is_some_and(|container| container.privileged) {
            let (namespace, name) = (&workload.namespace, &workload.name);
            tracing::warn!(%namespace, %name, uid = workload.identity.uid, "starting a privileged container");
        }
        launch_of(workload, node)
    }
}

impl Decider {
    /// Fails when the kernel gives no timers.
    #[allow(clippy::too_many_arguments, reason = "made in one place, of what that place has made")]
    pub(crate) fn new(
        state: State,
        store: Store,
        published: mpsc::UnboundedSender<Publication>,
        runtime: Runtime,
        prober: Prober,
        launcher: Launcher,
        failure: watch::Sender<Option<Failure>>,
    ) -> io::Result<Self> {
        Ok(Self {
            state,
            store,
            published,
            runtime,
            prober,
            launcher,
            alarm: Alarm::new()?,
            room: Arc::new(Semaphore::new(limits::STORE_QUEUE / 2)),
            failure,
            permissions: Permissions::default(),
            waiting: HashMap::new(),
            next_token: 0,
        })
    }

    /// Runs until it is told to close, or every sender of inputs is gone; then what is under way is committed and the
    /// store closed.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Message>,
        mut facts: mpsc::Receiver<hostler_runtime::Fact>,
        first: Vec<Input>,
    ) {
        let _guard = DiesAlone { what: "the decider", failure: self.failure.clone() };
        self.decide(first).await;
        let mut messages = Vec::new();
        let mut news = Vec::new();
        loop {
            let wake = self.state.next_wake();
            if let Err(error) = self.alarm.set(wake) {
                tracing::error!(%error, "setting a timer");
            }
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                count = facts.recv_many(&mut news, limits::SUPERVISOR_BATCH) => {
                    if count == 0 {
                        break;
                    }
                }
                count = inputs.recv_many(&mut messages, limits::SUPERVISOR_BATCH) => {
                    if count == 0 {
                        break;
                    }
                }
                () = self.alarm.ring() => {}
            }
            // Whatever woke it, the others get their share: in a long queue every end makes the next start.
            while news.len() < limits::SUPERVISOR_BATCH
                && let Ok(fact) = facts.try_recv()
            {
                news.push(fact);
            }
            while messages.len() < limits::SUPERVISOR_BATCH
                && let Ok(message) = inputs.try_recv()
            {
                messages.push(message);
            }
            for fact in &news {
                self.prober.heard(fact);
                self.launcher.networks.heard(fact);
            }
            batch.extend(news.drain(..).filter_map(fact).map(Input::Fact));
            // Whatever woke it: under a steady stream of news the timer itself may never be looked at.
            if wake.is_due(clock::boot_ms(), clock::wall_ms()) {
                batch.push(Input::Tick);
            }
            let closing = messages.iter().any(|message| matches!(message, Message::Close));
            batch.extend(messages.drain(..).filter_map(|message| self.input(message)));
            batch.extend(closing.then_some(Input::Closing));
            self.decide(batch).await;
            if closing {
                break;
            }
        }
        let store = self.store;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "closing the store");
        }
    }

    fn input(&mut self, message: Message) -> Option<Input> {
        Some(match message {
            Message::Close => return None,
            Message::Input(input) => input,
            Message::Request(request, sender) => {
                self.next_token += 1;
                self.waiting.insert(self.next_token, sender);
                Input::Request(self.next_token, request)
            }
        })
    }

    async fn decide(&mut self, inputs: Vec<Input>) {
        let now = now();
        let mut out = Outcome::default();
        for input in inputs {
            self.state.step(input, now, &mut out);
        }
        if out.is_empty() {
            return;
        }
        crate::failpoint::hit("decided");
        for action in out.early.drain(..) {
            match action {
                Action::Prepare(workload) => {
                    if let Some(launch) = self.launcher.launch_of(&workload) {
                        self.runtime.prepare(launch);
                    }
                }
                Action::AddNetwork(network) => self.launcher.networks.add(network),
                Action::ExecuteAhead(run, permission) if self.permissions.is_durable(run, permission) => {
                    crate::failpoint::hit("before-execute-ahead");
                    self.runtime.execute(run);
                    crate::failpoint::hit("executed-ahead");
                }
                _ => {}
            }
        }
        crate::failpoint::hit("prepared");
        // The queue of the writer has twice as many places as there are permits: it cannot be full.
        let permit = self.room.clone().acquire_owned().await.expect("never closed");
        let replies = out
            .replies
            .into_iter()
            .filter_map(|(token, reply)| self.waiting.remove(&token).map(|sender| (sender, reply)))
            .collect();
        let mut publication = Publication {
            records: out.batch.records.clone(),
            events: out.batch.events.clone(),
            actions: out.actions,
            replies,
            notices: out.notices,
            committed: None,
            _permit: permit,
        };
        let (published, permissions) = (self.published.clone(), self.permissions.clone());
        let done = Box::new(move |result: Result<_, _>| {
            if result.is_ok() {
                permissions.committed(&publication.records);
            }
            publication.committed = Some(result);
            let _ = published.send(publication);
        });
        if self.store.submit(out.batch, now.wall_ms, done).is_err() {
            tracing::error!("the store takes no more batches");
            let failure = Failure { what: "the store takes no more batches".to_owned(), no_space: false };
            self.failure.send_if_modified(|first| first.replace(failure).is_none());
        }
    }
}

fn fact(fact: hostler_runtime::Fact) -> Option<Fact> {
    use hostler_runtime::Fact as Theirs;
    Some(match fact {
        Theirs::Prepared { .. } => return None,
        Theirs::Started { run, sandbox, pid, started_at_ms } => {
            crate::failpoint::hit("started");
            Fact::Started { run, sandbox, pid, started_at_ms }
        }
        Theirs::StartFailed { run, failure } => Fact::StartFailed { run, failure },
        Theirs::Exited { run, exit } => {
            crate::failpoint::hit("exited");
            Fact::Exited { run, exit }
        }
        Theirs::Ordered { run, result } => Fact::Ordered { run, result },
        Theirs::Oom { run, oom_kills } => Fact::Oom { run, oom_kills },
        Theirs::ExecStarted { run, exec, pid } => Fact::ExecStarted { run, exec, pid },
        Theirs::ExecFailed { run, exec, failure } => Fact::ExecFailed { run, exec, failure },
        Theirs::ExecExited { run, exec, exit } => Fact::ExecExited { run, exec, exit },
        Theirs::AgentLost { run } => Fact::AgentLost { run },
        Theirs::Stuck { run, pids } => {
            tracing::error!(%run, ?pids, "processes cannot be killed: they are stuck in the kernel");
            return None;
        }
    })
}
