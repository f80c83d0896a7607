//! Machines of their own, as far as networks go: a node that makes networks changes the machine that it is on, and so each of
//! these tests gives it one, a network namespace with nothing in it but a loopback device. Two that are joined by a wire
//! stand for two machines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hostler_linux::netns;

use crate::container::program;
use crate::{is_root, skip};

/// See the module. Clones are the same machine; it is gone with the last of them.
#[derive(Debug, Clone)]
pub struct Machine {
    kept: Arc<Kept>,
}

#[derive(Debug)]
struct Kept {
    directory: tempfile::TempDir,
    wires: AtomicU8,
}

impl Kept {
    fn path(&self) -> PathBuf {
        self.directory.path().join("net")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = netns::release(&self.path()) {
            eprintln!("letting a test's machine go: {error}");
        }
    }
}

impl Machine {
    /// A new one, or a word about why there can be none.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !is_root() {
            skip("networks need root");
            return None;
        }
        for tool in ["nft", "ip"] {
            if program(tool).is_none() {
                skip(&format!("{tool} is not installed, which networks need"));
                return None;
            }
        }
        let directory = tempfile::Builder::new().prefix("htm-").tempdir_in("/tmp").expect("a directory under /tmp");
        let machine = Self { kept: Arc::new(Kept { directory, wires: AtomicU8::new(0) }) };
        netns::create(machine.path().as_path(), || ()).expect("a network namespace");
        machine.ip("link set lo up");
        Some(machine)
    }

    /// The file that keeps its network.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.kept.path()
    }

    /// Does something on it, as far as its network goes.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.path(), work)
    }

    /// Calls `ip` with these words; what it prints.
    pub fn ip(&self, words: &str) -> String {
        self.call("ip", &words.split(' ').collect::<Vec<_>>())
    }

    /// Calls a program on it, which must succeed; what it prints.
    pub fn call(&self, program: &str, arguments: &[&str]) -> String {
        let done = self.inside(|| Command::new(program).args(arguments).output().expect("called"));
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{program} {arguments:?}: {}: {out}{err}", done.status);
        out.into_owned()
    }

    /// Joins two by a wire, with these addresses of one network at its ends.
    pub fn wire(&self, other: &Machine, here: &str, there: &str) {
        let number = |machine: &Machine| format!("wire{}", machine.kept.wires.fetch_add(1, Ordering::Relaxed));
        let (own, its) = (number(self), number(other));
        let path = other.path();
        self.ip(&format!("link add {own} type veth peer name {its} netns {}", path.display()));
        for (machine, link, address) in [(self, &own, here), (other, &its, there)] {
            machine.ip(&format!("addr add {address} dev {link}"));
            machine.ip(&format!("link set {link} up"));
        }
    }

    /// Names of its links.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        links(Some(&self.path()))
    }
}

/// Does something in the network that this file keeps.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    netns::within(path, work).unwrap_or_else(|error| panic!("entering {}: {error}", path.display()))
}

/// Does something on a machine, or on the one that the test is on.
pub(crate) fn on<T: Send>(machine: Option<&Path>, work: impl FnOnce() -> T + Send) -> T {
    match machine {
        Some(path) => inside(path, work),
        None => work(),
    }
}

/// Names of all links of a machine, or of the one that the test is on.
#[must_use]
pub fn links(machine: Option<&Path>) -> Vec<String> {
    let text = on(machine, || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default());
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Names of the tables of nftables.
#[must_use]
pub fn tables(machine: Option<&Path>) -> Vec<String> {
    let listed = on(machine, || Command::new("nft").args(["list", "tables"]).output());
    let text = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect()
}

/// Network namespaces that are kept by name.
#[must_use]
pub fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The set-ups that the lease book of a node has, each with the line that says so last.
#[must_use]
pub fn leases(root: &Path) -> Vec<(String, serde_json::Value)> {
    let text = std::fs::read_to_string(root.join("networks/leases")).unwrap_or_default();
    let mut leases: Vec<(String, serde_json::Value)> = Vec::new();
    for line in text.lines().skip(1) {
        let entry = line.get(9..).and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        // A line that was torn is no line, nor is what comes after it.
        let Some(entry) = entry else { break };
        let lease = &entry["lease"];
        let id = lease["setup"].as_str().or(entry["free"].as_str()).expect("a line is of a set-up").to_owned();
        leases.retain(|(known, _)| *known != id);
        if lease.is_object() {
            leases.push((id, lease.clone()));
        }
    }
    leases
}

/// What is left of a node's networks.
#[must_use]
pub fn remains(root: &Path, tag: &str, machine: Option<&Path>) -> Vec<String> {
    let mark = format!("h{tag}");
    let ours = |name: &String| name.starts_with(&mark);
    let mut found = Vec::new();
    found.extend(namespaces().into_iter().filter(ours).map(|name| format!("network namespace {name}")));
    if root.join("networks").exists() {
        found.extend(links(machine).into_iter().filter(ours).map(|name| format!("link {name}")));
        found.extend(tables(machine).into_iter().filter(ours).map(|name| format!("nftables table {name}")));
        found.extend(leases(root).into_iter().map(|(_, lease)| format!("lease {lease}")));
        let records = std::fs::read_dir(root.join("networks/cni")).into_iter().flatten().flatten();
        found.extend(records.map(|entry| format!("CNI record {}", entry.path().display())));
    }
    found
}

/// Takes away what a failed test left of them.
pub(crate) fn sweep(tag: &str, machine: Option<&Path>) {
    let mark = format!("h{tag}");
    let ours = |name: &String| name.starts_with(&mark);
    for name in namespaces().into_iter().filter(ours) {
        netns::release(&Path::new(netns::DIRECTORY).join(name)).ok();
    }
    if machine.is_none() {
        for name in links(None).into_iter().filter(ours) {
            Command::new("ip").args(["link", "del", &name]).status().ok();
        }
        for name in tables(None).into_iter().filter(ours) {
            Command::new("nft").args(["delete", "table", "inet", &name]).status().ok();
        }
    }
}
