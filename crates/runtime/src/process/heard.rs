//! What agents say and do, from the hello to the end: how it changes what is known, and the fact it comes to.
//! Words about a run that the agent does not have, or that was undone, come to nothing.

use std::sync::Arc;

use hostler_model::ids::{RunId, SandboxId};
use hostler_model::rundir::ExecEnd;
use hostler_model::workload::StartFailureKind;
use hostler_wire::{AgentState, FromAgent, Hello, ToAgent};

use super::{At, Entry, Shared, State, Step, failure};
use crate::Fact;
use crate::agent::{Agent, Answer};
use crate::pool::slots::{Next, Place};

impl Shared {
    /// An agent said hello for the first time, or is idle again.
    pub(crate) fn ready(self: &Arc<Self>, agent: &Arc<Agent>) {
        self.can_take_one(agent, &mut self.state());
    }

    /// The agent can take a run: one that waits, or a later one.
    pub(super) fn can_take_one(self: &Arc<Self>, agent: &Arc<Agent>, state: &mut State) {
        match state.slots.ready(agent.sandbox, self.now_ms()) {
            Next::Run(run) if state.is_too_old_for(run, agent) => self.refuse_old(run, agent, state),
            Next::Run(run) => state.bind(run, agent),
            Next::Idle => self.trim_later(state),
            Next::Leave => agent.send(&ToAgent::Quit),
            Next::Nothing => tracing::debug!(sandbox = %agent.sandbox, "idle out of turn; ignored"),
        }
        self.start_agents(state);
    }

    /// An agent that was being started never said a good hello.
    pub(crate) fn start_failed(self: &Arc<Self>, sandbox: SandboxId, why: &str) {
        tracing::warn!(%sandbox, why, "an agent did not start");
        let is_warm = self.state().warm.has(sandbox);
        if is_warm {
            self.state().agents.remove(&sandbox);
            self.guests.forget(&sandbox.to_string());
            self.warm_ended(sandbox, why);
            self.one_gone.notify_waiters();
            return;
        }
        let mut state = self.state();
        state.agents.remove(&sandbox);
        if let Some(run) = state.slots.failed(sandbox) {
            if let Some(entry) = state.runs.get_mut(&run) {
                entry.at = At::Nowhere;
                entry.step = Step::Over;
            }
            self.report(Fact::StartFailed { run, failure: failure(StartFailureKind::Sandbox, why) });
        }
        self.start_agents(&mut state);
        drop(state);
        self.one_gone.notify_waiters();
    }

    /// One message of a connected agent; the fact to report before the next one is looked at.
    pub(crate) fn heard(self: &Arc<Self>, agent: &Arc<Agent>, message: FromAgent) -> Option<Fact> {
        let bound = |state: &State| match state.slots.place(agent.sandbox) {
            Some(Place::Bound(run)) => Some(run),
            _ => None,
        };
        match message {
            FromAgent::Prepared { run } => {
                let state = self.state();
                let news = state.entry_on(run, agent)?.step <= Step::Executing;
                news.then_some(Fact::Prepared { run, sandbox: agent.sandbox })
            }
            FromAgent::Started { run, pid, started_at_ms } => {
                let mut state = self.state();
                let entry = state.entry_on_mut(run, agent)?;
                if entry.step >= Step::Running {
                    return None;
                }
                entry.step = Step::Running;
                Some(Fact::Started { run, sandbox: agent.sandbox, pid, started_at_ms })
            }
            FromAgent::StartFailed { run, failure } => {
                self.over(agent, run).then_some(Fact::StartFailed { run, failure })
            }
            FromAgent::Exited { run, exit, clean } => {
                if let Some(entry) = self.state().entry_on_mut(run, agent) {
                    entry.clean = clean;
                }
                self.over(agent, run).then_some(Fact::Exited { run, exit })
            }
            FromAgent::Oom { run, oom_kills } => {
                self.state().entry_on(run, agent)?;
                Some(Fact::Oom { run, oom_kills })
            }
            FromAgent::Stuck { run, pids } => {
                self.state().entry_on(run, agent)?;
                Some(Fact::Stuck { run, pids })
            }
            FromAgent::ExecStarted { exec, pid } => {
                bound(&self.state()).map(|run| Fact::ExecStarted { run, exec, pid })
            }
            FromAgent::ExecFailed(failed) => {
                bound(&self.state()).map(|run| Fact::ExecFailed { run, exec: failed.exec, failure: failed.failure })
            }
            FromAgent::ExecExited { exec, exit } => {
                bound(&self.state()).map(|run| Fact::ExecExited { run, exec, exit })
            }
            FromAgent::Done { request, error } => {
                let result = error.clone().map_or(Ok(()), Err);
                agent.answer(request, Answer::Done(error)).map(|run| Fact::Ordered { run, result })
            }
            FromAgent::Hello(_) => None,
            besides => {
                self.heard_besides(agent, besides);
                None
            }
        }
    }

