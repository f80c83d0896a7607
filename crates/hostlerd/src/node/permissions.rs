//! Which permissions to start a job ahead of its record are on disk. The store's writer notes them, the decider asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostler_model::ids::{RunId, WorkloadId};
use hostler_model::record::Record;

/// As of the last commit: the run that may be executed, and the number of the permission. Bounded by what the
/// supervisor permits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permissions(Arc<Mutex<HashMap<WorkloadId, (u32, u64)>>>);

impl Permissions {
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, (u32, u64)>> {
        // Every change of it is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These records are on disk.
    pub(crate) fn committed(&self, records: &[Record]) {
        let mut known = self.lock();
        for record in records {
            match record {
                Record::Workload(workload) => match workload.queued.and_then(|queued| queued.ahead) {
                    Some(number) => drop(known.insert(workload.id, (workload.runs + 1, number))),
                    None => drop(known.remove(&workload.id)),
                },
                Record::WorkloadRemoved(id) => drop(known.remove(id)),
                _ => {}
            }
        }
    }

    /// Whether this permission for this run is the last word on disk.
    pub(crate) fn is_durable(&self, run: RunId, number: u64) -> bool {
        self.lock().get(&run.workload) == Some(&(run.number, number))
    }
}
