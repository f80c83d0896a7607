//! Which agent takes which run, when to start more of them and when to let some go: values in, decisions out.
//!
//! ```text
//!              ready()                take()                release()
//!   starting ──────────► idle ◄────────────────► bound{run} ─────────► releasing ──► idle (ready) | gone
//!       │ failed()         │ surplus()             │
//!       ▼                  ▼                       ▼ gone()
//!      gone              leaving                  gone
//! ```
//! - Taking an agent binds slot and run in one step; a run that finds none waits, longest first.
//! - An agent that ran for a namespace runs only for that one.
//! - The most recently used agent is taken first, so the ones nobody needs grow old at the other end.
//! - What may stay idle is `target`, and on top of it what the last seconds needed at once: a burst, or jobs one
//!   after another, neither start nor end agents once they have what they need.
//!
//! The counts are taken from the slots themselves. The queue is bounded by the supervisor's limit on live runs.

use std::collections::{HashMap, VecDeque};

use hostler_model::ids::{Namespace, RunId, SandboxId};

/// Agents being started at one time.
pub(crate) const SPAWN_PARALLEL_MAX: usize = 4;
/// Failed starts in a row after which idle agents are no longer replaced unless someone asks for one.
const FAILURES_MAX: u32 = 3;
/// Failed starts that one waiting run sees before it is told so.
const ATTEMPTS_MAX: u32 = 2;
/// How long a surplus agent stays idle, milliseconds.
pub(crate) const SURPLUS_AGE_MS: u64 = 10_000;
/// The recent peak is the highest of this window and the one before, milliseconds.
const WINDOW_MS: u64 = 5_000;

/// Where an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its process was started, it has not said hello.
    Starting,
    /// It waits for a run.
    Idle,
    /// It has a run.
    Bound(RunId),
    /// Its run is over or undone; its next word is "idle" or nothing.
    Releasing(RunId),
    /// It was asked to leave.
    Leaving,
}

/// For whom an agent ran before.
#[derive(Debug, PartialEq, Eq)]
enum Past {
    Fresh,
    Used(Namespace),
    /// Found after a restart of the daemon: nobody knows, so it never runs again.
    Unknown,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    past: Past,
}

/// What an agent that can take a run is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is now bound to this run, which waited for it.
    Run(RunId),
    /// Wait.
    Idle,
    /// It may not be used again.
    Leave,
    /// It spoke out of turn.
    Nothing,
}

#[derive(Debug)]
struct Waiting {
    run: RunId,
    namespace: Namespace,
    failures: u32,
}

/// All agents of one shape, and the runs that wait for one.
#[derive(Debug)]
pub(crate) struct Slots {
    target: usize,
    reuse: bool,
    closed: bool,
    filling: bool,
    failures: u32,
    slots: HashMap<SandboxId, Slot>,
    /// Since when; the longest idle first.
    idle: VecDeque<(SandboxId, u64)>,
    waiting: VecDeque<Waiting>,
    starting: usize,
    bound: usize,
    releasing: usize,
    window_began_ms: u64,
    peak: usize,
    peak_before: usize,
}

impl Slots {
    pub(crate) fn new(target: usize, reuse: bool) -> Self {
        Self {
            target,
            reuse,
            closed: false,
            filling: false,
            failures: 0,
            slots: HashMap::new(),
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            starting: 0,
            bound: 0,
            releasing: 0,
            window_began_ms: 0,
            peak: 0,
            peak_before: 0,
        }
    }

    /// From now on keep idle agents ready.
    pub(crate) fn fill(&mut self) {
        self.filling = true;
        self.failures = 0;
    }

    /// No new agents any more, and none is used again; returns the idle ones, which are now leaving.
    pub(crate) fn close(&mut self) -> Vec<SandboxId> {
        self.closed = true;
        let idle: Vec<_> = self.idle.drain(..).map(|(sandbox, _)| sandbox).collect();
        for sandbox in &idle {
            self.set(*sandbox, Place::Leaving);
        }
        idle
    }

