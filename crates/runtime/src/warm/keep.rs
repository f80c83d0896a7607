//! Making machines, asking how they are, giving them to runs, letting them go.

use std::sync::Arc;
use std::time::Duration;

use hostler_model::guest::GuestIdentity;
use hostler_model::ids::{RunId, SandboxId};
use hostler_model::limits;
use hostler_model::spec::Limits;
use hostler_model::vm::Vm;
use hostler_wire::{StatsDepth, ToAgent};

use super::slots::Taken;
use super::{MadeBy, NOTE, Note, Pending, Purpose, Template};
use crate::agent::Agent;
use crate::guests::{Planned, Wanted};
use crate::link;
use crate::microvm::{SnapshotFiles, Start, Vmm as _};
use crate::process::spawn::{new_sandbox_id, sandbox_dir};
use crate::process::{Shared, State};

/// Between two questions to the machines that wait, milliseconds.
const ASK_EVERY_MS: u64 = 5_000;

/// What a run may have of a pool.
pub(crate) enum Warm {
    /// This machine.
    Machine(Arc<Agent>),
    /// One that is restored from this snapshot.
    Snapshot(SnapshotFiles),
    /// There is no pool for it, or nothing in it: it is booted.
    Nothing,
    /// The pool is full.
    Full,
}

impl Shared {
    /// From now on pools are kept filled.
    pub(crate) fn fill_warm(self: &Arc<Self>) {
        let mut state = self.state();
        if state.warm.pools.is_empty() {
            return;
        }
        self.refill(&mut state);
        if !std::mem::replace(&mut state.warm.ticking, true) {
            let shared = Arc::downgrade(self);
            self.handle.spawn(async move {
                loop {
                    let Some(strong) = shared.upgrade() else { return };
                    let now_ms = strong.now_ms();
                    let due_ms =
                        strong.state().warm.next_ms(now_ms).map_or(ASK_EVERY_MS, |at_ms| at_ms - now_ms.min(at_ms));
                    drop(strong);
                    // What is overdue is on its way, and is not to be hurried.
                    tokio::time::sleep(Duration::from_millis(due_ms.clamp(100, ASK_EVERY_MS))).await;
                    let Some(strong) = shared.upgrade() else { return };
                    strong.look_after().await;
                }
            });
        }
    }

    /// Begins to make what is missing.
    pub(crate) fn refill(self: &Arc<Self>, state: &mut State) {
        if state.closing {
            return;
        }
        let now_ms = self.now_ms();
        let mut begin = Vec::new();
        for (name, pool) in &mut state.warm.pools {
            let room = pool.slots.size().max.saturating_sub(pool.on_demand.len() + pool.slots.len());
            let missing = pool.slots.to_make(now_ms).min(room);
            if pool.made_by == MadeBy::Boot {
                begin.extend((0..missing).map(|_| (name.clone(), pool.shape.clone(), Purpose::Idle)));
                continue;
            }
            match &pool.template {
                Template::Ready(files) => {
                    let copy = || Purpose::Copy(files.clone());
                    begin.extend((0..missing).map(|_| (name.clone(), pool.shape.clone(), copy())));
                }
                Template::Unknown if !pool.slots.is_drained() && pool.slots.may_try(now_ms) => {
                    pool.template = Template::Making;
                    self.make_template(name.clone(), pool.shape.clone());
                }
                Template::Unknown | Template::Making => {}
            }
        }
        for (pool, shape, purpose) in begin {
            let sandbox = new_sandbox_id(|id| state.agents.contains_key(&id) || state.warm.has(id));
            if let Some(pool) = state.warm.pools.get_mut(&pool) {
                pool.slots.making(sandbox);
            }
            self.make_warm(pool, shape, sandbox, purpose);
        }
    }

