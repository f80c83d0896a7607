//! Generated stacks against simulated replicas: whatever the graph and whatever happens, the promises of the decision
//! core hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::Now;
use hostler_model::ids::UnitName;
use hostler_model::stack::{GenerationState, Then, UnitKind, UnitPlan, Update};
use hostler_supervisor::stack::{
    self, Change, Command, MemberKey, MemberState, Members, Retry, Units, Wanted, advance, answer, apply, diff,
    take_down,
};
use proptest::prelude::*;

#[path = "stacks/draw.rs"]
mod draw;

use draw::{Drawn, version, wanted};

#[derive(Debug, Clone)]
enum Op {
    /// Something happens to a replica.
    Member {
        which: usize,
        what: u8,
    },
    /// A condition is looked at.
    Answer {
        which: usize,
        met: bool,
    },
    Apply {
        version: Vec<Drawn>,
        retry: bool,
    },
    Tick {
        ms: u32,
    },
    /// Somebody stops or removes a replica by hand.
    ByHand {
        which: usize,
        remove: bool,
    },
    /// The node takes no new work, or does again.
    Hold(bool),
    /// The machine is rebooted.
    Reboot,
    /// The node goes down with its workloads.
    Rest,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any::<usize>(), 0u8..6).prop_map(|(which, what)| Op::Member { which, what }),
        2 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(which, met)| Op::Answer { which, met }),
        2 => (version(), any::<bool>()).prop_map(|(version, retry)| Op::Apply { version, retry }),
        1 => (0u32..40_000).prop_map(|ms| Op::Tick { ms }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, remove)| Op::ByHand { which, remove }),
        1 => any::<bool>().prop_map(Op::Hold),
        1 => Just(Op::Reboot),
        1 => Just(Op::Rest),
    ]
}

struct World {
    units: Units,
    members: Members,
    checks: Vec<(UnitName, u32)>,
    now: Now,
    held: bool,
    /// Only one version was ever applied: nothing is mixed, and the order of stops is exact.
    pure: bool,
    stops: Vec<UnitName>,
}

impl World {
    fn new(version: &[Drawn]) -> Self {
        let mut world = Self {
            units: Units::new(),
            members: Members::new(),
            checks: Vec::new(),
            now: Now { boot_ms: 1_000, wall_ms: 1_000, entropy: 0 },
            held: false,
            pure: true,
            stops: Vec::new(),
        };
        apply(&mut world.units, wanted(version), Retry::Settled, &world.members);
        world.run();
        world
    }

    /// Carries out what follows until nothing does.
    fn run(&mut self) {
        for _ in 0..1_000 {
            let before = self.units.clone();
            let hold = self.held.then_some("the node");
            let commands = advance(&mut self.units, &self.members, self.now, hold);
            if commands.is_empty() {
                return;
            }
            self.carry_out(&before, commands);
        }
        panic!("it never comes to an end: {:#?}", self.units);
    }

