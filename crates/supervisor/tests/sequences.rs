//! Generated sequences of everything that can happen, against a simulated machine: crashes at every point between
//! decision, commit and action, and the promises of DESIGN section 4 checked after every step.

#[path = "sequences/crashes.rs"]
mod crashes;
#[path = "sequences/hooks.rs"]
mod hooks;
#[path = "sequences/networks.rs"]
mod networks;
#[path = "sequences/ops.rs"]
mod ops;
#[path = "sequences/orders.rs"]
mod orders;
#[path = "sequences/plans.rs"]
mod plans;
#[path = "sequences/queues.rs"]
mod queues;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use hostler_model::container::Container;
use hostler_model::event::EventKind;
use hostler_model::exit::{Exit, ExitStatus};
use hostler_model::ids::{
    ExecId, Namespace, NetworkId, NetworkName, QueueName, RunId, SandboxId, StackName, UnitName, WorkloadId,
};
use hostler_model::launch::{ExecLaunch, Program};
use hostler_model::network::NetworkRecord;
use hostler_model::queue::{QueueChange, QueueRecord};
use hostler_model::record::{IdempotencyKey, NodeRecord, Record};
use hostler_model::spec::{Limits, Restart, RestartWhen, Spec};
use hostler_model::stack::{StackRecord, UnitRecord};
use hostler_model::units::Signal;
use hostler_model::workload::{Desired, Identity, LostReason, RunState, StartFailure, StartFailureKind, Workload};
use hostler_model::{Cause, Now};
use hostler_supervisor::{
    Action, Create, Fact, Found, FoundExec, FoundState, Input, Order, Outcome, Records, Request, ScheduleOrder,
    Settings, State, Verb, Waiting, Wake,
};
use ops::{Creation, Op, op};
use proptest::prelude::*;
use values::{cancelled, exec_launch, exit, queue_name, running};

#[path = "sequences/stacks.rs"]
mod stacks;
#[path = "sequences/values.rs"]
mod values;

use stacks::{apply_stack, stack_name};

/// What the machine really does.
#[derive(Debug, Clone, PartialEq)]
enum Process {
    Prepared,
    Running,
    /// Over, with the fact that tells it; it stays until released.
    Over(Fact2),
}

#[derive(Debug, Clone, PartialEq)]
enum Fact2 {
    Exited(Exit),
    Failed(StartFailure),
    Lost,
}

#[derive(Default)]
struct Disk {
    workloads: BTreeMap<WorkloadId, Workload>,
    keys: HashMap<(Namespace, String), IdempotencyKey>,
    queues: BTreeMap<QueueName, QueueRecord>,
    networks: BTreeMap<NetworkName, NetworkRecord>,
    stacks: BTreeMap<StackName, StackRecord>,
    units: BTreeMap<(StackName, UnitName), UnitRecord>,
    node: NodeRecord,
    hooks: hooks::Hooks,
    events: u64,
}

struct World {
    state: State,
    disk: Disk,
    processes: HashMap<RunId, Process>,
    /// Execs that an agent has: of which run, and their end until that is released.
    execs: BTreeMap<ExecId, (RunId, Option<Exit>)>,
    exec_started: HashSet<ExecId>,
    exec_ended: HashSet<ExecId>,
    now: Now,
    boot: u32,
    next: u32,
    executed: HashSet<RunId>,
    started: HashSet<RunId>,
    ended: HashSet<RunId>,
    dates: plans::Dates,
    token: u64,
    answered: HashSet<u64>,
    asked: HashSet<u64>,
    conditions: Vec<(UnitName, u32)>,
    /// What agents are told and have not answered.
    orders: Vec<(RunId, Order)>,
    paused: HashSet<RunId>,
    /// The networks that are made on the machine.
    bridges: BTreeSet<NetworkId>,
    adopting: bool,
}

