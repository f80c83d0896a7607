//! The set-ups of one network: when one is made, cleaned or removed, and who gets it. Values in, decisions out.
//!
//! ```text
//!              made()                     take()              released()            cleaned()
//!   making ──────────► idle ────────────────────────► taken ────────────► cleaning ──────────► idle | taken
//!      │ failed()        ▲ └─ surplus, closed               │ spoiled        │
//!      ▼                 └── of a run that gave up          ▼                ▼
//!    (gone)                                              removing ◄──────────┘ removed() ──► (gone)
//! ```
//! - Taking one binds set-up and run in one step. A run that finds none has one made for it, and where no more may be made it
//!   waits; what is given back first goes to who waits longest.
//! - Only what was proved clean is idle again, and the one that rested longest is taken first.
//! - Counts are those of the slots themselves. Failures in a row are spaced out.

use std::collections::{BTreeMap, VecDeque};

use hostler_model::ids::{RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::PoolView;

/// Where a set-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// For nobody in particular, or for this run.
    Making(Option<RunId>),
    Idle,
    Taken(RunId),
    Cleaning,
    Removing,
}

/// Which set-up a run can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Any.
    Any,
    /// One that is made for it alone, as it wants it.
    Own,
}

/// What a run gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// This one, now.
    Taken(SetupId),
    /// One that is to be made for it now.
    Make,
    /// One that comes free.
    Wait,
    /// One of its own, for which this idle one makes room: it is to be removed.
    WaitFor(SetupId),
}

/// What becomes of a set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is this run's.
    Run(RunId),
    /// It waits for one.
    Idle,
    /// It is to be removed.
    Remove,
    /// It was not where it was thought to be.
    Nothing,
}

/// All set-ups of one network, and the runs that wait for one.
#[derive(Debug)]
pub(crate) struct Pool {
    target: u32,
    max: u32,
    closed: bool,
    slots: BTreeMap<SetupId, Place>,
    /// The longest idle first.
    idle: VecDeque<SetupId>,
    waiting: VecDeque<(RunId, Wish)>,
    failures: u32,
    last_failure: Option<String>,
    retry_at_ms: Option<u64>,
}

impl Pool {
    pub(crate) fn new(target: u32, max: u32) -> Self {
        Self {
            target: target.min(max),
            max,
            closed: false,
            slots: BTreeMap::new(),
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            failures: 0,
            last_failure: None,
            retry_at_ms: None,
        }
    }

    pub(crate) fn place(&self, setup: SetupId) -> Option<Place> {
        self.slots.get(&setup).copied()
    }

    fn total(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    fn count(&self, which: impl Fn(&Place) -> bool) -> u32 {
        u32::try_from(self.slots.values().filter(|place| which(place)).count()).unwrap_or(u32::MAX)
    }

    /// Whether something of it is on its way in or out.
    pub(crate) fn is_leaving(&self) -> bool {
        self.slots.values().any(|place| matches!(place, Place::Making(_) | Place::Cleaning | Place::Removing))
    }

    /// Whether nothing is there any more and nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.waiting.is_empty()
    }

    /// Whether a run that came now would have a set-up without waiting for another run's end.
    pub(crate) fn has_room(&self) -> bool {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let free = self.max.saturating_sub(self.total()) + self.count(|place| *place == Place::Idle);
        free > waiting
    }

    /// A run wants one.
    pub(crate) fn take(&mut self, run: RunId, wish: Wish) -> Take {
        let first = !self.waiting.iter().any(|(_, waiting)| *waiting == wish);
        if wish == Wish::Any
            && first
            && let Some(setup) = self.idle.pop_front()
        {
            self.slots.insert(setup, Place::Taken(run));
            return Take::Taken(setup);
        }
        if self.waiting.is_empty() && self.total() < self.max && !self.closed {
            return Take::Make;
        }
        self.waiting.push_back((run, wish));
        match self.idle.pop_front() {
            Some(setup) => {
                self.slots.insert(setup, Place::Removing);
                Take::WaitFor(setup)
            }
            None => Take::Wait,
        }
    }

    /// One is being made, for a run or to be idle.
    pub(crate) fn making(&mut self, setup: SetupId, run: Option<RunId>) {
        let before = self.slots.insert(setup, Place::Making(run));
        assert!(before.is_none(), "set-up ids are not used twice");
    }

    /// One that an earlier daemon left, as it stands.
    pub(crate) fn adopt(&mut self, setup: SetupId, place: Place) {
        if self.slots.insert(setup, place).is_none() && place == Place::Idle {
            self.idle.push_back(setup);
        }
    }

    /// How many to make now, for those who wait for any and to be idle; each is then told by [`Pool::making`].
    pub(crate) fn to_make(&self, now_ms: u64) -> u32 {
        if self.closed || self.retry_at_ms.is_some_and(|at_ms| at_ms > now_ms) {
            return 0;
        }
        let making = self.count(|place| *place == Place::Making(None));
        let ready = u32::try_from(self.idle.len()).unwrap_or(u32::MAX).saturating_add(making);
        self.target.saturating_sub(ready).min(self.max.saturating_sub(self.total()))
    }

