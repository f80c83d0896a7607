//! Statistics at an interval: who is sampled, when, and the samples that are kept.
//!
//! One task with one timer serves all; while no live run asks for samples it sleeps without one. A sample is taken by a
//! task of its own with the agent's deadline, so that an agent that hangs delays only its own workload, whose samples
//! are left out until it answers. What the samples come to is summed up by the agent, and told with the end: it
//! outlives this daemon, and so does the sampling of adopted runs. The samples themselves are kept in memory only.
//!
//! - `rings`: the newest samples, and the bounds of their memory

mod rings;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hostler_api::types::Sample;
use hostler_linux::clock;
use hostler_model::ids::WorkloadId;
use hostler_model::record::Record;
use hostler_model::statistics::Used;
use hostler_model::workload::{RunState, Workload};
use hostler_model::{Namespace, RunId, WorkloadName, limits};
use hostler_runtime::{RunStats, Runtime};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use rings::{BOUNDS, Rings};

/// A live workload with its newest sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Whose.
    pub namespace: Namespace,
    /// Its name.
    pub name: WorkloadName,
    /// The sample.
    pub sample: Sample,
}

/// A live run that asked for samples.
#[derive(Debug)]
struct Live {
    run: RunId,
    interval: Duration,
    due: Instant,
    /// A sample is being taken.
    is_busy: bool,
    namespace: Namespace,
    name: WorkloadName,
}

#[derive(Debug)]
struct State {
    live: HashMap<WorkloadId, Live>,
    due: BTreeSet<(Instant, WorkloadId)>,
    under_way: usize,
    rings: Rings,
}

/// Everything that is sampled.
#[derive(Debug)]
pub struct Sampling {
    state: Mutex<State>,
    wake: Notify,
    /// Workloads known here, so that the removal of others costs nothing.
    known: AtomicUsize,
}

impl Sampling {
    /// Of nobody yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State { live: HashMap::new(), due: BTreeSet::new(), under_way: 0, rings: Rings::new(BOUNDS) };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), known: AtomicUsize::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was committed.
    pub fn apply(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::Workload(workload) => self.observe(workload),
                Record::WorkloadRemoved(id) if self.known.load(Ordering::Relaxed) > 0 => {
                    let mut state = self.state();
                    state.end(*id);
                    state.rings.remove(*id);
                    self.known.store(state.known(), Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }

    /// Takes in how a workload stands: samples its run from now on, or no longer.
    pub fn observe(&self, workload: &Workload) {
        let Some(interval_ms) = workload.spec.stats_interval_ms else { return };
        let running = workload.live_run().filter(|run| {
            run.started_at_ms.is_some() && matches!(run.state, RunState::Running | RunState::Stopping { .. })
        });
        let mut state = self.state();
        match running {
            Some(run) if state.live.get(&workload.id).is_some_and(|live| live.run == run.id) => return,
            Some(run) => {
                state.end(workload.id);
                // The first at once: many a run is shorter than its interval.
                let due = Instant::now();
                let live = Live {
                    run: run.id,
                    interval: Duration::from_millis(interval_ms),
                    due,
                    is_busy: false,
                    namespace: workload.namespace.clone(),
                    name: workload.name.clone(),
                };
                state.live.insert(workload.id, live);
                state.due.insert((due, workload.id));
                self.wake.notify_one();
            }
            None => state.end(workload.id),
        }
        self.known.store(state.known(), Ordering::Relaxed);
    }

    /// Takes samples until the node goes down.
    pub async fn run(self: Arc<Self>, runtime: Runtime, mut down: watch::Receiver<bool>) {
        loop {
            let (due, next) = self.state().take_due(Instant::now());
            for (id, run) in due {
                let (sampling, runtime) = (self.clone(), runtime.clone());
                tokio::spawn(async move {
                    let stats = runtime.sample(run).await.ok();
                    sampling.taken(id, run, stats);
                });
            }
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.wake.notified() => {}
                _ = down.wait_for(|down| *down) => return,
            }
        }
    }

    fn taken(&self, id: WorkloadId, run: RunId, stats: Option<RunStats>) {
        let mut state = self.state();
        if state.under_way >= limits::SAMPLES_UNDER_WAY_MAX {
            // Somebody waits for this place.
            self.wake.notify_one();
        }
        state.under_way -= 1;
        // Over, or even removed, while it was looked at.
        let Some(live) = state.live.get_mut(&id).filter(|live| live.run == run) else { return };
        live.is_busy = false;
        if let Some(stats) = stats {
            state.rings.push(id, sample(run, &stats));
        }
    }

    /// The samples kept of a workload, oldest first.
    #[must_use]
    pub fn samples(&self, id: WorkloadId) -> Vec<Sample> {
        self.state().rings.samples(id)
    }

    /// The live workloads that have samples, with the newest of each.
    #[must_use]
    pub fn live(&self) -> Vec<Sampled> {
        if self.known.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let state = self.state();
        let sampled = state.live.iter().filter_map(|(id, live)| {
            let sample = state.rings.newest(*id).filter(|sample| sample.run == live.run.number)?;
            Some(Sampled { namespace: live.namespace.clone(), name: live.name.clone(), sample })
        });
        sampled.collect()
    }
}

impl State {
    fn known(&self) -> usize {
        self.live.len() + self.rings.len()
    }

    fn end(&mut self, id: WorkloadId) {
        if let Some(live) = self.live.remove(&id) {
            self.due.remove(&(live.due, id));
        }
    }