    /// Agents without a run: those that were told to leave, and those that will be with their next word.
    pub(crate) fn unbound(&self) -> Vec<SandboxId> {
        let unbound = self.slots.iter().filter(|(_, slot)| !matches!(slot.place, Place::Bound(_)));
        unbound.map(|(sandbox, _)| *sandbox).collect()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn place(&self, sandbox: SandboxId) -> Option<Place> {
        self.slots.get(&sandbox).map(|slot| slot.place)
    }

    /// The agent for this run, bound to it; `None`: the run waits, and a later [`Slots::ready`] names it.
    pub(crate) fn take(&mut self, run: RunId, namespace: &Namespace, now_ms: u64) -> Option<SandboxId> {
        let past = |(sandbox, _): &(SandboxId, u64)| &self.slots[sandbox].past;
        let used = self.idle.iter().rposition(|idle| matches!(past(idle), Past::Used(by) if by == namespace));
        let fresh = || self.idle.iter().rposition(|idle| *past(idle) == Past::Fresh);
        let Some(index) = used.or_else(fresh) else {
            self.waiting.push_back(Waiting { run, namespace: namespace.clone(), failures: 0 });
            return None;
        };
        let (sandbox, _) = self.idle.remove(index)?;
        self.bind(sandbox, run, namespace.clone(), now_ms);
        Some(sandbox)
    }

    /// The run no longer wants an agent. Whether it was waiting for one.
    pub(crate) fn cancel(&mut self, run: RunId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.run != run);
        self.waiting.len() < before
    }

    /// How many agents to start now; each is then told by [`Slots::started`].
    pub(crate) fn to_start(&self) -> usize {
        if self.closed {
            return 0;
        }
        let missing =
            if self.filling && self.failures < FAILURES_MAX { self.target.saturating_sub(self.idle.len()) } else { 0 };
        // Runs come first: what is idle by the time they are served is what counts for the target.
        let wanted = if self.waiting.is_empty() { missing } else { self.waiting.len() };
        // Agents that are about to be idle again will most likely serve those who wait; should they not, for their
        // run may leave something behind, one new agent at a time is on its way.
        let parallel = if self.releasing >= wanted { 1 } else { SPAWN_PARALLEL_MAX };
        wanted.saturating_sub(self.starting).min(parallel.saturating_sub(self.starting))
    }

    pub(crate) fn started(&mut self, sandbox: SandboxId) {
        let slot = Slot { place: Place::Starting, past: Past::Fresh };
        assert!(self.slots.insert(sandbox, slot).is_none(), "sandbox ids are not used twice");
        self.starting += 1;
    }

    /// The agent did not start. The run that has now waited through too many of these.
    pub(crate) fn failed(&mut self, sandbox: SandboxId) -> Option<RunId> {
        if self.place(sandbox) != Some(Place::Starting) {
            return None;
        }
        self.remove(sandbox);
        self.failures = self.failures.saturating_add(1);
        let first = self.waiting.front_mut()?;
        first.failures += 1;
        if first.failures < ATTEMPTS_MAX {
            return None;
        }
        self.waiting.pop_front().map(|waiting| waiting.run)
    }

    /// The agent can take a run.
    pub(crate) fn ready(&mut self, sandbox: SandboxId, now_ms: u64) -> Next {
        let Some(slot) = self.slots.get_mut(&sandbox) else { return Next::Nothing };
        match slot.place {
            Place::Starting => {
                self.starting -= 1;
                self.failures = 0;
            }
            Place::Releasing(_) => self.releasing -= 1,
            Place::Idle | Place::Bound(_) | Place::Leaving => return Next::Nothing,
        }
        let used_up = slot.past == Past::Unknown || (slot.past != Past::Fresh && !self.reuse);
        if self.closed || used_up {
            slot.place = Place::Leaving;
            return Next::Leave;
        }
        slot.place = Place::Idle;
        let next = match &slot.past {
            Past::Used(namespace) => self.waiting.iter().position(|waiting| waiting.namespace == *namespace),
            _ => Some(0),
        };
        if let Some(waiting) = next.and_then(|index| self.waiting.remove(index)) {
            self.bind(sandbox, waiting.run, waiting.namespace, now_ms);
            return Next::Run(waiting.run);
        }
        self.idle.push_back((sandbox, now_ms));
        Next::Idle
    }

