//! Limits that are asked for more seldom: one check for all of them.

use hostler_api::types::Check;
use hostler_linux::cgroup::MoreAvailability;

use super::{limited, ok};

/// Whether swap, cpusets and block I/O can be limited.
pub(super) fn check(found: Option<&MoreAvailability>) -> Check {
    let name = "swap, cpuset and block I/O limits";
    let Some(found) = found else {
        return limited(name, "cannot be set: there is nowhere to make groups", "mend cgroups first, see above");
    };
    let each = [
        ("swap", &found.swap),
        ("CPUs and memory nodes", &found.cpuset),
        ("rates of block devices", &found.device_rates),
        ("weights of block I/O", &found.blkio_weight),
    ];
    let refused = each.iter().filter_map(|(what, state)| Some(format!("{what}: {}", state.as_ref().err()?)));
    let refused: Vec<_> = refused.collect();
    if refused.is_empty() {
        return ok(name, "can be set");
    }
    let mend = "only specs that ask for these are refused; for weights: echo bfq > /sys/block/DISK/queue/scheduler";
    limited(name, format!("some cannot be set: {}", refused.join("; ")), mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_api::types::CheckStatus;

    #[test]
    fn what_is_missing_is_named() {
        let all = MoreAvailability { swap: Ok(()), cpuset: Ok(()), blkio_weight: Ok(()), device_rates: Ok(()) };
        assert_eq!(check(Some(&all)).status, CheckStatus::Ok);
        let some = MoreAvailability { blkio_weight: Err("no BFQ".to_owned()), ..all };
        let told = check(Some(&some));
        assert!(
            told.status == CheckStatus::Limited && told.detail.contains("weights of block I/O: no BFQ"),
            "{told:?}"
        );
        assert_eq!(check(None).status, CheckStatus::Limited);
    }
}
