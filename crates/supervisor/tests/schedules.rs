//! What comes of fire times: kept, missed, overlapped, paused; with clocks that are set and daemons that die. One
//! workload with a schedule, a fake clock, and every event that was committed.

use std::sync::Arc;

use hostler_model::Now;
use hostler_model::event::{EventKind, StopReason};
use hostler_model::exit::{Cause, Exit, ExitStatus};
use hostler_model::ids::{Namespace, SandboxId, WorkloadId};
use hostler_model::schedule::{Misfire, Overlap, Schedule};
use hostler_model::spec::{Restart, RestartWhen, Spec};
use hostler_model::workload::{Identity, Phase, Workload};
use hostler_supervisor::{Create, Fact, Input, Outcome, Records, Request, ScheduleOrder, Settings, State};
use proptest::prelude::*;

const ID: WorkloadId = WorkloadId::from_bytes([1; 6]);
/// A full minute.
const START_MS: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

struct Sim {
    state: State,
    now: Now,
    events: Vec<EventKind>,
    boot: u32,
}

impl Sim {
    fn new(schedule: Schedule) -> Self {
        Self::with(schedule, Restart::default())
    }

    fn with(schedule: Schedule, restart: Restart) -> Self {
        let now = Now { boot_ms: 1_000_000, wall_ms: START_MS, entropy: 7 };
        let state = State::load(Settings::default(), Records::default());
        let mut sim = Self { state, now, events: Vec::new(), boot: 1 };
        sim.adopt();
        let mut spec = Spec::new(vec!["true".into()]);
        spec.schedule = Some(schedule.into());
        spec.restart = restart.into();
        spec.check().expect("a valid spec");
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        let namespace = Namespace::owner();
        let create = Create {
            id: ID,
            namespace,
            spec: Arc::new(spec),
            identity,
            idempotency: None,
            restore: None,
            hook_of: None,
            unplaced: None,
        };
        sim.ask(Request::Create(Box::new(create))).expect("accepted");
        sim.events.clear();
        sim
    }

    fn step(&mut self, input: Input) -> Outcome {
        let mut out = Outcome::default();
        self.state.step(input, self.now, &mut out);
        self.events.extend(out.batch.events.iter().map(|event| event.kind.clone()));
        out
    }

    fn ask(&mut self, request: Request) -> Result<(), String> {
        let mut out = self.step(Input::Request(1, request));
        out.replies.remove(0).1.map(|_| ()).map_err(|problem| problem.detail)
    }

    fn order(&mut self, order: ScheduleOrder) -> Result<(), String> {
        self.ask(Request::Schedule(ID, order))
    }

    fn adopt(&mut self) {
        self.step(Input::Adopted { found: Vec::new(), boot_id: self.boot.to_string(), version: "test".to_owned() });
    }

    /// The daemon dies and comes back after this time, with what is on disk.
    fn down_for(&mut self, ms: u64) {
        let workloads: Vec<Workload> =
            self.state.workloads().values().map(|workload| Workload::clone(workload)).collect();
        let records = Records { node: self.state.node().clone(), workloads, ..Records::default() };
        self.state = State::load(Settings::default(), records);
        self.pass(ms);
        self.adopt();
    }

    fn reboot_for(&mut self, ms: u64) {
        self.down_for(ms);
        self.boot += 1;
        self.now.boot_ms = 30_000;
        self.adopt();
    }

    /// Time passes, and the daemon is woken when it asked for it, and not in between.
    fn run_for(&mut self, ms: u64) {
        let end_ms = self.now.boot_ms + ms;
        loop {
            self.start();
            let wake = self.state.next_wake();
            let by_wall = wake.wall_ms.map(|at_ms| self.now.boot_ms + at_ms.saturating_sub(self.now.wall_ms));
            let next_ms = wake.boot_ms.into_iter().chain(by_wall).min().unwrap_or(u64::MAX).max(self.now.boot_ms);
            if next_ms > end_ms {
                self.pass(end_ms - self.now.boot_ms);
                return;
            }
            self.pass(next_ms - self.now.boot_ms);
            self.step(Input::Tick);
        }
    }

    /// A run that was accepted begins.
    fn start(&mut self) {
        let workload = self.workload();
        if let Some(run) = workload.live_run().filter(|_| workload.phase() == Phase::Preparing) {
            let sandbox = SandboxId::from_bytes([0; 6]);
            self.step(Input::Fact(Fact::Started { run: run.id, sandbox, pid: 7, started_at_ms: self.now.wall_ms }));
        }
    }

