//! The newest samples of each workload, in bounded memory: so many of each, so many in all, of so many workloads.
//! Pure: who is sampled, and when, is told in `super`.

use std::collections::{HashMap, VecDeque};

use hostler_api::types::Sample;
use hostler_model::ids::WorkloadId;
use hostler_model::limits;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Samples of one workload.
    pub(super) each: usize,
    /// Samples of all.
    pub(super) all: usize,
    /// Workloads; at most as many as samples.
    pub(super) workloads: usize,
}

/// What the node keeps.
pub(super) const BOUNDS: Bounds = Bounds {
    each: limits::SAMPLES_PER_WORKLOAD_MAX,
    all: limits::SAMPLES_MAX,
    workloads: limits::SAMPLED_WORKLOADS_MAX,
};
const _: () = assert!(BOUNDS.workloads <= BOUNDS.all);

#[derive(Debug)]
pub(super) struct Rings {
    bounds: Bounds,
    rings: HashMap<WorkloadId, VecDeque<Sample>>,
    /// What each may have now: its share of all, when there are many.
    most: usize,
}

impl Rings {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, rings: HashMap::new(), most: bounds.each }
    }

    pub(super) fn push(&mut self, id: WorkloadId, sample: Sample) {
        if !self.rings.contains_key(&id) {
            self.make_room();
            self.rings.insert(id, VecDeque::new());
            self.share();
        }
        let Some(ring) = self.rings.get_mut(&id) else { return };
        while ring.len() >= self.most {
            ring.pop_front();
        }
        ring.push_back(sample);
    }

    /// Forgets the workload that was not sampled for longest, if there are as many as there may be.
    fn make_room(&mut self) {
        if self.rings.len() < self.bounds.workloads {
            return;
        }
        let newest = |ring: &VecDeque<Sample>| ring.back().map(|sample| sample.time_ms);
        let oldest = self.rings.iter().min_by_key(|(id, ring)| (newest(ring), **id)).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.rings.remove(&oldest);
        }
    }

    /// Settles what each may have; those that have more lose their oldest.
    fn share(&mut self) {
        let most = (self.bounds.all / self.rings.len().max(1)).clamp(1, self.bounds.each);
        if most < self.most {
            for ring in self.rings.values_mut().filter(|ring| ring.len() > most) {
                ring.drain(..ring.len() - most);
                ring.shrink_to_fit();
            }
        }
        self.most = most;
    }

    pub(super) fn remove(&mut self, id: WorkloadId) {
        if self.rings.remove(&id).is_some() {
            self.share();
        }
    }

    /// Oldest first.
    pub(super) fn samples(&self, id: WorkloadId) -> Vec<Sample> {
        self.rings.get(&id).map(|ring| ring.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn newest(&self, id: WorkloadId) -> Option<Sample> {
        self.rings.get(&id)?.back().copied()
    }

    /// Workloads of which there are samples.
    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::statistics::Used;

    fn sample(time_ms: u64) -> Sample {
        Sample { time_ms, run: 1, pids: 1, memory_bytes: 0, used: Used::default() }
    }

    fn id(number: u8) -> WorkloadId {
        WorkloadId::from_bytes([number; 6])
    }

    fn total(rings: &Rings) -> usize {
        rings.rings.values().map(VecDeque::len).sum()
    }

    #[test]
    fn the_newest_of_each_are_kept() {
        let mut rings = Rings::new(Bounds { each: 3, all: 100, workloads: 10 });
        for time_ms in 1..=5 {
            rings.push(id(1), sample(time_ms));
        }
        rings.push(id(2), sample(9));
        let times = |number| rings.samples(id(number)).iter().map(|sample| sample.time_ms).collect::<Vec<_>>();
        assert_eq!((times(1), times(2), times(3)), (vec![3, 4, 5], vec![9], vec![]));
        assert_eq!(rings.newest(id(1)), Some(sample(5)));
    }

    #[test]
    fn neither_many_samples_nor_many_workloads_pass_the_bounds() {
        let bounds = Bounds { each: 20, all: 60, workloads: 15 };
        let mut rings = Rings::new(bounds);
        for round in 0..200_u64 {
            for number in 1..=40_u8 {
                // Some are sampled more often than others.
                if round % u64::from(number) == 0 {
                    rings.push(id(number), sample(round * 100 + u64::from(number)));
                }
                assert!(total(&rings) <= bounds.all && rings.len() <= bounds.workloads);
                assert!(rings.rings.values().all(|ring| !ring.is_empty() && ring.len() <= bounds.each));
            }
        }
        assert!(rings.newest(id(1)).is_some(), "who is sampled most often is not forgotten");
        for number in 2..=40 {
            rings.remove(id(number));
        }
        for time_ms in 0..100 {
            rings.push(id(1), sample(time_ms));
        }
        assert_eq!(total(&rings), bounds.each, "alone it has its full length again");
    }
}
