//! Stacks on workloads: the decisions of [`crate::stack`], carried out.
//!
//! Every replica of a unit is a workload that carries its [`StackMember`]. How it stands follows from the workload
//! alone, so there is nothing to keep in step: whenever one of a stack's workloads changes, the stack is looked at
//! again, in the same step and the same batch.
//!
//! Names: `<stack>.<unit>`, or `<stack>.<unit>.<n>` where there are several. While an older generation has the name,
//! the newer one is called `….next`; it gets the name when that is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hostler_model::event::{Event, EventKind};
use hostler_model::ids::{Namespace, NetworkName, QueueName, StackName, UnitName, WorkloadId, WorkloadName};
use hostler_model::record::{Record, Urgency};
use hostler_model::stack::{Generation, GenerationState, StackRecord, UnitRecord};
use hostler_model::workload::{Desired, Workload};
use hostler_model::{Now, Problem, ProblemKind, limits};

use crate::crew::observe;
use crate::input::{Action, ApplyStack, Outcome, Reply};
use crate::request::Answer;
use crate::stack::{self, Command, MemberKey, Members, Units};
use crate::state::State;

pub(crate) type Key = (Namespace, StackName);

/// A stack and its units.
#[derive(Debug)]
struct Known {
    record: StackRecord,
    units: Units,
    /// The units as they are written; what differs is written before the step is over.
    told: Units,
    deadline_boot_ms: Option<u64>,
}

/// The workloads of one stack.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    states: Members,
    pub(crate) ids: BTreeMap<MemberKey, WorkloadId>,
}

/// All stacks; the indexes are derived from the workloads.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    known: BTreeMap<Key, Known>,
    pub(crate) crews: BTreeMap<Key, Crew>,
    /// Those to be looked at before the step is over.
    dirty: BTreeSet<Key>,
    /// Those in which a name may have become free.
    misnamed: BTreeSet<Key>,
}

pub(crate) fn key_of(workload: &Workload) -> Option<(Key, MemberKey)> {
    let member = workload.stack.as_ref()?;
    let key = MemberKey { unit: member.unit.clone(), generation: member.generation, replica: member.replica };
    Some(((workload.namespace.clone(), member.stack.clone()), key))
}

impl Stacks {
    pub(crate) fn load(&mut self, stacks: Vec<StackRecord>, units: Vec<(Namespace, StackName, UnitRecord)>) {
        for record in stacks {
            let key = (record.namespace.clone(), record.name.clone());
            self.known.insert(key, Known { record, units: Units::new(), told: Units::new(), deadline_boot_ms: None });
        }
        for (namespace, stack, unit) in units {
            if let Some(known) = self.known.get_mut(&(namespace, stack)) {
                known.units.insert(unit.name.clone(), unit);
            }
        }
        for known in self.known.values_mut() {
            known.deadline_boot_ms = stack::next_deadline_ms(&known.units);
            known.told = known.units.clone();
        }
    }

    pub(crate) fn index(&mut self, workload: &Workload) {
        if let Some((key, member)) = key_of(workload) {
            let crew = self.crews.entry(key).or_default();
            crew.ids.insert(member.clone(), workload.id);
            crew.states.insert(member, observe(workload));
        }
    }

    pub(crate) fn unindex(&mut self, workload: &Workload) {
        if let Some((key, member)) = key_of(workload)
            && let Some(crew) = self.crews.get_mut(&key)
        {
            crew.ids.remove(&member);
            crew.states.remove(&member);
            if crew.ids.is_empty() {
                self.crews.remove(&key);
            }
        }
    }

    /// One of a stack's workloads came, changed or went.
    pub(crate) fn changed(&mut self, workload: &Workload) {
        if let Some((key, _)) = key_of(workload).filter(|(key, _)| self.known.contains_key(key)) {
            if workload.live_run().is_none() {
                self.misnamed.insert(key.clone());
            }
            self.dirty.insert(key);
        }
    }

    /// Something that holds all of them back has changed.
    pub(crate) fn look_at_all(&mut self) {
        self.dirty.extend(self.known.keys().cloned());
    }

    /// Whether the workload is a replica of a stack that is known.
    pub(crate) fn has(&self, workload: &Workload) -> bool {
        key_of(workload).is_some_and(|(key, _)| self.known.contains_key(&key))
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.known.values().filter_map(|known| known.deadline_boot_ms).min()
    }

    /// Those with a deadline that is over are looked at.
    pub(crate) fn due(&mut self, boot_ms: u64) {
        let due = self.known.iter().filter(|(_, known)| known.deadline_boot_ms.is_some_and(|at| at <= boot_ms));
        let due: Vec<Key> = due.map(|(key, _)| key.clone()).collect();
        self.dirty.extend(due);
    }