    /// Time passes without a daemon, or while the machine sleeps.
    fn pass(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.wall_ms += ms;
    }

    fn workload(&self) -> Arc<Workload> {
        self.state.workloads()[&ID].clone()
    }

    fn phase(&self) -> Phase {
        self.workload().phase()
    }

    /// The live run ends.
    fn end(&mut self, code: u8) {
        let run = self.workload().live_run().expect("a live run").id;
        let exit = Exit::new(
            ExitStatus::Code(code),
            if code == 0 { Cause::Success } else { Cause::Error },
            self.now.wall_ms,
            self.now.wall_ms,
        );
        self.step(Input::Fact(Fact::Exited { run, exit }));
    }

    /// Like [`Sim::end`] until none is live; how many there were.
    fn end_all(&mut self) -> u32 {
        let mut ends = 0;
        while self.workload().live_run().is_some() {
            self.end(0);
            ends += 1;
        }
        ends
    }

    /// Fire times that were kept since the last look, from the start of the simulation in minutes.
    fn fired(&mut self) -> Vec<Option<i64>> {
        let fired = self.events.iter().filter_map(|kind| match kind {
            EventKind::ScheduleFired { due_ms, .. } => {
                Some(due_ms.map(|ms| (ms as i64 - START_MS as i64) / MINUTE as i64))
            }
            _ => None,
        });
        let fired = fired.collect();
        self.events.retain(|kind| !matches!(kind, EventKind::ScheduleFired { .. }));
        fired
    }

    fn missed(&self) -> Vec<(u32, u32)> {
        let missed = self.events.iter().filter_map(|kind| match kind {
            EventKind::ScheduleMissed { count, dropped, .. } => Some((*count, *dropped)),
            _ => None,
        });
        missed.collect()
    }

    fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|kind| kind.name() == name).count()
    }
}

fn minutely(misfire: Misfire, overlap: Overlap) -> Schedule {
    Schedule { cron: Some("* * * * *".to_owned()), misfire, overlap, ..Schedule::default() }
}

fn every(every_ms: u64, misfire: Misfire) -> Schedule {
    Schedule { every_ms: Some(every_ms), misfire, ..Schedule::default() }
}

#[test]
fn dates_are_kept_and_nothing_wakes_the_node_in_between() {
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Forbid));
    assert_eq!((sim.phase(), sim.workload().runs), (Phase::Scheduled, 0));
    assert!(!sim.workload().is_at_rest() && sim.workload().is_between_fires());
    for minute in 1..=5 {
        assert_eq!(sim.state.next_wake().wall_ms, Some(START_MS + minute * MINUTE));
        assert_eq!(sim.state.next_wake().boot_ms, None);
        sim.run_for(MINUTE);
        assert_eq!(sim.fired(), [Some(minute as i64)]);
        assert_eq!(sim.end_all(), 1);
        assert_eq!(sim.phase(), Phase::Scheduled);
    }
}

#[test]
fn an_interval_begins_at_the_end_of_the_last_attempt() {
    let restart = Restart { when: RestartWhen::OnFailure, max_attempts: Some(1), ..Restart::default() };
    let mut sim = Sim::with(every(30_000, Misfire::Skip), restart);
    assert_eq!(sim.phase(), Phase::Preparing, "the first fires at once");
    sim.run_for(7_000);
    sim.end(1);
    assert_eq!(sim.phase(), Phase::Pending, "an attempt within one fire");
    sim.run_for(1_000);
    assert_eq!((sim.phase(), sim.workload().runs), (Phase::Running, 2));
    sim.end(1);
    assert_eq!(sim.phase(), Phase::Scheduled, "the policy has no more attempts");
    sim.run_for(29_999);
    assert_eq!(sim.phase(), Phase::Scheduled);
    sim.run_for(1);
    assert_eq!((sim.phase(), sim.workload().runs), (Phase::Running, 3));
    sim.end(1);
    assert_eq!(sim.phase(), Phase::Pending, "each fire has its own attempts");
    let first_after = Schedule { first_after_ms: Some(5_000), ..every(30_000, Misfire::Skip) };
    let mut sim = Sim::new(first_after);
    assert_eq!(sim.phase(), Phase::Scheduled);
    sim.run_for(5_000);
    assert_eq!(sim.phase(), Phase::Running);
}