    /// Words that are no facts of a run: answers, and what is said of machines.
    fn heard_besides(self: &Arc<Self>, agent: &Arc<Agent>, message: FromAgent) {
        match message {
            FromAgent::Idle => {
                self.ready(agent);
            }
            FromAgent::ChannelClosed { channel } => {
                agent.channel_closed(channel);
            }
            FromAgent::Stats { request, stats } => {
                agent.answer(request, Answer::Stats(stats));
            }
            FromAgent::Processes { request, list } => {
                agent.answer(request, Answer::Processes(list));
            }
            FromAgent::VmmStarted => self.vmm_started(agent),
            FromAgent::Booted => self.booted(agent),
            FromAgent::Suspended => self.suspended(agent),
            FromAgent::BootFailed { failure } => {
                self.warm_ended(agent.sandbox, &failure.message);
            }
            _ => {}
        }
    }

    /// The run is over. Whether that is news; an end of a run that was undone is released at once.
    fn over(&self, agent: &Arc<Agent>, run: RunId) -> bool {
        let mut state = self.state();
        if let Some(entry) = state.entry_on_mut(run, agent) {
            return std::mem::replace(&mut entry.step, Step::Over) != Step::Over;
        }
        if state.slots.place(agent.sandbox) == Some(Place::Releasing(run)) {
            agent.send(&ToAgent::Committed { run, reuse: false, assume_idle: false });
        }
        false
    }

    /// An agent that was found after a restart of the daemon, on a connection that stands.
    pub(crate) fn adopt(&self, agent: &Arc<Agent>, agent_state: &AgentState) {
        let mut state = self.state();
        state.agents.insert(agent.sandbox, Arc::clone(agent));
        let (run, step) = match agent_state {
            AgentState::Idle => {
                state.slots.adopt_leaving(agent.sandbox);
                agent.send(&ToAgent::Quit);
                return;
            }
            AgentState::Booting => {
                state.slots.adopt_leaving(agent.sandbox);
                agent.send(&ToAgent::Quit);
                return;
            }
            AgentState::Warm => {
                drop(state);
                return self.adopt_warm(agent);
            }
            AgentState::Prepared { run } => (*run, Step::Preparing),
            AgentState::Running { run, .. } => (*run, Step::Running),
            AgentState::Failed { run, .. } | AgentState::Ended { run, .. } => (*run, Step::Over),
        };
        state.slots.adopt(agent.sandbox, run);
        state.runs.insert(run, Entry::new(At::Agent(Arc::clone(agent)), step));
    }

    /// A run that was found without an agent; its end is known.
    pub(crate) fn adopt_over(&self, run: RunId) {
        self.state().runs.entry(run).or_insert(Entry::new(At::Nowhere, Step::Over));
    }

