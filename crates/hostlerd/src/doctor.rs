//! What this machine can and cannot do for Hostler, and how to mend what it cannot. [`DoctorInput::read`] looks,
//! [`report`] judges: a function of values. Every check that is not in order says what to do about it.
//!
//! Not here: anything that changes the machine.

mod containers;
mod isolation;
mod more_limits;
mod networks;
mod vms;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hostler_api::stacks::BrokenFile;
use hostler_api::types::{Check, CheckStatus, DoctorReport};
use hostler_linux::cgroup::{Availability, Hierarchies, MoreAvailability, Version};
use hostler_linux::confine::support::{self, Support};
use hostler_linux::procfs;

use crate::networks::NetworkRoom;
use crate::oci::{OciRuntimes, Survey};

/// Descriptors that the daemon needs for each live run: its agent's connection, the process, and a stream that
/// somebody watches.
const DESCRIPTORS_PER_RUN: u64 = 3;
/// Descriptors for everything else: store, doors, clients, logs.
const DESCRIPTORS_OTHER: u64 = 1_024;
/// Processes of each live run: the agent and the program.
const PROCESSES_PER_RUN: u64 = 2;
/// Process numbers for the rest of the machine.
const PROCESSES_OTHER: u64 = 4_096;
/// Directories watched at the same time that are always enough.
const WATCHES_ENOUGH: u64 = 1_024;
/// A clock before this was never set: 2024-01-01, milliseconds since the epoch.
const CLOCK_MIN_MS: u64 = 1_704_067_200_000;
/// How far files may be ahead of the clock, milliseconds.
const CLOCK_BACK_MAX_MS: u64 = 60_000;
/// Foreign runs that are named; of the rest only the number is said.
const FOREIGN_SHOWN: usize = 10;
/// What root needs to run the work of others, by bit in `CapEff`; capabilities(7).
const CAPABILITIES: [(u32, &str); 6] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (24, "CAP_SYS_RESOURCE"),
];

/// What only the node knows.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// Who the daemon runs as.
    pub(crate) uid: u32,
    /// The data directory.
    pub(crate) data: &'a Path,
    /// Free space in it, bytes.
    pub(crate) free_bytes: u64,
    /// Below this no new work is accepted, bytes.
    pub(crate) free_space_min_bytes: u64,
    /// Live runs allowed at the same time.
    pub(crate) live_runs_max: u32,
    /// What can be limited; absent when there is nowhere to make groups.
    pub(crate) cgroup: Option<Availability>,
    /// The same of what is limited more seldom.
    pub(crate) cgroup_more: Option<MoreAvailability>,
    /// Run directories that are not ours.
    pub(crate) foreign: Vec<ForeignDirectory>,
    /// Startup files that cannot be used.
    pub(crate) broken: Vec<BrokenFile>,
    /// By what containers are made.
    pub(crate) oci: &'a OciRuntimes,
    /// Where they get their networks.
    pub(crate) networks: &'a NetworkRoom,
    /// Where kernels of virtual machines are.
    pub(crate) kernels: PathBuf,
}

/// A run directory that is not this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignDirectory {
    /// Where.
    pub(crate) path: PathBuf,
    /// The store it belongs to, if that can be read.
    pub(crate) store: Option<String>,
    /// Why it is not ours.
    pub(crate) problem: String,
}

/// A limit of a process; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessLimit {
    /// In force.
    pub(crate) soft: Option<u64>,
    /// How far the process may raise it by itself.
    pub(crate) hard: Option<u64>,
}

/// The data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataDirectory {
    /// Permission bits.
    pub(crate) mode: u32,
    /// Its owner.
    pub(crate) owner: u32,
    /// When something in it was made or removed, milliseconds since the epoch.
    pub(crate) modified_ms: u64,
}