#[test]
fn what_nobody_could_keep_follows_the_policy() {
    // Down until so long after a full minute, policy: missed and dropped, runs that follow.
    let late = 30_000;
    let cases = [
        (5 * MINUTE + 1_000, Misfire::Skip, (4, 4), 1),
        (5 * MINUTE + 1_000, Misfire::Once, (4, 4), 1),
        (5 * MINUTE + 1_000, Misfire::All, (4, 0), 5),
        (5 * MINUTE + late, Misfire::Skip, (5, 5), 0),
        (5 * MINUTE + late, Misfire::Once, (5, 4), 1),
        (5 * MINUTE + late, Misfire::All, (5, 0), 5),
        (200 * MINUTE + late, Misfire::All, (200, 99), 101),
    ];
    for (down_ms, policy, missed, runs) in cases {
        for how in ["down", "asleep", "lame duck", "rebooted"] {
            let mut sim = Sim::new(minutely(policy, Overlap::Forbid));
            match how {
                "down" => sim.down_for(down_ms),
                "asleep" => sim.pass(down_ms),
                "rebooted" => sim.reboot_for(down_ms),
                _ => {
                    sim.ask(Request::LameDuck(true)).expect("a lame duck");
                    sim.run_for(down_ms);
                    assert_eq!(sim.state.next_wake(), hostler_supervisor::Wake::default(), "held starts wake nobody");
                    assert_eq!(sim.workload().runs, 0);
                    sim.ask(Request::LameDuck(false)).expect("no lame duck");
                }
            }
            sim.run_for(0);
            assert_eq!(sim.missed(), [missed], "{how} {down_ms} {policy:?}");
            assert_eq!(sim.end_all(), runs, "{how} {down_ms} {policy:?}");
            assert_eq!(sim.workload().schedule.as_ref().expect("a plan").missed, u64::from(missed.0));
            sim.run_for(MINUTE);
            assert_eq!(sim.workload().runs, runs + 1, "{how} {policy:?}: it goes on");
        }
    }
    // A little late is not missed.
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Forbid));
    sim.down_for(MINUTE + 3_000);
    sim.run_for(0);
    assert_eq!((sim.fired(), sim.missed()), (vec![Some(1)], vec![]));
}

#[test]
fn a_missed_interval_follows_the_policy() {
    let hour = 60 * MINUTE;
    for (policy, runs) in [(Misfire::Skip, 1), (Misfire::Once, 2), (Misfire::All, 2)] {
        for reboot in [false, true] {
            let mut sim = Sim::new(every(hour, policy));
            sim.end(0);
            if reboot {
                sim.reboot_for(2 * hour)
            } else {
                sim.down_for(2 * hour)
            };
            sim.run_for(0);
            assert_eq!(sim.workload().runs, runs, "{policy:?} reboot: {reboot}");
            assert_eq!(sim.count("schedule.missed"), 1);
            sim.end_all();
            sim.run_for(hour);
            assert_eq!(sim.workload().runs, runs + 1, "{policy:?}: it goes on");
        }
    }
    // What was not due goes on over a reboot, by the wall clock.
    let mut sim = Sim::new(every(hour, Misfire::Skip));
    sim.end(0);
    sim.reboot_for(hour / 2);
    sim.run_for(hour / 2 - 1);
    assert_eq!(sim.workload().runs, 1);
    sim.run_for(1);
    assert_eq!(sim.workload().runs, 2);
}

#[test]
fn a_fire_time_while_a_run_is_live_follows_the_policy() {
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Forbid));
    sim.run_for(4 * MINUTE);
    assert_eq!((sim.fired(), sim.count("schedule.skipped")), (vec![Some(1)], 3));
    assert_eq!((sim.end_all(), sim.workload().schedule.as_ref().expect("a plan").skipped), (1, 3));

    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Queue));
    sim.run_for(4 * MINUTE);
    assert_eq!(sim.fired(), [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(sim.end_all(), 4, "one after the other, without a pause");

    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Queue));
    sim.run_for(150 * MINUTE);
    assert_eq!((sim.count("schedule.skipped"), sim.end_all()), (49, 101), "the queue is bounded");

    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Replace));
    sim.run_for(2 * MINUTE);
    assert_eq!(sim.phase(), Phase::Stopping);
    assert!(sim.events.contains(&EventKind::WorkloadStopping { reason: StopReason::Replace }));
    sim.end(143);
    assert_eq!((sim.phase(), sim.workload().runs), (Phase::Preparing, 2));
    assert_eq!(sim.fired(), [Some(1), Some(2)]);
    // One that is being replaced already is not replaced twice.
    sim.run_for(2 * MINUTE);
    assert_eq!((sim.count("schedule.skipped"), sim.end_all()), (1, 2));
}

