//! One thing done to many workloads. What is protected is left out: it has to be named by itself.

use hostler_model::event::StopReason;
use hostler_model::ids::WorkloadId;
use hostler_model::{Now, Problem};

use crate::input::{Outcome, Reply, StopOrder, Verb};
use crate::state::State;

impl State {
    /// Those to whom it cannot be done, because they are gone or not running, are in neither list of the answer.
    pub(crate) fn bulk(&mut self, verb: Verb, workloads: Vec<WorkloadId>, now: Now, out: &mut Outcome) -> Reply {
        let (mut done, mut protected) = (Vec::new(), Vec::new());
        for id in workloads {
            let Some(workload) = self.workloads.get(&id) else { continue };
            if workload.spec.protected {
                protected.push(id);
                continue;
            }
            let answer: Result<_, Problem> = match verb {
                Verb::Stop if workload.is_at_rest() => continue,
                Verb::Stop => {
                    let order = StopOrder { reason: StopReason::Stop, signal: None, grace_ms: None };
                    self.stop(id, &order, now, out)
                }
                Verb::Kill(signal) => self.kill(id, signal, None, out),
                Verb::Remove => self.remove_asked(id, false, now, out),
                Verb::RemoveLive => self.remove_asked(id, true, now, out),
            };
            if answer.is_ok() {
                done.push(id);
            }
        }
        Reply::Bulk { done, protected }
    }
}
