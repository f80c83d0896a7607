//! Replicas of stacks: the workloads that a stack makes, starts, stops and removes. How one stands follows from the
//! workload alone.

use std::sync::Arc;

use hostler_model::event::{EventKind, StopReason};
use hostler_model::ids::{Namespace, WorkloadId, WorkloadName};
use hostler_model::stack::{Generation, StackMember};
use hostler_model::workload::{Desired, RunState, Workload};
use hostler_model::{Cause, Now, Problem, ProblemKind, limits};

use crate::fires;
use crate::input::{Outcome, StopOrder};
use crate::request::conflict;
use crate::stack::{MemberKey, MemberState, Units};
use crate::stacks::{Key, generation_of, key_of, name_of};
use crate::state::State;

/// How a replica stands.
pub(crate) fn observe(workload: &Workload) -> MemberState {
    if workload.schedule.is_some() {
        return observe_plan(workload);
    }
    let run = workload.run.as_ref();
    let is_ready = run.is_some_and(|run| run.ready_at_ms.is_some());
    match (workload.live_run().map(|run| &run.state), workload.desired) {
        (Some(_), Desired::Removed) => MemberState::Going,
        (Some(RunState::Running), _) if is_ready => MemberState::Ready,
        (Some(RunState::Stopping { .. }), Desired::Stopped) => MemberState::Stopping,
        (Some(_), _) => MemberState::Starting,
        (None, _) if workload.restart_at_boot_ms.is_some() || workload.queued.is_some() => MemberState::Starting,
        (None, Desired::Stopped | Desired::Removed) => MemberState::Stopped,
        (None, Desired::Run) => match run.map(|run| &run.state) {
            Some(RunState::Ended { exit }) if exit.cause == Cause::Success => MemberState::Done { ready: is_ready },
            Some(end) => MemberState::Failed(words(end)),
            None => MemberState::Starting,
        },
    }
}

/// A job with a schedule is there as long as its plan is; single runs may fail.
fn observe_plan(workload: &Workload) -> MemberState {
    match (workload.desired, workload.live_run().is_some()) {
        (Desired::Run, _) => MemberState::Ready,
        (Desired::Stopped, true) => MemberState::Stopping,
        (Desired::Removed, true) => MemberState::Going,
        (_, false) => MemberState::Stopped,
    }
}

/// An end in a few words.
fn words(end: &RunState) -> String {
    match end {
        RunState::Ended { exit } => match exit.cause {
            Cause::Timeout => "it took longer than its max_time".to_owned(),
            Cause::Oom => "killed for memory".to_owned(),
            Cause::Machine => "its virtual machine ended".to_owned(),
            _ => match exit.status {
                hostler_model::ExitStatus::Code(code) => format!("exit {code}"),
                hostler_model::ExitStatus::Signal(signal) => format!("SIG{signal}"),
            },
        },
        RunState::Failed { failure } => failure.message.clone(),
        RunState::Lost { .. } => "nobody knows how it ended".to_owned(),
        _ => "it runs".to_owned(),
    }
}

impl State {
    pub(crate) fn member_id(&self, key: &Key, member: &MemberKey) -> Option<WorkloadId> {
        self.stacks.crews.get(key)?.ids.get(member).copied()
    }

    pub(crate) fn start_member(
        &mut self,
        key: &Key,
        units: &Units,
        member: &MemberKey,
        now: Now,
        out: &mut Outcome,
    ) -> Result<(), Problem> {
        match self.member_id(key, member).and_then(|id| self.edit(id)) {
            Some(workload) => self.start_again(workload, now, out),
            None => self.make_member(key, units, member, now, out),
        }
    }

    fn start_again(&mut self, mut workload: Workload, now: Now, out: &mut Outcome) -> Result<(), Problem> {
        self.has_network(&workload.namespace, &workload.spec)?;
        if let Some(plan) = &workload.schedule {
            let is_paused = plan.paused;
            workload.desired = Desired::Run;
            if is_paused {
                fires::resume(&mut workload, now, out);
            }
            self.put(workload, out);
        } else if workload.live_run().is_some_and(|run| matches!(run.state, RunState::Stopping { .. })) {
            // Somebody is stopping it just now.
            workload.desired = Desired::Run;
            workload.restart_requested = true;
            self.put(workload, out);
        } else if workload.live_run().is_none() && workload.queued.is_none() {
            // A second attempt that waits for its back-off has its place in the queue already.
            let holds_place = workload.holds_place();
            self.admit(&workload.namespace, workload.spec.queue.as_ref().filter(|_| !holds_place))?;
            workload.desired = Desired::Run;
            workload.failures_in_a_row = 0;
            if holds_place {
                self.start_run(workload, now, out);
            } else {
                self.start_or_queue(workload, now, out);
            }
        }
        Ok(())
    }

