use std::collections::{BTreeMap, BTreeSet};

use hostler_model::WorkloadId;
use proptest::prelude::*;

use super::*;

fn run(number: u32) -> RunId {
    RunId { workload: WorkloadId::from_bytes([1; 6]), number }
}

fn setup(number: u32) -> SetupId {
    SetupId::from_bytes(number.to_be_bytes())
}

#[test]
fn filled_taken_given_back_and_taken_again() {
    let mut pool = Pool::new(2, 3);
    assert_eq!(pool.to_make(0), 2);
    for number in 0..2 {
        pool.making(setup(number), None);
        assert_eq!(pool.made(setup(number)), Next::Idle);
    }
    assert_eq!((pool.to_make(0), pool.has_room()), (0, true));
    assert_eq!(pool.take(run(1), Wish::Any), Take::Taken(setup(0)), "the longest idle");
    assert_eq!(pool.take(run(2), Wish::Own), Take::Make);
    pool.making(setup(2), Some(run(2)));
    assert_eq!(pool.made(setup(2)), Next::Run(run(2)));
    assert_eq!(pool.take(run(3), Wish::Any), Take::Taken(setup(1)));
    assert!(!pool.has_room());
    assert_eq!(pool.take(run(4), Wish::Any), Take::Wait);
    assert_eq!(pool.released(run(1), Spoiled::No), Some(setup(0)));
    assert_eq!(pool.cleaned(setup(0), Spoiled::No), Next::Run(run(4)), "who waits comes before the pool");
    assert_eq!(pool.released(run(2), Spoiled::Yes), Some(setup(2)));
    assert_eq!(pool.place(setup(2)), Some(Place::Removing));
    pool.removed(setup(2));
    assert_eq!(pool.to_make(0), 1, "one more may be made now");
}

#[test]
fn failures_are_spaced_and_told() {
    let mut pool = Pool::new(1, 4);
    let mut waits = Vec::new();
    let mut now_ms = 0;
    for number in 0..12 {
        assert_eq!(pool.to_make(now_ms), 1);
        pool.making(setup(number), None);
        assert_eq!(pool.failed(setup(number), "no", now_ms), None);
        pool.removed(setup(number));
        assert_eq!(pool.to_make(now_ms), 0);
        let at_ms = pool.wake_at_ms().expect("it is tried again");
        waits.push(at_ms - now_ms);
        now_ms = at_ms;
    }
    assert!(waits.is_sorted() && waits[0] == limits::SETUP_BACKOFF_INITIAL_MS);
    assert_eq!(waits.last(), Some(&limits::SETUP_BACKOFF_MAX_MS));
    let view = pool.view(now_ms);
    assert_eq!((view.failures, view.last_failure.as_deref()), (12, Some("no")));
    pool.making(setup(99), None);
    assert_eq!(pool.made(setup(99)), Next::Idle);
    assert_eq!((pool.view(now_ms).failures, pool.wake_at_ms()), (0, None));
    // A run that comes meanwhile does not wait for that.
    assert_eq!(pool.take(run(1), Wish::Own), Take::Make);
}

/// What a test knows beside the pool.
#[derive(Default)]
struct Model {
    next: u32,
    /// Runs with a set-up.
    has: BTreeMap<RunId, SetupId>,
    wants: BTreeSet<RunId>,
}

#[derive(Debug, Clone)]
enum Op {
    Fill,
    Take(bool),
    Made(usize),
    Failed(usize),
    Release(usize, bool),
    Cleaned(usize, bool),
    Removed(usize),
    GiveUp(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Fill),
        4 => any::<bool>().prop_map(Op::Take),
        4 => any::<usize>().prop_map(Op::Made),
        1 => any::<usize>().prop_map(Op::Failed),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, spoiled)| Op::Release(at, spoiled)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, spoiled)| Op::Cleaned(at, spoiled)),
        3 => any::<usize>().prop_map(Op::Removed),
        1 => any::<usize>().prop_map(Op::GiveUp),
    ]
}

impl Model {
    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn at(pool: &Pool, index: usize, which: impl Fn(&Place) -> bool) -> Option<SetupId> {
        let found: Vec<_> = pool.slots.iter().filter(|(_, place)| which(place)).map(|(setup, _)| *setup).collect();
        (!found.is_empty()).then(|| found[index % found.len()])
    }

    fn bound(&mut self, run: RunId, setup: SetupId) {
        assert!(self.wants.remove(&run), "nobody gets what he does not want");
        assert!(self.has.insert(run, setup).is_none(), "nobody has two");
        assert_eq!(self.has.values().collect::<BTreeSet<_>>().len(), self.has.len(), "nobody shares");
    }