    fn carry_out(&mut self, before: &Units, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Check(unit, generation) => self.checks.push((unit, generation)),
                Command::Start(key) => {
                    self.check_start(before, &key);
                    // A plan stands as soon as it is made.
                    let started = if self.has_plan(&key) { MemberState::Ready } else { MemberState::Starting };
                    let state = self.members.entry(key.clone()).or_insert_with(|| started.clone());
                    assert_ne!(*state, MemberState::Going, "started while it goes: {key:?}");
                    if !state.is_up() {
                        *state = started;
                    }
                }
                Command::Stop(key) => {
                    self.check_stop(&key);
                    if let Some(state) = self.members.get_mut(&key).filter(|state| **state != MemberState::Going) {
                        *state = MemberState::Stopping;
                    }
                }
                Command::Remove(key) => {
                    self.check_stop(&key);
                    match self.members.get_mut(&key) {
                        Some(state) if state.is_up() => {
                            *state = MemberState::Going;
                        }
                        _ => drop(self.members.remove(&key)),
                    }
                }
            }
        }
    }

    /// Nothing starts before everything that it requires is ready.
    fn check_start(&self, before: &Units, key: &MemberKey) {
        let unit = &self.units[&key.unit];
        let find = |unit: &hostler_model::stack::UnitRecord| {
            let generations = [Some(&unit.current), unit.next.as_ref()];
            generations.into_iter().flatten().find(|generation| generation.number == key.generation).cloned()
        };
        let generation = find(unit).expect("only generations that are there start");
        assert!(generation.state.is_up(), "{key:?} is started while {:?}", generation.state);
        // One that was up before only gets back what was taken from it.
        if before.get(&key.unit).and_then(find).is_some_and(|before| before.state.is_up()) {
            return;
        }
        assert!(!self.held, "{key:?} is started while nothing may start");
        for other in &generation.plan.requires {
            let other = &self.units[other];
            assert!(other.current.state == GenerationState::Ready, "{key:?} is started before {other:?}");
            assert!(other.next.is_none(), "{key:?} is started while {other:?} changes");
        }
        for other in &generation.plan.after {
            let other = &self.units[other];
            let state = other.next.as_ref().map_or(&other.current.state, |next| &next.state);
            assert!(state.is_settled(), "{key:?} is started while {state:?}");
        }
    }

    /// Nothing stops before those that depend on it, unless they go on without it.
    fn check_stop(&mut self, key: &MemberKey) {
        self.stops.push(key.unit.clone());
        if !self.pure {
            return;
        }
        for other in self.units.values().filter(|other| other.name != key.unit) {
            let depends = other.current.plan.dependencies().any(|name| *name == key.unit);
            let stopping = matches!(other.current.state, GenerationState::Stopping { .. });
            let up = self.members.iter().any(|(member, state)| member.unit == other.name && state.is_up());
            assert!(!(depends && stopping && up), "{key:?} is stopped before {other:?}");
        }
    }

    fn pick(&self, which: usize) -> Option<MemberKey> {
        let keys: Vec<_> = self.members.keys().collect();
        (!keys.is_empty()).then(|| keys[which % keys.len()].clone())
    }

    fn member(&mut self, key: &MemberKey, what: u8) {
        let (job, has_plan) = (self.is_job(key), self.has_plan(key));
        let Some(state) = self.members.get_mut(key) else { return };
        *state = match (&*state, what) {
            (MemberState::Going, _) => {
                self.members.remove(key);
                return;
            }
            (MemberState::Stopping, _) => MemberState::Stopped,
            // Whatever comes of single runs; one that was stopped may be resumed by hand.
            (MemberState::Stopped, 5) if has_plan => MemberState::Ready,
            (same, _) if has_plan => same.clone(),
            (MemberState::Starting, 0..=2) if job => MemberState::Done { ready: false },
            (MemberState::Starting, 0..=2) => MemberState::Ready,
            (MemberState::Starting, 3) | (MemberState::Ready, 0) => MemberState::Failed("exit 3".to_owned()),
            (MemberState::Starting, 4) => MemberState::Done { ready: false },
            (MemberState::Ready, 1) => MemberState::Done { ready: true },
            // Restarted by its policy.
            (MemberState::Ready, 2) => MemberState::Starting,
            // Started by hand.
            (MemberState::Failed(_) | MemberState::Stopped, 5) => MemberState::Starting,
            (same, _) => same.clone(),
        };
    }

    fn is_job(&self, key: &MemberKey) -> bool {
        self.plan(key).is_some_and(|plan| plan.kind == UnitKind::Job)
    }

    fn has_plan(&self, key: &MemberKey) -> bool {
        self.plan(key).is_some_and(|plan| plan.spec.schedule.is_some())
    }

    fn plan(&self, key: &MemberKey) -> Option<&UnitPlan> {
        let unit = self.units.get(&key.unit)?;
        let mut generations = [Some(&unit.current), unit.next.as_ref()].into_iter().flatten();
        generations.find(|generation| generation.number == key.generation).map(|generation| &*generation.plan)
    }

    fn op(&mut self, op: Op) {
        match op {
            Op::Member { which, what } => {
                let Some(key) = self.pick(which) else { return };
                self.member(&key, what);
            }
            Op::Answer { which, met } => {
                if self.checks.is_empty() {
                    return;
                }
                let (unit, generation) = self.checks.swap_remove(which % self.checks.len());
                self.answer(&unit, generation, met);
            }
            Op::Apply { version, retry } => {
                self.pure = false;
                let retry = if retry { Retry::Settled } else { Retry::Nothing };
                apply(&mut self.units, wanted(&version), retry, &self.members);
            }
            Op::Tick { ms } => self.now.boot_ms += u64::from(ms),
            Op::ByHand { which, remove } => {
                let Some(key) = self.pick(which) else { return };
                let Some(state) = self.members.get_mut(&key) else { return };
                if state.is_up() {
                    let is_going = remove || *state == MemberState::Going;
                    *state = if is_going { MemberState::Going } else { MemberState::Stopping };
                } else if remove {
                    self.members.remove(&key);
                }
            }
            Op::Hold(held) => self.held = held,
            Op::Reboot => {
                self.now.boot_ms = 500;
                for key in self.members.keys().cloned().collect::<Vec<_>>() {
                    if self.members[&key].is_up() {
                        // Plans go on, and what was stopped stays so.
                        if self.has_plan(&key) && self.members[&key] != MemberState::Going {
                            self.member(&key, u8::MAX);
                            continue;
                        }
                        if self.members[&key] == MemberState::Going {
                            self.members.remove(&key);
                        } else {
                            self.members.insert(key, MemberState::Failed("the machine was rebooted".to_owned()));
                        }
                    }
                }
                stack::reboot(&mut self.units);
            }
            Op::Rest => stack::rest(&mut self.units),
        }
        self.run();
    }

    fn answer(&mut self, unit: &UnitName, generation: u32, met: bool) {
        answer(&mut self.units, unit, generation, (!met).then(|| "unmet".to_owned()));
        self.run();
    }

    /// Everything that is under way goes well.
    fn settle(&mut self) {
        self.held = false;
        self.run();
        for _ in 0..200 {
            let before = (self.units.clone(), self.members.clone());
            for (unit, generation) in std::mem::take(&mut self.checks) {
                self.answer(&unit, generation, true);
            }
            for key in self.members.keys().cloned().collect::<Vec<_>>() {
                if self.members.get(&key).is_some_and(|state| {
                    matches!(state, MemberState::Starting | MemberState::Stopping | MemberState::Going)
                }) {
                    self.member(&key, 1);
                }
                self.run();
            }
            self.run();
            if before == (self.units.clone(), self.members.clone()) {
                return;
            }
        }
        panic!("it never settles: {:#?}", self.units);
    }

    /// Settled: nothing waits for nothing.
    fn check_settled(&self) {
        for unit in self.units.values() {
            for generation in [Some(&unit.current), unit.next.as_ref()].into_iter().flatten() {
                // What an old generation in service needs stays with it.
                let kept = unit.leaving && generation.state == GenerationState::Stopping { then: Then::Gone };
                assert!(generation.state.is_settled() || kept, "{} is left as {:?}", unit.name, generation.state);
            }
        }
        let up = self.members.iter().filter(|(_, state)| state.is_up());
        for (key, _) in up {
            let unit = self.units.get(&key.unit).expect("a replica without a unit is left");
            let known = [Some(&unit.current), unit.next.as_ref()].into_iter().flatten();
            assert!(known.into_iter().any(|generation| generation.number == key.generation), "{key:?} is left");
        }
    }

    fn states(&self) -> BTreeMap<&str, &GenerationState> {
        self.units.iter().map(|(name, unit)| (name.as_str(), &unit.current.state)).collect()
    }
}

