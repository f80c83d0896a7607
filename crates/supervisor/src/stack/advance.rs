//! One step of everything: states follow from how the replicas stand, commands from the states.

use std::collections::BTreeSet;

use hostler_model::Now;
use hostler_model::ids::UnitName;
use hostler_model::stack::{Generation, GenerationState as State, Then, UnitKind, UnitPlan, UnitRecord, Update};
use hostler_model::units::format_duration;

use super::order::Order;
use super::{Command, MemberKey, MemberState, Members, Units};

/// Longest reason that is passed on to those who depend, characters.
const REASON_MAX: usize = 300;

/// Why nothing new starts at the moment, if so: what waits says it.
pub type Hold<'a> = Option<&'a str>;

/// Which of a unit's two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Current,
    Next,
}

/// What a unit is to those that wait for it.
enum Standing {
    Pending,
    Ready,
    Failed(String),
    Skipped(String),
    Stopped,
}

/// Brings the units' states after how their replicas stand, as far as that goes, and tells what is to be done. Units
/// that are gone are taken out. When commands were carried out, there may be more to do: call again.
#[must_use]
pub fn advance(units: &mut Units, members: &Members, now: Now, hold: Hold<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    // Their replicas are about to be started: how these stood before says nothing.
    let mut fresh = BTreeSet::new();
    let names: Vec<UnitName> = units.keys().cloned().collect();
    // A state never comes twice while the replicas stand as they stand, so this ends; the bound is for a mistake in here.
    let passes_max = names.len() * 16 + 16;
    for pass in 0.. {
        debug_assert!(pass < passes_max, "it goes round: {units:#?}");
        let mut changed = pass >= passes_max;
        if changed {
            break;
        }
        // What waits looks at the others when these stand as their replicas do: nothing starts on old news.
        let mut looks_at_waiting = false;
        let others = names.iter().map(|name| (name, false));
        for (name, waits) in others.chain(names.iter().map(|name| (name, true))) {
            if waits && !std::mem::replace(&mut looks_at_waiting, true) && changed {
                break;
            }
            changed |= !waits && turn_over(units, name, members);
            for place in [Place::Current, Place::Next] {
                let is_waiting = |found: &Generation| matches!(found.state, State::Waiting { .. });
                if fresh.contains(&(name, place)) || generation(units, name, place).is_some_and(is_waiting) != waits {
                    continue;
                }
                let Some(state) = next_state(units, name, place, members, now, hold) else { continue };
                let Some(generation) = generation_mut(units, name, place) else { continue };
                if matches!(state, State::Starting { .. } | State::Checking)
                    && matches!(generation.state, State::Waiting { .. })
                {
                    if generation.plan.replicas > 0 {
                        fresh.insert((name, place));
                    }
                    begin(name, generation, &state, &mut commands);
                }
                generation.state = state;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    follow(units, members, hold, &mut commands);
    commands
}

/// The answer to [`Command::Check`]: what of the condition does not hold. What follows is told by [`advance`].
pub fn answer(units: &mut Units, unit: &UnitName, generation: u32, unmet: Option<String>) {
    for place in [Place::Current, Place::Next] {
        let Some(found) = generation_mut(units, unit, place) else { continue };
        if found.number != generation || found.state != State::Checking {
            continue;
        }
        found.state = match &unmet {
            Some(reason) => State::Skipped { reason: reason.clone() },
            None => State::Waiting { on: Vec::new(), checked: true },
        };
    }
}

/// Conditions that are being looked at: whoever looked at them may have died.
#[must_use]
pub fn open_checks(units: &Units) -> Vec<Command> {
    let generations = units.values().flat_map(|unit| {
        let generations = std::iter::once(&unit.current).chain(&unit.next);
        generations.map(|generation| (&unit.name, generation))
    });
    let open = generations.filter(|(_, generation)| generation.state == State::Checking);
    open.map(|(unit, generation)| Command::Check(unit.clone(), generation.number)).collect()
}

/// When the next deadline is over, boot clock, milliseconds.
#[must_use]
pub fn next_deadline_ms(units: &Units) -> Option<u64> {
    let generations = units.values().flat_map(|unit| std::iter::once(&unit.current).chain(&unit.next));
    let deadline = |generation: &Generation| match generation.state {
        State::Starting { deadline_boot_ms } => deadline_boot_ms,
        _ => None,
    };
    generations.filter_map(deadline).min()
}

/// Nothing runs any more, and times of the boot clock mean nothing: what was up starts again, along the graph. Jobs
/// that are done stay so, and so do plans.
pub fn reboot(units: &mut Units) {
    for generation in generations_mut(units) {
        match &generation.state {
            State::Ready if generation.plan.kind == UnitKind::Job => {}
            State::Checking | State::Starting { .. } | State::Ready | State::Stopping { then: Then::Waiting } => {
                generation.state = State::waiting();
            }
            _ => {}
        }
    }
}

/// Everything stops, to start again when it may: the node goes down with its workloads. Plans stay.
pub fn rest(units: &mut Units) {
    for generation in generations_mut(units) {
        match &generation.state {
            State::Ready if generation.plan.kind == UnitKind::Job => {}
            State::Checking => generation.state = State::waiting(),
            State::Starting { .. } | State::Ready => generation.state = State::Stopping { then: Then::Waiting },
            _ => {}
        }
    }
}

fn generations_mut(units: &mut Units) -> impl Iterator<Item = &mut Generation> {
    units.values_mut().flat_map(|unit| std::iter::once(&mut unit.current).chain(unit.next.as_mut()))
}

fn generation<'a>(units: &'a Units, unit: &UnitName, place: Place) -> Option<&'a Generation> {
    let unit = units.get(unit)?;
    match place {
        Place::Current => Some(&unit.current),
        Place::Next => unit.next.as_ref(),
    }
}

fn generation_mut<'a>(units: &'a mut Units, unit: &UnitName, place: Place) -> Option<&'a mut Generation> {
    let unit = units.get_mut(unit)?;
    match place {
        Place::Current => Some(&mut unit.current),
        Place::Next => unit.next.as_mut(),
    }
}

