//! The agent as the first process of a guest: it makes of a bare kernel a machine in which programs run, and is then what it
//! is everywhere, the parent of a run. The host is its node, by a line that is there from the beginning.
//!
//! ```text
//!  kernel ──► mounts, modules, line ──► loop ── Furnish: root and mounts ── Rebind: name, clock, randomness, network
//!                                        │
//!                                        └── Prepare … as anywhere ── PowerOff: disks, and off
//! ```
//! - [`furnish`]: what is mounted; [`modules`]: what the kernel learns on the way
//! - [`identity`]: who the guest is
//!
//! Nothing is looked up, and nothing is kept: what must outlive the guest is the host's. It says what goes wrong on the
//! console, which the host keeps for the error, and ends the machine.
//!
//! Not here: secrets on the kernel's command line; what is wanted comes by the line.

mod furnish;
mod identity;
mod modules;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostler_linux::cgroup::{Hierarchies, Parent};
use hostler_linux::guest::{self as machine, Access};
use hostler_linux::signals::Signals;
use hostler_linux::spawn::OomScore;
use hostler_linux::{memory, process, procfs};
use hostler_model::guest::{AGENT_PORT, AGENT_VSOCK_PORT};
use hostler_model::ids::{NodeTag, SandboxId, StoreId};

use crate::reactor::{Agent, Door};
use crate::shared::{Config, Place};
use modules::Modules;

/// Where the agent has its own things in a guest: in memory.
const OWN: &str = "/run/hostler";
/// How long a line to the host may take to appear.
const LINE_MAX: Duration = Duration::from_secs(5);
/// How long those who write may take to be gone, before the guest is switched off all the same.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What we know of the guest whose first process we are.
pub(crate) struct Guest {
    modules: Modules,
    /// What was mounted for writing and outlives the guest.
    written: Vec<PathBuf>,
}

/// Never returns: when the agent ends, so does the machine.
pub(crate) fn main() -> ! {
    if let Err(error) = run() {
        eprintln!("hostler-agent: the guest cannot go on: {error}");
    }
    machine::power_off()
}

fn run() -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    memory::give_back_early();
    mount_own().map_err(failed("mount what every system has"))?;
    hostler_linux::streams::fill_standard_streams().map_err(failed("open /dev/null"))?;
    process::set_umask();
    let modules = Modules::open().map_err(failed("find the modules of the kernel"))?;
    modules.load(modules::AT_BOOT).map_err(failed("load the modules that reach the host"))?;
    let (door, first) = line_to_host(&modules).map_err(failed("reach the host"))?;
    let signals = Signals::take_over().map_err(failed("take over the signals"))?;
    let cgroup = Hierarchies::detect().ok().map(|found| Parent::new(&found, None, NodeTag::from_bytes([0; 3])));
    if let Some(parent) = &cgroup {
        let _ = parent.available();
        let _ = parent.join_agents();
    }
    let protected = process::lower_oom_score(-1_000);
    let config = Config {
        place: Place::Guest,
        sandbox: SandboxId::from_bytes([0; 6]),
        store: StoreId::from_bytes([0; 8]),
        sandbox_dir: own("sandbox"),
        run_root: own("run"),
        cgroup,
        boot_id: procfs::boot_id().map_err(failed("read the boot id"))?,
        own: procfs::process_id(std::process::id()).map_err(failed("read /proc"))?,
        oom_score: if protected { OomScore::Reset } else { OomScore::Inherit },
    };
    let guest = Box::new(Guest { modules, written: Vec::new() });
    let agent = Agent::new(config, signals, door, first, Some(guest)).map_err(failed("begin"))?;
    agent.run().map_err(failed("go on"))
}

impl Guest {
    /// Before the machine is switched off: nothing writes any more, and disks are as if they had been unmounted. Otherwise who
    /// mounts them next would have to repair them first, and could not do so where he may only read.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        for target in &self.written {
            let _ = process::kill_descendants();
            while machine::remount_read_only(target).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
                && began.elapsed() < SETTLE_MAX
            {
                std::thread::sleep(LOOK_AGAIN);
                let _ = process::kill_descendants();
            }
        }
    }
}

fn own(name: &str) -> PathBuf {
    Path::new(OWN).join(name)
}

/// What programs expect to be there, and what we need ourselves.
fn mount_own() -> io::Result<()> {
    let mounts = [
        ("proc", "/proc", "proc", ""),
        ("sysfs", "/sys", "sysfs", ""),
        ("devtmpfs", "/dev", "devtmpfs", "mode=0755"),
        ("tmpfs", "/run", "tmpfs", "mode=0755"),
        ("devpts", "/dev/pts", "devpts", "gid=5,mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", "tmpfs", "mode=1777"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
    ];
    for (source, target, kind, options) in mounts {
        match fs::create_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match machine::mount(source, Path::new(target), kind, Access::ReadWrite, options) {
            // The kernel may have mounted it itself.
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                return Err(io::Error::new(error.kind(), format!("{target}: {error}")));
            }
            _ => {}
        }
    }
    for (link, target) in
        [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "fd/0"), ("/dev/stdout", "fd/1"), ("/dev/stderr", "fd/2")]
    {
        let _ = std::os::unix::fs::symlink(target, link);
    }
    fs::create_dir_all(own("sandbox"))?;
    fs::create_dir_all(own("run"))?;
    machine::make_mounts_private()
}

/// The line by which the host comes: a port of its own, or one of a vsock.
fn line_to_host(modules: &Modules) -> io::Result<(Door, Option<OwnedFd>)> {
    let began = Instant::now();
    let mut vsock = None;
    loop {
        if let Some(port) = port_of_host() {
            return Ok((Door::Line, Some(machine::open_port(&port)?)));
        }
        let has_vsock = *vsock
            .get_or_insert_with(|| modules::has_device(modules::VIRTIO_VSOCK) && modules.load(modules::VSOCK).is_ok());
        if has_vsock {
            return Ok((Door::Vsock(machine::listen_vsock(AGENT_VSOCK_PORT)?), None));
        }
        if began.elapsed() > LINE_MAX {
            let what = format!("there is neither a port {AGENT_PORT} nor a vsock");
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        std::thread::sleep(LOOK_AGAIN);
        vsock = vsock.filter(|has| *has);
    }
}

/// The virtio console port of our name.
fn port_of_host() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|port| {
        let name = fs::read_to_string(port.path().join("name")).ok()?;
        (name.trim_end() == AGENT_PORT).then(|| Path::new("/dev").join(port.file_name()))
    })
}
