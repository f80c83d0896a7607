//! What is asked of a live run as a whole, and is done when its agent says so: pause, resume, checkpoint.
//!
//! ```text
//!   asked ──► carried out by the agent ──► Ordered ──► event, answer
//!     └ refused            └ the run ends first ──► answered: it ended
//! ```
//! One order of a run at a time. A checkpoint after which the container ends is a stop as well: it stays stopped, and its
//! end may come while the order is under way; that order is answered by its own result all the same.

use hostler_model::container::Userns;
use hostler_model::event::EventKind;
use hostler_model::ids::{RunId, WorkloadId};
use hostler_model::record::Urgency;
use hostler_model::workload::{Desired, RunState, Workload};
use hostler_model::{Now, Problem, ProblemKind};

use crate::input::{Action, Order, Outcome, Reply, Token};
use crate::request::{Answer, conflict};
use crate::state::State;

/// An order under way.
#[derive(Debug)]
pub(crate) struct Ordered {
    token: Token,
    order: Order,
    /// What was desired before a checkpoint that ends the run.
    before: Desired,
}

impl Order {
    fn ends_the_run(&self) -> bool {
        matches!(self, Self::Checkpoint(checkpoint) if checkpoint.options.exit)
    }
}

fn has_own_users(workload: &Workload) -> bool {
    workload.spec.container.as_ref().is_some_and(|container| container.userns == Userns::Auto)
}

impl State {
    /// `None`: the answer comes later.
    pub(crate) fn order(&mut self, token: Token, id: WorkloadId, order: Order, out: &mut Outcome) -> Option<Answer> {
        let mut workload = match self.find(id) {
            Ok(workload) => workload,
            Err(problem) => return Some(Err(problem)),
        };
        let run = match self.may_be_ordered(&workload, &order) {
            Ok(run) => run,
            Err(problem) => return Some(Err(problem)),
        };
        let before = workload.desired;
        if order.ends_the_run() {
            workload.desired = Desired::Stopped;
            workload.restart_requested = false;
            self.put(workload, out);
        }
        out.actions.push(Action::Order(run, order.clone()));
        self.orders.insert(run, Ordered { token, order, before });
        None
    }

    fn may_be_ordered(&self, workload: &Workload, order: &Order) -> Result<RunId, Problem> {
        let name = &workload.name;
        let Some(run) = workload.live_run().filter(|run| run.state == RunState::Running) else {
            return Err(conflict(format!("{name} is not running: it is {}", workload.phase().as_str())));
        };
        match order {
            Order::Pause if run.paused => return Err(conflict(format!("{name} is paused already"))),
            Order::Resume if !run.paused => return Err(conflict(format!("{name} is not paused"))),
            Order::Pause | Order::Resume if !workload.has_cgroup() => {
                return Err(conflict(format!(
                    "{name} has no cgroup, by which it could be stopped as a whole: it is neither a container nor a virtual \
                     machine, nor was it started with limits"
                )));
            }
            Order::Checkpoint(_) if workload.spec.container.is_none() => {
                return Err(conflict(format!("{name} is no container: only containers can be checkpointed")));
            }
            Order::Checkpoint(_) if has_own_users(workload) => {
                return Err(conflict(format!(
                    "{name} has user ids of its own, which a restored container would not get again: it cannot be checkpointed"
                )));
            }
            Order::Checkpoint(_) if run.paused => {
                return Err(conflict(format!("{name} is paused; resume it first with: hostler resume {name}")));
            }
            _ => {}
        }
        if self.orders.contains_key(&run.id) {
            return Err(conflict(format!("another pause, resume or checkpoint of {name} is under way")));
        }
        Ok(run.id)
    }

    /// The agent has carried it out, or could not.
    pub(crate) fn ordered(&mut self, run: RunId, result: Result<(), String>, now: Now, out: &mut Outcome) {
        let Some(Ordered { token, order, before }) = self.orders.remove(&run) else { return };
        out.batch.urgency = Urgency::Prompt;
        let Some(mut workload) = self.edit(run.workload) else {
            out.replies.push((token, Err(Problem::new(ProblemKind::NotFound, "the workload is gone"))));
            return;
        };
        let same_run = workload.run.as_ref().is_some_and(|known| known.id == run);
        let reply = match result {
            Ok(()) if same_run => {
                Self::carried_out(&mut workload, &order, now, out);
                Ok(Reply::Workload(self.put(workload, out)))
            }
            Ok(()) => Ok(Reply::Workload(self.put(workload, out))),
            Err(why) => {
                if order.ends_the_run() && workload.desired == Desired::Stopped && workload.live_run().is_some() {
                    workload.desired = before;
                    self.put(workload, out);
                }
                let kind = match order {
                    Order::Checkpoint(_) => ProblemKind::CheckpointFailed,
                    _ => ProblemKind::Conflict,
                };
                Err(Problem::new(kind, why))
            }
        };
        out.replies.push((token, reply));
    }

    fn carried_out(workload: &mut Workload, order: &Order, now: Now, out: &mut Outcome) {
        let live = workload.live_run().is_some();
        let Some(run) = workload.run.as_mut() else { return };
        let kind = match order {
            // It ended in the same moment.
            Order::Pause | Order::Resume if !live => return,
            // A stop was asked for meanwhile: what stands still would not hear of it.
            Order::Pause if matches!(run.state, RunState::Stopping { .. }) => {
                return out.actions.push(Action::Order(run.id, Order::Resume));
            }
            Order::Pause => {
                run.paused = true;
                EventKind::RunPaused
            }
            Order::Resume => {
                run.paused = false;
                EventKind::RunResumed
            }
            Order::Checkpoint(checkpoint) => {
                EventKind::RunCheckpointed { checkpoint: checkpoint.name.clone(), exit: checkpoint.options.exit }
            }
        };
        Self::event(workload, kind, now, out);
    }

    /// A stop cannot be noticed by what stands still.
    pub(crate) fn resume_to_stop(workload: &mut Workload, now: Now, out: &mut Outcome) {
        let Some(run) = workload.run.as_mut().filter(|run| run.paused) else { return };
        run.paused = false;
        out.actions.push(Action::Order(run.id, Order::Resume));
        Self::event(workload, EventKind::RunResumed, now, out);
    }

    /// The run is over before its order was carried out.
    pub(crate) fn settle_order(&mut self, run: RunId, out: &mut Outcome) {
        // Its own result says whether the image is good.
        if self.orders.get(&run).is_none_or(|ordered| ordered.order.ends_the_run()) {
            return;
        }
        if let Some(Ordered { token, .. }) = self.orders.remove(&run) {
            let problem = Problem::new(ProblemKind::Conflict, "the run ended before that could be done");
            out.replies.push((token, Err(problem)));
        }
    }
}
