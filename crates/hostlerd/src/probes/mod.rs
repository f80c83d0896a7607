//! Probes: asks the runs of stacks' services whether they are ready, and afterwards whether they live. What is to be
//! asked follows from how a workload stands, as committed; what came of it goes to the supervisor as facts. A line that
//! makes a run ready is searched for in its log.
//!
//! ```text
//!  publisher ── every changed workload ──► pending ──► one task for each run that is to be asked
//!  decider   ── ends of execs ───────────────────────────► │ ask: tcp, http, exec; matcher: lines of the log
//!  supervisor ◄── Fact::Ready, Fact::Unhealthy ────────────┘
//! ```
//! Bounded: one task for each replica that is asked, one question of each at a time, `PROBES_MAX` questions of all of
//! them, a deadline for each. A search takes no place among the questions: it waits for the log, and ends with its task
//! when the run is ready, stops or ends. A delay is no question; it is the supervisor's own timer.
//!
//! - `ask`: one question

mod ask;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostler_model::ids::{ExecId, RunId, WorkloadId};
use hostler_model::limits;
use hostler_model::stack::probe::{Liveness, ReadyWhen, TimedProbe};
use hostler_model::workload::{RunState, Workload};
use hostler_provision::Pattern;
use hostler_provision::launch::log_directory;
use hostler_runtime::Runtime;
use hostler_supervisor::{Fact, Input};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::logs::Watcher;
use crate::matcher::{Matcher, Wanted};
use crate::node::Message;
use crate::node::view::View;

/// What a probe inside a run came to.
type Heard = Result<(), String>;

/// The handle. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Prober {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Workloads that changed since they were looked at last; absent ones are gone. Never more than there are.
    pending: Mutex<HashMap<WorkloadId, Option<Arc<Workload>>>>,
    /// Replicas that were looked at: of others that go nothing need be known.
    known: Mutex<HashSet<WorkloadId>>,
    wake: Notify,
    /// Probes that run as execs.
    execs: Mutex<HashMap<ExecId, oneshot::Sender<Heard>>>,
}

/// What is to be asked of a run.
#[derive(Debug, Clone, PartialEq)]
enum Question {
    Ready(RunId, TimedProbe),
    Line(RunId, String),
    Alive(RunId, Liveness),
}

/// What probes are made with.
#[derive(Clone)]
pub(crate) struct Tools {
    /// Runs execs.
    pub(crate) runtime: Runtime,
    /// Takes the facts.
    pub(crate) inputs: mpsc::WeakSender<Message>,
    /// Who the daemon runs as.
    pub(crate) node_uid: u32,
    /// Tells of the end of runs whose lines are searched.
    pub(crate) view: Arc<View>,
    /// Tells of news in logs.
    pub(crate) watcher: Watcher,
    /// Where all logs are.
    pub(crate) logs: PathBuf,
}

/// What every task needs.
#[derive(Clone)]
struct Context {
    prober: Prober,
    tools: Tools,
    permits: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prober {
    /// Begins with these workloads. What is to be asked of them is asked at once.
    pub(crate) fn start<'a>(workloads: impl Iterator<Item = &'a Arc<Workload>>, tools: Tools) -> Self {
        let prober = Self::default();
        workloads.for_each(|workload| prober.look(workload));
        tokio::spawn(prober.clone().run(tools));
        prober
    }

    /// A workload stands like this now.
    pub(crate) fn look(&self, workload: &Arc<Workload>) {
        if workload.stack.is_some() {
            lock(&self.shared.known).insert(workload.id);
            lock(&self.shared.pending).insert(workload.id, Some(workload.clone()));
            self.shared.wake.notify_one();
        }
    }

    /// A workload is gone.
    pub(crate) fn forget(&self, id: WorkloadId) {
        if lock(&self.shared.known).remove(&id) {
            lock(&self.shared.pending).insert(id, None);
            self.shared.wake.notify_one();
        }
    }

    /// The runtime reports: it may be about a probe.
    pub(crate) fn heard(&self, fact: &hostler_runtime::Fact) {
        use hostler_runtime::Fact;
        let (exec, heard) = match fact {
            Fact::ExecExited { exec, exit, .. } if exit.status.is_success() => (exec, Ok(())),
            Fact::ExecExited { exec, exit, .. } => (exec, Err(format!("it ended with {:?}", exit.status))),
            Fact::ExecFailed { exec, failure, .. } => (exec, Err(failure.message.clone())),
            _ => return,
        };
        if let Some(waiting) = lock(&self.shared.execs).remove(exec) {
            let _ = waiting.send(heard);
        }
    }

