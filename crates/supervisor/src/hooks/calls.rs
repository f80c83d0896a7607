//! What a fired hook does, and what comes of it.
//!
//! ```text
//! start ──── at once, in the same step
//! http ───── HookFired record ──► delivered elsewhere ──► Fact::HookDelivered ──► outcome, HookDone record
//! command ── HookFired record ──► Fact::HookDue, with the event's number ──► a job; HookDone ──► its end ──► outcome
//! ```
//! A command waits for its number like a request does: that is the key it is told, and the store gives it with the
//! commit. Only then is the job made. It is a workload as any other, of the same namespace and user, that runs once
//! more than its attempts failed, and that is removed after a success; a failed one stays, with its log, like any job.

use std::sync::Arc;

use hostler_model::event::{Event, EventId, EventKind, Subject};
use hostler_model::hook::{HookAction, HookCall, HookContext, HookKey, HookOrigin};
use hostler_model::ids::{Namespace, RunId, WorkloadId, WorkloadName};
use hostler_model::record::{FiredHook, Record, Urgency};
use hostler_model::spec::{Restart, RestartWhen, Spec};
use hostler_model::workload::{Desired, Identity, RunState, Workload};
use hostler_model::{ByteString, Cause, Now, Problem, ProblemKind, limits};

use crate::input::{Create, Outcome};
use crate::lifecycle::mixed;
use crate::request::conflict;
use crate::state::State;

impl State {
    /// The event, and what follows from it. That it fired is in the run's record already.
    pub(super) fn fire_hook(
        &mut self,
        workload: &mut Workload,
        run: RunId,
        number: u8,
        context: HookContext,
        now: Now,
        out: &mut Outcome,
    ) {
        let Some(definition) = workload.spec.hooks.get(usize::from(number)).cloned() else { return };
        let subject = Subject { run: Some(run), ..Self::subject(workload) };
        let on = definition.on.trigger();
        hook_event(subject.clone(), EventKind::HookFired { hook: number, on }, now, out);
        let event = out.batch.events.len() - 1;
        out.batch.urgency = Urgency::Prompt;
        if let HookAction::Start { workload: other } = &definition.action {
            let kind = match self.start_by_hook(workload, other, now, out) {
                Ok(()) => EventKind::HookSucceeded { hook: number, attempts: 1 },
                Err(problem) => EventKind::HookFailed { hook: number, attempts: 1, message: problem.detail },
            };
            return hook_event(subject, kind, now, out);
        }
        if let Err(message) = self.has_room_for_call(&workload.namespace) {
            return hook_event(subject, EventKind::HookFailed { hook: number, attempts: 0, message }, now, out);
        }
        let origin = matches!(definition.action, HookAction::Command { .. }).then(|| {
            Arc::new(HookOrigin { spec: Arc::new(kept_of(&workload.spec)), identity: workload.identity.clone() })
        });
        let call = Arc::new(HookCall {
            run,
            hook: number,
            sequence: 0,
            fired_at_ms: now.wall_ms,
            definition,
            subject,
            context,
            origin,
        });
        self.calls.insert(call.key(), call.clone());
        out.batch.records.push(Record::HookFired(FiredHook { call, event }));
    }

    fn has_room_for_call(&self, namespace: &Namespace) -> Result<(), String> {
        let own = || self.calls.values().filter(|call| call.subject.namespace == *namespace).count();
        let share = limits::HOOK_CALLS_MAX / limits::LIVE_RUNS_SHARE;
        if self.calls.len() >= limits::HOOK_CALLS_MAX {
            return Err(format!("{} calls of hooks wait already, the most this node keeps", self.calls.len()));
        }
        if self.calls.len() >= share && *namespace != Namespace::owner() && own() >= share {
            return Err(format!("{share} calls of hooks of namespace {namespace} wait already, the most one may have"));
        }
        Ok(())
    }