fn starting(plan: &UnitPlan, now: Now) -> State {
    State::Starting { deadline_boot_ms: plan.ready.deadline_ms.map(|ms| now.boot_ms.saturating_add(ms)) }
}

/// What a generation does first.
fn begin(unit: &UnitName, generation: &Generation, state: &State, commands: &mut Vec<Command>) {
    let number = generation.number;
    match state {
        State::Checking => commands.push(Command::Check(unit.clone(), number)),
        State::Starting { .. } => {
            let key = |replica| MemberKey { unit: unit.clone(), generation: number, replica };
            commands.extend((0..generation.plan.replicas).map(|replica| Command::Start(key(replica))));
        }
        _ => {}
    }
}

/// Lets the next generation take the place of the current one when its time has come; lets go what leaves.
fn turn_over(units: &mut Units, name: &UnitName, members: &Members) -> bool {
    let Some(unit) = units.get_mut(name) else { return false };
    let has_members = of(members, unit, Place::Current).next().is_some();
    if unit.leaving {
        if matches!(unit.current.state, State::Stopping { then: Then::Gone }) {
            if !has_members && !of_unit(members, name).any(|_| true) {
                units.remove(name);
                return true;
            }
            return false;
        }
        unit.current.state = State::Stopping { then: Then::Gone };
        return true;
    }
    let Some(next) = &unit.next else {
        if matches!(unit.current.state, State::Stopping { then: Then::Replaced }) && !has_members {
            // The change was taken back meanwhile.
            unit.current.state = State::waiting();
            return true;
        }
        return false;
    };
    let takes_over = match &unit.current.state {
        State::Ready if next.plan.update == Update::Rolling => next.state == State::Ready,
        State::Ready | State::Starting { .. } if next.plan.update == Update::Replace => {
            unit.current.state = State::Stopping { then: Then::Replaced };
            return true;
        }
        State::Stopping { then: Then::Replaced } => !has_members,
        State::Stopping { .. } => false,
        // Not in service: there is nothing to keep.
        _ => true,
    };
    if takes_over && let Some(next) = unit.next.take() {
        unit.current = next;
    }
    takes_over
}