/// Everything that is judged. An error is what the system answered.
#[derive(Debug, Clone)]
pub(crate) struct DoctorInput {
    /// Who the daemon runs as.
    pub(crate) uid: u32,
    /// Effective capabilities, one bit each.
    pub(crate) capabilities: Result<u64, String>,
    /// Which cgroups are mounted.
    pub(crate) cgroup_version: Result<Version, String>,
    /// What can be limited; absent when there is nowhere to make groups.
    pub(crate) cgroup: Option<Availability>,
    /// The same of what is limited more seldom.
    pub(crate) cgroup_more: Option<MoreAvailability>,
    /// Users in `/etc/passwd`.
    pub(crate) users: Result<usize, String>,
    /// The data directory's path.
    pub(crate) data_path: PathBuf,
    /// What it is like.
    pub(crate) data: Result<DataDirectory, String>,
    /// Free space in it, bytes.
    pub(crate) free_bytes: u64,
    /// Below this no new work is accepted, bytes.
    pub(crate) free_space_min_bytes: u64,
    /// Live runs allowed at the same time.
    pub(crate) live_runs_max: u32,
    /// RLIMIT_NOFILE of the daemon.
    pub(crate) open_files: Result<ProcessLimit, String>,
    /// RLIMIT_NPROC of the daemon; root is not bound by it.
    pub(crate) processes: Result<ProcessLimit, String>,
    /// `kernel.pid_max`.
    pub(crate) pid_max: Result<u64, String>,
    /// `fs.inotify.max_user_instances`.
    pub(crate) inotify_instances: Result<u64, String>,
    /// `fs.inotify.max_user_watches`.
    pub(crate) inotify_watches: Result<u64, String>,
    /// The boot id.
    pub(crate) boot_id: Result<String, String>,
    /// The wall clock, milliseconds since the epoch.
    pub(crate) wall_ms: u64,
    /// Run directories that are not ours.
    pub(crate) foreign: Vec<ForeignDirectory>,
    /// Startup files that cannot be used.
    pub(crate) broken: Vec<BrokenFile>,
    /// What keeps processes apart.
    pub(crate) confinement: Support,
    /// What makes containers, and saves them.
    pub(crate) oci: Survey,
    /// What makes networks.
    pub(crate) networks: hostler_network::Survey,
    /// What runs virtual machines.
    pub(crate) vms: vms::Survey,
}

impl DoctorInput {
    /// Looks at the machine. Reads a few small files; blocks on them.
    #[must_use]
    pub(crate) fn read(node: Node<'_>) -> Self {
        let limits = read_text("/proc/self/limits");
        let limit = |name| limits.clone().and_then(|text| parse_limit(&text, name).ok_or_else(|| format!("no {name}")));
        Self {
            uid: node.uid,
            capabilities: read_text("/proc/self/status")
                .and_then(|text| parse_capabilities(&text).ok_or_else(|| "no CapEff".to_owned())),
            cgroup_version: Hierarchies::detect().map(|found| found.version()).map_err(|error| error.to_string()),
            cgroup: node.cgroup,
            cgroup_more: node.cgroup_more,
            users: read_text("/etc/passwd").map(|text| text.lines().filter(|line| line.contains(':')).count()),
            data_path: node.data.to_path_buf(),
            data: data_directory(node.data).map_err(|error| error.to_string()),
            free_bytes: node.free_bytes,
            free_space_min_bytes: node.free_space_min_bytes,
            live_runs_max: node.live_runs_max,
            open_files: limit("Max open files"),
            processes: limit("Max processes"),
            pid_max: read_number("/proc/sys/kernel/pid_max"),
            inotify_instances: read_number("/proc/sys/fs/inotify/max_user_instances"),
            inotify_watches: read_number("/proc/sys/fs/inotify/max_user_watches"),
            boot_id: procfs::boot_id().map_err(|error| error.to_string()),
            wall_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            foreign: node.foreign,
            broken: node.broken,
            confinement: support::look(),
            oci: node.oci.survey(),
            networks: node.networks.survey(),
            vms: vms::Survey::look(&node.kernels),
        }
    }
}

fn read_text(path: &str) -> Result<String, String> {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| format!("cannot read {path}: {error}"))
}

fn read_number(path: &str) -> Result<u64, String> {
    read_text(path)?.trim().parse().map_err(|_| format!("{path} holds no number"))
}