    /// Starts another workload of the namespace. Where it cannot start at once it waits for its turn, as one does whose
    /// restart is due: nothing that a hook was to start is forgotten.
    fn start_by_hook(
        &mut self,
        starter: &Workload,
        name: &WorkloadName,
        now: Now,
        out: &mut Outcome,
    ) -> Result<(), Problem> {
        let namespace = &starter.namespace;
        let id = self.named(namespace, name).ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, format!("there is no workload {name} in namespace {namespace}"))
        })?;
        if id == starter.id {
            return Err(conflict("a workload that starts itself again is what restart is for".to_owned()));
        }
        let mut workload = self.find(id)?;
        if workload.desired == Desired::Removed {
            return Err(conflict(format!("{name} is being removed")));
        }
        if workload.schedule.is_some() {
            return self.fire_asked(workload, now, out);
        }
        self.has_network(namespace, &workload.spec)?;
        workload.desired = Desired::Run;
        workload.failures_in_a_row = 0;
        if workload.live_run().is_some() {
            // What it reads may be older than what the hook tells of: it runs once more.
            workload.restart_requested = true;
            self.put(workload, out);
            return Ok(());
        }
        if workload.queued.is_some() {
            // It has begun nothing that could be older.
            return Ok(());
        }
        let queue = workload.spec.queue.clone().filter(|_| !workload.holds_place());
        if let Some(queue) = &queue {
            self.admit_to_queue(namespace, queue)?;
        }
        let began_ms = workload.run.as_ref().map(|run| run.created_at_ms);
        if began_ms.is_some_and(|began_ms| now.wall_ms.abs_diff(began_ms) < limits::HOOK_START_PAUSE_MS) {
            workload.restart_at_boot_ms = Some(now.boot_ms + limits::HOOK_START_PAUSE_MS);
        } else if queue.is_some() {
            self.start_or_queue(workload, now, out);
            return Ok(());
        } else if self.admit(namespace, None).is_err() {
            workload.restart_at_boot_ms = Some(now.boot_ms);
        } else {
            self.start_run(workload, now, out);
            return Ok(());
        }
        self.put(workload, out);
        Ok(())
    }

    /// A request was answered, or given up.
    pub(crate) fn hook_delivered(
        &mut self,
        key: HookKey,
        attempts: u32,
        result: Result<(), String>,
        now: Now,
        out: &mut Outcome,
    ) {
        let Some(call) = self.calls.remove(&key) else { return };
        out.batch.records.push(Record::HookDone(key));
        self.outcome(&call, attempts, result, now, out);
    }

    /// A command's key is known: its job can be made. Without room for it the call stays, and is due again later.
    pub(crate) fn hook_due(&mut self, key: HookKey, event: EventId, now: Now, out: &mut Outcome) {
        let Some(call) = self.calls.get(&key).cloned() else { return };
        let Some(origin) = &call.origin else { return };
        if self.going_down || self.disk_full {
            return;
        }
        let namespace = call.subject.namespace.clone();
        let waited_ms = now.wall_ms.saturating_sub(call.fired_at_ms);
        if self.room(&namespace, None).is_err() && waited_ms <= limits::HOOK_ROOM_WAIT_MAX_MS {
            // It is due again soon: what it would be is not made for nothing.
            return;
        }
        let id = self.job_id(&call, now);
        let mut spec = job_spec(&call, origin, event);
        spec.name = self.job_name(&call, id);
        let of = HookCall { sequence: event.sequence, origin: None, ..HookCall::clone(&call) };
        let create = Create {
            id,
            namespace,
            spec: Arc::new(spec),
            identity: Identity::clone(&origin.identity),
            idempotency: None,
            restore: None,
            hook_of: Some(Box::new(of)),
            unplaced: None,
        };
        match self.create(create, now, out) {
            Ok(_) => {
                self.calls.remove(&key);
                out.batch.records.push(Record::HookDone(key));
            }
            Err(_) if waited_ms <= limits::HOOK_ROOM_WAIT_MAX_MS => {}
            Err(problem) => self.hook_delivered(key, 0, Err(problem.detail), now, out),
        }
    }

    /// The job of a hook will not run again.
    pub(super) fn job_over(&mut self, job: &Workload, call: &HookCall, now: Now, out: &mut Outcome) {
        let logs = || format!("its output: hostler logs {}", job.name);
        let result = match job.run.as_ref().map(|run| &run.state) {
            Some(RunState::Ended { exit }) if exit.cause == Cause::Success => Ok(()),
            Some(RunState::Ended { exit }) => {
                let code = exit.status.shell_code();
                Err(format!("the command ended with {code} ({}); {}", exit.cause.as_str(), logs()))
            }
            Some(RunState::Failed { failure }) => Err(failure.message.clone()),
            Some(RunState::Lost { .. }) => Err("nobody knows how the command ended".to_owned()),
            _ => Err("the command's job was removed".to_owned()),
        };
        self.outcome(call, job.runs, result, now, out);
    }

    fn outcome(&mut self, call: &HookCall, attempts: u32, result: Result<(), String>, now: Now, out: &mut Outcome) {
        let hook = call.hook;
        let kind = match result {
            Ok(()) => EventKind::HookSucceeded { hook, attempts },
            Err(message) => EventKind::HookFailed { hook, attempts, message },
        };
        // As it stands now, or stood when it was last seen.
        let current = self.workloads.get(&call.run.workload).map(|workload| Self::subject(workload));
        let subject = Subject { run: Some(call.run), ..current.unwrap_or_else(|| call.subject.clone()) };
        hook_event(subject, kind, now, out);
        out.batch.urgency = Urgency::Prompt;
    }

    /// Random, and another one for each call of a batch.
    fn job_id(&self, call: &HookCall, now: Now) -> WorkloadId {
        let mut entropy = now.entropy ^ u64::from(call.run.number) << 8 ^ u64::from(call.hook);
        loop {
            entropy = mixed(entropy, call.run.workload);
            let [_, _, id @ ..] = entropy.to_be_bytes();
            let id = WorkloadId::from_bytes(id);
            if !self.workloads.contains_key(&id) {
                return id;
            }
        }
    }

    /// `<workload>-hook-<hook>-<run>`; with the id behind it where that is taken.
    fn job_name(&self, call: &HookCall, id: WorkloadId) -> Option<WorkloadName> {
        let base: String = call.subject.name.as_str().chars().take(32).collect();
        let plain = format!("{base}-hook-{}-{}", call.hook, call.run.number);
        let names = [plain.clone(), format!("{plain}-{id}")];
        let mut names = names.iter().filter_map(|name| name.parse::<WorkloadName>().ok());
        names.find(|name| self.named(&call.subject.namespace, name).is_none())
    }
}