fn of_unit<'a>(members: &'a Members, unit: &UnitName) -> impl Iterator<Item = (&'a MemberKey, &'a MemberState)> {
    let first = MemberKey { unit: unit.clone(), generation: 0, replica: 0 };
    let last = MemberKey { unit: unit.clone(), generation: u32::MAX, replica: u32::MAX };
    members.range(first..=last)
}

fn of<'a>(
    members: &'a Members,
    unit: &UnitRecord,
    place: Place,
) -> impl Iterator<Item = (&'a MemberKey, &'a MemberState)> {
    let number = match place {
        Place::Current => unit.current.number,
        Place::Next => unit.next.as_ref().map_or(0, |next| next.number),
    };
    let first = MemberKey { unit: unit.name.clone(), generation: number, replica: 0 };
    let last = MemberKey { unit: unit.name.clone(), generation: number, replica: u32::MAX };
    members.range(first..=last)
}

/// Without those that are surplus since there are to be fewer.
fn own<'a>(
    members: &'a Members,
    unit: &UnitRecord,
    place: Place,
    generation: &Generation,
) -> impl Iterator<Item = (&'a MemberKey, &'a MemberState)> {
    let replicas = generation.plan.replicas;
    of(members, unit, place).filter(move |(key, _)| key.replica < replicas)
}

/// What a unit is to those that wait for its newest version.
fn standing(units: &Units, unit: &UnitName) -> Standing {
    let Some(unit) = units.get(unit).filter(|unit| !unit.leaving) else { return Standing::Stopped };
    let of = |state: &State| match state {
        State::Ready => Standing::Ready,
        State::Failed { reason } => Standing::Failed(reason.clone()),
        State::Skipped { reason } => Standing::Skipped(reason.clone()),
        State::Stopped { .. } => Standing::Stopped,
        _ => Standing::Pending,
    };
    match &unit.next {
        // Ready, it is about to take over.
        Some(next) if next.state == State::Ready => Standing::Pending,
        Some(next) => of(&next.state),
        None => of(&unit.current.state),
    }
}

/// The state that follows from how things stand; nothing when it stays.
fn next_state(
    units: &Units,
    name: &UnitName,
    place: Place,
    members: &Members,
    now: Now,
    hold: Hold<'_>,
) -> Option<State> {
    let unit = units.get(name)?;
    let generation = generation(units, name, place)?;
    let up = || of(members, unit, place).any(|(_, state)| state.is_up());
    let state = match &generation.state {
        State::Waiting { checked, .. } => {
            // Held back until the old one is out of the way.
            let blocked = place == Place::Next && unit.current.state != State::Ready;
            // Started and removed by hand meanwhile: its place is not free yet.
            let blocked = blocked || of(members, unit, place).any(|(_, state)| *state == MemberState::Going);
            if blocked || unit.leaving { return None } else { waiting(units, generation, *checked, now, hold) }
        }
        State::Checking | State::Skipped { .. } => return None,
        State::Starting { deadline_boot_ms } => {
            let late = deadline_boot_ms.is_some_and(|at| at <= now.boot_ms);
            let failure = broken(units, generation).or_else(|| failure_of_start(members, unit, place, generation));
            let failure = failure.or_else(|| {
                let limit = format_duration(generation.plan.ready.deadline_ms.unwrap_or(0));
                let ready = is_ready(members, unit, place, generation);
                (late && !ready).then(|| format!("it was not ready within {limit}"))
            });
            match failure {
                Some(reason) if up() => State::Stopping { then: Then::Failed(reason) },
                Some(reason) => State::failed(reason),
                None => started(members, unit, place, generation)?,
            }
        }
        State::Ready if !generation.plan.lasts() => return None,
        State::Ready => match broken(units, generation) {
            Some(reason) if up() => State::Stopping { then: Then::Failed(reason) },
            Some(reason) => State::failed(reason),
            None => ended(members, unit, place, generation)?,
        },
        State::Failed { .. } | State::Stopped { .. } => {
            // Somebody started it by hand.
            let runs = own(members, unit, place, generation).any(|(_, state)| *state == MemberState::Ready);
            let back = runs && broken(units, generation).is_none() && is_ready(members, unit, place, generation);
            back.then_some(State::Ready)?
        }
        State::Stopping { then } => match then {
            _ if up() => return None,
            Then::Failed(reason) => State::failed(reason),
            Then::Waiting => State::waiting(),
            // Only when they are gone for good: see turn_over.
            Then::Replaced | Then::Gone => return None,
        },
    };
    (state != generation.state).then_some(state)
}

