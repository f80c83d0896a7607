//! The daemon dies, and another one comes up over what is on disk and on the machine.

use super::*;

impl World {
    /// The daemon comes up and looks around.
    pub(crate) fn adopt(&mut self) {
        let found = self
            .processes
            .iter()
            .map(|(run, process)| Found {
                run: *run,
                state: match process {
                    Process::Prepared => FoundState::Prepared,
                    Process::Running => running(self.paused.contains(run)),
                    Process::Over(Fact2::Exited(exit)) => FoundState::Ended { exit: exit.clone() },
                    Process::Over(Fact2::Failed(failure)) => FoundState::StartFailed { failure: failure.clone() },
                    Process::Over(Fact2::Lost) => FoundState::Lost(LostReason::Agent),
                },
                execs: match process {
                    Process::Over(Fact2::Lost) => Vec::new(),
                    _ => self
                        .execs
                        .iter()
                        .filter(|(_, (of, _))| of == run)
                        .map(|(exec, (_, exit))| FoundExec { exec: *exec, pid: Some(8), exit: exit.clone() })
                        .collect(),
                },
            })
            .collect();
        let boot_id = format!("boot-{}", self.boot);
        self.adopting = true;
        self.input(Input::Adopted { found, boot_id, version: "test".to_owned() });
        self.adopting = false;
    }

    /// A decision is under way when the daemon dies: about a job that comes, or about one that ended.
    pub(crate) fn crash(&mut self, committed: bool, reboot: bool, ending: bool) {
        let out = if let Some(run) = self.running_job().filter(|_| ending) {
            self.end_execs(run);
            self.processes.insert(run, Process::Over(Fact2::Exited(exit(Some(0)))));
            self.decide(Input::Fact(Fact::Exited { run, exit: exit(Some(0)) }))
        } else {
            self.token += 1;
            self.asked.insert(self.token);
            let creation = Creation { queue: Some((0, 0)), ..Creation::default() };
            let request = Request::Create(Box::new(self.creation(&creation)));
            self.decide(Input::Request(self.token, request))
        };
        if committed {
            self.commit(&out);
        }
        if reboot {
            self.boot += 1;
            self.now.boot_ms = 500;
            for process in self.processes.values_mut() {
                if !matches!(process, Process::Over(_)) {
                    *process = Process::Over(Fact2::Lost);
                }
            }
        }
        let records = Records {
            node: self.disk.node.clone(),
            workloads: self.disk.workloads.values().cloned().collect(),
            keys: self.disk.keys.values().cloned().collect(),
            calls: self.disk.hooks.calls.values().cloned().collect(),
            stacks: self.disk.stacks.values().cloned().collect(),
            units: self
                .disk
                .units
                .iter()
                .map(|((stack, _), unit)| (Namespace::owner(), stack.clone(), unit.clone()))
                .collect(),
            queues: self.disk.queues.values().cloned().collect(),
            networks: self.disk.networks.values().cloned().collect(),
        };
        // Who comes up makes the machine what the store says.
        self.bridges = self.disk.networks.values().map(|network| network.id).collect();
        self.state = State::load(SETTINGS, records);
        self.conditions.clear();
        // Carried out, or never heard of.
        self.orders.clear();
        self.adopt();
        self.asked.clear();
        self.answered.clear();
    }
}
