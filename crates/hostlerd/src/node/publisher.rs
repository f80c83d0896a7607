//! What happens after a commit, in the order of commits: readers see it, those who asked are answered, the runtime
//! is told what to do.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::clock;
use hostler_model::Problem;
use hostler_model::event::{Event, EventKind};
use hostler_model::ids::WorkloadId;
use hostler_model::record::Record;
use hostler_runtime::Runtime;
use hostler_store::{CommitError, Committed};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{Action, Fact, Input, Notice, Order};
use hostler_wire::SignalScope;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::view::{ExecNews, View};
use super::{DiesAlone, Failure, Message};
use crate::hooks::News;
use crate::metrics::{Metrics, Operation};
use crate::networks::NetworkRoom;
use crate::probes::Prober;
use crate::sampling::Sampling;
use crate::stacks::conditions;

/// Where an answer goes.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply, Problem>>;

/// A decided batch on its way through the store.
pub(crate) struct Publication {
    pub(crate) records: Vec<Record>,
    pub(crate) events: Vec<Event>,
    pub(crate) actions: Vec<Action>,
    pub(crate) replies: Vec<(ReplySender, Result<Reply, Problem>)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) committed: Option<Result<Committed, CommitError>>,
    /// Its place among the batches under way, until it is published.
    pub(crate) _permit: OwnedSemaphorePermit,
}

pub(crate) struct Publisher {
    pub(crate) view: Arc<View>,
    pub(crate) hooks: mpsc::UnboundedSender<News>,
    pub(crate) prober: Prober,
    pub(crate) runtime: Runtime,
    /// Weak: the publisher must not keep the decider alive.
    pub(crate) inputs: mpsc::WeakSender<Message>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sampling: Arc<Sampling>,
    pub(crate) networks: Arc<NetworkRoom>,
    pub(crate) logs: PathBuf,
    pub(crate) failure: watch::Sender<Option<Failure>>,
}

impl Publisher {
    pub(crate) async fn run(mut self, mut publications: mpsc::UnboundedReceiver<Publication>) {
        let _guard = DiesAlone { what: "the publisher", failure: self.failure.clone() };
        while let Some(publication) = publications.recv().await {
            match publication.committed {
                Some(Ok(ref committed)) => {
                    let numbers = committed.events.clone();
                    self.publish(publication, numbers);
                }
                Some(Err(error)) => self.fail(&error),
                None => unreachable!("the writer always says how it went"),
            }
        }
    }

    fn publish(&mut self, publication: Publication, numbers: Range<u64>) {
        crate::failpoint::hit("committed");
        self.view.apply(&publication.records, numbers.end.saturating_sub(1));
        // What is to be done is not kept waiting by those who only want to know.
        for action in publication.actions {
            self.act(action);
        }
        self.sampling.apply(&publication.records);
        self.tell_hooks(&publication.records, numbers.start);
        for record in &publication.records {
            match record {
                Record::Workload(workload) => self.prober.look(workload),
                Record::WorkloadRemoved(id) => self.prober.forget(*id),
                _ => {}
            }
        }
        for event in &publication.events {
            self.observe(event);
        }
        for notice in publication.notices {
            match notice {
                Notice::ExecFailed(exec, failure) => self.view.exec_news(exec, ExecNews::Failed(failure)),
                Notice::ExecLost(exec) => self.view.exec_news(exec, ExecNews::Lost),
            }
        }
        // After the actions: who is told that something was done may at once ask about it.
        crate::failpoint::hit("before-answer");
        for (sender, reply) in publication.replies {
            // Somebody who no longer waits is nobody's loss: the work is accepted all the same.
            let _ = sender.send(reply);
        }
    }

    fn tell_hooks(&self, records: &[Record], first_event: u64) {
        let news = records.iter().filter_map(|record| match record {
            Record::HookFired(fired) => Some(News::Call(Arc::new(fired.numbered(first_event)))),
            Record::HookDone(key) => Some(News::Done(*key)),
            Record::Workload(workload) => News::of_workload(workload),
            _ => None,
        });
        // Without a reader the daemon is on its way down, and the next one looks for itself.
        news.for_each(|news| drop(self.hooks.send(news)));
    }

    fn observe(&self, event: &Event) {
        self.metrics.observe(event);
        match &event.kind {
            EventKind::RunExited { exit } => {
                let took = clock::wall_ms().saturating_sub(exit.ended_at_ms);
                self.metrics.observe_duration(Operation::Exit, Duration::from_millis(took));
            }
            EventKind::ExecStarted { exec, pid } => self.view.exec_news(*exec, ExecNews::Started(*pid)),
            EventKind::ExecExited { exec, exit } => self.view.exec_news(*exec, ExecNews::Exited(exit.clone())),
            _ => {}
        }
    }

    fn act(&self, action: Action) {
        let runtime = &self.runtime;
        match action {
            Action::Prepare(_) | Action::ExecuteAhead(..) | Action::AddNetwork(_) => {
                unreachable!("these come before the commit")
            }
            Action::Execute(run) => {
                crate::failpoint::hit("before-execute");
                runtime.execute(run);
                crate::failpoint::hit("executed");
            }
            Action::Discard(run) => {
                runtime.abort(run);
                runtime.kill(run);
            }
            Action::Signal(run, signal) => runtime.signal(run, signal, SignalScope::Main),
            Action::SignalExec(run, exec, signal) => runtime.signal(run, signal, SignalScope::Exec(exec)),
            Action::Kill(run) => runtime.kill(run),
            Action::Update(run, limits) => {
                let (runtime, inputs) = (runtime.clone(), self.inputs.clone());
                tokio::spawn(async move {
                    let result = runtime.update(run, limits).await.map_err(|error| error.to_string());
                    if let Some(inputs) = inputs.upgrade() {
                        let _ = inputs.send(Message::Input(Input::Fact(Fact::Updated { run, result }))).await;
                    }
                });
            }
            Action::Order(run, Order::Pause) => runtime.pause(run),
            Action::Order(run, Order::Resume) => runtime.resume(run),
            Action::Order(run, Order::Checkpoint(checkpoint)) => {
                runtime.checkpoint(run, checkpoint.images, checkpoint.options);
            }
            Action::Exec(run, exec, launch) => runtime.exec(run, exec, *launch),
            Action::Release(run) => {
                crate::failpoint::hit("before-release");
                runtime.committed(run);
            }
            Action::ReleaseExec(run, exec) => runtime.exec_committed(run, exec),
            Action::CheckCondition { namespace, stack, unit, generation, condition } => {
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    let unmet = conditions::unmet(condition).await;
                    let fact = Fact::ConditionChecked { namespace, stack, unit, generation, unmet };
                    if let Some(inputs) = inputs.upgrade() {
                        let _ = inputs.send(Message::Input(Input::Fact(fact))).await;
                    }
                });
            }
            Action::RemoveLog(workload) => self.remove_log(workload),
            Action::RemoveNetwork(id) => self.networks.remove(id),
        }
    }

    /// Most short jobs have no log; for those that have, deleting may take a while and is done aside.
    fn remove_log(&self, workload: WorkloadId) {
        let directory = self.logs.join(workload.to_string());
        if !directory.exists() {
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&directory)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(directory = %directory.display(), %error, "removing a log");
            }
        });
    }

    fn fail(&mut self, error: &CommitError) {
        let no_space = matches!(error, CommitError::NoSpace(_));
        tracing::error!(%error, "a commit failed: nothing in memory counts any more");
        self.failure.send_if_modified(|first| {
            let news = first.is_none();
            first.get_or_insert_with(|| Failure { what: error.to_string(), no_space });
            news
        });
    }
}