/// A generation that waits: for others, for the node, or no longer.
fn waiting(units: &Units, generation: &Generation, checked: bool, now: Now, hold: Hold<'_>) -> State {
    let plan = &generation.plan;
    let mut on = Vec::new();
    for other in &plan.requires {
        match standing(units, other) {
            Standing::Ready => {}
            Standing::Pending => on.push(other.to_string()),
            Standing::Failed(reason) => return State::failed(passed_on(other, "has failed", &reason)),
            Standing::Skipped(reason) => return State::Skipped { reason: passed_on(other, "is skipped", &reason) },
            Standing::Stopped => return State::failed(format!("{other} is stopped")),
        }
    }
    for other in &plan.after {
        if matches!(standing(units, other), Standing::Pending) && !on.iter().any(|known| known == other.as_str()) {
            on.push(other.to_string());
        }
    }
    if on.is_empty()
        && let Some(hold) = hold
    {
        on.push(hold.to_owned());
    }
    match on.is_empty() {
        // What held may not hold any more by then.
        false => State::Waiting { on, checked: false },
        true if plan.condition.is_some() && !checked => State::Checking,
        true => starting(plan, now),
    }
}

fn passed_on(other: &UnitName, what: &str, reason: &str) -> String {
    format!("{other} {what}: {reason}").chars().take(REASON_MAX).collect()
}

/// Why a generation that is up cannot stay so: something that it requires has failed.
fn broken(units: &Units, generation: &Generation) -> Option<String> {
    generation.plan.requires.iter().find_map(|other| match &units.get(other)?.current.state {
        State::Failed { reason } | State::Stopping { then: Then::Failed(reason) } => {
            Some(passed_on(other, "has failed", reason))
        }
        State::Skipped { reason } => Some(passed_on(other, "is skipped", reason)),
        _ => None,
    })
}

fn failure_of_start(members: &Members, unit: &UnitRecord, place: Place, generation: &Generation) -> Option<String> {
    own(members, unit, place, generation).find_map(|(_, state)| match state {
        MemberState::Failed(reason) => Some(reason.clone()),
        MemberState::Done { ready: false } if generation.plan.kind == UnitKind::Service => {
            Some("it ended before it was ready".to_owned())
        }
        _ => None,
    })
}

/// What a generation that starts has become, if that is anything else.
fn started(members: &Members, unit: &UnitRecord, place: Place, generation: &Generation) -> Option<State> {
    if is_ready(members, unit, place, generation) {
        // One that is over already was ready, and nobody can require it any more: it is not ready in between.
        let over = (generation.plan.kind == UnitKind::Service).then(|| ended(members, unit, place, generation));
        return Some(over.flatten().unwrap_or(State::Ready));
    }
    let mut states = own(members, unit, place, generation).map(|(_, state)| state).peekable();
    let stopped = states.peek().is_some() && states.all(|state| *state == MemberState::Stopped);
    stopped.then(|| State::Stopped { reason: "on request".to_owned() })
}

