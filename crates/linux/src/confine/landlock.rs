//! Rules for paths, by the kernel's landlock. What its version cannot handle stays permitted; which version it is, is shown.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use hostler_model::ByteString;
use hostler_model::isolation::Landlock;
use hostler_model::workload::StartFailureKind;

use crate::spawn::child::{Failure, fail};

const KIND: StartFailureKind = StartFailureKind::Isolation;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

const READ: u64 = READ_FILE | READ_DIR;
const CHANGE: u64 =
    WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE;
/// Of those, what can be said of a file.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Everything that a version of the kernel's landlock can refuse.
const fn handled(abi: u32) -> u64 {
    match abi {
        0 => 0,
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    }
}

/// The kernel's `struct landlock_ruleset_attr`; older kernels know its beginning.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

const CREATE_RULESET_VERSION: libc::c_ulong = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;
/// From this version on sockets without a file can be refused.
const ABI_SCOPES: u32 = 6;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;

/// The kernel's version of landlock; 0 when it has none, or it is switched off.
#[must_use]
pub fn abi() -> u32 {
    // SAFETY: with this flag the kernel reads nothing.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0, CREATE_RULESET_VERSION)
    };
    u32::try_from(abi).unwrap_or(0)
}

fn ruleset(abi: u32, access: u64, scoped: u64) -> Result<OwnedFd, Failure> {
    let attributes = Ruleset { handled_access_fs: access, handled_access_net: 0, scoped };
    let size: usize = match abi {
        0..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the structure is valid for reads and at least as long as said.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0) };
    match libc::c_int::try_from(fd) {
        // SAFETY: new, and ours alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => fail(KIND, "make a landlock rule set"),
    }
}

fn permit(ruleset: &OwnedFd, path: &ByteString, access: u64) -> Result<(), Failure> {
    let shown = path.to_string_lossy();
    let Ok(name) = CString::new(path.as_bytes()) else {
        return Err(Failure { kind: KIND, message: format!("{shown:?} contains a NUL byte") });
    };
    let mut about = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the name ends in NUL; the descriptor is new and owned at once; `about` is read after success only; the
    // rule is valid for reads.
    let added = unsafe {
        let fd = libc::open(name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if fd < 0 {
            return fail(KIND, format_args!("open {shown:?}, which landlock shall permit"));
        }
        let fd = OwnedFd::from_raw_fd(fd);
        if libc::fstat(fd.as_raw_fd(), about.as_mut_ptr()) != 0 {
            return fail(KIND, format_args!("look at {shown:?}, which landlock shall permit"));
        }
        let is_directory = about.assume_init().st_mode & libc::S_IFMT == libc::S_IFDIR;
        let allowed_access = if is_directory { access } else { access & OF_FILES };
        let rule = PathBeneath { allowed_access, parent_fd: fd.as_raw_fd() };
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
    };
    if added == 0 { Ok(()) } else { fail(KIND, format_args!("permit {shown:?} by landlock")) }
}

/// Puts the calling process under the rules, for ever; needs `no_new_privs`. On the machine's own network, sockets of others that
/// have no file are refused too, where the kernel can.
pub(crate) fn restrict(rules: Option<&Landlock>, shares_network: Sharing) -> Result<(), Failure> {
    let abi = abi();
    let scoped = if shares_network == Sharing::Network && abi >= ABI_SCOPES { SCOPE_ABSTRACT_UNIX_SOCKET } else { 0 };
    let access = if rules.is_some() { handled(abi) } else { 0 };
    if rules.is_some() && abi == 0 {
        let message = "cannot apply landlock rules: this kernel has no landlock, or it is switched off".to_owned();
        return Err(Failure { kind: KIND, message });
    }
    if access == 0 && scoped == 0 {
        return Ok(());
    }
    let ruleset = ruleset(abi, access, scoped)?;
    if let Some(rules) = rules {
        // Its own devices, and nothing else is in there.
        let dev = [ByteString::from("/dev")];
        let lists: [(&[ByteString], u64); 4] = [
            (&dev, READ | WRITE_FILE | IOCTL_DEV),
            (&rules.read, READ),
            (&rules.write, READ | CHANGE),
            (&rules.execute, READ | EXECUTE),
        ];
        for (paths, rights) in lists {
            paths.iter().try_for_each(|path| permit(&ruleset, path, rights & access))?;
        }
    }
    // SAFETY: takes numbers.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            Err(Failure { kind: KIND, message: format!("cannot apply the landlock rules: {error}") })
        }
    }
}

/// What a confined process shares with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Its network.
    Network,
    /// Nothing of that.
    Nothing,
}
