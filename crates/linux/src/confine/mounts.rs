//! What a room sees of the machine's files.
//!
//! Everything is done by its first process, in a mount namespace of its own whose changes reach nobody else:
//!
//! 1. What shall be seen as it is outside is *taken*: a detached copy of a mount, looked up with the user's rights.
//! 2. Nothing in the tree has set-uid programs or devices; with `/` read-only, nothing can be written.
//! 3. `/dev`, `/proc` and `/sys` are made.
//! 4. Covers and exceptions are put in their places, upper directories first, so that the deeper one wins: read-only,
//!    hidden, private, writable, volumes. Last the node's own directories, whatever was asked.
//! 5. What was covered by an empty directory is made read-only.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use hostler_model::container::Network;
use hostler_model::isolation::Isolation;
use hostler_model::launch::Confinement;
use hostler_model::workload::StartFailureKind;

use crate::spawn::child::Failure;
use crate::spawn::errno_text;

/// Of containerd's defaults: what tells about the machine, or lets one talk to its firmware.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Of containerd's defaults: what changes the machine.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Devices that harm nobody.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links that programs look for in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_SYMLINKS: libc::c_uint = 0x10;
const READ_ONLY_ATTRIBUTE: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

type Done<T = ()> = Result<T, Failure>;

fn failed<T>(what: impl std::fmt::Display, error: &io::Error) -> Done<T> {
    let message = format!("cannot {what}: {}", errno_text(error));
    Err(Failure { kind: StartFailureKind::Isolation, message })
}