/// All replicas are ready, or have been and ended well; of a job: it has succeeded. Those that somebody stopped are not
/// missed, as long as there are others.
fn is_ready(members: &Members, unit: &UnitRecord, place: Place, generation: &Generation) -> bool {
    let good = |state: &MemberState| match state {
        MemberState::Ready => generation.plan.lasts(),
        MemberState::Done { ready } => *ready || generation.plan.kind == UnitKind::Job,
        _ => false,
    };
    let wanted = generation.plan.replicas as usize;
    let (mut ready, mut stopped) = (0, 0);
    for (_, state) in own(members, unit, place, generation) {
        ready += usize::from(good(state));
        stopped += usize::from(*state == MemberState::Stopped);
    }
    ready + stopped == wanted && (ready > 0 || wanted == 0)
}

/// A service that was ready: what it is when no replica is up any more.
fn ended(members: &Members, unit: &UnitRecord, place: Place, generation: &Generation) -> Option<State> {
    let states: Vec<_> = own(members, unit, place, generation).map(|(_, state)| state).collect();
    // One that is not there was removed by somebody: it is made again.
    if states.len() < generation.plan.replicas as usize || states.iter().any(|state| state.is_up()) || states.is_empty()
    {
        return None;
    }
    let failed = states.iter().find_map(|state| match state {
        MemberState::Failed(reason) => Some(reason.clone()),
        _ => None,
    });
    Some(match failed {
        Some(reason) => State::failed(reason),
        None if states.contains(&&MemberState::Stopped) => State::Stopped { reason: "on request".to_owned() },
        None => State::Stopped { reason: "it ended by itself".to_owned() },
    })
}

/// Commands that follow from the states and how the replicas stand.
fn follow(units: &Units, members: &Members, hold: Hold<'_>, commands: &mut Vec<Command>) {
    let order = Order::of(units);
    for (key, state) in members.iter().filter(|(_, state)| **state != MemberState::Going) {
        let unit = units.get(&key.unit);
        let generation = unit.and_then(|unit| {
            std::iter::once(&unit.current).chain(&unit.next).find(|generation| generation.number == key.generation)
        });
        let Some((unit, generation)) = unit.zip(generation) else {
            commands.push(Command::Remove(key.clone()));
            continue;
        };
        match &generation.state {
            State::Stopping { then } if may_stop(units, &order, unit) => match then {
                Then::Gone | Then::Replaced => commands.push(Command::Remove(key.clone())),
                _ if matches!(state, MemberState::Starting | MemberState::Ready) => {
                    commands.push(Command::Stop(key.clone()));
                }
                _ => {}
            },
            _ if key.replica >= generation.plan.replicas => commands.push(Command::Remove(key.clone())),
            _ => {}
        }
    }
    if hold.is_some() {
        return;
    }
    let begun: BTreeSet<MemberKey> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Start(key) => Some(key.clone()),
            _ => None,
        })
        .collect();
    // Replicas that were removed by hand, or came with a larger number of them.
    for unit in units.values() {
        for generation in std::iter::once(&unit.current).chain(&unit.next) {
            if !generation.state.is_up() || (generation.state == State::Ready && !generation.plan.lasts()) {
                continue;
            }
            for replica in 0..generation.plan.replicas {
                let key = MemberKey { unit: unit.name.clone(), generation: generation.number, replica };
                if !members.contains_key(&key) && !begun.contains(&key) {
                    commands.push(Command::Start(key));
                }
            }
        }
    }
}

/// Whether those that depend on a unit that stops are out of its way.
fn may_stop(units: &Units, order: &Order<'_>, unit: &UnitRecord) -> bool {
    order.dependents(&unit.name).iter().all(|other| {
        let Some(other) = units.get(*other) else { return true };
        let generations = || std::iter::once(&other.current).chain(&other.next);
        let depends = |generation: &&Generation| generation.plan.dependencies().any(|name| *name == unit.name);
        !generations().filter(depends).any(|generation| match &generation.state {
            // One that leaves may have to wait for a change that waits for this very unit.
            State::Stopping { then: Then::Gone } => unit.leaving,
            State::Stopping { .. } => true,
            // It may stay, and then what it needs stays with it.
            state => unit.leaving && state.is_up() && (generation.plan.lasts() || *state != State::Ready),
        })
    })
}
