//! What the first process of a guest does to it: mounts, modules, clock, name, randomness, the way down.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

/// Whether what is mounted may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may.
    ReadWrite,
    /// It may not.
    ReadOnly,
}

/// Mounts a file system; `options` are its own, separated by commas.
pub fn mount(source: &str, target: &Path, kind: &str, access: Access, options: &str) -> io::Result<()> {
    let flags = if access == Access::ReadOnly { MountFlags::RDONLY } else { MountFlags::empty() };
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, kind, flags, options.as_c_str())?)
}

/// Shows a file or directory at another place too.
pub fn bind(source: &Path, target: &Path, access: Access) -> io::Result<()> {
    rustix::mount::mount_bind(source, target)?;
    if access == Access::ReadOnly {
        rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// Takes away what is mounted there, now or when nobody uses it any more.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)?)
}

/// Has what is mounted there take nothing any more, as if it had been unmounted; busy while somebody has a file open to write.
pub fn remount_read_only(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")?)
}

/// Moves what is mounted at one place to another, with all that is mounted below it.
pub fn move_mount(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_move(from, to)?)
}

/// Makes this directory, on which a file system is mounted, the root of this process and of all that it starts. What was the
/// root before is out of sight for good: the initial RAM disk cannot be unmounted.
pub fn switch_root(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Mounts that are made from now on are seen by nobody else.
pub fn make_mounts_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// Loads a module of the kernel. One that is loaded already is fine.
pub fn load_module(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sets the wall clock, milliseconds since the Unix epoch.
pub fn set_wall_ms(wall_ms: u64) -> io::Result<()> {
    let seconds = i64::try_from(wall_ms / 1_000).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let nanoseconds = i64::try_from(wall_ms % 1_000 * 1_000_000).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}

/// Sets the name of the machine.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Random bytes that the kernel's generator takes at one time.
const SEED_MAX: usize = 512;

/// Adds random bytes to the kernel's generator, counts them as such, and has it use them at once: what it gives from now on
/// is nothing that a copy of this machine was given.
pub fn seed_random(seed: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Pool {
        bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; SEED_MAX],
    }
    let length = seed.len().min(SEED_MAX);
    let count = libc::c_int::try_from(length).unwrap_or(0);
    let mut pool = Pool { bits: count * 8, bytes: count, seed: [0; SEED_MAX] };
    pool.seed[..length].copy_from_slice(&seed[..length]);
    /// `_IOW('R', 0x03, int[2])` and `_IO('R', 0x07)` of linux/random.h.
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let generator = File::options().write(true).open("/dev/urandom")?;
    // SAFETY: the kernel reads the two counts, and then as many bytes as the second says, all of them in `pool`.
    let added = unsafe { libc::ioctl(generator.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    if added == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no argument.
    let seeded = unsafe { libc::ioctl(generator.as_raw_fd(), RNDRESEEDCRNG) };
    if seeded == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings everything to the disks.
pub fn sync() {
    rustix::fs::sync();
}

/// Whether this name can be mounted by the kernel as it is now.
#[must_use]
pub fn knows_file_system(kind: &str) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some(kind))
}

/// Switches the machine off; where that is not possible, restarts it, which ends it as well when its maker was told so.
pub fn power_off() -> ! {
    sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = rustix::system::reboot(RebootCommand::Restart);
    // The kernel panics when its first process ends, and that is an end too.
    std::process::exit(1)
}

/// Opens a port of the host for reading and writing, without waiting.
pub fn open_port(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Listens on a port of the guest's vsock, without waiting; whoever comes is the host.
pub fn listen_vsock(port: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the descriptor is checked, and ours.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if raw == -1 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    // SAFETY: all zeroes is a value of this plain structure.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_ANY;
    address.svm_port = port;
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address is valid for its length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == -1 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::listen(&socket, 8)?;
    Ok(socket)
}

/// The next one who came, without waiting.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// The name of a path as the kernel takes it.
#[must_use]
pub fn is_plain_absolute(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.first() == Some(&b'/') && !bytes.split(|byte| *byte == b'/').any(|part| part == b"..")
}