    pub(crate) fn answer(
        &mut self,
        namespace: Namespace,
        stack: StackName,
        unit: &UnitName,
        generation: u32,
        unmet: Option<String>,
    ) {
        let key = (namespace, stack);
        if let Some(known) = self.known.get_mut(&key) {
            stack::answer(&mut known.units, unit, generation, unmet);
            self.dirty.insert(key);
        }
    }

    /// Of the stacks of this namespace but one: whether it made this queue, or has a unit that waits in it.
    pub(crate) fn others_use(&self, but: &Key, queue: &QueueName) -> bool {
        let others = self.known.iter().filter(|(key, _)| key.0 == but.0 && *key != but);
        others.map(|(_, known)| known).any(|known| {
            let generations = known.units.values().flat_map(|unit| std::iter::once(&unit.current).chain(&unit.next));
            let mut queues = generations.filter_map(|generation| generation.plan.spec.queue.as_ref());
            known.record.queues.contains(queue) || queues.any(|name| name == queue)
        })
    }

    /// The queues that a stack made.
    pub(crate) fn queues_of(&self, key: &Key) -> Vec<QueueName> {
        self.known.get(key).map(|known| known.record.queues.clone()).unwrap_or_default()
    }

    /// The networks that a stack made.
    pub(crate) fn networks_of(&self, key: &Key) -> Vec<NetworkName> {
        self.known.get(key).map(|known| known.record.networks.clone()).unwrap_or_default()
    }

    /// Whether another stack of this namespace made this network.
    pub(crate) fn others_made(&self, but: &Key, network: &NetworkName) -> bool {
        let mut others = self.known.iter().filter(|(key, _)| key.0 == but.0 && *key != but);
        others.any(|(_, known)| known.record.networks.contains(network))
    }

    /// The stacks that are up and made this network, or have a unit in it.
    pub(crate) fn users_of_network(&self, (namespace, name): &(Namespace, NetworkName)) -> Vec<StackName> {
        let uses = |known: &Known| {
            let generations = known.units.values().flat_map(|unit| std::iter::once(&unit.current).chain(&unit.next));
            let mut networks = generations.filter_map(|generation| generation.plan.spec.attachment());
            known.record.networks.contains(name) || networks.any(|attachment| attachment.name == *name)
        };
        let up = self.known.iter().filter(|(key, known)| key.0 == *namespace && !known.record.down);
        up.filter(|(_, known)| uses(known)).map(|(key, _)| key.1.clone()).collect()
    }

    /// All that is kept of them, for those who compare it with what they have.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&StackRecord, &Units)> {
        self.known.values().map(|known| (&known.record, &known.units))
    }
}

impl State {
    /// Every stack with its units.
    pub fn stacks(&self) -> impl Iterator<Item = (&StackRecord, &Units)> {
        self.stacks.records()
    }

    pub(crate) fn apply_stack(&mut self, asked: ApplyStack, now: Now, out: &mut Outcome) -> Answer {
        let ApplyStack { namespace, name, mut units, queues, networks, mut mistakes, retry } = asked;
        self.admit(&namespace, None).or_else(|problem| match problem.kind {
            // Nothing is started before there is room; what is left out for that says so.
            ProblemKind::LimitReached => Ok(()),
            _ => Err(problem),
        })?;
        let key = (namespace, name);
        let of_namespace = self.stacks.known.keys().filter(|(namespace, _)| *namespace == key.0).count();
        if !self.stacks.known.contains_key(&key) && of_namespace >= limits::STACKS_PER_NAMESPACE_MAX {
            let detail = format!("there are {of_namespace} stacks, the most one namespace may have");
            return Err(Problem::new(ProblemKind::LimitReached, detail));
        }
        let made = self.make_queues(&key, &queues, &mut mistakes, now, out);
        let networks = self.make_networks(&key, networks, &units, &mut mistakes, now, out);
        crate::networks::leave_out(&mut units, &mut mistakes);
        let known = self.stacks.known.entry(key.clone()).or_insert_with(|| Known {
            record: StackRecord {
                namespace: key.0.clone(),
                name: key.1.clone(),
                revision: 0,
                applied_at_ms: 0,
                down: false,
                queues: Vec::new(),
                networks: Vec::new(),
                mistakes: Vec::new(),
            },
            units: Units::new(),
            told: Units::new(),
            deadline_boot_ms: None,
        });
        let nobody = Members::new();
        let members = self.stacks.crews.get(&key).map_or(&nobody, |crew| &crew.states);
        stack::apply(&mut known.units, units, retry, members);
        known.record.revision += 1;
        known.record.applied_at_ms = now.wall_ms;
        known.record.down = false;
        known.record.queues = made;
        known.record.networks = networks;
        known.record.mistakes = mistakes;
        let kind = EventKind::StackApplied {
            namespace: key.0.clone(),
            stack: key.1.clone(),
            revision: known.record.revision,
            mistakes: known.record.mistakes.len() as u32,
        };
        out.batch.records.push(Record::Stack(Arc::new(known.record.clone())));
        out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        self.stacks.misnamed.insert(key.clone());
        self.stacks.dirty.insert(key);
        Ok(Reply::Done)
    }