    fn make_member(
        &mut self,
        key: &Key,
        units: &Units,
        member: &MemberKey,
        now: Now,
        out: &mut Outcome,
    ) -> Result<(), Problem> {
        let generation = generation_of(units, member)
            .ok_or_else(|| Problem::new(ProblemKind::Internal, "a generation that is gone was to be started"))?;
        let plan = &generation.plan;
        self.has_network(&key.0, &plan.spec)?;
        let first = plan.spec.schedule.as_ref().map(|schedule| fires::first(schedule, now)).transpose()?;
        self.admit_first(&key.0, plan.spec.queue.as_ref(), first.as_ref())?;
        let of_namespace = self.shares.get(&key.0).map_or(0, |share| share.known);
        let is_full = key.0 != Namespace::owner() && of_namespace >= limits::WORKLOADS_PER_NAMESPACE_MAX;
        if is_full || self.workloads.len() >= limits::WORKLOADS_MAX {
            return Err(Problem::new(ProblemKind::LimitReached, "too many workloads are known"));
        }
        let workload = Workload {
            id: self.fresh_id(now, member),
            namespace: key.0.clone(),
            name: self.free_name(key, generation, member)?,
            generation: 1,
            spec: Arc::new(plan.spec.clone()),
            identity: self.shared_identity(generation.identity.clone()),
            stack: Some(Box::new(StackMember {
                stack: key.1.clone(),
                unit: member.unit.clone(),
                kind: plan.kind,
                replica: member.replica,
                generation: member.generation,
                ready: plan.ready.clone(),
                liveness: plan.liveness.clone(),
            })),
            limits: plan.spec.limits.clone(),
            desired: Desired::Run,
            created_at_ms: now.wall_ms,
            runs: 0,
            restore: None,
            schedule: None,
            line_tails: Vec::new(),
            hook_of: None,
            queued: None,
            failures_in_a_row: 0,
            restart_requested: false,
            restart_at_boot_ms: None,
            run: None,
        };
        Self::event(&workload, EventKind::WorkloadCreated, now, out);
        self.begin(workload, first, now, out);
        Ok(())
    }

    pub(crate) fn stop_member(&mut self, key: &Key, member: &MemberKey, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.member_id(key, member).and_then(|id| self.edit(id)) else { return };
        if workload.desired == Desired::Run {
            workload.desired = Desired::Stopped;
        }
        fires::pause(&mut workload, now, out);
        if workload.queued.is_some() {
            return self.cancel_queued(workload, "its stack stopped it while it waited for its turn", now, out);
        }
        let was_at_rest = workload.is_at_rest();
        workload.restart_at_boot_ms = None;
        workload.restart_requested = false;
        if workload.live_run().is_none() && !was_at_rest {
            // The end it had was not its last, and now is.
            self.hooks_at_rest(&mut workload, now, out);
        }
        self.end_member(workload, now, out);
    }

    pub(crate) fn remove_member(&mut self, key: &Key, member: &MemberKey, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.member_id(key, member).and_then(|id| self.edit(id)) else { return };
        if workload.live_run().is_some() {
            workload.desired = Desired::Removed;
            return self.end_member(workload, now, out);
        }
        let id = workload.id;
        if workload.queued.is_some() {
            self.cancel_queued(workload, "its stack removed it while it waited for its turn", now, out);
        }
        self.remove(id, now, out);
    }

    /// The machine was rebooted: what waits here is started by its stack, after what it requires. Plans go on.
    pub(crate) fn rest_member(&mut self, id: WorkloadId, now: Now, out: &mut Outcome) {
        let Some(mut workload) = self.edit(id).filter(|workload| workload.schedule.is_none()) else { return };
        if workload.queued.is_some() {
            self.cancel_queued(workload, "the machine was rebooted before its turn; its stack starts it", now, out);
        } else if workload.restart_at_boot_ms.take().is_some() {
            self.hooks_at_rest(&mut workload, now, out);
            self.put(workload, out);
        }
    }

    fn end_member(&mut self, workload: Workload, now: Now, out: &mut Outcome) {
        if workload.live_run().is_none() {
            self.put(workload, out);
            return;
        }
        let (reason, most) = match self.going_down {
            true => (StopReason::Shutdown, limits::SHUTDOWN_GRACE_MAX_MS),
            false => (StopReason::Stack, u64::MAX),
        };
        let grace_ms = Some(workload.spec.stop.grace_ms.min(most));
        self.stop_run(workload, &StopOrder { reason, signal: None, grace_ms }, now, out);
    }

    /// Ids are random; the randomness of a step is spread over all that it makes.
    fn fresh_id(&self, now: Now, member: &MemberKey) -> WorkloadId {
        let mut seed = now.entropy ^ (u64::from(member.replica) << 32 | u64::from(member.generation));
        for byte in member.unit.as_str().bytes() {
            seed = mixed(seed ^ u64::from(byte));
        }
        loop {
            seed = mixed(seed);
            let [a, b, c, d, e, f, ..] = seed.to_be_bytes();
            let id = WorkloadId::from_bytes([a, b, c, d, e, f]);
            if !self.workloads.contains_key(&id) {
                return id;
            }
        }
    }

    /// The name for a new replica: its own, or another one while an older generation has that.
    fn free_name(&self, key: &Key, generation: &Generation, member: &MemberKey) -> Result<WorkloadName, Problem> {
        let base = name_of(key, generation.plan.replicas, member);
        let mut last = None;
        for name in [base.clone(), format!("{base}.next"), format!("{base}.g{}", member.generation)] {
            let name: WorkloadName = name.parse().map_err(|error| conflict(format!("{error}")))?;
            let Some(taken) = self.named(&key.0, &name) else { return Ok(name) };
            let ours = self.workloads.get(&taken).and_then(|workload| key_of(workload));
            if ours.is_none_or(|(other, _)| other != *key) {
                let detail = format!("{name} is the name of workload {taken}, which is not of this stack");
                return Err(Problem::new(ProblemKind::NameInUse, detail));
            }
            last = Some(name);
        }
        Err(conflict(format!("no name is free for {}", last.map_or(base, |name| name.to_string()))))
    }
}

fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