const SETTINGS: Settings = Settings { live_runs_max: 5, queue_jobs_max: 4, ended_workloads: 4 };

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::load(SETTINGS, Records::default()),
            disk: Disk::default(),
            processes: HashMap::new(),
            execs: BTreeMap::new(),
            exec_started: HashSet::new(),
            exec_ended: HashSet::new(),
            now: Now { boot_ms: 1_000, wall_ms: 1_700_000_000_000, entropy: 7 },
            boot: 1,
            next: 0,
            executed: HashSet::new(),
            started: HashSet::new(),
            ended: HashSet::new(),
            dates: plans::Dates::default(),
            token: 0,
            answered: HashSet::new(),
            asked: HashSet::new(),
            conditions: Vec::new(),
            orders: Vec::new(),
            paused: HashSet::new(),
            bridges: BTreeSet::new(),
            adopting: false,
        };
        world.adopt();
        world
    }

    fn input(&mut self, input: Input) {
        let out = self.decide(input);
        self.commit(&out);
        self.act(out);
    }

    fn decide(&mut self, input: Input) -> Outcome {
        self.now.entropy = self.now.entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut out = Outcome::default();
        self.state.step(input, self.now, &mut out);
        for action in &out.early {
            match action {
                Action::AddNetwork(network) => assert!(self.bridges.insert(network.id), "made twice"),
                Action::Prepare(workload) => {
                    self.check_prepared(workload);
                    let run = workload.run.as_ref().expect("prepared workloads have a run").id;
                    // A crash may have left it prepared already.
                    self.processes.entry(run).or_insert(Process::Prepared);
                }
                // Only what is on disk counts, which is what the daemon looks at.
                Action::ExecuteAhead(run, permission) => {
                    let recorded = self.disk.workloads.get(&run.workload);
                    let permitted = recorded.and_then(|recorded| recorded.queued?.ahead);
                    if permitted == Some(*permission) && recorded.is_some_and(|was| was.runs + 1 == run.number) {
                        self.execute(*run);
                    }
                }
                _ => panic!("only these may be early: {action:?}"),
            }
        }
        out
    }

    fn commit(&mut self, out: &Outcome) {
        let first_event = self.disk.events + 1;
        self.disk.events += out.batch.events.len() as u64;
        for event in &out.batch.events {
            self.disk.hooks.event(event);
            let run = event.subject.as_ref().and_then(|subject| subject.run);
            let workload = event.subject.as_ref().and_then(|subject| self.disk.workloads.get(&subject.workload));
            self.dates.event(workload, &event.kind);
            match &event.kind {
                EventKind::RunExited { .. } | EventKind::RunFailed { .. } | EventKind::RunLost { .. } => {
                    let run = run.expect("ends are of runs");
                    let exited = matches!(event.kind, EventKind::RunExited { .. });
                    assert!(!exited || self.started.contains(&run), "{run} ended before it started");
                    assert!(self.ended.insert(run), "{run} ended twice");
                }
                EventKind::RunStarted { .. } => {
                    let run = run.expect("of a run");
                    assert!(!self.ended.contains(&run), "started after its end");
                    assert!(self.started.insert(run), "{run} started twice");
                }
                EventKind::ExecStarted { exec, .. } => {
                    assert!(!self.ended.contains(&run.expect("of a run")), "an exec started after its run's end");
                    assert!(self.exec_started.insert(*exec), "{exec} started twice");
                }
                EventKind::ExecExited { exec, .. } => {
                    assert!(!self.ended.contains(&run.expect("of a run")), "an exec ended after its run's end");
                    assert!(self.exec_started.contains(exec), "{exec} ended before it started");
                    assert!(self.exec_ended.insert(*exec), "{exec} ended twice");
                }
                EventKind::RunOom { .. } => {
                    assert!(!self.ended.contains(&run.expect("of a run")), "news after the end");
                }
                _ => {}
            }
        }
        for record in &out.batch.records {
            match record {
                Record::Workload(workload) => {
                    self.check_turn(workload);
                    self.disk.workloads.insert(workload.id, Workload::clone(workload));
                }
                Record::WorkloadRemoved(id) => {
                    let gone = self.disk.workloads.remove(id).expect("removed once");
                    self.disk.hooks.at_rest(&gone);
                    assert!(gone.live_run().is_none(), "removed while live");
                }
                Record::Stack(_) | Record::StackRemoved(..) | Record::StackUnit(..) | Record::StackUnitRemoved(..) => {
                    stacks::commit(&mut self.disk, record)
                }
                Record::Node(node) => self.disk.node = node.clone(),
                Record::Queue(queue) => drop(self.disk.queues.insert(queue.name.clone(), QueueRecord::clone(queue))),
                Record::QueueRemoved(_, name) => {
                    self.disk.queues.remove(name).expect("removed once");
                }
                Record::Network(_) | Record::NetworkRemoved(..) => networks::commit(&mut self.disk, record),
                Record::IdempotencyKey(key) => {
                    self.disk.keys.insert((key.namespace.clone(), key.key.clone()), key.clone());
                }
                Record::IdempotencyKeyForgotten(namespace, key) => {
                    self.disk.keys.remove(&(namespace.clone(), key.clone()));
                }
                Record::HookFired(fired) => {
                    self.disk.hooks.calls.insert(fired.call.key(), fired.numbered(first_event));
                }
                Record::HookDone(key) => drop(self.disk.hooks.calls.remove(key)),
            }
        }
        for workload in self.disk.workloads.values() {
            let run = workload.run.as_ref().map(|run| run.id).filter(|run| self.started.contains(run));
            run.into_iter().for_each(|run| self.disk.hooks.started(workload, run));
            if workload.is_at_rest() {
                self.disk.hooks.at_rest(workload);
            }
        }
    }

    fn act(&mut self, out: Outcome) {
        for (token, _) in &out.replies {
            assert!(self.asked.contains(token) && self.answered.insert(*token), "one answer for each question");
        }
        for action in out.actions {
            match action {
                Action::Execute(run) => {
                    assert!(self.disk.workloads.contains_key(&run.workload), "executed before it was committed");
                    self.execute(run);
                }
                Action::Kill(run) | Action::Discard(run) => {
                    let discarded = matches!(action, Action::Discard(_)) && self.executed.contains(&run);
                    assert!(!discarded || self.is_settled(run), "{run} was executed, and its end is thrown away");
                    let over = match self.processes.get(&run) {
                        Some(Process::Prepared) => Fact2::Failed(cancelled()),
                        Some(Process::Running) => Fact2::Exited(exit(None)),
                        _ => continue,
                    };
                    self.end_execs(run);
                    self.processes.insert(run, Process::Over(over));
                }
                Action::Release(run) => {
                    // Or its start was lost with a daemon: then it is nobody's.
                    let live = self.disk.workloads.get(&run.workload).and_then(Workload::live_run);
                    assert!(
                        self.ended.contains(&run) || live.is_none_or(|live| live.id != run),
                        "{run} released alive"
                    );
                    assert!(!self.executed.contains(&run) || self.is_settled(run), "{run} was executed and has no end");
                    assert!(!matches!(self.processes.get(&run), Some(Process::Running)), "released while it runs");
                    self.processes.remove(&run);
                    self.execs.retain(|_, (of, _)| *of != run);
                }
                Action::Exec(run, exec, _) => {
                    assert!(!self.ended.contains(&run), "action after the end");
                    if self.processes.get(&run) == Some(&Process::Running) {
                        self.execs.insert(exec, (run, None));
                    }
                }
                Action::ReleaseExec(_, exec) => {
                    if self.execs.get(&exec).is_some_and(|(_, exit)| exit.is_some()) {
                        self.execs.remove(&exec);
                    }
                }
                Action::RemoveLog(workload) => assert!(!self.disk.workloads.contains_key(&workload)),
                Action::Signal(run, _) | Action::Update(run, _) | Action::SignalExec(run, ..) => {
                    assert!(!self.ended.contains(&run), "{run}: action after the end");
                }
                Action::Order(run, order) => self.ordered(run, order),
                Action::CheckCondition { unit, generation, .. } => self.conditions.push((unit, generation)),
                Action::RemoveNetwork(id) => assert!(self.bridges.remove(&id), "undone once"),
                Action::Prepare(_) | Action::ExecuteAhead(..) | Action::AddNetwork(_) => panic!("this one is early"),
            }
        }
        self.check();
    }

    /// Its end is recorded, or its workload gone.
    fn is_settled(&self, run: RunId) -> bool {
        self.ended.contains(&run) || !self.disk.workloads.contains_key(&run.workload)
    }

    fn execute(&mut self, run: RunId) {
        assert!(!self.ended.contains(&run), "{run} executed after its end");
        if self.processes.get(&run) == Some(&Process::Prepared) {
            assert!(self.executed.insert(run), "{run} executed twice");
            self.processes.insert(run, Process::Running);
        }
    }

    /// What must hold whenever nothing is under way.
    fn check(&self) {
        let kept: BTreeMap<_, _> = self.state.workloads().iter().map(|(id, w)| (*id, Workload::clone(w))).collect();
        assert_eq!(kept, self.disk.workloads, "the state is what replay gives");
        assert_eq!(self.state.node(), &self.disk.node);
        assert_eq!(self.state.keys(), &self.disk.keys);
        self.check_queues();
        self.check_networks();
        self.check_paused();
        self.disk.hooks.check(self.state.calls());
        stacks::check(&self.state, &self.disk);
        let live = kept.values().filter(|workload| workload.live_run().is_some()).count();
        assert!(live <= SETTINGS.live_runs_max, "{live} live runs");
        for workload in self.state.workloads().values() {
            let told = workload.outcome().is_some();
            // A schedule that was paused before its first fire has nothing to tell.
            let has_run = workload.run.is_some() || workload.schedule.is_none();
            assert!(told || !workload.is_at_rest() || !has_run, "at rest without a result: {workload:?}");
            assert!(!told || workload.live_run().is_none(), "a result while it is live: {workload:?}");
        }
        let names: HashSet<_> = kept.values().map(|workload| (&workload.namespace, &workload.name)).collect();
        assert_eq!(names.len(), kept.len(), "names are unique");
        for workload in kept.values() {
            plans::check(workload);
        }
    }

    fn creation(&mut self, creation: &Creation) -> Create {
        let &Creation { when, max, remove, key, limited, owner, queue, protected, hooks, network } = creation;
        self.next += 1;
        let mut spec = Spec::new(vec!["true".into()]);
        spec.restart = Restart {
            when: [RestartWhen::Never, RestartWhen::OnFailure, RestartWhen::Always][usize::from(when)],
            max_attempts: max.filter(|_| when > 0).map(u32::from),
            ..Restart::default()
        }
        .into();
        spec.remove = remove && when != 2;
        spec.stdio.owner = owner;
        if let Some((name, priority)) = queue {
            spec.queue = Some(queue_name(name));
            spec.priority = i32::from(priority);
        }
        spec.protected = protected && !spec.remove;
        spec.hooks = hooks::some(hooks).into();
        if limited {
            spec.limits = Limits { pids: Some(5), ..Limits::default() }.into();
        }
        if limited && owner {
            spec.container = Some(Box::new(Container { rootfs: Some("/".into()), ..Container::default() }));
        }
        if let Some(network) = network {
            spec.container = Some(networks::attached(network));
        }
        let [_, _, a, b] = [0, 0, (self.next >> 8) as u8, self.next as u8];
        Create {
            id: WorkloadId::from_bytes([1, 0, 0, 0, a, b]),
            namespace: Namespace::owner(),
            spec: Arc::new(spec),
            identity: Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None },
            idempotency: key.map(|key| (key.to_string(), when.to_string())),
            restore: None,
            hook_of: None,
            unplaced: None,
        }
    }

    fn pick<T: Copy + Ord>(items: impl Iterator<Item = T>, which: usize) -> Option<T> {
        let mut items: Vec<_> = items.collect();
        items.sort();
        (!items.is_empty()).then(|| items[which % items.len()])
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create(creation) => {
                let create = self.creation(&creation);
                self.ask(Request::Create(Box::new(create)));
            }
            Op::Queue { which, what } => self.change_queue(which, what),
            Op::Network { which, what } => self.change_network(which, what),
            Op::Rush { jobs, ends } => self.rush(jobs, ends),
            Op::Bulk { verb } => self.do_to_all(verb),
            Op::Request { kind, which } => {
                let Some(workload) = Self::pick(self.state.workloads().keys().copied(), which) else { return };
                let (signal, grace_ms) = (None, (kind % 2 == 0).then_some(0));
                let request = match kind {
                    0 | 1 => Request::Stop { workload, signal, grace_ms },
                    2 => Request::Start(workload),
                    3 | 4 => Request::Restart { workload, signal, grace_ms },
                    5 => Request::Kill { workload, signal: Signal::KILL, exec: None },
                    6 => Request::Remove { workload, force: true },
                    7 => Request::Remove { workload, force: false },
                    8 => Request::Update { workload, limits: Box::new(Limits { pids: Some(9), ..Limits::default() }) },
                    9 => {
                        self.next += 1;
                        let exec = ExecId::from_bytes(self.next.to_be_bytes());
                        Request::Exec { workload, exec, launch: Box::new(exec_launch()) }
                    }
                    10 => Request::LameDuck(which % 2 == 0),
                    13 => Request::Schedule(workload, ScheduleOrder::Pause),
                    14 => Request::Schedule(workload, ScheduleOrder::Resume),
                    15 => Request::Schedule(workload, ScheduleOrder::Fire),
                    11 => Request::StayUp,
                    16 => Request::Order(workload, Order::Pause),
                    17 => Request::Order(workload, Order::Resume),
                    18 | 19 => Request::Order(workload, orders::checkpoint(kind == 19)),
                    _ => Request::StopAll,
                };
                self.ask(request);
            }
            Op::Plan { schedule, when, queue } => {
                let queue = queue.map(|number| (number, 0));
                let mut create = self.creation(&Creation { when, queue, ..Creation::default() });
                Arc::make_mut(&mut create.spec).schedule = Some(schedule.into());
                self.ask(Request::Create(Box::new(create)));
            }
            Op::SetClock { minutes } => {
                self.now.wall_ms = self.now.wall_ms.saturating_add_signed(i64::from(minutes) * 60_000);
                self.input(Input::Tick);
            }
            Op::World { which, what } => self.happen(which, what),
            Op::Exec { which, started_only } => self.happen_exec(which, started_only),
            Op::Tick { ms } => {
                self.now.boot_ms += u64::from(ms);
                self.now.wall_ms += u64::from(ms);
                self.input(Input::Tick);
            }
            Op::Crash { committed, reboot, ending } => self.crash(committed, reboot, ending),
            Op::Hook { which, good } => self.tell(self.disk.hooks.happen(which, good)),
            Op::Lines { which, matched } => self.tell(hooks::read(self.state.workloads(), which, matched)),
            Op::Stack { present, version } => self.ask(apply_stack(present, version)),
            Op::DownStack => self.ask(Request::DownStack(Namespace::owner(), stack_name())),
            Op::Probe { which, dead } => {
                let Some(run) = Self::pick(self.processes.keys().copied(), which) else { return };
                let fact = match dead {
                    true => Fact::Unhealthy { run, reason: "no answer".to_owned() },
                    false => Fact::Ready { run },
                };
                self.input(Input::Fact(fact));
            }
            Op::Order { which, good } => self.happen_order(which, good),
            Op::Condition { met } => self.answer_condition(met),
            Op::DiskFull(full) => self.input(Input::DiskFull(full)),
            Op::OwnerGone { which } => {
                let Some(run) = Self::pick(self.processes.keys().copied(), which) else { return };
                self.input(Input::OwnerGone(run.workload));
            }
        }
    }

    fn tell(&mut self, fact: Option<Fact>) {
        if let Some(fact) = fact {
            self.input(Input::Fact(fact));
        }
    }

    fn ask(&mut self, request: Request) {
        self.token += 1;
        self.asked.insert(self.token);
        self.input(Input::Request(self.token, request));
    }

    fn answer_condition(&mut self, met: bool) {
        let Some((unit, generation)) = self.conditions.pop() else { return };
        let unmet = (!met).then(|| "unmet".to_owned());
        let (namespace, stack) = (Namespace::owner(), stack_name());
        self.input(Input::Fact(Fact::ConditionChecked { namespace, stack, unit, generation, unmet }));
    }

    /// The programs of a run end with it.
    fn end_execs(&mut self, run: RunId) {
        for (_, end) in self.execs.values_mut().filter(|(of, _)| *of == run) {
            end.get_or_insert_with(|| exit(None));
        }
    }

    /// An agent tells of an exec: that it started, or its end.
    fn happen_exec(&mut self, which: usize, started_only: bool) {
        let Some(exec) = Self::pick(self.execs.keys().copied(), which) else { return };
        let (run, _) = self.execs[&exec];
        self.input(Input::Fact(Fact::ExecStarted { run, exec, pid: 8 }));
        if !started_only && let Some((_, end)) = self.execs.get_mut(&exec) {
            let exit = end.get_or_insert_with(|| exit(Some(3))).clone();
            self.input(Input::Fact(Fact::ExecExited { run, exec, exit }));
        }
    }

    fn happen(&mut self, which: usize, what: u8) {
        let Some(run) = Self::pick(self.processes.keys().copied(), which) else { return };
        let sandbox = SandboxId::from_bytes([0; 6]);
        let over = |world: &mut Self, over: Fact2| {
            world.end_execs(run);
            world.processes.insert(run, Process::Over(over.clone()));
            over
        };
        let told = match (self.processes[&run].clone(), what) {
            (Process::Over(told), _) => told,
            (Process::Running, 0) => {
                return self.input(Input::Fact(Fact::Started { run, sandbox, pid: 7, started_at_ms: 9 }));
            }
            (Process::Running, 1) => return self.input(Input::Fact(Fact::Oom { run, oom_kills: 1 })),
            (Process::Running, 2) => return self.input(Input::Fact(Fact::Updated { run, result: Ok(()) })),
            (Process::Running, 3) => over(self, Fact2::Lost),
            (Process::Running, code) => over(self, Fact2::Exited(exit(Some(code - 4)))),
            (Process::Prepared, 0..4) => return,
            (Process::Prepared, _) => over(self, Fact2::Failed(cancelled())),
        };
        self.input(Input::Fact(match told {
            Fact2::Exited(exit) => Fact::Exited { run, exit },
            Fact2::Failed(failure) => Fact::StartFailed { run, failure },
            Fact2::Lost => Fact::AgentLost { run },
        }));
    }

    /// Everything is told to stop; after every process has ended, nothing may be left over.
    fn settle(&mut self) {
        self.ask(Request::DownStack(Namespace::owner(), stack_name()));
        self.ask(Request::LameDuck(true));
        self.ask(Request::StayUp);
        self.input(Input::DiskFull(false));
        for _ in 0..20 {
            for call in 0..self.disk.hooks.calls.len() {
                self.tell(self.disk.hooks.happen(call, true));
            }
            while let Some(fact) = hooks::read(self.state.workloads(), 0, false) {
                self.tell(Some(fact));
            }
            let all: Vec<_> = self.state.workloads().keys().copied().collect();
            for workload in all {
                if self.state.workloads().get(&workload).is_some_and(|w| w.live_run().is_some() || w.hook_of.is_some())
                {
                    self.ask(Request::Remove { workload, force: true });
                }
            }
            for which in 0..self.processes.len() {
                self.happen(which, 4);
            }
            while !self.orders.is_empty() {
                self.happen_order(0, true);
            }
            self.now.boot_ms += 100_000;
            self.now.wall_ms += 2 * hostler_model::limits::HOOK_ROOM_WAIT_MAX_MS;
            self.input(Input::Tick);
        }
        assert!(self.state.workloads().values().all(|workload| workload.live_run().is_none()), "something never ends");
        assert_eq!(self.state.next_wake(), Wake::default(), "a timer is left");
        assert_eq!(self.state.stacks().count(), 0, "a stack never goes");
        assert!(self.processes.is_empty(), "never released: {:?}", self.processes);
        self.disk.hooks.settled();
        let open: Vec<_> = self.asked.difference(&self.answered).collect();
        assert!(open.is_empty(), "questions without an answer: {open:?}");
        self.settle_networks();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(ops in prop::collection::vec(op(), 0..80)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.settle();
    }
}