    /// Listens for the end of an exec. Begin before it is started.
    fn listen(&self, exec: ExecId) -> oneshot::Receiver<Heard> {
        let (sender, receiver) = oneshot::channel();
        let mut execs = lock(&self.shared.execs);
        // Of runs that ended under their probe nothing more is heard.
        execs.retain(|_, waiting| !waiting.is_closed());
        execs.insert(exec, sender);
        receiver
    }

    /// Keeps one task for each run that is to be asked, for as long as the daemon lives.
    async fn run(self, tools: Tools) {
        let permits = Arc::new(Semaphore::new(limits::PROBES_MAX));
        let context = Context { prober: self.clone(), tools, permits };
        let mut tasks: HashMap<WorkloadId, (Question, AbortHandle)> = HashMap::new();
        loop {
            self.shared.wake.notified().await;
            let pending = std::mem::take(&mut *lock(&self.shared.pending));
            for (id, workload) in pending {
                let question = workload.as_ref().and_then(|workload| question(workload));
                if tasks.get(&id).map(|(asked, _)| asked) == question.as_ref() {
                    continue;
                }
                if let Some((_, task)) = tasks.remove(&id) {
                    task.abort();
                }
                if let (Some(question), Some(workload)) = (question, workload) {
                    let task = tokio::spawn(context.clone().ask_on(question.clone(), workload));
                    tasks.insert(id, (question, task.abort_handle()));
                }
            }
        }
    }
}

/// What is to be asked of a workload that stands like this.
fn question(workload: &Workload) -> Option<Question> {
    let member = workload.stack.as_ref()?;
    let run = workload.live_run().filter(|run| run.state == RunState::Running)?;
    match (run.ready_at_ms, &member.ready.when) {
        (Some(_), _) => member.liveness.clone().map(|liveness| Question::Alive(run.id, liveness)),
        (None, ReadyWhen::Probe(probe)) => Some(Question::Ready(run.id, probe.clone())),
        (None, ReadyWhen::Match { pattern }) => Some(Question::Line(run.id, pattern.clone())),
        (None, ReadyWhen::Started | ReadyWhen::Delay { .. } | ReadyWhen::Success) => None,
    }
}

impl Context {
    async fn ask_on(self, question: Question, workload: Arc<Workload>) {
        let fact = match question {
            Question::Ready(run, timed) => {
                while let Err(why) = self.ask(run, &workload, &timed).await {
                    tracing::debug!(%run, name = %workload.name, why, "not ready yet");
                    tokio::time::sleep(Duration::from_millis(timed.interval_ms)).await;
                }
                Fact::Ready { run }
            }
            Question::Line(run, pattern) => {
                if !self.has_line(run, &workload, &pattern).await {
                    // It is over, or never becomes ready: its deadline says so.
                    return;
                }
                Fact::Ready { run }
            }
            Question::Alive(run, liveness) => {
                let reason = self.until_dead(run, &workload, &liveness).await;
                tracing::warn!(%run, name = %workload.name, reason, "taken for dead");
                Fact::Unhealthy { run, reason }
            }
        };
        if let Some(inputs) = self.tools.inputs.upgrade() {
            let _ = inputs.send(Message::Input(Input::Fact(fact))).await;
        }
    }

    /// Waits for a line of the run's log that matches; false when it is over without one.
    async fn has_line(&self, run: RunId, workload: &Workload, pattern: &str) -> bool {
        let pattern = match Pattern::new(pattern) {
            Ok(pattern) => pattern,
            // It compiled when it was accepted, by an engine with other bounds.
            Err(why) => {
                tracing::warn!(%run, name = %workload.name, why, "the pattern of ready.match");
                return false;
            }
        };
        let Tools { view, watcher, logs, .. } = &self.tools;
        let wanted = vec![Wanted { key: 0, pattern, stream: None }];
        let watched = view.watch(workload.id);
        Matcher::new(watcher, log_directory(logs, workload), run, watched, wanted).next().await.is_some()
    }

    /// Asks until it has failed so often in a row as it may.
    async fn until_dead(&self, run: RunId, workload: &Workload, liveness: &Liveness) -> String {
        let mut failures = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(liveness.probe.interval_ms)).await;
            match self.ask(run, workload, &liveness.probe).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    tracing::info!(%run, name = %workload.name, why, failures, "a liveness probe failed");
                    if failures >= liveness.failures {
                        return format!("{failures} probes in a row failed: {why}");
                    }
                }
            }
        }
    }

    async fn ask(&self, run: RunId, workload: &Workload, timed: &TimedProbe) -> Heard {
        // Waiting for a place is not part of the probe's time: a busy node does not make services dead.
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        let limit = Duration::from_millis(timed.timeout_ms);
        let asking = ask::once(self, run, workload, &timed.probe, limit);
        let late = || Err(format!("no answer within {} ms", timed.timeout_ms));
        tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| late())
    }
}
