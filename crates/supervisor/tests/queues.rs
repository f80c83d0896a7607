//! Single decisions about queues, hooks and schedules that meet; the rest is in `sequences`.

use std::sync::Arc;

use hostler_model::exit::{Cause, Exit, ExitStatus};
use hostler_model::hook::Hook;
use hostler_model::ids::{Namespace, QueueName, RunId, SandboxId, WorkloadId};
use hostler_model::queue::QueueChange;
use hostler_model::schedule::Schedule;
use hostler_model::spec::{Restart, RestartWhen, Spec};
use hostler_model::workload::{Identity, Phase, StartFailure, StartFailureKind, Workload};
use hostler_model::{Now, Problem, limits};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{
    Action, Create, Fact, Found, FoundState, Input, Outcome, Records, Request, ScheduleOrder, Settings, State, Waiting,
};

struct World {
    state: State,
    now: Now,
    next: u16,
}

fn owner() -> Namespace {
    Namespace::owner()
}

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name")
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Now { boot_ms: 1_000_000, wall_ms: 1_800_000_000_000, entropy: 7 };
        let mut world = Self { state: State::load(settings, Records::default()), now, next: 0 };
        world.step(Input::Adopted { found: Vec::new(), boot_id: "b".to_owned(), version: "v".to_owned() });
        world
    }

    fn step(&mut self, input: Input) -> Outcome {
        let mut out = Outcome::default();
        self.state.step(input, self.now, &mut out);
        out
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Problem> {
        self.step(Input::Request(1, request)).replies.remove(0).1
    }

    /// A workload with this name, changed as told.
    fn create(
        &mut self,
        name: &str,
        namespace: &Namespace,
        change: impl FnOnce(&mut Spec),
    ) -> Result<WorkloadId, Problem> {
        self.next += 1;
        let mut spec = Spec::new(vec!["true".into()]);
        spec.name = Some(name.parse().expect("a name"));
        change(&mut spec);
        spec.check()?;
        let id = WorkloadId::from_bytes([9, 9, 9, 9, (self.next >> 8) as u8, self.next as u8]);
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        let namespace = namespace.clone();
        let create = Create {
            id,
            namespace,
            spec: Arc::new(spec),
            identity,
            idempotency: None,
            restore: None,
            hook_of: None,
            unplaced: None,
        };
        self.ask(Request::Create(Box::new(create))).map(|_| id)
    }

    fn set(&mut self, name: &str, change: QueueChange) {
        self.ask(Request::SetQueue { namespace: owner(), name: queue(name), change }).expect("changed");
    }

    fn pause(&mut self, name: &str, paused: bool) {
        self.set(name, QueueChange { paused: Some(paused), ..QueueChange::default() });
    }

    fn get(&self, id: WorkloadId) -> &Workload {
        &self.state.workloads()[&id]
    }

    fn phase(&self, id: WorkloadId) -> Phase {
        self.get(id).phase()
    }

    /// Its start fails.
    fn fail(&mut self, id: WorkloadId) {
        let run = self.get(id).live_run().expect("a live run").id;
        let failure = StartFailure { kind: StartFailureKind::System, message: "no".to_owned() };
        self.step(Input::Fact(Fact::StartFailed { run, failure }));
    }

    fn pass(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.wall_ms += ms;
        self.step(Input::Tick);
    }
}

/// The start of a run may be ahead of its record.
impl World {
    /// Jobs of one queue, of which the first ones are under way.
    fn line(&mut self, parallel: u32, count: usize) -> Vec<WorkloadId> {
        self.set("q", QueueChange { parallel: Some(parallel), ..QueueChange::default() });
        let one = |number| self.create(&format!("j{number}"), &owner(), |spec| spec.queue = Some(queue("q")));
        (0..count).map(one).collect::<Result<_, _>>().expect("accepted")
    }

    /// Its program ends well after so many milliseconds.
    fn end(&mut self, id: WorkloadId, took_ms: u64) -> Outcome {
        let run = self.get(id).live_run().expect("a live run").id;
        let exit = Exit { duration_ms: took_ms, ..Exit::new(ExitStatus::Code(0), Cause::Success, 1, 1 + took_ms) };
        self.step(Input::Fact(Fact::Exited { run, exit }))
    }

