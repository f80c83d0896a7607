//! Queues: what is asked of them, and what must hold.

use super::values::queue_name;
use super::*;

impl World {
    pub(crate) fn change_queue(&mut self, which: u8, what: u8) {
        let (namespace, name) = (Namespace::owner(), queue_name(which));
        let change = match what {
            0 | 1 => QueueChange { paused: Some(what == 0), ..QueueChange::default() },
            2 | 3 => QueueChange { draining: Some(what == 2), ..QueueChange::default() },
            4 | 5 => QueueChange { parallel: Some(u32::from(what) - 2), ..QueueChange::default() },
            _ => {
                let waiting = if what == 6 { Waiting::Keep } else { Waiting::Cancel };
                return self.ask(Request::RemoveQueue { namespace, name, waiting });
            }
        };
        self.ask(Request::SetQueue { namespace, name, change });
    }

    /// Several at a time, of which some end at once.
    pub(crate) fn rush(&mut self, jobs: u8, ends: u8) {
        self.change_queue(0, 1);
        self.change_queue(0, 4);
        for _ in 0..jobs {
            let create = self.creation(&Creation { queue: Some((0, 0)), remove: true, ..Creation::default() });
            self.ask(Request::Create(Box::new(create)));
        }
        for _ in 0..ends {
            let Some(run) = self.running_job() else { return };
            self.end_execs(run);
            self.processes.insert(run, Process::Over(Fact2::Exited(exit(Some(0)))));
            self.input(Input::Fact(Fact::Exited { run, exit: exit(Some(0)) }));
        }
    }

    /// A run of a queue, or any.
    pub(crate) fn running_job(&self) -> Option<RunId> {
        let is_job =
            |run: &RunId| self.state.workloads().get(&run.workload).is_some_and(|job| job.spec.queue.is_some());
        let running = self.processes.iter().filter(|(_, process)| **process == Process::Running).map(|(run, _)| *run);
        let (mut jobs, others): (Vec<_>, Vec<_>) = running.partition(is_job);
        jobs.sort_unstable();
        jobs.first().copied().or_else(|| others.into_iter().min())
    }

    pub(crate) fn do_to_all(&mut self, verb: u8) {
        let verb = match verb {
            0 => Verb::Stop,
            1 => Verb::Kill(Signal::TERM),
            2 => Verb::Remove,
            _ => Verb::RemoveLive,
        };
        let workloads: Vec<_> = self.state.workloads().keys().copied().collect();
        let is_protected = |state: &State| {
            let all = state.workloads().values().filter(|workload| workload.spec.protected);
            all.map(|workload| Workload::clone(workload)).collect::<Vec<_>>()
        };
        let before = is_protected(&self.state);
        self.ask(Request::Bulk { verb, workloads });
        let after = is_protected(&self.state);
        for workload in before {
            // Others that made room, or their hooks, may have let it start; nothing else was done to it.
            let now = after.iter().find(|now| now.id == workload.id).expect("protected ones stay");
            let same = now.desired == workload.desired || now.desired == Desired::Run;
            assert!(same && now.live_run().is_some() >= workload.live_run().is_some());
        }
    }

    /// Who starts from a queue goes before all that wait in it.
    pub(crate) fn check_turn(&self, now: &Workload) {
        let Some(before) = self.disk.workloads.get(&now.id) else { return };
        let (Some(turn), None, Some(_)) = (before.turn(), now.turn(), now.live_run()) else { return };
        // It was its turn when it was executed; who came since may go before those that still wait.
        if self.adopting && before.queued.is_some_and(|queued| queued.ahead.is_some()) {
            return;
        }
        let rivals = self.disk.workloads.values().filter(|other| other.spec.queue == before.spec.queue);
        assert!(rivals.filter_map(|other| other.turn()).all(|other| other >= turn), "{} started out of turn", now.id);
    }

    /// Caps are kept, nobody starts out of turn or while he may not, and whoever can start has started.
    pub(crate) fn check_queues(&self) {
        let known: BTreeMap<_, _> =
            self.state.queues().iter().map(|q| (q.record.name.clone(), QueueRecord::clone(&q.record))).collect();
        assert_eq!(known, self.disk.queues, "the queues are what replay gives");
        let mut under_way = 0;
        for queue in self.state.queues().iter() {
            let of_it = |w: &&Arc<Workload>| w.spec.queue.as_ref() == Some(&queue.record.name);
            let jobs: Vec<_> = self.state.workloads().values().filter(of_it).collect();
            let waiting: Vec<_> = jobs.iter().filter_map(|job| job.turn()).collect();
            let running = jobs.iter().filter(|job| job.holds_place()).count();
            assert_eq!((queue.waiting().len(), queue.running()), (waiting.len(), running));
            assert!(queue.waiting().is_sorted());
            under_way += running;
        }
        let live = self.state.workloads().values().filter(|workload| workload.live_run().is_some()).count();
        let room = live < SETTINGS.live_runs_max && under_way < SETTINGS.queue_jobs_max;
        if room && !self.state.holds_starts() {
            for queue in self.state.queues().iter().filter(|queue| !queue.record.paused) {
                let full = queue.running() >= queue.record.parallel as usize;
                assert!(full || queue.waiting().len() == 0, "{} stands still", queue.record.name);
            }
        }
    }
}
