//! The only series that are labelled by workload: of those that ask for it by `stats_interval_ms`, with limits, or in
//! containers, while they run. At most [`hostler_model::limits::METRICS_WORKLOADS_MAX`] at a time; nothing is kept.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::signed;
use crate::sampling::Sampled;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabel {
    namespace: String,
    workload: String,
}

/// The newest sample of each. Totals begin anew with each run, as counters may.
pub(super) fn register(registry: &mut Registry, sampled: &[Sampled]) {
    if sampled.is_empty() {
        return;
    }
    let cpu = Family::<WorkloadLabel, Counter<f64, AtomicU64>>::default();
    let (resident, swap) = (Family::<WorkloadLabel, Gauge>::default(), Family::<WorkloadLabel, Gauge>::default());
    let (read, written) = (Family::<WorkloadLabel, Counter>::default(), Family::<WorkloadLabel, Counter>::default());
    let (processes, memory) = (Family::<WorkloadLabel, Gauge>::default(), Family::<WorkloadLabel, Gauge>::default());
    for Sampled { namespace, name, sample } in sampled {
        let label = WorkloadLabel { namespace: namespace.to_string(), workload: name.to_string() };
        let used = &sample.used;
        cpu.get_or_create(&label).inc_by(Duration::from_micros(used.cpu_us).as_secs_f64());
        resident.get_or_create(&label).set(signed(used.rss_bytes));
        swap.get_or_create(&label).set(signed(used.swap_bytes));
        processes.get_or_create(&label).set(i64::from(sample.pids));
        memory.get_or_create(&label).set(signed(sample.memory_bytes));
        for (family, bytes) in [(&read, used.read_bytes), (&written, used.written_bytes)] {
            if let Some(bytes) = bytes {
                family.get_or_create(&label).inc_by(bytes);
            }
        }
    }
    let bytes = Unit::Bytes;
    registry.register_with_unit("hostler_workload_cpu", "CPU time of the workload's run", Unit::Seconds, cpu);
    registry.register_with_unit("hostler_workload_resident", "Its resident memory", bytes.clone(), resident);
    let help = "Memory that it uses, page cache included";
    registry.register_with_unit("hostler_workload_memory", help, bytes.clone(), memory);
    registry.register_with_unit("hostler_workload_swap", "What of it is swapped out", bytes.clone(), swap);
    registry.register_with_unit("hostler_workload_read", "Read from storage by its run", bytes.clone(), read);
    registry.register_with_unit("hostler_workload_written", "Written to storage by its run", bytes, written);
    registry.register("hostler_workload_processes", "Its processes", processes);
}
