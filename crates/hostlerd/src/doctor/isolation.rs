//! What this kernel can do to keep processes apart.

use hostler_api::types::Check;
use hostler_linux::confine::support::Support;

use super::{limited, missing, ok};

/// The newest version of landlock that makes a difference for us: sockets without a file.
const LANDLOCK_ENOUGH: u32 = 6;

/// One check for each thing that isolation is made of.
pub(super) fn checks(support: &Support, uid: u32) -> [Check; 4] {
    [namespaces(support), user_namespaces(support, uid), seccomp(support), landlock(support)]
}

fn namespaces(support: &Support) -> Check {
    let name = "namespaces";
    let mend = "boot a kernel with CONFIG_NAMESPACES and its options, Linux 5.12 or newer";
    if !support.missing_namespaces.is_empty() {
        let detail =
            format!("the kernel lacks those of {}: nothing can be isolated", support.missing_namespaces.join(", "));
        return missing(name, detail, mend);
    }
    match &support.mount_attributes {
        Ok(()) => ok(name, "of mounts, processes, IPC, host name and network"),
        Err(error) => {
            missing(name, format!("mounts cannot be made read-only as a whole: {error}: nothing can be isolated"), mend)
        }
    }
}

fn user_namespaces(support: &Support, uid: u32) -> Check {
    let name = "user namespaces";
    match &support.user_namespaces {
        Ok(()) => ok(name, "can be made: run --isolate works"),
        Err(why) => {
            let without = if uid == 0 { "only with userns = \"host\"" } else { "not at all" };
            let mend = "as root: sysctl -w user.max_user_namespaces=10000, and on Debian and Ubuntu \
                        kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0";
            missing(name, format!("cannot be made: {why}: processes can be isolated {without}"), mend)
        }
    }
}

fn seccomp(support: &Support) -> Check {
    let name = "seccomp";
    match &support.seccomp {
        Ok(()) => ok(name, "system calls can be filtered"),
        Err(why) => {
            let detail = format!("{why}: run --isolate works only with seccomp = \"unconfined\"");
            missing(name, detail, "boot a kernel with CONFIG_SECCOMP_FILTER")
        }
    }
}

fn landlock(support: &Support) -> Check {
    let name = "landlock";
    let mend = "boot a newer kernel with CONFIG_SECURITY_LANDLOCK, and with landlock in lsm= on its command line";
    match support.landlock_abi {
        0 => limited(name, "the kernel has none: run --landlock is refused", mend),
        abi if abi < LANDLOCK_ENOUGH => {
            let detail = format!(
                "version {abi}: rules for paths work; on the machine's own network abstract sockets of others stay reachable"
            );
            limited(name, detail, mend)
        }
        abi => ok(name, format!("version {abi}")),
    }
}

#[cfg(test)]
mod tests {
    use hostler_api::types::CheckStatus::{Limited, Missing, Ok as Fine};

    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_mend() {
        let good = Support {
            missing_namespaces: Vec::new(),
            user_namespaces: Ok(()),
            landlock_abi: 7,
            seccomp: Ok(()),
            mount_attributes: Ok(()),
        };
        assert!(checks(&good, 0).iter().all(|check| check.status == Fine && check.mend.is_none()));
        let bad = Support {
            missing_namespaces: vec!["pid".to_owned()],
            user_namespaces: Err("user.max_user_namespaces is 0".to_owned()),
            landlock_abi: 0,
            seccomp: Err("invalid argument".to_owned()),
            mount_attributes: Err("not implemented".to_owned()),
        };
        let found = checks(&bad, 1000);
        assert_eq!(found.each_ref().map(|check| check.status), [Missing, Missing, Missing, Limited]);
        assert!(found.iter().all(|check| check.mend.is_some()));
        assert!(found[1].detail.contains("not at all"));
        assert_eq!(checks(&Support { landlock_abi: 4, ..good }, 0)[3].status, Limited);
    }
}