fn data_directory(path: &Path) -> io::Result<DataDirectory> {
    let metadata = fs::metadata(path)?;
    let modified_ms = u64::try_from(metadata.mtime()).unwrap_or(0).saturating_mul(1_000);
    Ok(DataDirectory { mode: metadata.mode() & 0o7777, owner: metadata.uid(), modified_ms })
}

/// A line of `/proc/<pid>/limits`: a name with blanks, soft, hard, unit.
fn parse_limit(text: &str, name: &str) -> Option<ProcessLimit> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(ProcessLimit { soft: next()?, hard: next()? })
}

fn parse_capabilities(status: &str) -> Option<u64> {
    let text = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

/// Judges what was found.
#[must_use]
pub(crate) fn report(input: &DoctorInput) -> DoctorReport {
    let mut checks = vec![privileges(input), cgroup_version(input)];
    checks.extend(cgroup_limits(input));
    checks.push(more_limits::check(input.cgroup_more.as_ref()));
    checks.extend(isolation::checks(&input.confinement, input.uid));
    checks.extend(containers::checks(&input.oci));
    checks.extend(networks::checks(&input.networks));
    checks.extend(vms::checks(&input.vms));
    checks.extend([
        users(input),
        data_directory_check(input),
        free_space(input),
        open_files(input),
        processes(input),
        inotify(input),
        boot_id(input),
        clock(input),
        foreign_runs(input),
        startup_files(input),
    ]);
    DoctorReport { checks }
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Ok, detail: detail.into(), mend: None }
}

fn limited(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Limited, detail: detail.into(), mend: Some(mend.into()) }
}

fn missing(name: &str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { status: CheckStatus::Missing, ..limited(name, detail, mend) }
}

fn privileges(input: &DoctorInput) -> Check {
    let name = "privileges";
    if input.uid != 0 {
        let detail = format!(
            "the daemon runs as uid {}: workloads run as that user only, hard resource limits and scheduling priorities \
             cannot be raised, and memory, cpu and pids can be limited only in a delegated cgroup",
            input.uid
        );
        return limited(name, detail, "for other users and all limits, run hostlerd as root: sudo hostler up");
    }
    let held = match &input.capabilities {
        Ok(held) => *held,
        Err(error) => return limited(name, error, "mount /proc: mount -t proc proc /proc"),
    };
    let absent: Vec<_> = CAPABILITIES.iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if absent.is_empty() {
        return ok(name, "the daemon runs as root: workloads may run as any user");
    }
    let detail =
        format!("the daemon runs as root but without {}: some work of other users will fail", absent.join(", "));
    let mend = "give them to the container or unit that hostlerd runs in: --cap-add for a container, \
                CapabilityBoundingSet= in hostler.service";
    limited(name, detail, mend)
}

fn cgroup_version(input: &DoctorInput) -> Check {
    let name = "cgroups";
    let mend =
        "mount them: mount -t cgroup2 none /sys/fs/cgroup; in a container, start it with a writable /sys/fs/cgroup";
    match &input.cgroup_version {
        Ok(Version::V2) => ok(name, "version 2"),
        Ok(Version::V1) => {
            ok(name, "version 1; on version 2 whole groups are killed in one step and block I/O is counted")
        }
        Ok(Version::None) => missing(name, "none are mounted: workloads run, but cannot be limited", mend),
        Err(error) => missing(name, error, mend),
    }
}

fn cgroup_limits(input: &DoctorInput) -> [Check; 3] {
    let nowhere = Err("there is nowhere to make groups".to_owned());
    let (memory, cpu, pids) = match &input.cgroup {
        Some(found) => (&found.memory, &found.cpu, &found.pids),
        None => (&nowhere, &nowhere, &nowhere),
    };
    [("memory", memory), ("cpu", cpu), ("pids", pids)].map(|(controller, found)| {
        let name = format!("{controller} limits");
        match found {
            Ok(()) => ok(&name, "can be set"),
            Err(why) => missing(&name, format!("cannot be set: {why}"), mend_controller(input, controller)),
        }
    })
}

