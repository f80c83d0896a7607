//! Answers to requests. A refusal changes nothing.

use hostler_model::event::{Event, EventKind, StopReason};
use std::sync::Arc;

use hostler_model::ids::{ExecId, QueueName, WorkloadId, WorkloadName};
use hostler_model::launch::Restore;
use hostler_model::record::{IdempotencyKey, Record};
use hostler_model::seldom::Seldom;
use hostler_model::spec::{Limits, Spec};
use hostler_model::units::Signal;
use hostler_model::workload::{Desired, Identity, Run, RunState, Workload};
use hostler_model::{Namespace, Now, Problem, ProblemKind, limits};

use crate::fires;
use crate::input::{Action, Create, Outcome, Reply, Request, StopOrder, Token};
use crate::state::State;

pub(crate) type Answer = Result<Reply, Problem>;

pub(crate) fn conflict(detail: String) -> Problem {
    Problem::new(ProblemKind::Conflict, detail)
}

impl State {
    /// `None`: the answer comes later, with the fact it depends on.
    pub(crate) fn request(&mut self, token: Token, request: Request, now: Now, out: &mut Outcome) -> Option<Answer> {
        Some(match request {
            Request::Create(create) => self.create(*create, now, out),
            Request::Start(id) => self.start(id, now, out),
            Request::Stop { workload, signal, grace_ms } => {
                let order = StopOrder { reason: StopReason::Stop, signal, grace_ms };
                self.stop(workload, &order, now, out)
            }
            Request::Restart { workload, signal, grace_ms } => {
                let order = StopOrder { reason: StopReason::Restart, signal, grace_ms };
                self.restart(workload, &order, now, out)
            }
            Request::Kill { workload, signal, exec } => self.kill(workload, signal, exec, out),
            Request::Remove { workload, force } => self.remove_asked(workload, force, now, out),
            Request::Update { workload, limits } => return self.update(token, workload, *limits, now, out),
            Request::Restore(id, restore) => self.restore(id, restore, now, out),
            Request::Order(id, order) => return self.order(token, id, order, out),
            Request::ApplyStack(asked) => self.apply_stack(*asked, now, out),
            Request::DownStack(namespace, name) => self.down_stack(namespace, name, out),
            Request::Exec { workload, exec, launch } => self.exec(workload, exec, launch, out),
            Request::Bulk { verb, workloads } => Ok(self.bulk(verb, workloads, now, out)),
            Request::SetQueue { namespace, name, change } => self.set_queue(&namespace, &name, change, now, out),
            Request::RemoveQueue { namespace, name, waiting } => {
                self.remove_queue(&(namespace, name), waiting, now, out)
            }
            Request::CreateNetwork(record) => self.create_network(*record, now, out),
            Request::RemoveNetwork(namespace, name) => self.remove_network(namespace, name, now, out),
            Request::Schedule(id, order) => self.schedule_asked(id, order, now, out),
            Request::LameDuck(lame_duck) => Ok(self.lame_duck(lame_duck, now, out)),
            Request::StopAll => Ok(self.stop_all(now, out)),
            Request::StayUp => {
                self.going_down = false;
                self.stacks.look_at_all();
                Ok(Reply::Done)
            }
        })
    }

