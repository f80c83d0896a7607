//! What this kernel can do for confinement, found out by trying where reading tells nothing.

use std::fs;

use super::landlock;

/// What there is. An error is why there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// Namespaces that the kernel lacks, of `mnt`, `pid`, `ipc`, `uts`, `net`.
    pub missing_namespaces: Vec<String>,
    /// Whether this process may make a user namespace.
    pub user_namespaces: Result<(), String>,
    /// The version of landlock; 0 is none.
    pub landlock_abi: u32,
    /// Whether system calls can be filtered.
    pub seccomp: Result<(), String>,
    /// Whether mounts can be changed as a whole (Linux 5.12).
    pub mount_attributes: Result<(), String>,
}

/// The kernel's release, such as `6.1.0-18-amd64`; empty when it does not say.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn user_namespaces() -> Result<(), String> {
    if !fs::exists("/proc/self/ns/user").unwrap_or(false) {
        return Err("the kernel has none".to_owned());
    }
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let root = crate::process::effective_uid() == 0;
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Err("user.max_user_namespaces is 0".to_owned());
    }
    if !root && number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Err("kernel.unprivileged_userns_clone is 0".to_owned());
    }
    if !root && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Err("kernel.apparmor_restrict_unprivileged_userns is 1".to_owned());
    }
    Ok(())
}

fn seccomp() -> Result<(), String> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: asks about one number, valid for reads.
    let known = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if known == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}

fn mount_attributes() -> Result<(), String> {
    // SAFETY: an attribute of no length is refused before anything is read or changed.
    let answer = unsafe {
        libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<libc::c_void>(), 0usize)
    };
    match std::io::Error::last_os_error() {
        error if answer == -1 && error.raw_os_error() == Some(libc::ENOSYS) => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Looks.
#[must_use]
pub fn look() -> Support {
    let missing = |name: &&str| !fs::exists(format!("/proc/self/ns/{name}")).unwrap_or(false);
    Support {
        missing_namespaces: ["mnt", "pid", "ipc", "uts", "net"]
            .iter()
            .filter(|name| missing(name))
            .map(ToString::to_string)
            .collect(),
        user_namespaces: user_namespaces(),
        landlock_abi: landlock::abi(),
        seccomp: seccomp(),
        mount_attributes: mount_attributes(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        let support = super::look();
        assert!(support.missing_namespaces.len() <= 5);
        assert!(support.landlock_abi < 100);
        assert!(!super::kernel_release().is_empty());
    }
}