fn mend_controller(input: &DoctorInput, controller: &str) -> String {
    match (&input.cgroup_version, input.uid) {
        (Ok(Version::V1), 0) => format!(
            "mkdir -p /sys/fs/cgroup/{controller} && mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}; \
             if the kernel does not know it, boot with cgroup_enable={controller}; then restart hostlerd"
        ),
        (Ok(Version::V2), 0) => format!(
            "install hostler-runs.service and set [cgroup] parent = \"hostler-runs.service\" in hostler.toml; without \
             systemd: echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control; then restart hostlerd"
        ),
        (Ok(Version::V1 | Version::V2), _) => format!(
            "run hostlerd as root, or have a group with {controller} delegated to uid {}: under systemd start it with \
             systemd-run --user --scope -p Delegate=yes",
            input.uid
        ),
        (Ok(Version::None) | Err(_), _) => "mend cgroups first, see above; then restart hostlerd".to_owned(),
    }
}

fn users(input: &DoctorInput) -> Check {
    let name = "user database";
    let mend = "restore /etc/passwd and /etc/group, readable by all; until then use numbers: --user 1000:1000";
    match &input.users {
        Ok(0) => limited(name, "/etc/passwd names nobody: users are known by number only", mend),
        Ok(count) => ok(name, format!("{count} users in /etc/passwd; others are known by number")),
        Err(error) => limited(name, format!("{error}: users are known by number only"), mend),
    }
}

fn data_directory_check(input: &DoctorInput) -> Check {
    let name = "data directory";
    let path = input.data_path.display();
    let data = match &input.data {
        Ok(data) => data,
        Err(error) => {
            return missing(name, format!("{path}: {error}"), format!("mkdir -p -m 700 {path}, then restart hostlerd"));
        }
    };
    if data.owner != input.uid {
        let detail = format!("{path} belongs to uid {}, the daemon runs as uid {}", data.owner, input.uid);
        return limited(name, detail, format!("as root: chown -R {} {path}", input.uid));
    }
    match data.mode & 0o777 {
        0o700 => ok(name, format!("{path} is the daemon's alone")),
        // With --root the socket lies in it too: others may pass through to that, and see nothing on the way.
        0o711 => ok(name, format!("{path} is the daemon's alone, but for the way to its socket")),
        mode if mode & 0o700 != 0o700 => {
            missing(name, format!("{path} has mode {mode:03o}: the daemon cannot use it"), format!("chmod 700 {path}"))
        }
        mode => {
            let detail = format!("{path} has mode {mode:03o}: others can see what is in it, though not into that");
            limited(name, detail, format!("chmod 711 {path}"))
        }
    }
}