fn check(version: Vec<Drawn>, ops: Vec<Op>, last: Vec<Drawn>) {
    let mut world = World::new(&version);
    for op in ops {
        world.op(op);
    }
    world.settle();
    world.check_settled();
    // Asked for once more, with everything going well: all that is wanted is in service, and nothing else is left.
    let last = wanted(&last);
    world.pure = false;
    apply(&mut world.units, last.clone(), Retry::Settled, &world.members);
    world.settle();
    assert_eq!(world.units.keys().collect::<Vec<_>>(), last.keys().collect::<Vec<_>>(), "{:#?}", world.units);
    for unit in world.units.values() {
        assert_eq!(unit.current.state, GenerationState::Ready, "{}: {:#?}", unit.name, world.units);
        assert!(unit.next.is_none());
        assert_eq!(unit.current.plan, last[&unit.name].plan);
    }
    let replicas: usize = last.values().map(|wanted| wanted.plan.replicas as usize).sum();
    let members = world.members.keys().filter(|key| world.units[&key.unit].current.number == key.generation).count();
    assert!(members <= replicas && world.members.len() == members, "{:#?}", world.members);
    // The same again changes nothing.
    assert!(diff(&world.units, &last).is_empty());
    let before = (world.units.clone(), world.members.clone());
    apply(&mut world.units, last, Retry::Settled, &world.members);
    world.run();
    assert_eq!(before, (world.units.clone(), world.members.clone()));
    // Down, in reverse order where that is one.
    world.pure = true;
    take_down(&mut world.units);
    world.settle();
    assert!(world.units.is_empty() && world.members.is_empty(), "{:#?}", world.units);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(first in version(), ops in prop::collection::vec(op(), 0..50), last in version()) {
        check(first, ops, last);
    }
}