    fn next(&mut self, next: Next, setup: SetupId) {
        if let Next::Run(run) = next {
            self.bound(run, setup);
        }
    }

    fn serve(&mut self, pool: &mut Pool) {
        while let Some((run, _)) = pool.next_waiting() {
            let setup = setup(self.fresh());
            pool.making(setup, Some(run));
        }
    }

    fn step(&mut self, pool: &mut Pool, op: Op) {
        match op {
            Op::Fill => {
                for _ in 0..pool.to_make(u64::MAX) {
                    pool.making(setup(self.fresh()), None);
                }
            }
            Op::Take(own) => {
                let run = run(self.fresh());
                self.wants.insert(run);
                match pool.take(run, if own { Wish::Own } else { Wish::Any }) {
                    Take::Taken(setup) => self.bound(run, setup),
                    Take::Make => pool.making(setup(self.fresh()), Some(run)),
                    Take::Wait | Take::WaitFor(_) => {}
                }
            }
            Op::Made(at) => {
                if let Some(setup) = Self::at(pool, at, |place| matches!(place, Place::Making(_) | Place::MakingInVain))
                {
                    let next = pool.made(setup);
                    self.next(next, setup);
                }
            }
            Op::Failed(at) => {
                if let Some(setup) = Self::at(pool, at, |place| matches!(place, Place::Making(_) | Place::MakingInVain))
                    && let Some(run) = pool.failed(setup, "no", 0)
                {
                    assert!(self.wants.remove(&run));
                }
            }
            Op::Release(at, spoiled) => {
                let runs: Vec<_> = self.has.keys().copied().collect();
                if !runs.is_empty() {
                    let run = runs[at % runs.len()];
                    let spoiled = if spoiled { Spoiled::Yes } else { Spoiled::No };
                    assert_eq!(pool.released(run, spoiled), self.has.remove(&run));
                }
            }
            Op::Cleaned(at, spoiled) => {
                if let Some(setup) = Self::at(pool, at, |place| *place == Place::Cleaning) {
                    let next = pool.cleaned(setup, if spoiled { Spoiled::Yes } else { Spoiled::No });
                    self.next(next, setup);
                }
            }
            Op::Removed(at) => {
                if let Some(setup) = Self::at(pool, at, |place| *place == Place::Removing) {
                    pool.removed(setup);
                }
            }
            Op::GiveUp(at) => {
                let runs: Vec<_> = self.wants.iter().copied().collect();
                if !runs.is_empty() {
                    let run = runs[at % runs.len()];
                    self.wants.remove(&run);
                    assert_eq!(pool.released(run, Spoiled::Yes), None);
                }
            }
        }
        self.serve(pool);
    }
}

proptest! {
    #[test]
    fn nobody_shares_nobody_is_forgotten(target in 0_u32..5, max in 1_u32..6, ops in proptest::collection::vec(op(), 0..120)) {
        let mut pool = Pool::new(target, max);
        let mut model = Model::default();
        for op in ops {
            model.step(&mut pool, op);
            let view = pool.view(0);
            let total = view.idle + view.occupied + view.making + view.leaving;
            prop_assert!(total <= max);
            prop_assert!(view.idle <= view.target);
            prop_assert_eq!(view.idle as usize, pool.idle.len());
            prop_assert_eq!(view.occupied as usize, model.has.len());
            // Whoever wants one has one made for him or waits, and waits only while no more may be made.
            let making = pool.slots.values().filter(|place| matches!(place, Place::Making(Some(_)))).count();
            prop_assert_eq!(making + view.waiting as usize, model.wants.len());
            prop_assert!(view.waiting == 0 || total == max);
            let waits_for_any = pool.waiting.iter().any(|(_, wish)| *wish == Wish::Any);
            prop_assert!(!waits_for_any || view.idle == 0);
        }
        // Everybody goes home.
        while let Some(run) = model.wants.pop_first() {
            pool.released(run, Spoiled::Yes);
        }
        pool.close();
        for _ in 0..3 {
            for at in (0..max as usize).rev() {
                model.step(&mut pool, Op::Made(at));
                model.step(&mut pool, Op::Release(at, false));
                model.step(&mut pool, Op::Cleaned(at, false));
                model.step(&mut pool, Op::Removed(at));
            }
        }
        while pool.total() > 0 {
            for op in [Op::Made(0), Op::Release(0, true), Op::Cleaned(0, true), Op::Removed(0)] {
                model.step(&mut pool, op);
            }
        }
        prop_assert!(pool.is_empty());
    }
}