    /// Those whose time has come, as many as there is room for, and when to look again. Without room the next sample
    /// that is taken wakes us.
    fn take_due(&mut self, now: Instant) -> (Vec<(WorkloadId, RunId)>, Option<Instant>) {
        let mut taken = Vec::new();
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                return (taken, Some(at));
            }
            if self.under_way >= limits::SAMPLES_UNDER_WAY_MAX {
                return (taken, None);
            }
            self.due.remove(&(at, id));
            let Some(live) = self.live.get_mut(&id) else { continue };
            // Those that were missed are not made up for.
            live.due = if at + live.interval > now { at + live.interval } else { now + live.interval };
            self.due.insert((live.due, id));
            if !live.is_busy {
                live.is_busy = true;
                self.under_way += 1;
                taken.push((id, live.run));
            }
        }
        (taken, None)
    }
}

pub(crate) fn sample(run: RunId, stats: &RunStats) -> Sample {
    Sample {
        time_ms: clock::wall_ms(),
        run: run.number,
        pids: stats.pids,
        memory_bytes: stats.memory_bytes,
        used: Used {
            cpu_us: stats.cpu_us,
            rss_bytes: stats.rss_bytes,
            swap_bytes: stats.swap_bytes,
            read_bytes: stats.read_bytes,
            written_bytes: stats.written_bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(number: u8, run: u32, state: &str, interval: Option<u64>) -> Workload {
        let id = WorkloadId::from_bytes([number; 6]);
        let interval = interval.map_or_else(String::new, |ms| format!(r#","stats_interval_ms":{ms}"#));
        let json = format!(
            r#"{{"id":"{id}","namespace":"u1","name":"w{number}","generation":1,
            "spec":{{"command":["true"]{interval}}},"identity":{{"uid":0,"gid":0}},"limits":{{}},"desired":"run",
            "created_at_ms":0,"runs":{run},
            "run":{{"id":"{id}-{run}","created_at_ms":0,"started_at_ms":1,{state}}}}}"#
        );
        serde_json::from_str(&json).expect("a workload")
    }

    const RUNNING: &str = r#""state":"running""#;
    const LOST: &str = r#""state":"lost","reason":"agent""#;

    fn stats() -> Option<RunStats> {
        Some(RunStats { cpu_us: 5, rss_bytes: 7, ..RunStats::default() })
    }

    #[tokio::test]
    async fn who_asks_for_nothing_is_not_sampled_and_wakes_nobody() {
        let sampling = Sampling::new();
        sampling.observe(&workload(1, 1, RUNNING, None));
        assert_eq!(sampling.state().take_due(Instant::now()), (Vec::new(), None));
        sampling.observe(&workload(2, 1, RUNNING, Some(100)));
        sampling.observe(&workload(2, 1, LOST, Some(100)));
        assert_eq!(sampling.state().take_due(Instant::now()), (Vec::new(), None));
        assert_eq!(sampling.known.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn each_in_its_own_time_and_a_hanging_one_delays_nobody() {
        let sampling = Sampling::new();
        let (hangs, answers) = (workload(1, 1, RUNNING, Some(100)), workload(2, 1, RUNNING, Some(1_000)));
        sampling.observe(&hangs);
        sampling.observe(&answers);
        let begin = Instant::now();
        let (first, next) = sampling.state().take_due(begin);
        assert_eq!(first.len(), 2);
        assert!(next.is_some_and(|next| next <= begin + Duration::from_millis(100)), "{next:?}");
        let run = RunId { workload: answers.id, number: 1 };
        sampling.taken(answers.id, run, stats());
        for step in 1..=20 {
            let (due, next) = sampling.state().take_due(begin + Duration::from_millis(step * 100));
            assert!(due.iter().all(|(id, _)| *id == answers.id) && next.is_some());
            due.iter().for_each(|(id, run)| sampling.taken(*id, *run, stats()));
        }
        assert_eq!((sampling.samples(hangs.id).len(), sampling.samples(answers.id).len()), (0, 3));
        assert_eq!(sampling.live().len(), 1);
        // A late answer of a run that is over, or of a workload that is gone, is nobody's.
        sampling.observe(&workload(1, 2, RUNNING, Some(100)));
        sampling.taken(hangs.id, RunId { workload: hangs.id, number: 1 }, stats());
        assert_eq!(sampling.samples(hangs.id).len(), 0);
        sampling.apply(&[Record::WorkloadRemoved(hangs.id), Record::WorkloadRemoved(answers.id)]);
        assert_eq!((sampling.known.load(Ordering::Relaxed), sampling.samples(answers.id).len()), (0, 0));
        assert_eq!(sampling.state().take_due(begin + Duration::from_secs(60)), (Vec::new(), None));
    }

    #[tokio::test]
    async fn more_than_can_be_looked_at_at_once_wait_for_their_turn() {
        let sampling = Sampling::new();
        let count = limits::SAMPLES_UNDER_WAY_MAX + 10;
        for number in 0..count {
            sampling.observe(&workload(u8::try_from(number).expect("few"), 1, RUNNING, Some(60_000)));
        }
        let now = Instant::now();
        let (first, next) = sampling.state().take_due(now);
        assert_eq!((first.len(), next), (limits::SAMPLES_UNDER_WAY_MAX, None));
        sampling.wake.notified().await;
        first.iter().for_each(|(id, run)| sampling.taken(*id, *run, None));
        sampling.wake.notified().await;
        let (rest, next) = sampling.state().take_due(now);
        assert_eq!(rest.len(), 10);
        assert!(next.is_some_and(|next| next > now));
    }
}
