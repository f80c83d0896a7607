//! Pauses, resumes and checkpoints, as an agent carries them out.

use hostler_model::launch::CheckpointOptions;
use hostler_supervisor::{CheckpointOrder, Order};

use super::*;

pub(crate) fn checkpoint(exit: bool) -> Order {
    let options = CheckpointOptions { exit, ..CheckpointOptions::default() };
    let order = CheckpointOrder { name: "c".parse().expect("a name"), images: "/c".into(), options };
    Order::Checkpoint(Box::new(order))
}

impl World {
    /// An agent is told.
    pub(crate) fn ordered(&mut self, run: RunId, order: Order) {
        assert!(!self.ended.contains(&run), "{run}: an order after the end");
        let live = self.disk.workloads.get(&run.workload).and_then(Workload::live_run);
        let asked = live.is_some_and(|live| live.state == RunState::Running);
        if !asked {
            // Part of a stop: nobody waits for the answer.
            assert_eq!(order, Order::Resume, "only to stop it");
            self.paused.remove(&run);
            return;
        }
        self.orders.push((run, order));
    }

    /// It is done, or cannot be.
    pub(crate) fn happen_order(&mut self, which: usize, good: bool) {
        if self.orders.is_empty() {
            return;
        }
        let (run, order) = self.orders.remove(which % self.orders.len());
        let runs = self.processes.get(&run) == Some(&Process::Running);
        let result = if good && runs { Ok(()) } else { Err("no".to_owned()) };
        if result.is_ok() {
            match &order {
                Order::Pause => drop(self.paused.insert(run)),
                Order::Resume => drop(self.paused.remove(&run)),
                Order::Checkpoint(checkpoint) if checkpoint.options.exit => {
                    self.end_execs(run);
                    self.processes.insert(run, Process::Over(Fact2::Exited(exit(None))));
                }
                Order::Checkpoint(_) => {}
            }
        }
        self.input(Input::Fact(Fact::Ordered { run, result }));
    }

    /// What is recorded to stand still does, and nothing else.
    pub(crate) fn check_paused(&self) {
        for workload in self.disk.workloads.values() {
            let Some(run) = workload.live_run().filter(|run| run.state == RunState::Running) else {
                assert!(workload.run.as_ref().is_none_or(|run| !run.paused), "paused, and not running: {workload:?}");
                continue;
            };
            let under_way = self.orders.iter().any(|(ordered, _)| *ordered == run.id);
            let runs = self.processes.get(&run.id) == Some(&Process::Running);
            assert!(!runs || under_way || run.paused == self.paused.contains(&run.id), "not as it is: {workload:?}");
        }
    }
}