    pub(crate) fn find(&self, id: WorkloadId) -> Result<Workload, Problem> {
        self.edit(id).ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("workload {id} is gone")))
    }

    /// Whether new work of this namespace may begin, or wait for its turn in a queue.
    pub(crate) fn admit(&self, namespace: &Namespace, queue: Option<&QueueName>) -> Result<(), Problem> {
        self.takes_work()?;
        self.room(namespace, queue)
    }

    /// Whether the node takes new work at all.
    pub(crate) fn takes_work(&self) -> Result<(), Problem> {
        if self.node.lame_duck {
            let detail = "the node is a lame duck: it lets running work finish and takes no new work; \
                          end that with: hostler node lame-duck --off";
            return Err(Problem::new(ProblemKind::LameDuck, detail));
        }
        self.can_record()
    }

    /// The command of a hook belongs to work that was accepted before: a lame duck lets that finish.
    fn admit_creation(&self, create: &Create, first: Option<&fires::First>) -> Result<(), Problem> {
        self.has_network(&create.namespace, &create.spec)?;
        if create.hook_of.is_some() {
            self.can_record()?;
            return self.room(&create.namespace, None);
        }
        self.admit_first(&create.namespace, create.spec.queue.as_ref(), first)
    }

    /// Whether what happens to new work can be recorded.
    pub(crate) fn can_record(&self) -> Result<(), Problem> {
        if self.going_down {
            return Err(Problem::new(ProblemKind::Unavailable, "the node is going down"));
        }
        if self.disk_full {
            let detail = "too little disk space is left to record what happens to new work; free some space";
            return Err(Problem::new(ProblemKind::DiskFull, detail));
        }
        Ok(())
    }

    /// Whether one more run of this namespace may be live, or wait for its turn in this queue.
    pub(crate) fn room(&self, namespace: &Namespace, queue: Option<&QueueName>) -> Result<(), Problem> {
        if let Some(queue) = queue {
            return self.admit_to_queue(namespace, queue);
        }
        if self.live.len() >= self.settings.live_runs_max {
            let detail = format!("{} runs are live, the most this node takes", self.live.len());
            return Err(Problem { retry_after_s: Some(5), ..Problem::new(ProblemKind::LimitReached, detail) });
        }
        if self.is_at_its_share(namespace) {
            let live = self.shares.get(namespace).map_or(0, |share| share.live);
            let detail = format!("{live} runs of namespace {namespace} are live, the most one may have");
            return Err(Problem { retry_after_s: Some(5), ..Problem::new(ProblemKind::LimitReached, detail) });
        }
        Ok(())
    }

    /// The answer to a request that was answered before, under the same key.
    fn known_request(&self, create: &Create, now: Now) -> Option<Answer> {
        let (key, digest) = create.idempotency.as_ref()?;
        let known = self.keys.get(&(create.namespace.clone(), key.clone()))?;
        if now.wall_ms.saturating_sub(known.created_at_ms) > limits::IDEMPOTENCY_AGE_MAX_MS {
            return None;
        }
        if known.digest != *digest {
            let detail = format!("key {key:?} was used for workload {} with another request", known.workload);
            return Some(Err(Problem::new(ProblemKind::IdempotencyMismatch, detail)));
        }
        Some(match self.workloads.get(&known.workload) {
            Some(workload) => Ok(Reply::Workload(workload.clone())),
            None => Err(conflict(format!("this request made workload {}, which is removed by now", known.workload))),
        })
    }

    pub(crate) fn create(&mut self, mut create: Create, now: Now, out: &mut Outcome) -> Answer {
        if let Some(answer) = self.known_request(&create, now) {
            return answer;
        }
        if let Some(problem) = create.unplaced.take() {
            return Err(problem);
        }
        let first = create.spec.schedule.as_ref().map(|schedule| fires::first(schedule, now)).transpose()?;
        self.admit_creation(&create, first.as_ref())?;
        let known = self.shares.get(&create.namespace).map_or(0, |share| share.known);
        let is_owner = create.namespace == Namespace::owner();
        if (!is_owner && known >= limits::WORKLOADS_PER_NAMESPACE_MAX)
            || self.workloads.len() >= limits::WORKLOADS_MAX
            || self.workloads.contains_key(&create.id)
        {
            return Err(Problem::new(
                ProblemKind::LimitReached,
                "too many workloads are known; remove some with: hostler rm",
            ));
        }
        let name = match &create.spec.name {
            Some(name) => name.clone(),
            None => generated_names(&create.spec, create.id)
                .into_iter()
                .find(|name| self.named(&create.namespace, name).is_none())
                .ok_or_else(|| conflict("no free name is left for this program; give it one with --name".to_owned()))?,
        };
        if let Some(taken) = self.named(&create.namespace, &name) {
            let phase = self.workloads[&taken].phase().as_str();
            let force = if self.live.contains(&taken) { "-f " } else { "" };
            let detail = format!(
                "{name} is the name of workload {taken}, which is {phase}; take another name, or remove it with: hostler rm {force}{name}"
            );
            return Err(Problem::new(ProblemKind::NameInUse, detail));
        }
        if let Some((key, digest)) = create.idempotency.take() {
            self.remember_key(key, digest, &create.namespace, create.id, now, out);
        }
        self.share_names(&mut create);
        let workload = Workload {
            id: create.id,
            namespace: create.namespace,
            name,
            generation: 1,
            limits: create.spec.limits.clone(),
            restore: create.restore,
            spec: create.spec,
            identity: self.shared_identity(create.identity),
            stack: None,
            desired: Desired::Run,
            created_at_ms: now.wall_ms,
            runs: 0,
            schedule: None,
            line_tails: Vec::new(),
            hook_of: create.hook_of,
            failures_in_a_row: 0,
            restart_requested: false,
            restart_at_boot_ms: None,
            queued: None,
            run: None,
        };
        Self::event(&workload, EventKind::WorkloadCreated, now, out);
        let id = workload.id;
        self.begin(workload, first, now, out);
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    /// The names of a namespace and of a queue are the same text in many workloads, and then also in the same place.
    fn share_names(&self, create: &mut Create) {
        if let Some((known, _)) = self.shares.get_key_value(&create.namespace) {
            create.namespace = known.clone();
        }
        let Some(spec) = Arc::get_mut(&mut create.spec) else { return };
        let Some(queue) = &mut spec.queue else { return };
        if let Some(known) = self.queues.get(&(create.namespace.clone(), queue.clone())) {
            *queue = known.record.name.clone();
        }
    }

    /// Most workloads of a node run as the same few users.
    pub(crate) fn shared_identity(&mut self, identity: Identity) -> Arc<Identity> {
        match &self.last_identity {
            Some(last) if **last == identity => last.clone(),
            _ => self.last_identity.insert(Arc::new(identity)).clone(),
        }
    }

    fn remember_key(
        &mut self,
        key: String,
        digest: String,
        namespace: &Namespace,
        workload: WorkloadId,
        now: Now,
        out: &mut Outcome,
    ) {
        // Nobody's keys are pushed out by those of another one than the node's owner.
        let is_own = |(of, _): &(Namespace, String)| of == namespace;
        let own = || self.key_order.iter().filter(|id| is_own(id)).count();
        let share = limits::IDEMPOTENCY_KEYS_MAX / limits::LIVE_RUNS_SHARE;
        if *namespace != Namespace::owner() && self.keys.len() >= share && own() >= share {
            let oldest = self.key_order.iter().position(is_own).and_then(|at| self.key_order.remove(at));
            if let Some(oldest) = oldest {
                self.keys.remove(&oldest);
                out.batch.records.push(Record::IdempotencyKeyForgotten(oldest.0, oldest.1));
            }
        }
        while self.keys.len() >= limits::IDEMPOTENCY_KEYS_MAX {
            let Some(oldest) = self.key_order.pop_front() else { break };
            self.keys.remove(&oldest);
            out.batch.records.push(Record::IdempotencyKeyForgotten(oldest.0, oldest.1));
        }
        let id = (namespace.clone(), key.clone());
        let record = IdempotencyKey { namespace: namespace.clone(), key, digest, workload, created_at_ms: now.wall_ms };
        if self.keys.insert(id.clone(), record.clone()).is_none() {
            self.key_order.push_back(id);
        }
        out.batch.records.push(Record::IdempotencyKey(record));
    }

    /// Starts it from a checkpoint.
    fn restore(&mut self, id: WorkloadId, restore: Box<Restore>, now: Now, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        if workload.spec.container.is_none() {
            return Err(conflict(format!("{} is no container: it cannot go on from a checkpoint", workload.name)));
        }
        if workload.schedule.is_some() {
            return Err(conflict(format!("{} has a schedule, and starts from its beginning", workload.name)));
        }
        if workload.live_run().is_some() || workload.queued.is_some() {
            return Err(conflict(format!("{} is already {}", workload.name, workload.phase().as_str())));
        }
        workload.restore = Some(restore);
        self.put(workload, out);
        let started = self.start(id, now, out);
        if started.is_err()
            && let Some(mut workload) = self.edit(id)
        {
            workload.restore = None;
            self.put(workload, out);
        }
        started
    }

    fn start(&mut self, id: WorkloadId, now: Now, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        if workload.live_run().is_some() {
            return Err(conflict(format!("{} is already {}", workload.name, workload.phase().as_str())));
        }
        if workload.queued.is_some() {
            return Err(conflict(format!("{} already waits for its turn", workload.name)));
        }
        self.has_network(&workload.namespace, &workload.spec)?;
        if let Some(plan) = workload.schedule.as_ref().filter(|_| workload.restart_at_boot_ms.is_none()) {
            if !plan.paused {
                let name = &workload.name;
                return Err(conflict(format!(
                    "{name} is already scheduled; for one run now use: hostler schedule fire {name}"
                )));
            }
            self.takes_work()?;
            workload.desired = Desired::Run;
            fires::resume(&mut workload, now, out);
            return Ok(Reply::Workload(self.put(workload, out)));
        }
        // A second attempt that waits for its back-off has its place already.
        let queue = workload.spec.queue.clone().filter(|_| !workload.holds_place());
        self.admit(&workload.namespace, queue.as_ref())?;
        workload.desired = Desired::Run;
        workload.failures_in_a_row = 0;
        if queue.is_some() {
            self.start_or_queue(workload, now, out)
        } else {
            self.start_run(workload, now, out)
        }
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    pub(crate) fn stop(&mut self, id: WorkloadId, order: &StopOrder, now: Now, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        if workload.is_at_rest() {
            // Nothing to do, and nothing to keep for ever.
            return Ok(Reply::Workload(self.workloads[&id].clone()));
        }
        if workload.desired == Desired::Run {
            workload.desired = Desired::Stopped;
        }
        fires::pause(&mut workload, now, out);
        if workload.queued.is_some() {
            let last = workload.clone();
            self.cancel_queued(workload, "stopped while it waited for its turn", now, out);
            return Ok(Reply::Workload(self.workloads.get(&id).cloned().unwrap_or_else(|| Arc::new(last))));
        }
        workload.restart_at_boot_ms = None;
        workload.restart_requested = false;
        if workload.live_run().is_some() {
            self.stop_run(workload, order, now, out);
        } else {
            // The end it had was not its last, and now is.
            self.hooks_at_rest(&mut workload, now, out);
            self.put(workload, out);
        }
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    fn restart(&mut self, id: WorkloadId, order: &StopOrder, now: Now, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        if workload.queued.is_some() {
            return Err(conflict(format!("{} waits for its turn: there is nothing to restart yet", workload.name)));
        }
        self.has_network(&workload.namespace, &workload.spec)?;
        match self.admit(&workload.namespace, workload.spec.queue.as_ref().filter(|_| !workload.holds_place())) {
            // A restart of a live run needs no room of its own.
            Err(problem) if problem.kind == ProblemKind::LimitReached && workload.live_run().is_some() => {}
            admitted => admitted?,
        }
        if workload.desired == Desired::Removed {
            return Err(conflict(format!("{} is being removed", workload.name)));
        }
        workload.desired = Desired::Run;
        workload.failures_in_a_row = 0;
        if workload.schedule.as_ref().is_some_and(|plan| plan.paused) {
            fires::resume(&mut workload, now, out);
        }
        if workload.live_run().is_some() {
            workload.restart_requested = true;
            self.stop_run(workload, order, now, out);
        } else if workload.holds_place() {
            self.start_run(workload, now, out);
        } else {
            self.start_or_queue(workload, now, out);
        }
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    pub(crate) fn kill(&mut self, id: WorkloadId, signal: Signal, exec: Option<ExecId>, out: &mut Outcome) -> Answer {
        let workload = self.find(id)?;
        let run = may_be_signalled(&workload)?;
        match exec {
            Some(exec) => {
                if !run.execs.iter().any(|known| known.id == exec) {
                    let detail = format!("{} has no running exec {exec}", workload.name);
                    return Err(Problem::new(ProblemKind::NotFound, detail));
                }
                out.actions.push(Action::SignalExec(run.id, exec, signal));
            }
            // There is no program yet that could get it: what is being made is given up.
            None if signal == Signal::KILL && matches!(run.state, RunState::Preparing { .. }) => {
                out.actions.push(Action::Kill(run.id));
            }
            None => out.actions.push(Action::Signal(run.id, signal)),
        }
        Ok(Reply::Workload(self.workloads[&id].clone()))
    }

    pub(crate) fn remove_asked(&mut self, id: WorkloadId, force: bool, now: Now, out: &mut Outcome) -> Answer {
        let mut workload = self.find(id)?;
        if workload.live_run().is_some() {
            if !force {
                return Err(conflict(format!(
                    "{name} is {phase}; stop it first with: hostler stop {name}, or remove it all the same with: hostler rm -f {name}",
                    name = workload.name,
                    phase = workload.phase().as_str()
                )));
            }
            workload.desired = Desired::Removed;
            let order = StopOrder { reason: StopReason::Remove, signal: None, grace_ms: Some(0) };
            self.stop_run(workload, &order, now, out);
            return Ok(Reply::Workload(self.workloads[&id].clone()));
        }
        let mut last = self.workloads[&id].clone();
        if workload.queued.is_some() {
            self.cancel_queued(workload, "removed while it waited for its turn", now, out);
            // With `remove` that was all.
            let Some(cancelled) = self.workloads.get(&id) else { return Ok(Reply::Workload(last)) };
            last = cancelled.clone();
        }
        self.remove(id, now, out);
        Ok(Reply::Workload(last))
    }

    fn update(&mut self, token: Token, id: WorkloadId, change: Limits, now: Now, out: &mut Outcome) -> Option<Answer> {
        let mut workload = match self.find(id) {
            Ok(workload) => workload,
            Err(problem) => return Some(Err(problem)),
        };
        if change.is_empty() {
            let detail = "name at least one limit to change";
            return Some(Err(Problem::new(ProblemKind::MalformedRequest, detail)));
        }
        let memory = [
            change.memory_bytes.is_some(),
            change.memory_swap_bytes.is_some(),
            change.memory_reservation_bytes.is_some(),
        ];
        if workload.spec.vm.is_some() && memory.contains(&true) {
            let detail = format!("{} has the memory of its virtual machine, which cannot be changed", workload.name);
            return Some(Err(conflict(detail)));
        }
        let limits = workload.limits.updated(&change);
        if let Err(problem) = change.check_change().and_then(|()| limits.check()) {
            return Some(Err(problem));
        }
        let limits = Seldom::from(limits);
        if let Some(run) = workload.live_run() {
            let run = run.id;
            if !workload.has_cgroup() {
                return Some(Err(conflict(format!(
                    "{name} was started without limits, so it has no cgroup that could be changed; set the limits, \
                     then restart it: hostler stop {name} && hostler update … {name} && hostler start {name}",
                    name = workload.name
                ))));
            }
            if self.updates.contains_key(&run) {
                return Some(Err(conflict(format!("another update of {} is under way", workload.name))));
            }
            self.updates.insert(run, (token, limits));
            out.actions.push(Action::Update(run, Box::new(change)));
            return None;
        }
        workload.limits = limits.clone();
        workload.generation += 1;
        Self::event(&workload, EventKind::WorkloadUpdated { limits }, now, out);
        Some(Ok(Reply::Workload(self.put(workload, out))))
    }

    fn lame_duck(&mut self, lame_duck: bool, now: Now, out: &mut Outcome) -> Reply {
        if self.node.lame_duck != lame_duck {
            self.node.lame_duck = lame_duck;
            out.batch.records.push(Record::Node(self.node.clone()));
            let kind = EventKind::NodeLameDuck { lame_duck };
            out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
            self.stacks.look_at_all();
        }
        Reply::Done
    }

    /// What runs is asked to stop; what the policy would start again starts with the next daemon.
    fn stop_all(&mut self, now: Now, out: &mut Outcome) -> Reply {
        self.going_down = true;
        let live: Vec<_> = self.live.iter().copied().collect();
        let mut count = self.rest_stacks();
        for id in live {
            // Stacks stop in an order of their own.
            let Some(workload) = self.edit(id).filter(|w| w.schedule.is_some() || !self.stacks.has(w)) else {
                continue;
            };
            let grace_ms = Some(workload.spec.stop.grace_ms.min(limits::SHUTDOWN_GRACE_MAX_MS));
            let order = StopOrder { reason: StopReason::Shutdown, signal: None, grace_ms };
            self.stop_run(workload, &order, now, out);
            count += 1;
        }
        Reply::Stopping(count)
    }
}

/// The run of a workload that takes signals.
pub fn may_be_signalled(workload: &Workload) -> Result<&Run, Problem> {
    let Some(run) = workload.live_run() else {
        return Err(conflict(format!("{} is not running: it is {}", workload.name, workload.phase().as_str())));
    };
    refuse_paused(workload)?;
    Ok(run)
}

/// What stands still takes no signal and no second program.
pub fn refuse_paused(workload: &Workload) -> Result<(), Problem> {
    if workload.run.as_ref().is_some_and(|run| run.paused) {
        let name = &workload.name;
        return Err(conflict(format!("{name} is paused; resume it first with: hostler resume {name}")));
    }
    Ok(())
}

/// `<program>-<first digits of the id>`: readable, and as unique as the id; longer ones for the rare case that it is taken.
fn generated_names(spec: &Spec, id: WorkloadId) -> Vec<WorkloadName> {
    let program = spec.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let base = program.rsplit('/').next().unwrap_or_default();
    let mut text: String = base.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(40).collect();
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        text = "run".to_owned();
    }
    let id = id.to_string();
    [format!("{text}-{}", &id[..6]), format!("{text}-{id}"), id].iter().filter_map(|text| text.parse().ok()).collect()
}