    fn permitted(&self, id: WorkloadId) -> Option<u64> {
        self.get(id).queued.and_then(|queued| queued.ahead)
    }

    /// Another daemon over the same records, with these runs found.
    fn come_back(&mut self, found: Vec<(RunId, FoundState)>, boot_id: &str) -> Outcome {
        let records = Records {
            node: self.state.node().clone(),
            workloads: self.state.workloads().values().map(|workload| Workload::clone(workload)).collect(),
            queues: self.state.queues().iter().map(|queue| (*queue.record).clone()).collect(),
            ..Records::default()
        };
        self.state = State::load(Settings::default(), records);
        let found = found.into_iter().map(|(run, state)| Found { run, state, execs: Vec::new() }).collect();
        self.step(Input::Adopted { found, boot_id: boot_id.to_owned(), version: "v".to_owned() })
    }
}

fn early(out: &Outcome) -> Vec<(RunId, u64)> {
    let ahead = |action: &Action| match action {
        Action::ExecuteAhead(run, permission) => Some((*run, *permission)),
        _ => None,
    };
    out.early.iter().filter_map(ahead).collect()
}

fn executed(out: &Outcome) -> Vec<RunId> {
    let run = |action: &Action| if let Action::Execute(run) = action { Some(*run) } else { None };
    out.actions.iter().filter_map(run).collect()
}

fn run(workload: WorkloadId, number: u32) -> RunId {
    RunId { workload, number }
}

#[test]
fn only_short_jobs_let_the_next_ones_start_ahead_of_their_record() {
    let mut world = World::new(Settings::default());
    let jobs = world.line(2, 8);
    // Nothing is known of this queue yet, and a long job tells nothing.
    let out = world.end(jobs[0], limits::QUEUE_SHORT_JOB_MS);
    assert_eq!((early(&out), executed(&out)), (vec![], vec![run(jobs[2], 1)]));
    assert_eq!(world.permitted(jobs[3]), None);
    // A short one permits as many as run at a time.
    let out = world.end(jobs[1], 1);
    assert_eq!((early(&out), executed(&out)), (vec![], vec![run(jobs[3], 1)]));
    let permission = world.permitted(jobs[4]).expect("permitted");
    assert!(world.permitted(jobs[5]).is_some_and(|next| next > permission) && world.permitted(jobs[6]).is_none());
    // Then its successor is executed at once, and again after the commit in case that was too early.
    let out = world.end(jobs[2], 1);
    assert_eq!((early(&out), executed(&out)), (vec![(run(jobs[4], 1), permission)], vec![run(jobs[4], 1)]));
    assert!(world.permitted(jobs[6]).is_some());
    // It takes longer than the others: what was permitted is taken back.
    let due = world.state.next_wake().boot_ms.expect("a timer");
    assert_eq!(due, world.now.boot_ms + limits::QUEUE_AHEAD_MS);
    world.pass(limits::QUEUE_AHEAD_MS);
    assert_eq!((world.permitted(jobs[5]), world.permitted(jobs[6])), (None, None));
    assert!(world.state.next_wake().boot_ms.is_some_and(|due| due > world.now.boot_ms));
    let out = world.end(jobs[3], 2_000);
    assert_eq!((early(&out), executed(&out)), (vec![], vec![run(jobs[5], 1)]));
}

#[test]
fn one_at_a_time_means_after_the_record_of_the_end() {
    let mut world = World::new(Settings::default());
    let jobs = world.line(1, 3);
    for (first, next) in [(0, 1), (1, 2)] {
        let out = world.end(jobs[first], 1);
        assert_eq!((early(&out), executed(&out)), (vec![], vec![run(jobs[next], 1)]));
        assert_eq!(world.permitted(jobs[2]), None);
    }
}

#[test]
fn nothing_is_permitted_in_a_paused_queue_nor_left_by_a_daemon_that_ends() {
    let mut world = World::new(Settings::default());
    let jobs = world.line(2, 5);
    world.pause("q", true);
    world.end(jobs[0], 1);
    assert_eq!(world.permitted(jobs[2]), None);
    world.pause("q", false);
    world.end(jobs[1], 1);
    assert!(world.permitted(jobs[4]).is_some());
    let out = world.step(Input::Closing);
    assert_eq!((world.permitted(jobs[4]), out.batch.records.len()), (None, 1));
}