fn name(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn answer(result: libc::c_long) -> io::Result<libc::c_int> {
    match libc::c_int::try_from(result) {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A detached copy of what is seen at a path, with everything mounted below.
fn take(path: &Path) -> io::Result<OwnedFd> {
    let name = name(path)?;
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the name ends in NUL; the descriptor is new and ours alone.
    unsafe {
        let fd = answer(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Puts a copy where it shall be seen.
fn put(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = name(path)?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both names end in NUL.
    let put = unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, name.as_ptr(), flags)
    };
    answer(put).map(drop)
}

fn change(fd: libc::c_int, path: &CString, flags: libc::c_int, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = Attributes { set, clear: 0, propagation, userns: 0 };
    // SAFETY: the name ends in NUL, the attributes are valid for reads.
    let changed = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, path.as_ptr(), flags, &raw const attributes, size_of::<Attributes>())
    };
    answer(changed).map(drop)
}

/// Makes a copy, with all mounts in it, stricter.
fn restrict_tree(tree: &OwnedFd, set: u64) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | AT_RECURSIVE.cast_signed();
    change(tree.as_raw_fd(), &CString::default(), flags, set, 0)
}

/// Makes what is mounted at a path, with all below, stricter.
fn restrict(path: &str, set: u64, propagation: u64) -> io::Result<()> {
    change(libc::AT_FDCWD, &name(Path::new(path))?, AT_RECURSIVE.cast_signed(), set, propagation)
}

fn mount(kind: &str, path: &Path, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (kind, path, data) = (name(Path::new(kind))?, name(path)?, name(Path::new(data))?);
    // SAFETY: all four names end in NUL.
    let mounted = unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    answer(mounted.into()).map(drop)
}

fn exists(path: &Path) -> bool {
    // What cannot be looked at cannot be reached either.
    fs::symlink_metadata(path).is_ok() && fs::metadata(path).is_ok()
}

/// How a path is seen.
enum View {
    /// As outside, but for what is forbidden.
    Tree { tree: OwnedFd, forbidden: u64, is_directory: bool },
    /// An empty directory or file that stays so.
    Hidden,
    /// An empty directory to write into.
    Private,
}

struct Place {
    path: PathBuf,
    view: View,
}

/// The room under construction.
#[derive(Default)]
struct Site {
    /// Devices of our own file systems in memory: there we may make directories.
    own: Vec<u64>,
    /// Empty directories, to be closed at the end.
    hidden: Vec<OwnedFd>,
}

fn tree(path: &Path, forbidden: u64, what: &str) -> Done<View> {
    let taken = take(path).and_then(|tree| fs::metadata(path).map(|about| (tree, about.is_dir())));
    match taken {
        Ok((tree, is_directory)) => Ok(View::Tree { tree, forbidden, is_directory }),
        Err(error) => failed(format_args!("find {} {path:?}", what), &error),
    }
}

/// Everything that is put in a place, taken while all is as outside; upper directories first.
fn places(isolation: &Isolation) -> Done<Vec<Place>> {
    let mut places = Vec::new();
    let mut add = |path: &Path, view: View| places.push(Place { path: path.to_owned(), view });
    if isolation.private_tmp == Some(true) {
        ["/tmp", "/var/tmp"]
            .iter()
            .map(Path::new)
            .filter(|path| exists(path))
            .for_each(|path| add(path, View::Private));
    }
    for path in isolation.read_only.iter().map(|path| path.as_path()).filter(|path| *path != Path::new("/")) {
        add(path, tree(path, READ_ONLY_ATTRIBUTE | NOSUID | NODEV, "the read-only path")?);
    }
    for path in isolation.writable.iter().map(|path| path.as_path()) {
        add(path, tree(path, NOSUID | NODEV, "the writable path")?);
    }
    for path in &isolation.hidden {
        add(path.as_path(), View::Hidden);
    }
    for volume in &isolation.volumes {
        let target = volume.target.as_path();
        // A device is no use without being one.
        let devices = if target.starts_with("/dev") { 0 } else { NODEV };
        let forbidden = NOSUID | devices | if volume.read_only { READ_ONLY_ATTRIBUTE } else { 0 };
        add(target, tree(volume.source.as_path(), forbidden, "the volume")?);
    }
    // With the machine's network goes the file that says how names are found in it, wherever it is.
    if *isolation.network() != Network::None
        && let Ok(path) = fs::canonicalize("/etc/resolv.conf")
        && isolation.hidden.iter().any(|hidden| path.starts_with(hidden.as_path()))
    {
        add(&path, tree(&path, READ_ONLY_ATTRIBUTE | NOSUID | NODEV, "the resolver's file")?);
    }
    places.sort_by_key(|place| place.path.components().count());
    Ok(places)
}

impl Site {
    fn memory(&mut self, path: &Path, options: &str) -> io::Result<()> {
        mount("tmpfs", path, libc::MS_NOSUID | libc::MS_NODEV, options)?;
        self.own.push(fs::metadata(path)?.dev());
        Ok(())
    }

    fn hide(&mut self, path: &Path) -> io::Result<()> {
        let about = match fs::metadata(path) {
            Ok(about) => about,
            // Nothing there, or not for this user: nothing to hide.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !about.is_dir() {
            return put(&take(Path::new("/dev/null"))?, path);
        }
        self.memory(path, "mode=555,size=64k")?;
        let name = name(path)?;
        // SAFETY: the name ends in NUL; the descriptor is new and ours alone.
        unsafe {
            let fd = answer(libc::open(name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC).into())?;
            self.hidden.push(OwnedFd::from_raw_fd(fd));
        }
        Ok(())
    }

    /// Makes sure that there is something to put a mount on. Only in our own file systems anything is made for it.
    fn make_target(&self, path: &Path, is_directory: bool) -> io::Result<()> {
        if exists(path) {
            return Ok(());
        }
        let above = path.ancestors().skip(1).find(|above| exists(above)).unwrap_or(Path::new("/"));
        if !self.own.contains(&fs::metadata(above)?.dev()) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let directory = if is_directory { Some(path) } else { path.parent() };
        if let Some(directory) = directory {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        if is_directory { Ok(()) } else { fs::File::create(path).map(drop) }
    }

    fn put(&mut self, place: &Place) -> Done {
        let Place { path, view } = place;
        let (done, what) = match view {
            View::Hidden => (self.hide(path), "hide"),
            View::Private => (self.memory(path, "mode=1777"), "make a private"),
            View::Tree { tree, forbidden, is_directory } => {
                let put = self.make_target(path, *is_directory).and_then(|()| put(tree, path));
                (put.and_then(|()| restrict_tree(tree, *forbidden)), "mount something at")
            }
        };
        done.or_else(|error| failed(format_args!("{what} {path:?}"), &error))
    }

    /// Devices, terminals, shared memory and message queues of its own.
    fn make_dev(&mut self, devices: &[(PathBuf, OwnedFd)]) -> io::Result<()> {
        let dev = Path::new("/dev");
        self.memory(dev, "mode=755,size=64k")?;
        for (path, tree) in devices {
            fs::File::create(path)?;
            put(tree, path)?;
        }
        for (target, link) in LINKS {
            symlink(target, link)?;
        }
        let strict = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let rooms: [(&str, &str, libc::c_ulong, &str); 3] = [
            ("pts", "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
            ("shm", "tmpfs", strict, "mode=1777"),
            ("mqueue", "mqueue", strict, ""),
        ];
        for (directory, kind, flags, options) in rooms {
            let path = dev.join(directory);
            fs::create_dir(&path)?;
            match mount(kind, &path, flags, options) {
                // A kernel without message queues has none to share.
                Err(error) if kind == "mqueue" && error.raw_os_error() == Some(libc::ENODEV) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn make_proc(&mut self) -> Done {
        let strict = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if let Err(error) = mount("proc", Path::new("/proc"), strict, "") {
            let why = "mount a new /proc (in a container that hides parts of its own the kernel refuses it)";
            return failed(why, &error);
        }
        restrict("/sys", READ_ONLY_ATTRIBUTE, 0).or_else(|error| failed("make /sys read-only", &error))?;
        for path in READ_ONLY.map(Path::new).into_iter().filter(|path| exists(path)) {
            let covered =
                take(path).and_then(|tree| put(&tree, path).and_then(|()| restrict_tree(&tree, READ_ONLY_ATTRIBUTE)));
            covered.or_else(|error| failed(format_args!("make {path:?} read-only"), &error))?;
        }
        for path in MASKED.map(Path::new) {
            self.hide(path).or_else(|error| failed(format_args!("hide {path:?}"), &error))?;
        }
        Ok(())
    }
}

pub(super) fn furnish(confinement: &Confinement) -> Done {
    let isolation = &confinement.isolation;
    restrict("/", 0, libc::MS_PRIVATE)
        .or_else(|error| failed("make mounts private (this needs Linux 5.12)", &error))?;
    let places = places(isolation)?;
    let device = |name: &str| {
        let path = Path::new("/dev").join(name);
        take(&path).ok().map(|tree| (path, tree))
    };
    let devices: Vec<_> = DEVICES.iter().filter_map(|name| device(name)).collect();
    let read_only = isolation.read_only.iter().any(|path| path.as_path() == Path::new("/"));
    let set = NOSUID | NODEV | if read_only { READ_ONLY_ATTRIBUTE } else { 0 };
    restrict("/", set, 0).or_else(|error| failed("make the file systems stricter", &error))?;
    let mut site = Site::default();
    site.make_dev(&devices).or_else(|error| failed("make /dev", &error))?;
    site.make_proc()?;
    for place in &places {
        site.put(place)?;
    }
    for path in confinement.hidden.iter().map(|path| path.as_path()) {
        site.hide(path).or_else(|error| failed(format_args!("hide {path:?}"), &error))?;
    }
    for covered in &site.hidden {
        let closed = change(covered.as_raw_fd(), &CString::default(), libc::AT_EMPTY_PATH, READ_ONLY_ATTRIBUTE, 0);
        closed.or_else(|error| failed("close an empty directory", &error))?;
    }
    let dev = name(Path::new("/dev")).and_then(|dev| change(libc::AT_FDCWD, &dev, 0, READ_ONLY_ATTRIBUTE, 0));
    dev.or_else(|error| failed("close /dev", &error))
}