    /// Plans the machine and starts its agent.
    pub(super) fn make_warm(self: &Arc<Self>, pool: String, shape: Vm, sandbox: SandboxId, purpose: Purpose) {
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let planning = Arc::clone(&shared);
            let (asked, how) = (shape, purpose.clone());
            let is_template = matches!(purpose, Purpose::Template(_));
            let planned = shared.handle.spawn_blocking(move || {
                let files = how.files();
                let start = match &how {
                    Purpose::Idle => Start::Boot,
                    Purpose::Copy(_) => Start::Restore(files.as_ref().expect("it has a snapshot")),
                    Purpose::Template(_) => Start::BootTemplate(files.as_ref().expect("it makes a snapshot")),
                };
                let name = sandbox.to_string();
                let has_cgroup = planning.settings.cgroup.is_some();
                planning.guests.plan_machine(&Wanted {
                    asked: &asked,
                    name: &name,
                    has_cgroup,
                    limits: Limits::default(),
                    start,
                    set_up: None,
                })
            });
            match planned.await {
                Ok(Ok(Planned { boot, driver })) => {
                    let agent = Agent::new(sandbox);
                    {
                        let mut state = shared.state();
                        let pending = Pending { pool, boot: Box::new(boot), driver, purpose };
                        state.warm.pending.insert(sandbox, pending);
                        state.agents.insert(sandbox, Arc::clone(&agent));
                    }
                    link::run_spawned(shared, agent).await;
                }
                Ok(Err(error)) => {
                    shared.guests.forget(&sandbox.to_string());
                    shared.could_not_make(sandbox, &pool, &error.to_string(), is_template);
                }
                Err(_) => shared.could_not_make(sandbox, &pool, "the daemon is going down", is_template),
            }
        });
    }

    /// The agent of a new sandbox has said hello. Whether it is for a machine of a pool, which it is now told to make.
    pub(crate) fn begins_warm(&self, agent: &Arc<Agent>) -> bool {
        let state = self.state();
        let Some(pending) = state.warm.pending.get(&agent.sandbox) else { return false };
        let identity = GuestIdentity { hostname: "guest".to_owned(), ..GuestIdentity::default() };
        agent.send(&ToAgent::Boot { boot: pending.boot.clone(), identity: Box::new(identity) });
        true
    }

    /// The program that makes a machine runs; one that comes from a snapshot has to be told so.
    pub(crate) fn vmm_started(self: &Arc<Self>, agent: &Arc<Agent>) {
        let mut state = self.state();
        let sandbox = agent.sandbox;
        let of_run = match state.slots.place(sandbox) {
            Some(crate::pool::slots::Place::Bound(run)) => state.warm.drives.remove(&run),
            _ => None,
        };
        let of_pool = state.warm.pending.get(&sandbox).and_then(|pending| match &pending.purpose {
            Purpose::Copy(files) => Some((pending.driver.clone(), files.clone())),
            _ => None,
        });
        drop(state);
        let Some((driver, files)) = of_run.or(of_pool) else { return };
        let agent = Arc::clone(agent);
        self.handle.spawn(async move {
            let start = Start::Restore(&files);
            if let Err(error) = driver.vmm.start(&driver.place, &driver.machine, &start).await {
                tracing::warn!(%sandbox, %error, "a machine cannot be restored from its snapshot");
                agent.send(&ToAgent::Quit);
                agent.give_up();
            }
        });
    }

    /// The guest of a machine waits.
    pub(crate) fn booted(self: &Arc<Self>, agent: &Arc<Agent>) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let Some(pending) = state.warm.pending.get(&agent.sandbox) else { return };
        if matches!(pending.purpose, Purpose::Template(_)) {
            return agent.send(&ToAgent::Suspend);
        }
        let Some(pending) = state.warm.pending.remove(&agent.sandbox) else { return };
        let Some(pool) = state.warm.pools.get_mut(&pending.pool) else { return agent.send(&ToAgent::Quit) };
        pool.problem = None;
        if pool.slots.made(agent.sandbox, now_ms) {
            agent.send(&ToAgent::Quit);
        }
        let note = Note { pool: pending.pool, shape: pool.shape.clone(), agent: self.settings.agent.clone() };
        self.refill(&mut state);
        drop(state);
        let path = sandbox_dir(&self.settings, agent.sandbox).join(NOTE);
        self.handle.spawn_blocking(move || {
            let written = serde_json::to_vec(&note).map(|json| std::fs::write(&path, json));
            if !matches!(written, Ok(Ok(()))) {
                tracing::warn!(path = %path.display(), "a machine that waits will not be found again");
            }
        });
    }

    /// A machine that was to be made could not be.
    pub(crate) fn warm_failed(self: &Arc<Self>, sandbox: SandboxId, pool: &str, why: &str) {
        let purpose = self.state().warm.pending.remove(&sandbox).map(|pending| pending.purpose);
        self.could_not_make(sandbox, pool, why, matches!(purpose, Some(Purpose::Template(_))));
        let shared = Arc::clone(self);
        self.handle.spawn_blocking(move || shared.guests.forget(&sandbox.to_string()));
    }

    fn could_not_make(self: &Arc<Self>, sandbox: SandboxId, pool: &str, why: &str, is_template: bool) {
        tracing::warn!(%sandbox, pool, why, "a machine of a pool could not be made");
        let now_ms = self.now_ms();
        let mut state = self.state();
        if let Some(pool) = state.warm.pools.get_mut(pool) {
            pool.problem = Some(why.to_owned());
            pool.slots.failed(sandbox, now_ms);
            if is_template {
                pool.template = Template::Unknown;
                pool.slots.failed_without_slot(now_ms);
            }
        }
        self.refill(&mut state);
    }

    /// The same, by its agent's word or end. Whether it was one of a pool.
    pub(crate) fn warm_ended(self: &Arc<Self>, sandbox: SandboxId, why: &str) -> bool {
        let pool = self.state().warm.pending.get(&sandbox).map(|pending| pending.pool.clone());
        if let Some(pool) = pool {
            self.warm_failed(sandbox, &pool, why);
            return true;
        }
        let mut state = self.state();
        let Some((_, pool)) = state.warm.pool_of(sandbox) else { return false };
        pool.slots.gone(sandbox);
        self.refill(&mut state);
        drop(state);
        let shared = Arc::clone(self);
        self.handle.spawn_blocking(move || shared.guests.forget(&sandbox.to_string()));
        true
    }

    /// A machine for this run, if there is one.
    pub(crate) fn take_warm(self: &Arc<Self>, run: RunId, vm: &Vm, state: &mut State) -> Warm {
        let Some((_, pool)) = state.warm.pool_for(vm) else { return Warm::Nothing };
        let taken = match pool.slots.take(run) {
            Taken::Empty if pool.slots.len() + pool.on_demand.len() >= pool.slots.size().max => Taken::Full,
            taken => taken,
        };
        let warm = match taken {
            Taken::Warm(sandbox) => state.agents.get(&sandbox).cloned().map_or(Warm::Nothing, |agent| {
                state.slots.adopt(sandbox, run);
                Warm::Machine(agent)
            }),
            Taken::Full => Warm::Full,
            Taken::Empty => {
                pool.on_demand.insert(run);
                match &pool.template {
                    Template::Ready(files) => Warm::Snapshot(files.clone()),
                    _ => Warm::Nothing,
                }
            }
        };
        self.refill(state);
        warm
    }

    /// How it is restored, for when the program that makes it runs.
    pub(crate) fn will_drive(&self, run: RunId, planned: &Planned, files: SnapshotFiles) {
        self.state().warm.drives.insert(run, (planned.driver.clone(), files));
    }

    /// An agent was found whose machine waits. It stays if its pool is still there.
    pub(crate) fn adopt_warm(&self, agent: &Arc<Agent>) {
        let path = sandbox_dir(&self.settings, agent.sandbox).join(NOTE);
        let note = std::fs::read(path).ok().and_then(|json| serde_json::from_slice::<Note>(&json).ok());
        let note = note.filter(|note| note.agent == self.settings.agent);
        let now_ms = self.now_ms();
        let mut state = self.state();
        let pool = note.and_then(|note| state.warm.pools.get_mut(&note.pool).filter(|pool| pool.shape == note.shape));
        let leaves = pool.is_none_or(|pool| pool.slots.adopt(agent.sandbox, now_ms));
        if leaves {
            agent.send(&ToAgent::Quit);
        }
    }

    /// Asks every machine that waits how it is, and lets old ones go.
    async fn look_after(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        let agents: Vec<Arc<Agent>> = {
            let mut state = self.state();
            let (mut old, mut waiting) = (Vec::new(), Vec::new());
            for pool in state.warm.pools.values_mut() {
                old.extend(pool.slots.old(now_ms));
                waiting.extend(pool.slots.waiting());
            }
            let agents = &state.agents;
            old.iter().filter_map(|sandbox| agents.get(sandbox)).for_each(|agent| agent.send(&ToAgent::Quit));
            let waiting = waiting.iter().filter_map(|sandbox| agents.get(sandbox).cloned()).collect();
            self.refill(&mut state);
            waiting
        };
        for agent in agents {
            let question = |request| ToAgent::Stats { request, sample: false, depth: StatsDepth::Brief };
            let (request, answer) = agent.ask(question);
            let deadline = Duration::from_millis(limits::AGENT_ANSWER_MAX_MS);
            let has_answered = matches!(tokio::time::timeout(deadline, answer).await, Ok(Ok(_)));
            agent.forget(request);
            let mut state = self.state();
            let Some((name, pool)) = state.warm.pool_of(agent.sandbox) else { continue };
            if pool.slots.answered(agent.sandbox, has_answered) {
                tracing::warn!(sandbox = %agent.sandbox, pool = name, "a machine that waits does not answer, and is replaced");
                drop(state);
                agent.give_up();
            }
        }
    }
}

impl Purpose {
    pub(super) fn files(&self) -> Option<SnapshotFiles> {
        match self {
            Self::Idle => None,
            Self::Copy(files) => Some(files.clone()),
            Self::Template(unmade) => Some(unmade.files()),
        }
    }
}