    /// The first of those who wait, if one more may be made for it.
    pub(crate) fn next_waiting(&mut self) -> Option<(RunId, Wish)> {
        if self.closed || self.total() >= self.max {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When there is something to do that nobody will tell of.
    pub(crate) fn wake_at_ms(&self) -> Option<u64> {
        self.retry_at_ms.filter(|_| !self.closed && self.target > 0)
    }

    /// It was made.
    pub(crate) fn made(&mut self, setup: SetupId) -> Next {
        let Some(Place::Making(run)) = self.place(setup) else { return Next::Nothing };
        self.failures = 0;
        self.last_failure = None;
        self.retry_at_ms = None;
        match run {
            Some(run) => {
                self.slots.insert(setup, Place::Taken(run));
                Next::Run(run)
            }
            None => self.rest(setup),
        }
    }

    /// It is clean: for who waits, or idle, or one too many.
    fn rest(&mut self, setup: SetupId) -> Next {
        if self.closed {
            self.slots.insert(setup, Place::Removing);
            return Next::Remove;
        }
        if let Some(at) = self.waiting.iter().position(|(_, wish)| *wish == Wish::Any)
            && let Some((run, _)) = self.waiting.remove(at)
        {
            self.slots.insert(setup, Place::Taken(run));
            return Next::Run(run);
        }
        // Who waits for one of its own needs the room.
        let idle = u32::try_from(self.idle.len()).unwrap_or(u32::MAX);
        if idle >= self.target || !self.waiting.is_empty() {
            self.slots.insert(setup, Place::Removing);
            return Next::Remove;
        }
        self.slots.insert(setup, Place::Idle);
        self.idle.push_back(setup);
        Next::Idle
    }

    /// It could not be made; what was begun is being undone. The run it was for.
    pub(crate) fn failed(&mut self, setup: SetupId, why: &str, now_ms: u64) -> Option<RunId> {
        let Some(Place::Making(run)) = self.place(setup) else { return None };
        self.slots.insert(setup, Place::Removing);
        let shift = self.failures.min(16);
        let wait_ms = (limits::SETUP_BACKOFF_INITIAL_MS << shift).min(limits::SETUP_BACKOFF_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(why.to_owned());
        self.retry_at_ms = Some(now_ms.saturating_add(wait_ms));
        run
    }

    /// The run is over, or wants none any more. Its set-up, which is now being cleaned or removed; `None` when it has none.
    pub(crate) fn released(&mut self, run: RunId, spoiled: Spoiled) -> Option<SetupId> {
        self.waiting.retain(|(waiting, _)| *waiting != run);
        let (setup, place) = self
            .slots
            .iter()
            .find(|(_, place)| matches!(place, Place::Taken(of) | Place::Making(Some(of)) if *of == run))?;
        let (setup, place) = (*setup, *place);
        if let Place::Making(_) = place {
            // Told when it is made: what is made for one alone is of use to nobody else.
            self.slots.insert(setup, Place::Making(None));
            return None;
        }
        let keep = spoiled == Spoiled::No && !self.closed && self.target > 0;
        self.slots.insert(setup, if keep { Place::Cleaning } else { Place::Removing });
        Some(setup)
    }

    /// An idle one has to go. Whether it was idle.
    pub(crate) fn evict(&mut self, setup: SetupId) -> bool {
        let is_idle = self.place(setup) == Some(Place::Idle);
        if is_idle {
            self.idle.retain(|idle| *idle != setup);
            self.slots.insert(setup, Place::Removing);
        }
        is_idle
    }

    /// It was proved clean, or found not to be.
    pub(crate) fn cleaned(&mut self, setup: SetupId, spoiled: Spoiled) -> Next {
        if self.place(setup) != Some(Place::Cleaning) {
            return Next::Nothing;
        }
        if spoiled == Spoiled::Yes {
            self.slots.insert(setup, Place::Removing);
            return Next::Remove;
        }
        self.rest(setup)
    }

    /// Nothing of it is left.
    pub(crate) fn removed(&mut self, setup: SetupId) {
        if self.place(setup) == Some(Place::Removing) {
            self.slots.remove(&setup);
        }
    }

    /// None is made or kept any more. What was idle is now being removed; who waited gets none.
    pub(crate) fn close(&mut self) -> (Vec<SetupId>, Vec<RunId>) {
        self.closed = true;
        let idle: Vec<_> = self.idle.drain(..).collect();
        for setup in &idle {
            self.slots.insert(*setup, Place::Removing);
        }
        (idle, self.waiting.drain(..).map(|(run, _)| run).collect())
    }

    pub(crate) fn view(&self, now_ms: u64) -> PoolView {
        PoolView {
            target: self.target,
            max: self.max,
            idle: self.count(|place| *place == Place::Idle),
            occupied: self.count(|place| matches!(place, Place::Taken(_))),
            making: self.count(|place| matches!(place, Place::Making(_))),
            leaving: self.count(|place| matches!(place, Place::Cleaning | Place::Removing)),
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            failures: self.failures,
            last_failure: self.last_failure.clone(),
            retry_in_ms: self.retry_at_ms.filter(|_| self.target > 0).map(|at_ms| at_ms.saturating_sub(now_ms)),
        }
    }
}

/// Whether a set-up may still be given to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    No,
    Yes,
}

#[cfg(test)]
mod tests;