/// `name: requires / after` for each, services of one replica.
fn graph(units: &[(&str, &[&str], &[&str])]) -> BTreeMap<UnitName, Wanted> {
    let name = |name: &&str| -> UnitName { name.parse().expect("a name") };
    let template = wanted(&[Drawn {
        present: true,
        job: false,
        scheduled: false,
        requires: Vec::new(),
        after: Vec::new(),
        replicas: 1,
        replace: false,
        condition: false,
        version: 0,
        reversed: false,
    }]);
    let template = template.into_values().next().expect("one");
    let wanted = |(unit, requires, after): &(&str, &[&str], &[&str])| {
        let mut plan = UnitPlan::clone(&template.plan);
        plan.requires = requires.iter().map(name).collect();
        plan.after = after.iter().map(name).collect();
        (name(unit), Wanted { plan: Arc::new(plan), ..template.clone() })
    };
    units.iter().map(wanted).collect()
}

fn world(wanted: BTreeMap<UnitName, Wanted>) -> World {
    let mut world = World::new(&[]);
    apply(&mut world.units, wanted, Retry::Settled, &world.members);
    world.run();
    world
}

fn key(unit: &str, generation: u32) -> MemberKey {
    MemberKey { unit: unit.parse().expect("a name"), generation, replica: 0 }
}

fn set(world: &mut World, unit: &str, state: MemberState) {
    world.members.insert(key(unit, 1), state);
    world.run();
}

