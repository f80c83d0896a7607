//! The queues that a stack describes: made and changed with it, gone with it when nobody else uses them.

use std::collections::BTreeMap;

use hostler_model::Now;
use hostler_model::ids::QueueName;
use hostler_model::queue::QueueChange;
use hostler_model::stack::Mistake;

use crate::input::Outcome;
use crate::stacks::Key;
use crate::state::State;

impl State {
    /// Makes these queues, or changes them; which of those that are there a stack has made. What cannot be is a mistake
    /// and keeps nothing else back.
    pub(crate) fn make_queues(
        &mut self,
        key: &Key,
        queues: &BTreeMap<QueueName, u32>,
        mistakes: &mut Vec<Mistake>,
        now: Now,
        out: &mut Outcome,
    ) -> Vec<QueueName> {
        let mut made = self.stacks.queues_of(key);
        for (name, parallel) in queues {
            let is_new = self.queues.get(&(key.0.clone(), name.clone())).is_none();
            let change = QueueChange { parallel: Some(*parallel), ..QueueChange::default() };
            match self.set_queue(&key.0, name, change, now, out) {
                // Of one that several stacks describe, the last to go takes it along.
                Ok(_) if (is_new || self.stacks.others_use(key, name)) && !made.contains(name) => {
                    made.push(name.clone());
                }
                Ok(_) => {}
                Err(problem) => {
                    mistakes.push(Mistake { path: format!("queue.{name}"), what: problem.detail, unit: None });
                }
            }
        }
        made.retain(|name| self.queues.get(&(key.0.clone(), name.clone())).is_some());
        made
    }

    /// The stack is gone: its queues go too, but for those with jobs, and those that others wait in or described.
    pub(crate) fn forget_queues(&mut self, key: &Key, queues: &[QueueName], now: Now, out: &mut Outcome) {
        for name in queues {
            let of = (key.0.clone(), name.clone());
            let is_used = self.stacks.others_use(key, name)
                || self.workloads.values().any(|workload| {
                    workload.namespace == key.0 && workload.spec.queue.as_ref() == Some(name) && !workload.is_at_rest()
                });
            if !is_used && self.queues.get(&of).is_some_and(|queue| queue.is_idle()) {
                self.forget_queue(&of, now, out);
            }
        }
    }
}
