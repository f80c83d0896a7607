//! One pool of machines that wait: which sandbox goes to which run, when to make more, when to let some go. Values in,
//! decisions out.
//!
//! ```text
//!             made()            take()               gone()
//!   making ───────────► idle ──────────► bound{run} ────────► (gone)
//!      │ failed()         │ old, missed, drained, surplus
//!      ▼                  ▼
//!   (gone, back-off)    leaving ─► (gone)
//! ```
//! - Only a sandbox whose guest has answered is idle; taking one binds slot and run in one step, the one that waits
//!   longest first, so that none grows old unseen.
//! - There are never more than `max`, those that are made, idle, bound and leaving together.
//! - One missed answer is no death: [`MISSES_MAX`] in a row are.
//! - Counts are taken from the slots.

use std::collections::BTreeMap;

use hostler_model::ids::{RunId, SandboxId};

/// Machines of one pool being made at one time.
pub(crate) const MAKE_PARALLEL_MAX: usize = 2;
/// Answers in a row that may be missing.
pub(crate) const MISSES_MAX: u32 = 3;
/// First wait after one could not be made, milliseconds; doubles with each failure in a row.
const BACKOFF_INITIAL_MS: u64 = 1_000;
/// Longest of these waits, milliseconds.
const BACKOFF_MAX_MS: u64 = 60_000;

/// How many, and how old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Kept ready.
    pub(crate) idle: usize,
    /// At most, in all.
    pub(crate) max: usize,
    /// An idle one is replaced after this time, milliseconds.
    pub(crate) max_age_ms: Option<u64>,
}

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Making,
    Idle { since_ms: u64 },
    Bound(RunId),
    Leaving,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    misses: u32,
}

/// What came of a wish for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This one, bound to the run.
    Warm(SandboxId),
    /// None is idle; there is room to make one.
    Empty,
    /// None is idle, and there are as many as there may be.
    Full,
}

/// How many stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) making: usize,
    pub(crate) idle: usize,
    pub(crate) bound: usize,
    pub(crate) leaving: usize,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Slots {
    size: Size,
    slots: BTreeMap<SandboxId, Slot>,
    failures: u32,
    next_try_ms: u64,
    /// Nothing is made ahead until it is filled again.
    drained: bool,
}

impl Slots {
    pub(crate) fn new(size: Size) -> Self {
        Self { size, slots: BTreeMap::new(), failures: 0, next_try_ms: 0, drained: false }
    }