#[test]
fn permissions_of_a_queue_end_with_it_whatever_other_queues_do() {
    let mut world = World::new(Settings::default());
    let jobs = world.line(2, 6);
    world.end(jobs[0], 1);
    assert!(world.permitted(jobs[3]).is_some() && world.permitted(jobs[4]).is_some());
    world.set("other", QueueChange { parallel: Some(2), ..QueueChange::default() });
    for number in 0..9 {
        let other = |number| format!("o{number}");
        for name in [other(2 * number), other(2 * number + 1)] {
            world.create(&name, &owner(), |spec| spec.queue = Some(queue("other"))).expect("accepted");
        }
        world.pass(limits::QUEUE_AHEAD_MS / 4);
        let live = |w: &&Arc<Workload>| w.spec.queue == Some(queue("other")) && w.live_run().is_some();
        let id = world.state.workloads().values().find(live).expect("one is under way").id;
        world.end(id, 1);
    }
    assert_eq!((world.permitted(jobs[3]), world.permitted(jobs[4])), (None, None));
    // By a change of the queue, too; and by who goes before.
    world.end(jobs[1], 1);
    assert!(world.permitted(jobs[4]).is_some());
    let urgent: Vec<_> = (0..2)
        .map(|number| {
            let change = |spec: &mut Spec| (spec.queue, spec.priority) = (Some(queue("q")), 7);
            world.create(&format!("u{number}"), &owner(), change).expect("accepted")
        })
        .collect();
    world.end(jobs[2], 1);
    assert_eq!((world.permitted(urgent[1]).is_some(), world.permitted(jobs[5])), (true, None));
    world.set("q", QueueChange { parallel: Some(1), ..QueueChange::default() });
    assert_eq!((world.permitted(urgent[1]), world.permitted(jobs[4])), (None, None));
}

#[test]
fn an_attempt_that_keeps_its_place_permits_nobody() {
    let mut world = World::new(Settings::default());
    world.set("q", QueueChange { parallel: Some(2), ..QueueChange::default() });
    let retried = world
        .create("r", &owner(), |spec| {
            spec.queue = Some(queue("q"));
            spec.restart = Restart { when: RestartWhen::Always, ..Restart::default() }.into();
        })
        .expect("accepted");
    let jobs = world.line(2, 3);
    world.end(retried, 1);
    assert_eq!(jobs.iter().filter_map(|job| world.permitted(*job)).count(), 0);
}

#[test]
fn who_has_a_client_waits_for_the_record() {
    let mut world = World::new(Settings::default());
    let jobs = world.line(2, 2);
    let watched = world
        .create("w", &owner(), |spec| {
            spec.queue = Some(queue("q"));
            spec.stdio.owner = true;
        })
        .expect("accepted");
    let other = world
        .create("v", &owner(), |spec| {
            spec.queue = Some(queue("q"));
            spec.stdio.owner = true;
        })
        .expect("accepted");
    let last = world.create("l", &owner(), |spec| spec.queue = Some(queue("q"))).expect("accepted");
    let out = world.end(jobs[0], 1);
    assert_eq!((early(&out), executed(&out)), (vec![], vec![run(watched, 1)]));
    assert!(world.permitted(other).is_none() && world.permitted(last).is_some());
}

/// A job that may be executed ahead, when the daemon dies; before it two that are under way.
fn permitted_job() -> (World, [WorkloadId; 2], WorkloadId) {
    let mut world = World::new(Settings::default());
    let jobs = world.line(2, 4);
    world.end(jobs[0], 1);
    assert!(world.permitted(jobs[3]).is_some());
    (world, [jobs[1], jobs[2]], jobs[3])
}

fn running() -> FoundState {
    FoundState::Running {
        sandbox: SandboxId::from_bytes([3; 6]),
        pid: 7,
        started_at_ms: 9,
        oom_kills: 0,
        paused: false,
    }
}

#[test]
fn a_daemon_that_comes_up_takes_a_run_whose_start_was_never_recorded_for_what_it_is() {
    let (mut world, [first, second], next) = permitted_job();
    // The end of the first was not recorded either.
    let exit = Exit::new(ExitStatus::Code(0), Cause::Success, 1, 2);
    let ended = FoundState::Ended { exit };
    let out =
        world.come_back(vec![(run(first, 1), ended), (run(second, 1), running()), (run(next, 1), running())], "b");
    assert_eq!([first, second, next].map(|job| world.phase(job)), [Phase::Ended, Phase::Running, Phase::Running]);
    assert_eq!((executed(&out), world.get(next).runs), (vec![], 1));
    assert!(!out.actions.iter().any(|action| matches!(action, Action::Discard(_) | Action::Kill(_))));
}