    pub(crate) fn down_stack(&mut self, namespace: Namespace, name: StackName, out: &mut Outcome) -> Answer {
        let key = (namespace, name);
        let Some(known) = self.stacks.known.get_mut(&key) else {
            let detail = format!("there is no stack {} in namespace {}; see: hostler stack ls", key.1, key.0);
            return Err(Problem::new(ProblemKind::NotFound, detail));
        };
        stack::take_down(&mut known.units);
        known.record.down = true;
        out.batch.records.push(Record::Stack(Arc::new(known.record.clone())));
        self.stacks.dirty.insert(key);
        Ok(Reply::Done)
    }

    /// Every stack stops in its order; how many runs that are.
    pub(crate) fn rest_stacks(&mut self) -> u32 {
        let mut live = 0;
        for (key, known) in &mut self.stacks.known {
            stack::rest(&mut known.units);
            let Some(crew) = self.stacks.crews.get(key) else { continue };
            // Plans stay; runs of theirs stop like those of others.
            let stops = |member: &&MemberKey| {
                let workload = crew.ids.get(*member).and_then(|id| self.workloads.get(id));
                workload.is_some_and(|workload| workload.schedule.is_none())
            };
            let up = crew.states.iter().filter(|(_, state)| state.is_up());
            live += up.map(|(member, _)| member).filter(stops).count();
        }
        self.stacks.look_at_all();
        live as u32
    }

    /// The daemon came up: conditions are asked about again, and after a reboot everything starts along the graph.
    pub(crate) fn stacks_adopted(&mut self, rebooted: bool, now: Now, out: &mut Outcome) {
        self.stacks.look_at_all();
        let keys: Vec<Key> = self.stacks.known.keys().cloned().collect();
        for key in keys {
            let Some(known) = self.stacks.known.get_mut(&key) else { continue };
            if rebooted {
                stack::reboot(&mut known.units);
            }
            for command in stack::open_checks(&known.units) {
                if let Command::Check(unit, generation) = command {
                    ask(&key, &known.units, &unit, generation, out);
                }
            }
        }
        if !rebooted {
            return;
        }
        let waits = |(key, crew): (&Key, &Crew)| -> Vec<WorkloadId> {
            let Some(known) = self.stacks.known.get(key) else { return Vec::new() };
            let is_held = |member: &MemberKey, id: &WorkloadId| {
                let is_queued = self.workloads.get(id).is_some_and(|workload| workload.queued.is_some());
                let generation = generation_of(&known.units, member);
                !is_queued || generation.is_some_and(|of| matches!(of.state, GenerationState::Waiting { .. }))
            };
            crew.ids.iter().filter(|(member, id)| is_held(member, id)).map(|(_, id)| *id).collect()
        };
        let ids: Vec<_> = self.stacks.crews.iter().flat_map(waits).collect();
        for id in ids {
            self.rest_member(id, now, out);
        }
    }

    /// Looks at every stack that something has changed in, until nothing follows any more.
    pub(crate) fn advance_stacks(&mut self, now: Now, out: &mut Outcome) {
        while let Some(key) = self.stacks.dirty.pop_first() {
            let Some(mut known) = self.stacks.known.remove(&key) else { continue };
            self.advance_stack(&key, &mut known, now, out);
            known.deadline_boot_ms = stack::next_deadline_ms(&known.units);
            let is_over = known.units.is_empty() && known.record.down;
            if is_over {
                self.forget_queues(&key, &known.record.queues, now, out);
                self.forget_networks(&key, &known.record.networks, now, out);
                out.batch.records.push(Record::StackRemoved(key.0.clone(), key.1.clone()));
                let kind = EventKind::StackRemoved { namespace: key.0.clone(), stack: key.1.clone() };
                out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
                out.batch.urgency = Urgency::Prompt;
            } else {
                self.stacks.known.insert(key.clone(), known);
                if self.stacks.misnamed.remove(&key) {
                    self.give_names(&key, out);
                }
            }
            self.stacks.dirty.remove(&key);
        }
    }