fn hook_event(subject: Subject, kind: EventKind, now: Now, out: &mut Outcome) {
    out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: Some(subject) });
}

/// Of a workload's spec what its hooks' commands are run with.
fn kept_of(spec: &Spec) -> Spec {
    Spec {
        env: spec.env.clone(),
        workdir: spec.workdir.clone(),
        user: spec.user.clone(),
        rlimits: spec.rlimits.clone(),
        no_new_privileges: spec.no_new_privileges,
        ..Spec::new(Vec::new())
    }
}

/// What the command of a hook is run as: its workload's user, directory, environment and limits of each process.
fn job_spec(call: &HookCall, origin: &HookOrigin, event: EventId) -> Spec {
    let (command, env) = match &call.definition.action {
        HookAction::Command { command, env } => (command.clone(), env.as_slice()),
        HookAction::Http { .. } | HookAction::Start { .. } => (Vec::new(), [].as_slice()),
    };
    let theirs = &origin.spec;
    let mut spec = Spec::new(command);
    spec.env = theirs.env.iter().chain(env).cloned().chain(told(call, event)).collect();
    spec.workdir.clone_from(&theirs.workdir);
    spec.user.clone_from(&theirs.user);
    spec.rlimits.clone_from(&theirs.rlimits);
    spec.no_new_privileges = theirs.no_new_privileges;
    spec.max_time_ms = Some(call.definition.deadline_ms);
    let more = call.definition.attempts.saturating_sub(1);
    if more > 0 {
        spec.restart = Restart {
            when: RestartWhen::OnFailure,
            max_attempts: Some(more),
            backoff_initial_ms: limits::HOOK_BACKOFF_INITIAL_MS,
            backoff_max_ms: limits::HOOK_BACKOFF_MAX_MS,
            // However long an attempt takes, it is one of those that were asked for.
            healthy_after_ms: u64::MAX,
        }
        .into();
    }
    spec
}

/// What the command is told, as far as it is known.
fn told(call: &HookCall, event: EventId) -> impl Iterator<Item = ByteString> {
    let context = &call.context;
    let code = context.end.as_ref().and_then(RunState::shell_code);
    let texts = [
        Some(format!("HOSTLER_EVENT_ID={event}")),
        Some(format!("HOSTLER_HOOK_ON={}", call.definition.on.trigger().as_str())),
        Some(format!("HOSTLER_HOOK_WORKLOAD={}", call.subject.name)),
        Some(format!("HOSTLER_HOOK_RUN={}", call.run)),
        context.pid.map(|pid| format!("HOSTLER_PID={pid}")),
        code.map(|code| format!("HOSTLER_EXIT_CODE={code}")),
        context.cause().map(|cause| format!("HOSTLER_CAUSE={cause}")),
        context.stream.map(|stream| format!("HOSTLER_STREAM={}", stream.as_str())),
    ];
    let line = context.line.as_ref().map(|line| {
        // No environment holds a NUL byte.
        let text = line.as_bytes().iter().map(|byte| if *byte == 0 { b' ' } else { *byte });
        ByteString::from(b"HOSTLER_LINE=".iter().copied().chain(text).collect::<Vec<u8>>())
    });
    texts.into_iter().flatten().map(ByteString::from).chain(line)
}