fn free_space(input: &DoctorInput) -> Check {
    let name = "free disk space";
    let (free, mark) = (mebibytes(input.free_bytes), mebibytes(input.free_space_min_bytes));
    let path = input.data_path.display();
    let mend = format!(
        "free space where {path} is (du -xh --max-depth=2 {path} | sort -h), remove ended workloads with their logs \
         (hostler rm), or lower node.free_space_min_bytes in hostler.toml"
    );
    if input.free_bytes < input.free_space_min_bytes {
        return missing(name, format!("{free} free, less than {mark}: no new work is accepted"), mend);
    }
    if input.free_bytes / 2 < input.free_space_min_bytes {
        return limited(name, format!("{free} free; below {mark} no new work is accepted"), mend);
    }
    ok(name, format!("{free} free; below {mark} no new work is accepted"))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn open_files(input: &DoctorInput) -> Check {
    let name = "open files";
    let runs = u64::from(input.live_runs_max);
    let needed = runs * DESCRIPTORS_PER_RUN + DESCRIPTORS_OTHER;
    let limit = match &input.open_files {
        Ok(limit) => limit,
        Err(error) => return limited(name, error, "mount /proc: mount -t proc proc /proc"),
    };
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let detail = format!("the daemon may open {} (hard limit {})", shown(limit.soft), shown(limit.hard));
    let Some(soft) = limit.soft.filter(|soft| *soft < needed) else { return ok(name, detail) };
    let enough = soft.saturating_sub(DESCRIPTORS_OTHER) / DESCRIPTORS_PER_RUN;
    let raise = if limit.hard.is_none_or(|hard| hard >= needed) {
        format!("ulimit -n {needed} in the shell that starts hostlerd")
    } else {
        format!("as root, ulimit -Hn {needed} && ulimit -n {needed} in the shell that starts hostlerd")
    };
    let mend = format!("LimitNOFILE={needed} in hostler.service, or {raise}; or lower node.live_runs_max to {enough}");
    limited(name, format!("{detail}: enough for about {enough} live runs of {runs} allowed"), mend)
}

fn processes(input: &DoctorInput) -> Check {
    let name = "process numbers";
    let runs = u64::from(input.live_runs_max);
    let needed = runs * PROCESSES_PER_RUN + PROCESSES_OTHER;
    let pid_max = match &input.pid_max {
        Ok(pid_max) => *pid_max,
        Err(error) => return limited(name, error, "mount /proc: mount -t proc proc /proc"),
    };
    let fitting = |limit: u64| limit.saturating_sub(PROCESSES_OTHER) / PROCESSES_PER_RUN;
    if pid_max < needed {
        let detail =
            format!("kernel.pid_max is {pid_max}: enough for about {} live runs of {runs} allowed", fitting(pid_max));
        return limited(name, detail, format!("as root: sysctl -w kernel.pid_max={}", needed.next_power_of_two()));
    }
    if input.uid != 0
        && let Ok(ProcessLimit { soft: Some(soft), .. }) = input.processes
        && soft < runs * PROCESSES_PER_RUN
    {
        let enough = soft / PROCESSES_PER_RUN;
        let detail = format!(
            "uid {} may have {soft} processes: enough for about {enough} live runs of {runs} allowed",
            input.uid
        );
        let mend = format!(
            "ulimit -u {} in the shell that starts hostlerd, or LimitNPROC= in its unit; or lower node.live_runs_max to {enough}",
            runs * PROCESSES_PER_RUN
        );
        return limited(name, detail, mend);
    }
    ok(name, format!("kernel.pid_max is {pid_max}, enough for {runs} live runs"))
}

fn inotify(input: &DoctorInput) -> Check {
    let name = "inotify";
    let mend = format!(
        "as root: sysctl -w fs.inotify.max_user_instances=128 fs.inotify.max_user_watches={}",
        8 * WATCHES_ENOUGH
    );
    let (instances, watches) = match (&input.inotify_instances, &input.inotify_watches) {
        (Ok(instances), Ok(watches)) => (*instances, *watches),
        (Err(error), _) | (_, Err(error)) => {
            let detail = format!("{error}: logs may not be followed");
            return limited(
                name,
                detail,
                "use a kernel with CONFIG_INOTIFY_USER, and mount /proc: mount -t proc proc /proc",
            );
        }
    };
    if instances == 0 || watches == 0 {
        return missing(name, "none allowed: the daemon cannot follow logs", mend);
    }
    if watches < WATCHES_ENOUGH {
        let detail =
            format!("{watches} watches: beyond as many followed logs, new lines come with half a second's delay");
        return limited(name, detail, mend);
    }
    ok(name, format!("{watches} logs can be followed at the same time"))
}

fn boot_id(input: &DoctorInput) -> Check {
    let name = "boot id";
    match &input.boot_id {
        Ok(id) => ok(name, format!("{id}: a reboot is noticed")),
        Err(error) => {
            let detail = format!("{error}: after a reboot, runs that ended with it cannot be told from those that run");
            missing(name, detail, "mount /proc with /proc/sys in it: mount -t proc proc /proc; then restart hostlerd")
        }
    }
}

fn clock(input: &DoctorInput) -> Check {
    let name = "clock";
    let mend = "set it (date -s, or timedatectl set-ntp true) and keep it right with an NTP client";
    if input.wall_ms < CLOCK_MIN_MS {
        let detail = "the clock is years behind: times of events and logs are wrong, and events are kept for too long";
        return limited(name, detail, mend);
    }
    if let Ok(data) = &input.data
        && data.modified_ms > input.wall_ms.saturating_add(CLOCK_BACK_MAX_MS)
    {
        let behind_s = (data.modified_ms - input.wall_ms) / 1_000;
        let detail = format!("the clock is {behind_s} s behind the newest file in the data directory: it was set back");
        return limited(name, detail, mend);
    }
    ok(name, "is plausible")
}

fn startup_files(input: &DoctorInput) -> Check {
    let name = "startup files";
    if input.broken.is_empty() {
        return ok(name, "all of them can be used");
    }
    let shown = input.broken.iter().take(FOREIGN_SHOWN).map(|file| format!("{}: {}", file.file, file.problem));
    let mut detail = shown.collect::<Vec<_>>().join("; ");
    if input.broken.len() > FOREIGN_SHOWN {
        detail.push_str(&format!("; and {} more", input.broken.len() - FOREIGN_SHOWN));
    }
    limited(name, detail, "mend the file, see: hostler stack validate FILE; then apply it: hostler stack apply FILE")
}

fn foreign_runs(input: &DoctorInput) -> Check {
    let name = "foreign runs";
    if input.foreign.is_empty() {
        return ok(name, "none");
    }
    let shown = input.foreign.iter().take(FOREIGN_SHOWN).map(|foreign| {
        let store = foreign.store.as_ref().map_or(String::new(), |store| format!(", store {store}"));
        format!("{} ({}{store})", foreign.path.display(), foreign.problem)
    });
    let mut detail = shown.collect::<Vec<_>>().join("; ");
    if input.foreign.len() > FOREIGN_SHOWN {
        detail.push_str(&format!("; and {} more", input.foreign.len() - FOREIGN_SHOWN));
    }
    let mend = "they are left alone. If another node still owns them, move the directories back to it. If not, end the \
         processes named as agent and main in each run.json, if they are still alive, then remove the directories";
    limited(name, detail, mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckStatus::{Limited, Missing, Ok as Fine};

    fn healthy() -> DoctorInput {
        let limit = ProcessLimit { soft: Some(65_536), hard: None };
        DoctorInput {
            uid: 0,
            capabilities: Ok(u64::MAX),
            cgroup_version: Ok(Version::V2),
            cgroup: Some(Availability { memory: Ok(()), cpu: Ok(()), pids: Ok(()) }),
            cgroup_more: Some(MoreAvailability {
                swap: Ok(()),
                cpuset: Ok(()),
                blkio_weight: Ok(()),
                device_rates: Ok(()),
            }),
            users: Ok(20),
            data_path: "/var/lib/hostler".into(),
            data: Ok(DataDirectory { mode: 0o700, owner: 0, modified_ms: CLOCK_MIN_MS }),
            free_bytes: 1 << 40,
            free_space_min_bytes: 64 << 20,
            live_runs_max: 10_000,
            open_files: Ok(limit),
            processes: Ok(limit),
            pid_max: Ok(32_768),
            inotify_instances: Ok(128),
            inotify_watches: Ok(8_192),
            boot_id: Ok("6b9c".to_owned()),
            wall_ms: CLOCK_MIN_MS + 1,
            foreign: Vec::new(),
            broken: Vec::new(),
            networks: hostler_network::Survey {
                privileged: true,
                rules: Ok("nftables".to_owned()),
                rates: true,
                plugins: vec!["bridge".to_owned()],
                broken: Vec::new(),
            },
            vms: vms::Survey {
                kernel: Ok("kernel 6.1".to_owned()),
                qemu: Some("/usr/bin/qemu-system-x86_64".to_owned()),
                firecracker: None,
                jailer: false,
                kvm: Ok(()),
                block: Some("/usr/bin/mkfs.erofs".into()),
                layers: true,
                virtiofsd: Some("/usr/libexec/virtiofsd".into()),
            },
            confinement: Support {
                missing_namespaces: Vec::new(),
                user_namespaces: Ok(()),
                landlock_abi: 7,
                seccomp: Ok(()),
                mount_attributes: Ok(()),
            },
            oci: Survey {
                runtime: Ok(crate::oci::Found {
                    program: "/usr/bin/runc".into(),
                    kind: hostler_model::launch::OciKind::Runc,
                    version: "runc version 1.2".to_owned(),
                }),
                others: Vec::new(),
                criu: Ok("criu 4.1".to_owned()),
            },
        }
    }

    /// What is not in order, with its mend.
    fn complaints(change: impl FnOnce(&mut DoctorInput)) -> Vec<(String, CheckStatus, String)> {
        let mut input = healthy();
        change(&mut input);
        let checks = report(&input).checks;
        for check in &checks {
            assert_eq!(check.mend.is_some(), check.status != Fine, "{check:?}");
            assert!(!check.detail.is_empty() && !check.detail.contains("  "), "{check:?}");
            assert!(check.mend.as_ref().is_none_or(|mend| mend.len() > 10 && !mend.contains("  ")), "{check:?}");
        }
        let bad = checks.into_iter().filter(|check| check.status != Fine);
        bad.map(|check| (check.name, check.status, format!("{}; {}", check.detail, check.mend.unwrap_or_default())))
            .collect()
    }

    #[test]
    fn a_healthy_machine_has_no_complaints() {
        assert_eq!(complaints(|_| {}), []);
        assert_eq!(complaints(|input| input.open_files = Ok(ProcessLimit { soft: None, hard: None })), []);
        let v1 = complaints(|input| input.cgroup_version = Ok(Version::V1));
        assert_eq!(v1, []);
    }

    type Change = fn(&mut DoctorInput);

    #[test]
    fn one_thing_wrong() {
        let no = || Err::<u64, _>("no such file".to_owned());
        let cases: [(&str, CheckStatus, &str, Change); 21] = [
            ("privileges", Limited, "without CAP_KILL, CAP_SETUID:", |input| {
                input.capabilities = Ok(!(1 << 5 | 1 << 7))
            }),
            ("privileges", Limited, "mount -t proc", |input| input.capabilities = Err("x".into())),
            ("cgroups", Missing, "mount -t cgroup2", |input| input.cgroup_version = Ok(Version::None)),
            ("cgroups", Missing, "mount -t cgroup2", |input| input.cgroup_version = Err("x".into())),
            ("user database", Limited, "--user 1000:1000", |input| input.users = Err("x".into())),
            ("user database", Limited, "by number", |input| input.users = Ok(0)),
            ("data directory", Missing, "mkdir -p -m 700 /var/lib/hostler", |input| input.data = Err("x".into())),
            ("data directory", Limited, "mode 755", |input| {
                input.data = Ok(DataDirectory { mode: 0o755, owner: 0, modified_ms: 0 });
            }),
            ("data directory", Missing, "mode 500", |input| {
                input.data = Ok(DataDirectory { mode: 0o500, owner: 0, modified_ms: 0 });
            }),
            ("data directory", Limited, "chown -R 0 /var/lib/hostler", |input| {
                input.data = Ok(DataDirectory { mode: 0o700, owner: 7, modified_ms: 0 });
            }),
            ("free disk space", Missing, "63 MiB free, less than 64 MiB", |input| input.free_bytes = 63 << 20),
            ("free disk space", Limited, "127 MiB free", |input| input.free_bytes = 127 << 20),
            ("open files", Limited, "LimitNOFILE=31024", |input| {
                input.open_files = Ok(ProcessLimit { soft: Some(20_000), hard: Some(20_000) });
            }),
            ("open files", Limited, "about 0 live runs", |input| {
                input.open_files = Ok(ProcessLimit { soft: Some(1_024), hard: None });
            }),
            ("process numbers", Limited, "kernel.pid_max=32768", |input| input.pid_max = Ok(4_000)),
            ("process numbers", Limited, "/proc", |input| input.pid_max = Err("x".into())),
            ("inotify", Missing, "sysctl", |input| input.inotify_instances = Ok(0)),
            ("inotify", Limited, "100 watches", |input| input.inotify_watches = Ok(100)),
            ("boot id", Missing, "mount -t proc", |input| input.boot_id = Err("x".into())),
            ("clock", Limited, "years behind", |input| input.wall_ms = 5),
            ("clock", Limited, "120 s behind", |input| {
                input.data = Ok(DataDirectory { mode: 0o700, owner: 0, modified_ms: input.wall_ms + 120_000 });
            }),
        ];
        for (name, status, words, change) in cases {
            let found = complaints(change);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].0.as_str(), found[0].1), (name, status), "{found:?}");
            assert!(found[0].2.contains(words), "{words:?} is not in {found:?}");
        }
        assert_eq!(complaints(|input| input.inotify_watches = no())[0].0, "inotify");
    }

    #[test]
    fn limits_that_cannot_be_set() {
        let memory = |version: Version, uid: u32| {
            let found = complaints(|input| {
                let owner = DataDirectory { mode: 0o700, owner: uid, modified_ms: 0 };
                (input.uid, input.data, input.cgroup_version) = (uid, Ok(owner), Ok(version));
                input.cgroup = Some(Availability { memory: Err("no controller".into()), cpu: Ok(()), pids: Ok(()) });
            });
            found.into_iter().find(|(name, ..)| name == "memory limits").expect("a complaint").2
        };
        assert!(memory(Version::V1, 0).contains("mount -t cgroup -o memory"));
        assert!(memory(Version::V2, 0).contains("hostler-runs.service"));
        assert!(memory(Version::V2, 7).contains("Delegate=yes"));
        let nothing = complaints(|input| input.cgroup = None);
        let names: Vec<_> = nothing.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["memory limits", "cpu limits", "pids limits"]);
    }

    #[test]
    fn without_root() {
        let found = complaints(|input| {
            input.uid = 1000;
            input.data = Ok(DataDirectory { mode: 0o700, owner: 1000, modified_ms: 0 });
            input.processes = Ok(ProcessLimit { soft: Some(4_096), hard: Some(4_096) });
        });
        let names: Vec<_> = found.iter().map(|(name, status, _)| (name.as_str(), *status)).collect();
        assert_eq!(names, [("privileges", Limited), ("process numbers", Limited)]);
    }

    #[test]
    fn foreign_runs_are_named() {
        let foreign = |number: usize| ForeignDirectory {
            path: format!("/var/lib/hostler/run/{number}").into(),
            store: (number == 0).then(|| "00112233aabbccdd".to_owned()),
            problem: "of another store".to_owned(),
        };
        let found = complaints(|input| input.foreign = (0..12).map(foreign).collect());
        let text = &found[0].2;
        assert!(text.contains("run/0 (of another store, store 00112233aabbccdd); "), "{text}");
        assert!(text.contains("and 2 more") && text.contains("run.json"), "{text}");
    }

    #[test]
    fn files_of_the_kernel() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax processes  96365  unlimited  processes\nMax open files  20000  30000  files\n";
        let files = ProcessLimit { soft: Some(20_000), hard: Some(30_000) };
        assert_eq!(parse_limit(text, "Max open files"), Some(files));
        assert_eq!(parse_limit(text, "Max processes"), Some(ProcessLimit { soft: Some(96_365), hard: None }));
        assert_eq!(parse_limit(text, "Max naps"), None);
        assert_eq!(parse_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(parse_capabilities("CapEff:\tzz"), None);
    }

    #[test]
    fn this_machine() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let uid = fs::metadata(dir.path()).unwrap().uid();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let networks = NetworkRoom::new(hostler_network::Networks::none(runtime.handle().clone()));
        let input = DoctorInput::read(Node {
            networks: &networks,
            kernels: dir.path().join("vm/kernels"),
            uid,
            data: dir.path(),
            free_bytes: 1 << 40,
            free_space_min_bytes: 1,
            live_runs_max: 10,
            cgroup: None,
            cgroup_more: None,
            foreign: Vec::new(),
            broken: Vec::new(),
            oci: &OciRuntimes::new(hostler_model::config::Oci::default(), dir.path().join("oci")),
        });
        assert!(input.open_files.is_ok() && input.pid_max.is_ok() && input.boot_id.is_ok(), "{input:?}");
        let report = report(&input);
        let data = report.checks.iter().find(|check| check.name == "data directory").expect("checked");
        assert_eq!(data.status, Fine, "{data:?}");
    }
}
