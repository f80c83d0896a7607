//! The daemon came up: what it finds on the machine is brought together with what it had recorded.
//!
//! | recorded \ found | nothing | prepared | running | ended, failed, lost |
//! |---|---|---|---|---|
//! | preparing | prepare and execute now; after a reboot lost | execute | it runs | that end |
//! | running | lost | – | it runs | that end |
//! | stopping | cancelled, or lost | kill | signal again | that end |
//! | queued, permitted ahead | waits again; after a reboot lost | discard, waits again | it runs | that end |
//! | over, or unknown | – | discard | discard | release |

use std::collections::HashMap;

use hostler_model::Now;
use hostler_model::event::{Event, EventKind};
use hostler_model::ids::RunId;
use hostler_model::record::{Record, Urgency};
use hostler_model::workload::{LostReason, RunState, StartFailure, StartFailureKind, Workload};

use crate::fires;
use crate::input::{Action, Found, FoundState, Outcome};
use crate::lifecycle::Started;
use crate::state::State;

#[derive(Default)]
struct Tally {
    adopted: u32,
    ended_meanwhile: u32,
    lost: u32,
}

impl State {
    pub(crate) fn adopted(&mut self, found: Vec<Found>, boot_id: String, version: String, now: Now, out: &mut Outcome) {
        let rebooted = !self.node.boot_id.is_empty() && self.node.boot_id != boot_id;
        if self.node.boot_id != boot_id {
            self.node.boot_id = boot_id;
            out.batch.records.push(Record::Node(self.node.clone()));
        }
        if rebooted {
            self.forget_boot_clock(now, out);
        }
        let mut found: HashMap<RunId, Found> = found.into_iter().map(|found| (found.run, found)).collect();
        let mut tally = Tally::default();
        // Prepared is not executed: it is undone below, and waits for its turn again.
        let is_there = |run: &RunId| found.get(run).is_some_and(|found| !matches!(found.state, FoundState::Prepared));
        self.adopt_permitted(is_there, rebooted, now, out);
        self.skip_numbers(&found, out);
        let live: Vec<_> = self.live.iter().copied().collect();
        for id in live {
            let Some(run) = self.workloads.get(&id).and_then(|workload| workload.live_run()).map(|run| run.id) else {
                continue;
            };
            let (state, execs) = match found.remove(&run) {
                Some(found) => (Some(found.state), found.execs),
                None => (None, Vec::new()),
            };
            // Before the run's own end.
            self.adopt_execs(run, execs, now, out);
            let Some(workload) = self.edit(id) else { continue };
            self.reconcile(workload, run, state, rebooted, now, out, &mut tally);
        }
        for (run, found) in found {
            out.actions.push(match found.state {
                FoundState::Prepared | FoundState::Running { .. } => Action::Discard(run),
                _ => Action::Release(run),
            });
        }
        // A hook of one end may have stopped a run that was found to be over, too.
        let live = |run: &RunId| {
            let workload = self.workloads.get(&run.workload);
            workload.and_then(|workload| workload.live_run()).is_some_and(|live| live.id == *run)
        };
        out.actions.retain(|action| !matches!(action, Action::Signal(run, _) if !live(run)));
        self.stacks_adopted(rebooted, now, out);
        let kind = EventKind::NodeStarted {
            version,
            adopted: tally.adopted,
            ended_meanwhile: tally.ended_meanwhile,
            lost: tally.lost,
        };
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        out.batch.urgency = Urgency::Prompt;
    }

    /// A start whose record was lost with the daemon left something prepared: it is undone, and its number is not given again.
    fn skip_numbers(&mut self, found: &HashMap<RunId, Found>, out: &mut Outcome) {
        let mut unknown: Vec<_> = found.keys().copied().collect();
        unknown.sort_unstable();
        for run in unknown {
            if let Some(mut workload) = self.edit(run.workload).filter(|workload| workload.runs < run.number) {
                workload.runs = run.number;
                self.put(workload, out);
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one row of the table above, with its context")]
    fn reconcile(
        &mut self,
        workload: Workload,
        run: RunId,
        found: Option<FoundState>,
        rebooted: bool,
        now: Now,
        out: &mut Outcome,
        tally: &mut Tally,
    ) {
        let recorded = workload.run.as_ref().map(|run| run.state.clone());
        match found {
            Some(FoundState::Running { sandbox, pid, started_at_ms, oom_kills, paused }) => {
                tally.adopted += 1;
                if let Some(RunState::Stopping { kill_at_boot_ms }) = recorded {
                    // The signal may never have been sent: its commit came first.
                    out.actions.push(match kill_at_boot_ms {
                        Some(_) => Action::Signal(run, workload.spec.stop.signal),
                        None => Action::Kill(run),
                    });
                }
                let started = Started { sandbox, pid, started_at_ms, oom_kills, paused: Some(paused) };
                self.run_started(workload, started, now, out);
            }
            Some(FoundState::Prepared) => {
                tally.adopted += 1;
                out.actions.push(match recorded {
                    Some(RunState::Preparing { .. }) => Action::Execute(run),
                    _ => Action::Kill(run),
                });
            }
            Some(FoundState::Ended { exit }) => {
                tally.ended_meanwhile += 1;
                self.end_run(workload, RunState::Ended { exit }, now, out);
            }
            Some(FoundState::StartFailed { failure }) => {
                tally.ended_meanwhile += 1;
                self.end_run(workload, RunState::Failed { failure }, now, out);
            }
            Some(FoundState::Lost(reason)) => {
                tally.lost += 1;
                self.end_run(workload, RunState::Lost { reason }, now, out);
            }
            None => match recorded {
                // Committed, and no agent ever made a directory for it: it is still owed its start.
                // After a reboot that proves nothing: what was written may not have reached the disk.
                Some(RunState::Preparing { .. }) if !rebooted => self.prepare_again(workload, run, now, out),
                Some(RunState::Stopping { .. })
                    if workload.run.as_ref().is_some_and(|run| run.started_at_ms.is_none()) =>
                {
                    let message = "stopped before it was started".to_owned();
                    let failure = StartFailure { kind: StartFailureKind::Cancelled, message };
                    self.end_run(workload, RunState::Failed { failure }, now, out);
                }
                _ => {
                    tally.lost += 1;
                    let reason = if rebooted { LostReason::Reboot } else { LostReason::RunDirectory };
                    self.end_run(workload, RunState::Lost { reason }, now, out);
                }
            },
        }
    }

    fn prepare_again(&mut self, mut workload: Workload, run: RunId, now: Now, out: &mut Outcome) {
        let deadline_boot_ms = now.boot_ms.saturating_add(workload.spec.start_deadline_ms);
        if let Some(run) = workload.run.as_mut() {
            run.state = RunState::Preparing { deadline_boot_ms };
        }
        let workload = self.put(workload, out);
        out.early.push(Action::Prepare(workload));
        out.actions.push(Action::Execute(run));
    }

    /// Times of another boot's clock mean nothing in this one: what waited, waits no longer.
    fn forget_boot_clock(&mut self, now: Now, out: &mut Outcome) {
        let waiting: Vec<_> = self
            .workloads
            .values()
            .filter(|workload| workload.restart_at_boot_ms.is_some() || workload.schedule.is_some())
            .map(|workload| workload.id)
            .collect();
        for id in waiting {
            let Some(mut workload) = self.edit(id) else { continue };
            if workload.restart_at_boot_ms.is_some() {
                workload.restart_at_boot_ms = Some(now.boot_ms);
            }
            fires::carry_over(&mut workload, now);
            self.put(workload, out);
        }
    }
}