#[test]
fn a_pending_attempt_counts_as_the_run_before() {
    let slow = Restart {
        when: RestartWhen::OnFailure,
        backoff_initial_ms: 10 * MINUTE,
        backoff_max_ms: 10 * MINUTE,
        ..Restart::default()
    };
    for (overlap, runs, skipped) in [(Overlap::Forbid, 1, 1), (Overlap::Queue, 1, 0), (Overlap::Replace, 2, 0)] {
        let mut sim = Sim::with(minutely(Misfire::Skip, overlap), slow);
        sim.run_for(MINUTE);
        sim.end(1);
        sim.run_for(MINUTE);
        assert_eq!((sim.workload().runs, sim.count("schedule.skipped")), (runs, skipped), "{overlap:?}");
    }
}

#[test]
fn pause_stop_resume_start_and_fire() {
    let mut sim = Sim::new(minutely(Misfire::All, Overlap::Forbid));
    sim.order(ScheduleOrder::Pause).expect("paused");
    assert_eq!(sim.phase(), Phase::Scheduled);
    assert!(sim.workload().is_at_rest(), "nothing will come by itself");
    sim.run_for(5 * MINUTE);
    sim.down_for(5 * MINUTE);
    assert_eq!((sim.workload().runs, sim.state.next_wake().wall_ms), (0, None));
    sim.order(ScheduleOrder::Fire).expect("beside the plan");
    assert_eq!(sim.fired(), [None]);
    assert!(sim.order(ScheduleOrder::Fire).expect_err("forbidden").contains("forbids"));
    sim.end(0);
    assert_eq!(sim.phase(), Phase::Ended, "still paused");
    sim.order(ScheduleOrder::Resume).expect("resumed");
    sim.run_for(MINUTE);
    assert_eq!((sim.fired(), sim.missed()), (vec![Some(11)], vec![]), "what passed meanwhile was not missed");
    sim.ask(Request::Stop { workload: ID, signal: None, grace_ms: None }).expect("stopped");
    sim.end(143);
    assert_eq!(sim.phase(), Phase::Ended);
    sim.down_for(MINUTE);
    sim.run_for(5 * MINUTE);
    assert_eq!((sim.workload().runs, sim.count("schedule.paused")), (2, 2), "it stays stopped");
    sim.ask(Request::Start(ID)).expect("started");
    assert_eq!((sim.phase(), sim.count("schedule.resumed")), (Phase::Scheduled, 2));
    assert!(sim.ask(Request::Start(ID)).expect_err("is scheduled").contains("schedule fire"));
    sim.run_for(MINUTE);
    assert_eq!(sim.workload().runs, 3);
    sim.ask(Request::LameDuck(true)).expect("a lame duck");
    assert!(sim.order(ScheduleOrder::Fire).expect_err("new work").contains("lame duck"));
}

#[test]
fn a_fire_that_waits_is_kept_by_a_schedule_that_was_paused_before() {
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Queue));
    sim.run_for(MINUTE);
    sim.order(ScheduleOrder::Pause).expect("paused");
    sim.order(ScheduleOrder::Fire).expect("waits");
    assert_eq!(sim.end_all(), 2);
    assert_eq!(sim.phase(), Phase::Ended);
}

#[test]
fn what_somebody_else_has_waits_for_no_schedule() {
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Forbid));
    let mut spec = Spec::new(vec!["true".into()]);
    spec.schedule = Some(Schedule { cron: Some("0 0 31 2 *".to_owned()), ..Schedule::default() }.into());
    let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
    let id = WorkloadId::from_bytes([2; 6]);
    let create = Create {
        id,
        namespace: Namespace::owner(),
        spec: Arc::new(spec),
        identity,
        idempotency: None,
        restore: None,
        hook_of: None,
        unplaced: None,
    };
    assert!(sim.ask(Request::Create(Box::new(create))).expect_err("never fires").contains("no such date"));
    assert!(!sim.state.workloads().contains_key(&id));
}

#[test]
fn no_date_comes_twice_when_the_clock_is_set_back() {
    let mut sim = Sim::new(minutely(Misfire::All, Overlap::Queue));
    sim.run_for(3 * MINUTE);
    assert_eq!(sim.fired(), [Some(1), Some(2), Some(3)]);
    sim.end_all();
    sim.now.wall_ms -= 2 * MINUTE + 30_000;
    sim.step(Input::Tick);
    sim.run_for(3 * MINUTE + 30_000);
    assert_eq!((sim.fired(), sim.missed()), (vec![Some(4)], vec![]));
    sim.end_all();
    // Set far back, somebody wants it to count from this now on.
    sim.now.wall_ms -= 60 * MINUTE;
    sim.order(ScheduleOrder::Resume).expect("resumed");
    sim.run_for(MINUTE);
    assert_eq!(sim.fired().len(), 1);
}