    fn advance_stack(&mut self, key: &Key, known: &mut Known, now: Now, out: &mut Outcome) {
        let hold = self.hold();
        // Each round of commands changes how replicas stand; more than a few rounds there are not.
        for _ in 0..limits::STACK_UNITS_MAX {
            let nobody = Members::new();
            let members = self.stacks.crews.get(key).map_or(&nobody, |crew| &crew.states);
            let commands = stack::advance(&mut known.units, members, now, hold);
            let mut failures = Vec::new();
            let is_done = commands.is_empty();
            for command in commands {
                match command {
                    Command::Check(unit, generation) => ask(key, &known.units, &unit, generation, out),
                    Command::Start(member) => {
                        if let Err(problem) = self.start_member(key, &known.units, &member, now, out) {
                            failures.push((member, problem.detail));
                        }
                    }
                    Command::Stop(member) => self.stop_member(key, &member, now, out),
                    Command::Remove(member) => self.remove_member(key, &member, now, out),
                }
            }
            for (member, reason) in failures {
                fail(&mut known.units, &member, &reason);
            }
            tell(key, known, now, out);
            if is_done {
                return;
            }
            out.batch.urgency = Urgency::Prompt;
        }
    }

    /// Why nothing new starts at the moment.
    fn hold(&self) -> Option<&'static str> {
        match () {
            () if self.node.lame_duck => Some("the node, which is a lame duck"),
            () if self.going_down => Some("the node, which is going down"),
            () if self.disk_full => Some("free disk space"),
            () => None,
        }
    }

    /// Replicas that go by another name get their own where it has become free.
    fn give_names(&mut self, key: &Key, out: &mut Outcome) {
        let Some(crew) = self.stacks.crews.get(key) else { return };
        let Some(known) = self.stacks.known.get(key) else { return };
        let mut wanted = Vec::new();
        for (member, id) in &crew.ids {
            let Some(generation) = generation_of(&known.units, member) else { continue };
            let Some(workload) = self.workloads.get(id) else { continue };
            let name = name_of(key, generation.plan.replicas, member);
            let stays = member.replica < generation.plan.replicas && workload.desired != Desired::Removed;
            if stays
                && workload.name.as_str() != name
                && let Ok(name) = name.parse::<WorkloadName>()
            {
                wanted.push((*id, name));
            }
        }
        for (id, name) in wanted {
            if self.named(&key.0, &name).is_some() {
                continue;
            }
            let Some(mut workload) = self.edit(id) else { continue };
            workload.name = name;
            self.put(workload, out);
        }
    }
}

pub(crate) fn name_of(key: &Key, replicas: u32, member: &MemberKey) -> String {
    match replicas {
        0 | 1 => format!("{}.{}", key.1, member.unit),
        _ => format!("{}.{}.{}", key.1, member.unit, member.replica),
    }
}

pub(crate) fn generation_of<'a>(units: &'a Units, member: &MemberKey) -> Option<&'a Generation> {
    let unit = units.get(&member.unit)?;
    std::iter::once(&unit.current).chain(&unit.next).find(|generation| generation.number == member.generation)
}

fn fail(units: &mut Units, member: &MemberKey, reason: &str) {
    let Some(unit) = units.get_mut(&member.unit) else { return };
    let mut generations = std::iter::once(&mut unit.current).chain(unit.next.as_mut());
    if let Some(generation) = generations.find(|generation| generation.number == member.generation)
        && generation.state.is_up()
    {
        // Replicas that did start are stopped again; that is an order to those that are up, whatever comes of it.
        generation.state = GenerationState::Stopping { then: hostler_model::stack::Then::Failed(reason.to_owned()) };
    }
}

fn ask(key: &Key, units: &Units, unit: &UnitName, generation: u32, out: &mut Outcome) {
    let member = MemberKey { unit: unit.clone(), generation, replica: 0 };
    let Some(condition) = generation_of(units, &member).and_then(|generation| generation.plan.condition.clone()) else {
        return;
    };
    let (namespace, stack) = key.clone();
    out.actions.push(Action::CheckCondition { namespace, stack, unit: unit.clone(), generation, condition });
}

/// What has changed: records of the units, and an event for each new state.
fn tell(key: &Key, known: &mut Known, now: Now, out: &mut Outcome) {
    let (before, after) = (&known.told, &known.units);
    if before == after {
        return;
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        out.batch.records.push(Record::StackUnitRemoved(key.0.clone(), key.1.clone(), name.clone()));
    }
    for (name, unit) in after {
        let old = before.get(name);
        if old == Some(unit) {
            continue;
        }
        out.batch.records.push(Record::StackUnit(key.0.clone(), key.1.clone(), Arc::new(unit.clone())));
        for generation in std::iter::once(&unit.current).chain(&unit.next) {
            let same = |other: &&Generation| other.number == generation.number && other.state == generation.state;
            if old.is_some_and(|old| std::iter::once(&old.current).chain(&old.next).any(|other| same(&other))) {
                continue;
            }
            let kind = EventKind::StackUnit {
                namespace: key.0.clone(),
                stack: key.1.clone(),
                unit: name.clone(),
                generation: generation.number,
                standing: generation.state.clone(),
            };
            out.batch.events.push(Event { time_ms: now.wall_ms, kind, subject: None });
        }
    }
    known.told = known.units.clone();
}