    /// An agent that was found with a run.
    pub(crate) fn adopt(&mut self, sandbox: SandboxId, run: RunId) {
        let slot = Slot { place: Place::Bound(run), past: Past::Unknown };
        if self.slots.insert(sandbox, slot).is_none() {
            self.bound += 1;
        }
    }

    /// An agent that was found idle. Nobody knows for whom it ran, so it may not run again.
    pub(crate) fn adopt_leaving(&mut self, sandbox: SandboxId) {
        self.slots.entry(sandbox).or_insert(Slot { place: Place::Leaving, past: Past::Unknown });
    }

    /// The agent's run is over or undone. Whether the agent may be used again.
    pub(crate) fn release(&mut self, sandbox: SandboxId) -> bool {
        let Some(slot) = self.slots.get_mut(&sandbox) else { return false };
        let Place::Bound(run) = slot.place else { return false };
        slot.place = Place::Releasing(run);
        self.bound -= 1;
        self.releasing += 1;
        self.reuse && !self.closed && slot.past != Past::Unknown
    }

    /// The agent is gone. Where it stood.
    pub(crate) fn gone(&mut self, sandbox: SandboxId) -> Option<Place> {
        let place = self.place(sandbox)?;
        self.remove(sandbox);
        Some(place)
    }

    /// Idle agents that are to leave now.
    pub(crate) fn surplus(&mut self, now_ms: u64) -> Vec<SandboxId> {
        self.roll(now_ms);
        let recent = self.peak.max(self.peak_before).saturating_sub(self.bound);
        let mut leaving = Vec::new();
        while self.idle.len() > self.target + recent {
            match self.idle.front() {
                Some(&(sandbox, since_ms)) if since_ms + SURPLUS_AGE_MS <= now_ms => {
                    self.idle.pop_front();
                    self.set(sandbox, Place::Leaving);
                    leaving.push(sandbox);
                }
                _ => break,
            }
        }
        leaving
    }

    /// When to ask for [`Slots::surplus`] again; `None` while nothing is above the target.
    pub(crate) fn next_surplus_ms(&self, now_ms: u64) -> Option<u64> {
        let (_, since_ms) = self.idle.front().filter(|_| self.idle.len() > self.target)?;
        Some((since_ms + SURPLUS_AGE_MS).max(now_ms + WINDOW_MS))
    }

    fn bind(&mut self, sandbox: SandboxId, run: RunId, namespace: Namespace, now_ms: u64) {
        let slot = self.slots.get_mut(&sandbox).expect("only agents with a slot are bound");
        let past = Past::Used(namespace);
        assert!(slot.past == Past::Fresh || slot.past == past, "one namespace for each agent");
        *slot = Slot { place: Place::Bound(run), past };
        self.roll(now_ms);
        self.bound += 1;
        self.peak = self.peak.max(self.bound);
    }

