//! Single decisions about queues, hooks and schedules that meet; the rest is in `sequences`.

use std::sync::Arc;

use hostler_model::hook::Hook;
use hostler_model::ids::{Namespace, QueueName, WorkloadId};
use hostler_model::queue::QueueChange;
use hostler_model::schedule::Schedule;
use hostler_model::spec::{Restart, RestartWhen, Spec};
use hostler_model::workload::{Identity, Phase, StartFailure, StartFailureKind, Workload};
use hostler_model::{Now, Problem};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{Create, Fact, Input, Outcome, Records, Request, ScheduleOrder, Settings, State, Waiting};

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
        let create = Create { id, namespace, spec: Arc::new(spec), identity, idempotency: None, hook_of: None };
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
