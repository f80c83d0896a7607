//! What cannot be limited is refused before anything is made: what this machine does not have, and what would be taken
//! from others by somebody who may not.

use hostler_linux::procfs;
use hostler_model::resources::Limits;
use hostler_model::units::format_size;
use hostler_model::{Problem, ProblemKind};
use hostler_provision::Caller;

use crate::node::Node;

/// The share of CPU time that everybody has who names none.
const USUAL_CPU_SHARES: u64 = 1_024;
/// The same of block I/O.
const USUAL_BLKIO_WEIGHT: u16 = 100;

/// Judges limits, or a change of them.
pub(crate) fn check_limits(node: &Node, caller: &Caller, limits: &Limits) -> Result<(), Problem> {
    if limits.is_empty() {
        return Ok(());
    }
    if !caller.is_owner()
        && let Some(what) = takes_from_others(limits)
    {
        let detail = format!("user {} may not be given {what}: it is taken from others", caller.uid);
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    let refuse = |what: &str, why: &str| {
        let detail = format!("cannot limit {what}: {why}; see: hostler doctor");
        Problem::new(ProblemKind::LimitUnavailable, detail)
    };
    let Some(parent) = &node.cgroup else {
        return Err(refuse("anything", "this node has no cgroups"));
    };
    if let Some(bytes) = limits.memory_bytes
        && let Ok((total, _)) = procfs::memory_total_available()
        && bytes > total
    {
        let (bytes, total) = (format_size(bytes), format_size(total));
        return Err(refuse("memory", &format!("{bytes} is more than the {total} of this machine")));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if limits.cpu_millis.is_some_and(|millis| millis as usize > cores * 1_000) {
        return Err(refuse("cpu", &format!("this machine has {cores} cores")));
    }
    parent.judge(limits).map_err(|(what, why)| refuse(what, &why))
}

/// What in these limits is no limit but a privilege, as a negative nice value is.
fn takes_from_others(limits: &Limits) -> Option<&'static str> {
    let weights = limits.blkio_weight_device.iter().map(|weight| weight.weight).chain(limits.blkio_weight);
    if limits.cpu_shares.is_some_and(|shares| shares > USUAL_CPU_SHARES) {
        return Some("more than 1024 shares of CPU time");
    }
    if weights.into_iter().any(|weight| weight > USUAL_BLKIO_WEIGHT) {
        return Some("more than a weight of 100 in block I/O");
    }
    limits.memory_reservation_bytes.is_some().then_some("a reservation of memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_from_others() {
        for (json, word) in [
            (r#"{"cpu_shares":1025}"#, Some("shares")),
            (r#"{"cpu_shares":1024,"blkio_weight":100,"cpuset_cpus":"0","memory_swap_bytes":5}"#, None),
            (r#"{"blkio_weight_device":[{"device":"8:0","weight":101}]}"#, Some("weight")),
            (r#"{"memory_reservation_bytes":1}"#, Some("reservation")),
        ] {
            let limits = serde_json::from_str(json).expect(json);
            let found = takes_from_others(&limits);
            assert!(
                found.is_some_and(|found| word.is_some_and(|word| found.contains(word))) || found == word,
                "{json}"
            );
        }
    }
}