    pub(crate) fn size(&self) -> Size {
        self.size
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Those that are more than wanted now leave.
    pub(crate) fn resize(&mut self, size: Size) -> Vec<SandboxId> {
        self.size = size;
        let counts = self.counts();
        let over_max = (counts.making + counts.idle + counts.bound + counts.leaving).saturating_sub(size.max);
        let surplus = counts.idle.saturating_sub(size.idle).max(over_max.min(counts.idle));
        self.let_go(surplus)
    }

    /// From now on idle ones are kept ready, whatever was before.
    pub(crate) fn fill(&mut self) {
        (self.drained, self.failures, self.next_try_ms) = (false, 0, 0);
    }

    /// All idle ones leave, and none is made ahead.
    pub(crate) fn drain(&mut self) -> Vec<SandboxId> {
        self.drained = true;
        self.let_go(usize::MAX)
    }

    fn idle(&self) -> Vec<(u64, SandboxId)> {
        let idle = self.slots.iter().filter_map(|(sandbox, slot)| match slot.place {
            Place::Idle { since_ms } => Some((since_ms, *sandbox)),
            _ => None,
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable();
        idle
    }

    fn let_go(&mut self, count: usize) -> Vec<SandboxId> {
        let leaving: Vec<_> = self.idle().into_iter().take(count).map(|(_, sandbox)| sandbox).collect();
        leaving.iter().for_each(|sandbox| self.leave(*sandbox));
        leaving
    }

    /// It is on its way out, and nobody gets it any more.
    pub(crate) fn leave(&mut self, sandbox: SandboxId) {
        if let Some(slot) = self.slots.get_mut(&sandbox) {
            slot.place = Place::Leaving;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for slot in self.slots.values() {
            match slot.place {
                Place::Making => counts.making += 1,
                Place::Idle { .. } => counts.idle += 1,
                Place::Bound(_) => counts.bound += 1,
                Place::Leaving => counts.leaving += 1,
            }
        }
        counts
    }

    pub(crate) fn place(&self, sandbox: SandboxId) -> Option<Place> {
        self.slots.get(&sandbox).map(|slot| slot.place)
    }

    /// Those that wait and can be asked how they are.
    pub(crate) fn waiting(&self) -> Vec<SandboxId> {
        self.idle().into_iter().map(|(_, sandbox)| sandbox).collect()
    }

    /// A machine for this run.
    pub(crate) fn take(&mut self, run: RunId) -> Taken {
        match self.idle().first() {
            Some((_, sandbox)) => {
                let slot = self.slots.get_mut(sandbox).expect("it is among the idle ones");
                slot.place = Place::Bound(run);
                Taken::Warm(*sandbox)
            }
            None if self.slots.len() < self.size.max => Taken::Empty,
            None => Taken::Full,
        }
    }

    /// All of them.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Those that stand somewhere.
    pub(crate) fn known(&self, wanted: impl Fn(Place) -> bool) -> Vec<SandboxId> {
        self.slots.iter().filter(|(_, slot)| wanted(slot.place)).map(|(sandbox, _)| *sandbox).collect()
    }

    /// Whether the last failure is long enough ago.
    pub(crate) fn may_try(&self, now_ms: u64) -> bool {
        now_ms >= self.next_try_ms
    }

    /// How many to make now; each is then told by [`Slots::making`].
    pub(crate) fn to_make(&self, now_ms: u64) -> usize {
        if self.drained || now_ms < self.next_try_ms {
            return 0;
        }
        let counts = self.counts();
        let missing = self.size.idle.saturating_sub(counts.idle + counts.making);
        let room = self.size.max.saturating_sub(self.slots.len());
        // After a failure one at a time is tried.
        let parallel = if self.failures > 0 { 1 } else { MAKE_PARALLEL_MAX };
        missing.min(room).min(parallel.saturating_sub(counts.making))
    }

    /// When to ask again, if nothing else happens before.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let retry = (self.next_try_ms > now_ms && !self.drained).then_some(self.next_try_ms);
        let oldest = self.idle().first().map(|(since_ms, _)| *since_ms);
        let old = oldest.zip(self.size.max_age_ms).map(|(since_ms, age_ms)| since_ms.saturating_add(age_ms));
        [retry, old].into_iter().flatten().min()
    }

    pub(crate) fn making(&mut self, sandbox: SandboxId) {
        let slot = Slot { place: Place::Making, misses: 0 };
        assert!(self.slots.insert(sandbox, slot).is_none(), "sandbox ids are not used twice");
    }

    /// Its guest has answered. Whether it is to leave at once: nobody wants it any more.
    pub(crate) fn made(&mut self, sandbox: SandboxId, now_ms: u64) -> bool {
        let counts = self.counts();
        let Some(slot) = self.slots.get_mut(&sandbox).filter(|slot| slot.place == Place::Making) else { return false };
        (self.failures, self.next_try_ms) = (0, 0);
        let unwanted = self.drained || counts.idle >= self.size.idle;
        slot.place = if unwanted { Place::Leaving } else { Place::Idle { since_ms: now_ms } };
        unwanted
    }

    /// One that was found after a restart of the daemon, waiting. Whether it is to leave: there are enough.
    pub(crate) fn adopt(&mut self, sandbox: SandboxId, now_ms: u64) -> bool {
        self.slots.insert(sandbox, Slot { place: Place::Making, misses: 0 });
        self.made(sandbox, now_ms)
    }

    /// It could not be made.
    pub(crate) fn failed(&mut self, sandbox: SandboxId, now_ms: u64) {
        if self.slots.remove(&sandbox).is_some_and(|slot| slot.place == Place::Making) {
            self.failed_without_slot(now_ms);
        }
    }

    /// Nor could what they are made of.
    pub(crate) fn failed_without_slot(&mut self, now_ms: u64) {
        self.next_try_ms = now_ms + (BACKOFF_INITIAL_MS << self.failures.min(16)).min(BACKOFF_MAX_MS);
        self.failures = self.failures.saturating_add(1);
    }

    /// It was asked how it is. Whether it is to leave, for it has not answered too often.
    pub(crate) fn answered(&mut self, sandbox: SandboxId, has_answered: bool) -> bool {
        let Some(slot) = self.slots.get_mut(&sandbox) else { return false };
        if !matches!(slot.place, Place::Idle { .. }) {
            return false;
        }
        slot.misses = if has_answered { 0 } else { slot.misses + 1 };
        let is_dead = slot.misses >= MISSES_MAX;
        if is_dead {
            slot.place = Place::Leaving;
        }
        is_dead
    }

    /// Those that have waited too long, and leave now.
    pub(crate) fn old(&mut self, now_ms: u64) -> Vec<SandboxId> {
        let Some(age_ms) = self.size.max_age_ms else { return Vec::new() };
        let is_old = |(since_ms, _): &(u64, SandboxId)| since_ms.saturating_add(age_ms) <= now_ms;
        let old: Vec<_> = self.idle().into_iter().filter(is_old).map(|(_, sandbox)| sandbox).collect();
        old.iter().for_each(|sandbox| self.leave(*sandbox));
        old
    }

    /// It is gone. Where it stood.
    pub(crate) fn gone(&mut self, sandbox: SandboxId) -> Option<Place> {
        self.slots.remove(&sandbox).map(|slot| slot.place)
    }
}

#[cfg(test)]
mod tests {
    use hostler_model::ids::WorkloadId;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn run(number: u32) -> RunId {
        RunId { workload: WorkloadId::from_bytes([7; 6]), number: number + 1 }
    }

    fn sandbox(number: u32) -> SandboxId {
        let [a, b, c, d] = number.to_be_bytes();
        SandboxId::from_bytes([0, 0, a, b, c, d])
    }

    #[derive(Debug, Clone)]
    enum Step {
        Make,
        Made(usize),
        Failed(usize),
        Take,
        Gone(usize),
        Answer(usize, bool),
        Wait(u64),
        Resize(usize, usize),
        Drain,
        Fill,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Make),
            4 => any::<usize>().prop_map(Step::Made),
            1 => any::<usize>().prop_map(Step::Failed),
            4 => Just(Step::Take),
            2 => any::<usize>().prop_map(Step::Gone),
            2 => (any::<usize>(), any::<bool>()).prop_map(|(which, well)| Step::Answer(which, well)),
            1 => (0u64..100_000).prop_map(Step::Wait),
            1 => (0usize..5, 1usize..7).prop_map(|(idle, max)| Step::Resize(idle.min(max), max)),
            1 => Just(Step::Drain),
            1 => Just(Step::Fill),
        ]
    }

    proptest! {
        #[test]
        fn never_more_than_max_never_one_that_has_not_answered_and_none_twice(
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut slots = Slots::new(Size { idle: 2, max: 4, max_age_ms: Some(50_000) });
            let (mut now_ms, mut next, mut next_run) = (0, 0, 0);
            let mut max_ever = 4;
            let mut answered: BTreeSet<SandboxId> = BTreeSet::new();
            let mut bound: BTreeMap<SandboxId, RunId> = BTreeMap::new();
            for step in steps {
                now_ms += 10;
                let known: Vec<_> = slots.slots.keys().copied().collect();
                let pick = |index: usize| known.get(index % known.len().max(1)).copied();
                match step {
                    Step::Make => for _ in 0..slots.to_make(now_ms) {
                        slots.making(sandbox(next));
                        next += 1;
                        prop_assert!(slots.slots.len() <= slots.size.max, "made above max");
                    },
                    Step::Made(index) => if let Some(at) = pick(index)
                        && slots.place(at) == Some(Place::Making)
                    {
                        slots.made(at, now_ms);
                        answered.insert(at);
                    },
                    Step::Failed(index) => if let Some(at) = pick(index)
                        && slots.place(at) == Some(Place::Making)
                    {
                        slots.failed(at, now_ms);
                    },
                    Step::Take => {
                        match slots.take(run(next_run)) {
                            Taken::Warm(at) => {
                                prop_assert!(answered.contains(&at), "one that never answered was handed out");
                                prop_assert!(bound.insert(at, run(next_run)).is_none(), "one was handed out twice");
                            }
                            Taken::Empty => prop_assert!(slots.slots.len() < slots.size.max),
                            Taken::Full => prop_assert!(slots.slots.len() >= slots.size.max),
                        }
                        next_run += 1;
                    }
                    Step::Gone(index) => if let Some(at) = pick(index) {
                        slots.gone(at);
                        bound.remove(&at);
                    },
                    Step::Answer(index, well) => if let Some(at) = pick(index) {
                        slots.answered(at, well);
                    },
                    Step::Wait(ms) => {
                        now_ms += ms;
                        for at in slots.old(now_ms) {
                            prop_assert_eq!(slots.place(at), Some(Place::Leaving));
                        }
                    }
                    Step::Resize(idle, max) => {
                        slots.resize(Size { idle, max, ..slots.size() });
                        max_ever = max_ever.max(max);
                    }
                    Step::Drain => {
                        slots.drain();
                        prop_assert_eq!(slots.counts().idle, 0);
                    }
                    Step::Fill => slots.fill(),
                }
                let counts = slots.counts();
                prop_assert_eq!(counts.making + counts.idle + counts.bound + counts.leaving, slots.slots.len());
                prop_assert_eq!(counts.bound, bound.len());
                prop_assert!(slots.slots.len() <= max_ever);
                prop_assert!(counts.making <= MAKE_PARALLEL_MAX);
            }
        }
    }

    #[test]
    fn one_missed_answer_is_no_death() {
        let mut slots = Slots::new(Size { idle: 1, max: 2, max_age_ms: None });
        slots.making(sandbox(1));
        assert_eq!(slots.take(run(1)), Taken::Empty, "it has not answered yet");
        assert!(!slots.made(sandbox(1), 0));
        for _ in 1..MISSES_MAX {
            assert!(!slots.answered(sandbox(1), false));
        }
        assert!(!slots.answered(sandbox(1), true), "all is well again");
        for _ in 1..MISSES_MAX {
            assert!(!slots.answered(sandbox(1), false));
        }
        assert!(slots.answered(sandbox(1), false));
        assert_eq!(slots.take(run(2)), Taken::Empty, "a dead one is never handed out");
    }

    #[test]
    fn failures_are_waited_out_and_a_refill_forgets_them() {
        let mut slots = Slots::new(Size { idle: 2, max: 4, max_age_ms: None });
        let mut now_ms = 0;
        let mut tried = 0;
        while now_ms < 120_000 {
            for _ in 0..slots.to_make(now_ms) {
                slots.making(sandbox(tried));
                slots.failed(sandbox(tried), now_ms);
                tried += 1;
            }
            now_ms = slots.next_ms(now_ms).expect("it tries again");
        }
        assert!((6..12).contains(&tried), "{tried} attempts in two minutes");
        assert_eq!(slots.to_make(now_ms - 1), 0);
        slots.fill();
        assert_eq!(slots.to_make(now_ms - 1), MAKE_PARALLEL_MAX);
    }
}