#[test]
fn a_clock_that_is_set_forward_over_a_date_keeps_it_or_misses_it() {
    for (step_ms, policy, fired, missed) in [
        (MINUTE + 2_000, Misfire::Skip, vec![Some(1)], vec![]),
        (MINUTE + 30_000, Misfire::Skip, vec![], vec![(1, 1)]),
        (3 * MINUTE + 2_000, Misfire::Skip, vec![Some(3)], vec![(2, 2)]),
        (3 * MINUTE + 30_000, Misfire::Once, vec![Some(3)], vec![(3, 2)]),
    ] {
        let mut sim = Sim::new(minutely(policy, Overlap::Forbid));
        sim.now.wall_ms += step_ms;
        sim.step(Input::Tick);
        assert_eq!((sim.fired(), sim.missed()), (fired, missed), "{step_ms} {policy:?}");
    }
    // Intervals are on the boot clock.
    let mut sim = Sim::new(every(30_000, Misfire::Skip));
    sim.end(0);
    for step_ms in [100 * MINUTE as i64, -200 * MINUTE as i64] {
        sim.now.wall_ms = sim.now.wall_ms.saturating_add_signed(step_ms);
        sim.step(Input::Tick);
        assert_eq!(sim.workload().runs, 1);
    }
    sim.run_for(30_000);
    assert_eq!((sim.workload().runs, sim.missed()), (2, vec![]));
}

#[test]
fn ten_thousand_that_are_due_at_once_are_decided_in_portions() {
    let namespace = Namespace::owner();
    let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
    let mut sim = Sim::new(minutely(Misfire::Skip, Overlap::Forbid));
    for number in 0u32..10_000 {
        let [a, b, c, d] = number.to_be_bytes();
        let mut spec = Spec::new(vec!["true".into()]);
        spec.schedule = Some(minutely(Misfire::Skip, Overlap::Forbid).into());
        let id = WorkloadId::from_bytes([9, 9, a, b, c, d]);
        let (spec, identity) = (Arc::new(spec), identity.clone());
        let create = Create {
            id,
            namespace: namespace.clone(),
            spec,
            identity,
            idempotency: None,
            restore: None,
            hook_of: None,
            unplaced: None,
        };
        sim.ask(Request::Create(Box::new(create))).expect("accepted");
    }
    sim.pass(MINUTE);
    let mut steps = 0;
    while sim.state.next_wake().is_due(sim.now.boot_ms, sim.now.wall_ms) {
        let out = sim.step(Input::Tick);
        assert!(out.batch.records.len() <= hostler_model::limits::DUE_PER_STEP);
        steps += 1;
    }
    assert_eq!((sim.fired().len(), steps), (10_001, 40));
    // One more than may be live: it waits for room and is not lost.
    let pending = sim.state.workloads().values().filter(|workload| workload.phase() == Phase::Pending).count();
    assert_eq!(pending, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every full minute that passes while the schedule is active is kept, missed, or left out: exactly one of them.
    #[test]
    fn every_date_is_accounted_for_exactly_once(
        misfire in prop::sample::select(Misfire::ALL),
        overlap in prop::sample::select(Overlap::ALL),
        steps in prop::collection::vec((0u8..6, 1u64..400_000), 1..40),
    ) {
        let mut sim = Sim::new(minutely(misfire, overlap));
        for (what, ms) in steps {
            match what {
                0 => sim.down_for(ms),
                1 => sim.reboot_for(ms),
                2 => sim.pass(ms),
                3 => { sim.end_all(); }
                _ => sim.run_for(ms),
            }
        }
        sim.run_for(0);
        let plan = sim.workload().schedule.clone().expect("a plan");
        let passed = (sim.now.wall_ms - START_MS) / MINUTE;
        prop_assert_eq!(plan.next_fire_ms, Some(START_MS + (passed + 1) * MINUTE));
        // A kept date has its event, unless it only waits as one of several that were missed.
        let kept = sim.fired();
        let mut dates = kept.clone();
        dates.sort();
        dates.dedup();
        prop_assert_eq!(dates.len(), kept.len(), "twice");
        if misfire == Misfire::Skip {
            prop_assert_eq!(kept.len() as u64 + plan.missed + plan.skipped, passed);
        } else {
            prop_assert!(kept.len() as u64 + plan.missed + plan.skipped >= passed);
        }
    }
}