    /// A broken connection was made anew: brings both sides' knowledge together. The facts that were missed.
    pub(crate) fn reconnected(self: &Arc<Self>, agent: &Arc<Agent>, hello: Hello) -> Vec<Fact> {
        let place = self.state().slots.place(agent.sandbox);
        let mut facts = Vec::new();
        for (exec, pid) in hello.execs {
            facts.extend(self.heard(agent, FromAgent::ExecStarted { exec, pid }));
        }
        for ExecEnd { exec, pid, exit } in hello.exec_ends {
            facts.extend(self.heard(agent, FromAgent::ExecStarted { exec, pid }));
            facts.extend(self.heard(agent, FromAgent::ExecExited { exec, exit }));
        }
        match (hello.state, place) {
            (AgentState::Idle, Some(Place::Bound(run))) => {
                facts.extend(self.never_had(agent, run));
                self.ready(agent);
            }
            (AgentState::Idle, _) => self.ready(agent),
            // Only the connections of agents with runs are made anew.
            (AgentState::Booting | AgentState::Warm, _) => agent.send(&ToAgent::Quit),
            // It did not hear that its last run is committed.
            (AgentState::Failed { run, .. } | AgentState::Ended { run, .. }, Some(Place::Idle)) => {
                agent.send(&ToAgent::Committed { run, reuse: true, assume_idle: true });
            }
            (AgentState::Failed { run, .. } | AgentState::Ended { run, .. }, Some(Place::Bound(next)))
                if next != run =>
            {
                facts.extend(self.never_had(agent, next));
                agent.send(&ToAgent::Committed { run, reuse: true, assume_idle: false });
            }
            (AgentState::Prepared { run }, Some(Place::Bound(_))) => {
                facts.extend(self.heard(agent, FromAgent::Prepared { run }));
                let state = self.state();
                if let Some(entry) = state.entry_on(run, agent) {
                    if entry.killed {
                        agent.send(&ToAgent::Kill { run });
                    } else if entry.step == Step::Executing {
                        agent.send(&ToAgent::Execute { run });
                    }
                }
            }
            (AgentState::Prepared { run }, _) => agent.send(&ToAgent::Abort { run }),
            (AgentState::Running { run, pid, started_at_ms, oom_kills, .. }, _) => {
                facts.extend(self.heard(agent, FromAgent::Started { run, pid, started_at_ms }));
                if oom_kills > 0 {
                    facts.extend(self.heard(agent, FromAgent::Oom { run, oom_kills }));
                }
                if self.state().entry_on(run, agent).is_none_or(|entry| entry.killed) {
                    agent.send(&ToAgent::Kill { run });
                }
            }
            (AgentState::Failed { run, failure }, _) => {
                facts.extend(self.heard(agent, FromAgent::StartFailed { run, failure }));
            }
            (AgentState::Ended { run, exit }, _) => {
                facts.extend(self.heard(agent, FromAgent::Exited { run, exit, clean: false }));
            }
        }
        facts
    }

    /// The connection broke before the agent heard of this run.
    fn never_had(&self, agent: &Arc<Agent>, run: RunId) -> Option<Fact> {
        let why = "the connection to the agent broke before it had the run";
        let fact = Fact::StartFailed { run, failure: failure(StartFailureKind::Sandbox, why) };
        let news = self.over(agent, run);
        let mut state = self.state();
        state.slots.release(agent.sandbox);
        if let Some(entry) = state.runs.get_mut(&run) {
            entry.at = At::Nowhere;
        }
        news.then_some(fact)
    }

    /// The agent is gone for good, and its slot with it. What is to be said about its run, given the end that was
    /// found; and the run whose directory is now nobody's but ours to remove.
    pub(crate) fn gone(self: &Arc<Self>, agent: &Arc<Agent>, end: Option<Fact>) -> (Option<Fact>, Option<RunId>) {
        let mut state = self.state();
        let place = state.slots.gone(agent.sandbox);
        state.agents.remove(&agent.sandbox);
        let (mut fact, mut undone) = (None, None);
        match place {
            Some(Place::Bound(run)) => {
                if let Some(entry) = state.entry_on_mut(run, agent) {
                    entry.at = At::Nowhere;
                    fact = match std::mem::replace(&mut entry.step, Step::Over) {
                        Step::Over => None,
                        Step::Preparing if end.is_none() => {
                            let why = "the agent died before the program was executed";
                            Some(Fact::StartFailed { run, failure: failure(StartFailureKind::Sandbox, why) })
                        }
                        _ => Some(end.unwrap_or(Fact::AgentLost { run })),
                    };
                }
            }
            Some(Place::Releasing(run)) => undone = Some(run),
            _ => {}
        }
        // The end of the run before may have been on its way to it.
        undone = undone.or_else(|| agent.last_run());
        self.start_agents(&mut state);
        drop(state);
        self.warm_ended(agent.sandbox, "its agent is gone");
        self.one_gone.notify_waiters();
        (fact, undone)
    }
}