#[test]
fn what_does_not_depend_on_each_other_starts_at_once_and_the_rest_follows() {
    let mut world = world(graph(&[("a", &[], &[]), ("b", &[], &[]), ("c", &["a"], &["b"]), ("d", &["c"], &[])]));
    assert_eq!(world.members.keys().map(|key| key.unit.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let waits = |world: &World, unit: &str| match world.states()[unit] {
        GenerationState::Waiting { on, .. } => on.join(" "),
        other => panic!("{other:?}"),
    };
    assert_eq!((waits(&world, "c").as_str(), waits(&world, "d").as_str()), ("a b", "c"));
    set(&mut world, "a", MemberState::Ready);
    assert_eq!(waits(&world, "c"), "b");
    // Order only: it may as well fail.
    set(&mut world, "b", MemberState::Failed("exit 1".to_owned()));
    assert!(matches!(world.states()["c"], GenerationState::Starting { .. }));
}

#[test]
fn a_failure_is_passed_on_with_its_reason_and_the_rest_goes_on() {
    let mut world =
        world(graph(&[("db", &[], &[]), ("api", &["db"], &[]), ("web", &["api"], &[]), ("log", &[], &["db"])]));
    for unit in ["db", "api", "web", "log"] {
        set(&mut world, unit, MemberState::Ready);
    }
    set(&mut world, "db", MemberState::Failed("exit 9".to_owned()));
    // Those that depend on it stop, the last first.
    assert_eq!(world.stops.iter().map(UnitName::as_str).collect::<Vec<_>>(), ["web"]);
    set(&mut world, "web", MemberState::Stopped);
    set(&mut world, "api", MemberState::Stopped);
    let states = world.states();
    assert_eq!(*states["api"], GenerationState::failed("db has failed: exit 9"));
    assert_eq!(*states["web"], GenerationState::failed("api has failed: db has failed: exit 9"));
    assert_eq!(*states["log"], GenerationState::Ready);
}

#[test]
fn one_that_is_never_ready_has_failed_after_its_deadline() {
    let mut world = world(graph(&[("db", &[], &[]), ("web", &["db"], &[])]));
    world.now.boot_ms += 59_999;
    world.run();
    assert!(matches!(world.states()["db"], GenerationState::Starting { .. }));
    assert_eq!(stack::next_deadline_ms(&world.units), Some(world.now.boot_ms + 1));
    world.now.boot_ms += 1;
    world.run();
    set(&mut world, "db", MemberState::Stopped);
    assert_eq!(*world.states()["db"], GenerationState::failed("it was not ready within 1m0s"));
    assert_eq!(*world.states()["web"], GenerationState::failed("db has failed: it was not ready within 1m0s"));
}

fn changed(base: &BTreeMap<UnitName, Wanted>, unit: &str, update: Update) -> BTreeMap<UnitName, Wanted> {
    let mut wanted = base.clone();
    let entry = wanted.get_mut(&unit.parse::<UnitName>().expect("a name")).expect("known");
    let mut plan = UnitPlan::clone(&entry.plan);
    plan.spec.workdir = Some("/new".into());
    plan.update = update;
    entry.plan = Arc::new(plan);
    wanted
}

#[test]
fn the_old_generation_stays_until_the_new_one_is_ready_and_when_it_never_is() {
    let base = graph(&[("db", &[], &[]), ("web", &["db"], &[])]);
    let mut world = world(base.clone());
    world.settle();
    let new = changed(&base, "web", Update::Rolling);
    assert_eq!(diff(&world.units, &new), [("web".parse().expect("a name"), Change::Changed(vec!["workdir"]))].into());
    apply(&mut world.units, new.clone(), Retry::Settled, &world.members);
    world.run();
    assert_eq!(world.members[&key("web", 1)], MemberState::Ready);
    assert_eq!(world.members[&key("web", 2)], MemberState::Starting);
    assert_eq!(world.members.len(), 3, "db is left alone");
    world.members.insert(key("web", 2), MemberState::Failed("exit 1".to_owned()));
    world.run();
    assert_eq!(*world.states()["web"], GenerationState::Ready);
    let web = &world.units[&"web".parse::<UnitName>().expect("a name")];
    assert_eq!(web.next.as_ref().map(|next| next.state.as_str()), Some("failed"));
    // Once more, and now it comes.
    apply(&mut world.units, new, Retry::Settled, &world.members);
    world.run();
    world.members.insert(key("web", 2), MemberState::Ready);
    world.run();
    assert_eq!(world.members[&key("web", 1)], MemberState::Going);
    world.settle();
    assert!(!world.members.contains_key(&key("web", 1)));
    // The way back while it rolls out is no change at all.
    apply(&mut world.units, base.clone(), Retry::Settled, &world.members);
    apply(&mut world.units, changed(&base, "web", Update::Rolling), Retry::Settled, &world.members);
    world.run();
    assert_eq!(world.members.len(), 2);
}

#[test]
fn replace_stops_the_old_one_first() {
    let base = graph(&[("db", &[], &[]), ("web", &["db"], &[])]);
    let mut world = world(base.clone());
    world.settle();
    apply(&mut world.units, changed(&base, "db", Update::Replace), Retry::Settled, &world.members);
    world.run();
    assert_eq!(world.members[&key("db", 1)], MemberState::Going);
    assert!(!world.members.contains_key(&key("db", 2)));
    assert_eq!(world.members[&key("web", 1)], MemberState::Ready, "who depends on it goes on");
    world.member(&key("db", 1), 0);
    world.run();
    assert_eq!(world.members[&key("db", 2)], MemberState::Starting);
}

#[test]
fn more_or_fewer_replicas_leave_the_others_alone() {
    let base = graph(&[("web", &[], &[])]);
    let mut world = world(base.clone());
    world.settle();
    for replicas in [3, 2, 0, 1] {
        let mut scaled = base.clone();
        let entry = scaled.values_mut().next().expect("one");
        entry.plan = Arc::new(UnitPlan { replicas, ..UnitPlan::clone(&entry.plan) });
        assert!(matches!(diff(&world.units, &scaled).values().next(), Some(Change::Scaled(_, to)) if *to == replicas));
        apply(&mut world.units, scaled, Retry::Settled, &world.members);
        world.settle();
        assert_eq!(world.members.len(), replicas as usize);
        assert!(world.members.keys().all(|key| key.generation == 1));
    }
}
