//! What may not be left of a node: processes, cgroups, mounts, containers, sockets, files, zombies, and of its networks links,
//! namespaces, rules, leases.
//!
//! A process is the node's if its program, its command line, its working directory or its environment names the
//! node's root; workloads start in a directory below it. Those of containers see none of that: they are known by their
//! cgroup. `/proc` is read once for each look.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostler_linux::procfs;

/// How long what is on its way out may take: an agent that was told to leave, an orphan that was killed.
const SETTLE: Duration = Duration::from_secs(8);

/// By what the remains of a node are known.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Its directory.
    pub root: PathBuf,
    /// The mark in its cgroups, if it ever said it.
    pub tag: Option<String>,
    /// The network that its daemon is in, if that is not the test's own.
    pub machine: Option<PathBuf>,
}

/// Names in a root that stay when the node is down.
const STAYING: [&str; 18] = [
    "hostler.toml",
    "hostlerd.log",
    "store.redb",
    "store.wal",
    "store.redb.lock",
    "store.redb.ballast",
    "ballast",
    "agents",
    "sandbox",
    "run",
    "logs",
    "work",
    "lock",
    "oci",
    "user-ids",
    "checkpoints",
    "networks",
    "vm",
];

/// Directories of a root in which nothing stays when the node is down. Of `checkpoints` what is in the namespaces'.
const EMPTY: [&str; 6] = ["run", "sandbox", "oci", "user-ids", "checkpoints", "vm/machines"];

/// Looks until nothing is left, or for a few seconds; what is left then.
#[must_use]
pub fn settle(traces: &Traces) -> Vec<String> {
    let began = Instant::now();
    loop {
        let found = look(traces);
        if found.is_empty() || began.elapsed() > SETTLE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One look.
#[must_use]
pub fn look(traces: &Traces) -> Vec<String> {
    let mut found: Vec<String> =
        processes(&traces.root).into_iter().map(|(pid, what)| format!("process {pid}: {what}")).collect();
    found.extend(zombies().into_iter().map(|pid| format!("zombie {pid}, a child of this test")));
    if let Some(tag) = &traces.tag {
        found.extend(members(tag).into_iter().map(|pid| format!("process {pid} in a cgroup of the node")));
        for path in cgroups(tag) {
            let below = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let groups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let names: Vec<_> = groups.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            found.push(format!("cgroup {} with {names:?}", path.display()));
        }
        found.extend(crate::machine::remains(&traces.root, tag, traces.machine.as_deref()));
    }
    found.extend(mounts(&traces.root).into_iter().map(|mount| format!("mount {mount}")));
    found.extend(files(&traces.root));
    found
}

fn numbers() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes of this node, with what gave them away.
#[must_use]
pub fn processes(root: &Path) -> Vec<(u32, String)> {
    let needle = root.as_os_str().as_encoded_bytes();
    let has = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let link = |pid: u32, name: &str| {
        std::fs::read_link(format!("/proc/{pid}/{name}")).map(|path| path.into_os_string().into_encoded_bytes())
    };
    let text = |pid: u32, name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let mut found = Vec::new();
    for pid in numbers().filter(|pid| *pid != std::process::id()) {
        let line = text(pid, "cmdline");
        let sign = if has(&line) {
            "command line"
        } else if link(pid, "exe").is_ok_and(|path| has(&path)) {
            "program"
        } else if link(pid, "cwd").is_ok_and(|path| has(&path)) {
            "working directory"
        } else if has(&text(pid, "environ")) {
            "environment"
        } else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let state = procfs::stats(pid).map_or('?', |stats| stats.state);
        found.push((pid, format!("{state} {} (by its {sign})", line.trim_end())));
    }
    found
}

fn zombies() -> Vec<u32> {
    let children = procfs::children(std::process::id()).unwrap_or_default();
    children.into_iter().filter(|pid| procfs::stats(*pid).is_ok_and(|stats| stats.state == 'Z')).collect()
}

/// Directories named `h<tag>` in any hierarchy.
#[must_use]
pub fn cgroups(tag: &str) -> Vec<PathBuf> {
    const DEPTH_MAX: usize = 8;
    let name = format!("h{tag}");
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_str() == Some(&name) {
                found.push(entry.path());
            } else if depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// Processes in the node's cgroups, wherever these are.
#[must_use]
pub fn members(tag: &str) -> Vec<u32> {
    let part = format!("/h{tag}");
    let is_in = |line: &str| line.ends_with(&part) || line.contains(&format!("{part}/"));
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    numbers().filter(|pid| of(*pid).lines().any(is_in)).collect()
}

/// Groups of single runs below the node's own.
#[must_use]
pub fn run_groups(tag: &str) -> Vec<PathBuf> {
    let entries = cgroups(tag).into_iter().flat_map(|group| std::fs::read_dir(group).into_iter().flatten().flatten());
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).filter(|path| path.file_name().is_some_and(|name| name != "agents")).collect()
}

fn mounts(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    // The root itself may be a mount of the test's own making.
    points.filter(|point| Path::new(point).starts_with(root) && Path::new(point) != root).map(str::to_owned).collect()
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !STAYING.contains(&name.as_str()) {
            found.push(format!("file {}", entry.path().display()));
        }
    }
    for kind in EMPTY {
        for entry in std::fs::read_dir(root.join(kind)).into_iter().flatten().flatten() {
            let is_empty = || std::fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
            if kind != "checkpoints" || !is_empty() {
                found.push(format!("left in {kind}: {}", entry.path().display()));
            }
        }
    }
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_socket() => found.push(format!("socket {}", entry.path().display())),
                _ => {}
            }
        }
    }
    found
}

/// Takes away what a failed test left: its processes one by one, then its groups.
pub fn sweep(traces: &Traces) {
    let kill = hostler_model::units::Signal::KILL;
    let frozen = traces.tag.iter().flat_map(|tag| run_groups(tag)).map(|group| group.join("freezer.state"));
    frozen.filter(|path| path.exists()).for_each(|path| std::fs::write(path, "THAWED").unwrap_or_default());
    for _ in 0..50 {
        let mut left: Vec<u32> = processes(&traces.root).into_iter().map(|(pid, _)| pid).collect();
        left.extend(traces.tag.iter().flat_map(|tag| members(tag)));
        if left.is_empty() {
            break;
        }
        for pid in left {
            hostler_linux::process::signal(pid, kill).ok();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for group in traces.tag.iter().flat_map(|tag| cgroups(tag)) {
        remove_groups(&group);
    }
    if let Some(tag) = &traces.tag {
        crate::machine::sweep(tag, traces.machine.as_deref());
    }
}

fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    std::fs::remove_dir(group).ok();
}