    fn roll(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.window_began_ms) / WINDOW_MS;
        if passed > 0 {
            self.peak_before = if passed == 1 { self.peak } else { self.bound };
            self.peak = self.bound;
            self.window_began_ms = now_ms;
        }
    }

    fn set(&mut self, sandbox: SandboxId, place: Place) {
        if let Some(slot) = self.slots.get_mut(&sandbox) {
            slot.place = place;
        }
    }

    fn remove(&mut self, sandbox: SandboxId) {
        match self.slots.remove(&sandbox).map(|slot| slot.place) {
            Some(Place::Starting) => self.starting -= 1,
            Some(Place::Bound(_)) => self.bound -= 1,
            Some(Place::Idle) => self.idle.retain(|(other, _)| *other != sandbox),
            Some(Place::Releasing(_)) => self.releasing -= 1,
            Some(Place::Leaving) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hostler_model::ids::WorkloadId;
    use proptest::prelude::*;

    use super::*;

    fn run(number: u32) -> RunId {
        RunId { workload: WorkloadId::from_bytes([7; 6]), number: number + 1 }
    }

    fn sandbox(number: u32) -> SandboxId {
        let [a, b, c, d] = number.to_be_bytes();
        SandboxId::from_bytes([0, 0, a, b, c, d])
    }

    fn namespace(number: u32) -> Namespace {
        Namespace::of_uid(number % 2)
    }

    /// Starts what the slots ask for; returns the new sandboxes.
    fn start(slots: &mut Slots, next: &mut u32) -> Vec<SandboxId> {
        (0..slots.to_start())
            .map(|_| {
                let id = sandbox(*next);
                *next += 1;
                slots.started(id);
                id
            })
            .collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take,
        Cancel(usize),
        Start,
        Ready(usize),
        Failed(usize),
        Release(usize),
        Gone(usize),
        Surplus(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Take),
            1 => any::<usize>().prop_map(Step::Cancel),
            3 => Just(Step::Start),
            4 => any::<usize>().prop_map(Step::Ready),
            1 => any::<usize>().prop_map(Step::Failed),
            3 => any::<usize>().prop_map(Step::Release),
            1 => any::<usize>().prop_map(Step::Gone),
            1 => (0u64..30_000).prop_map(Step::Surplus),
        ]
    }

    proptest! {
        #[test]
        fn one_slot_one_run_and_counts_are_what_is_there(
            target in 0usize..4, steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut slots = Slots::new(target, true);
            slots.fill();
            let (mut now_ms, mut next_sandbox, mut next_run) = (0, 0, 0);
            let mut waiting = BTreeSet::new();
            let mut bound: BTreeMap<RunId, SandboxId> = BTreeMap::new();
            let mut used: BTreeMap<SandboxId, Namespace> = BTreeMap::new();
            let mut known: BTreeSet<SandboxId> = BTreeSet::new();
            let bind = |run: RunId, at, bound: &mut BTreeMap<_, _>, used: &mut BTreeMap<_, Namespace>| {
                let name = namespace(run.number - 1);
                assert!(bound.insert(run, at).is_none(), "a run was bound twice");
                assert_eq!(used.entry(at).or_insert(name.clone()), &name, "an agent changed its namespace");
            };
            for step in steps {
                now_ms += 10;
                let pick = |index: usize| known.iter().nth(index % known.len().max(1)).copied();
                match step {
                    Step::Take => {
                        let id = run(next_run);
                        match slots.take(id, &namespace(next_run), now_ms) {
                            Some(at) => bind(id, at, &mut bound, &mut used),
                            None => { waiting.insert(id); }
                        }
                        next_run += 1;
                    }
                    Step::Cancel(index) => {
                        if let Some(id) = waiting.iter().nth(index % waiting.len().max(1)).copied() {
                            prop_assert!(slots.cancel(id));
                            waiting.remove(&id);
                        }
                    }
                    Step::Start => known.extend(start(&mut slots, &mut next_sandbox)),
                    Step::Ready(index) => {
                        if let Some(at) = pick(index)
                            && let Next::Run(id) = slots.ready(at, now_ms)
                        {
                            prop_assert!(waiting.remove(&id), "a run that did not wait was served");
                            bind(id, at, &mut bound, &mut used);
                        }
                    }
                    Step::Failed(index) => if let Some(at) = pick(index) {
                        if slots.place(at) == Some(Place::Starting) {
                            known.remove(&at);
                        }
                        if let Some(id) = slots.failed(at) {
                            prop_assert!(waiting.remove(&id));
                        }
                    },
                    Step::Release(index) => {
                        if let Some(at) = pick(index)
                            && let Some(Place::Bound(id)) = slots.place(at)
                        {
                            prop_assert!(slots.release(at));
                            bound.remove(&id);
                        }
                    }
                    Step::Gone(index) => if let Some(at) = pick(index) {
                        if let Some(Place::Bound(id)) = slots.gone(at) {
                            prop_assert_eq!(bound.remove(&id), Some(at));
                        }
                        known.remove(&at);
                    },
                    Step::Surplus(wait_ms) => {
                        now_ms += wait_ms;
                        let idle = slots.idle();
                        let leaving = slots.surplus(now_ms);
                        prop_assert!(leaving.is_empty() || idle - leaving.len() >= target);
                    }
                }
                let count = |wanted: fn(&Place) -> bool| slots.slots.values().filter(|slot| wanted(&slot.place)).count();
                prop_assert_eq!(slots.idle(), count(|place| *place == Place::Idle));
                prop_assert_eq!(slots.starting, count(|place| *place == Place::Starting));
                prop_assert_eq!(slots.bound, count(|place| matches!(place, Place::Bound(_))));
                prop_assert_eq!(slots.releasing, count(|place| matches!(place, Place::Releasing(_))));
                prop_assert_eq!(slots.bound, bound.len());
                prop_assert_eq!(slots.waiting.len(), waiting.len());
                prop_assert_eq!(slots.slots.len(), known.len());
                prop_assert!(slots.starting <= SPAWN_PARALLEL_MAX);
                for (id, at) in &bound {
                    prop_assert_eq!(slots.place(*at), Some(Place::Bound(*id)));
                }
            }
        }
    }

    #[test]
    fn a_burst_starts_each_agent_once() {
        let (mut slots, mut next, mut now_ms) = (Slots::new(2, true), 0, 0);
        slots.fill();
        for id in start(&mut slots, &mut next) {
            assert_eq!(slots.ready(id, 0), Next::Idle);
        }
        // 64 at a time, 50 times over, for 25 seconds.
        for round in 0..50u32 {
            now_ms += 500;
            let mut busy: Vec<_> =
                (0..64).filter_map(|n| slots.take(run(round * 64 + n), &namespace(0), now_ms)).collect();
            while busy.len() < 64 {
                for id in start(&mut slots, &mut next) {
                    assert!(matches!(slots.ready(id, now_ms), Next::Run(_)));
                    busy.push(id);
                }
            }
            for id in start(&mut slots, &mut next) {
                slots.ready(id, now_ms);
            }
            assert_eq!(slots.surplus(now_ms), []);
            for id in busy {
                slots.release(id);
                slots.ready(id, now_ms);
            }
        }
        assert_eq!(next, 66, "64 that run, and two that are ready");
        assert!(slots.next_surplus_ms(now_ms).is_some());
        assert_eq!(slots.surplus(now_ms + 20_000).len(), 64, "quiet: all but the two are let go");
        assert_eq!(slots.next_surplus_ms(now_ms + 20_000), None);
    }

    #[test]
    fn one_job_after_another_ends_no_agent() {
        let (mut slots, mut next) = (Slots::new(2, true), 0);
        slots.fill();
        for second in 0..100u64 {
            let now_ms = second * 1_000;
            for id in start(&mut slots, &mut next) {
                slots.ready(id, now_ms);
            }
            let at = slots.take(run(next * 1_000 + second as u32), &namespace(0), now_ms).expect("one is idle");
            for id in start(&mut slots, &mut next) {
                slots.ready(id, now_ms);
            }
            slots.release(at);
            slots.ready(at, now_ms);
            assert_eq!(slots.surplus(now_ms), []);
        }
        assert_eq!(next, 3);
    }

    #[test]
    fn agents_that_cannot_start_are_not_started_for_ever() {
        let (mut slots, mut next) = (Slots::new(2, true), 0);
        slots.fill();
        while slots.to_start() > 0 {
            for id in start(&mut slots, &mut next) {
                assert_eq!(slots.failed(id), None);
            }
            assert!(next < 10);
        }
        assert_eq!(slots.take(run(0), &namespace(0), 0), None);
        let mut told = None;
        while let Some(id) = start(&mut slots, &mut next).pop() {
            told = slots.failed(id);
        }
        assert_eq!(told, Some(run(0)), "a run that waits is told");
    }
}