#[test]
fn what_was_only_prepared_is_undone_and_waits_for_its_turn_under_a_new_number() {
    let (mut world, [first, second], next) = permitted_job();
    let found = vec![(run(first, 1), running()), (run(second, 1), running()), (run(next, 1), FoundState::Prepared)];
    let out = world.come_back(found, "b");
    assert_eq!((world.phase(next), world.permitted(next)), (Phase::Queued, None));
    assert!(out.actions.iter().any(|action| matches!(action, Action::Discard(undone) if *undone == run(next, 1))));
    let out = world.end(first, 1);
    assert_eq!(executed(&out), [run(next, 2)]);
}

#[test]
fn what_was_permitted_and_not_executed_waits_again_but_is_lost_with_the_power() {
    for (boot_id, phase) in [("b", Phase::Queued), ("another", Phase::Lost)] {
        let (mut world, under_way, next) = permitted_job();
        let found = if boot_id == "b" { under_way.map(|job| (run(job, 1), running())).to_vec() } else { Vec::new() };
        world.come_back(found, boot_id);
        assert_eq!((world.phase(next), world.permitted(next)), (phase, None), "{boot_id}");
    }
}

fn hook(json: &str) -> Hook {
    serde_json::from_str(json).expect("a hook")
}

#[test]
fn a_hook_that_puts_a_job_into_a_queue_that_is_emptied_keeps_it() {
    let mut world = World::new(Settings::default());
    let b = world.create("b", &owner(), |spec| spec.queue = Some(queue("q"))).expect("accepted");
    world.fail(b);
    world.pause("q", true);
    world.pass(5_000);
    let a = world
        .create("a", &owner(), |spec| {
            spec.queue = Some(queue("q"));
            spec.hooks = vec![hook(r#"{"on":"failure","action":{"start":{"workload":"b"}}}"#)].into();
        })
        .expect("accepted");
    let remove = || Request::RemoveQueue { namespace: owner(), name: queue("q"), waiting: Waiting::Cancel };
    let reply = world.ask(remove());
    assert!(matches!(reply, Ok(Reply::Cancelled { left: 1, running: 0 })), "{reply:?}");
    assert_eq!((world.phase(a), world.phase(b)), (Phase::Failed, Phase::Queued));
    let reply = world.ask(remove());
    assert!(matches!(reply, Ok(Reply::Cancelled { left: 0, running: 0 })), "{reply:?}");
    assert_eq!(world.state.queues().len(), 0);
}

#[test]
fn nobody_but_the_owner_takes_all_places_of_queues() {
    let settings = Settings { queue_jobs_max: 8, ..Settings::default() };
    let mut world = World::new(settings);
    let other = Namespace::of_uid(7);
    let mut theirs = Vec::new();
    for number in 0..4 {
        let name = format!("j{number}");
        let job = world.create(&name, &other, |spec| {
            spec.queue = Some(queue(&format!("q{number}")));
            *spec.restart = Restart {
                when: RestartWhen::OnFailure,
                backoff_initial_ms: 1_000_000,
                backoff_max_ms: 1_000_000,
                ..Restart::default()
            };
        });
        theirs.push(job.expect("accepted"));
    }
    // Two places are a quarter of eight; those who wait for their next attempt hold them.
    assert_eq!(theirs.iter().filter(|id| world.phase(**id) == Phase::Preparing).count(), 2);
    world.fail(theirs[0]);
    world.fail(theirs[1]);
    assert_eq!(theirs.iter().filter(|id| world.phase(**id) == Phase::Queued).count(), 2);
    let own = world.create("own", &owner(), |spec| spec.queue = Some(queue("q"))).expect("accepted");
    assert_eq!(world.phase(own), Phase::Preparing);
    let endless = world.create("x", &other, |spec| {
        spec.restart.when = RestartWhen::Always;
        spec.restart.backoff_max_ms = u64::MAX;
    });
    assert!(endless.expect_err("refused").detail.contains("backoff_max_ms"));
    // Four queues are theirs already.
    for count in 5..=hostler_model::limits::QUEUES_SHARE_MAX + 1 {
        let name = format!("w{count}");
        let job = world.create(&name, &other, |spec| spec.queue = Some(queue(&format!("more{count}"))));
        assert_eq!(job.is_ok(), count <= hostler_model::limits::QUEUES_SHARE_MAX, "{count}");
        if let Ok(id) = job {
            world.ask(Request::Remove { workload: id, force: true }).expect("removed");
        }
    }
}

#[test]
fn workloads_of_a_queue_that_start_each_other_do_it_once_a_second() {
    let mut world = World::new(Settings::default());
    let with = |other: &'static str| {
        move |spec: &mut Spec| {
            spec.queue = Some(queue("q"));
            let json = format!(r#"{{"on":"end","action":{{"start":{{"workload":"{other}"}}}}}}"#);
            spec.hooks = vec![hook(&json)].into();
        }
    };
    let a = world.create("a", &owner(), with("b")).expect("accepted");
    let b = world.create("b", &owner(), with("a")).expect("accepted");
    for _ in 0..20 {
        for id in [a, b] {
            if world.get(id).live_run().is_some() {
                world.fail(id);
            }
        }
    }
    assert!(world.get(a).runs + world.get(b).runs <= 4, "{} and {}", world.get(a).runs, world.get(b).runs);
    world.pass(1_500);
    assert!(world.get(a).live_run().or(world.get(b).live_run()).is_some(), "and does it again");
}

#[test]
fn a_schedule_leaves_a_draining_queue_alone_and_gives_up_what_waits_when_paused() {
    let mut world = World::new(Settings::default());
    world.set("q", QueueChange { draining: Some(true), ..QueueChange::default() });
    let every = |spec: &mut Spec| {
        spec.queue = Some(queue("q"));
        let schedule = Schedule { every_ms: Some(10_000), first_after_ms: Some(10_000), ..Schedule::default() };
        spec.schedule = Some(schedule.into());
    };
    assert!(world.create("early", &owner(), every).is_err(), "it would be put into a queue that drains");
    world.set("q", QueueChange { draining: Some(false), ..QueueChange::default() });
    let job = world.create("job", &owner(), every).expect("accepted");
    world.set("q", QueueChange { draining: Some(true), ..QueueChange::default() });
    world.pass(10_000);
    assert_eq!(world.phase(job), Phase::Scheduled);
    assert_eq!(world.get(job).schedule.as_ref().map(|state| state.skipped), Some(1));
    world.set("q", QueueChange { draining: Some(false), paused: Some(true), ..QueueChange::default() });
    world.pass(10_000);
    assert_eq!(world.phase(job), Phase::Queued);
    world.ask(Request::Schedule(job, ScheduleOrder::Pause)).expect("paused");
    assert_eq!(world.phase(job), Phase::Failed, "what waited has its result: cancelled");
    world.pause("q", false);
    world.pass(60_000);
    assert!(world.get(job).live_run().is_none());
}

#[test]
fn who_finds_no_room_waits_without_a_record_and_starts_with_the_first() {
    let mut world = World::new(Settings { live_runs_max: 1, ..Settings::default() });
    let every = |spec: &mut Spec| {
        let schedule = Schedule { every_ms: Some(10_000), first_after_ms: Some(1_000), ..Schedule::default() };
        spec.schedule = Some(schedule.into());
    };
    let job = world.create("job", &owner(), every).expect("accepted");
    let other = world.create("other", &owner(), |_| {}).expect("accepted");
    world.pass(1_000);
    assert_eq!(world.phase(job), Phase::Pending);
    for _ in 0..5 {
        self::assert_quiet(&mut world);
    }
    world.fail(other);
    world.pass(1_000);
    assert_eq!(world.phase(job), Phase::Preparing);
}

/// A second passes, and nothing is written.
fn assert_quiet(world: &mut World) {
    let wake = world.state.next_wake().boot_ms.expect("it looks again");
    assert!(wake > world.now.boot_ms, "not at once");
    world.now.boot_ms += 1_000;
    world.now.wall_ms += 1_000;
    let out = world.step(Input::Tick);
    assert!(out.is_empty(), "{out:?}");
}
