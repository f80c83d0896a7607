//! How Firecracker is executed: by its jailer, in a root of its own below the VM's directory, as the VM's own user; or plainly.
//!
//! ```text
//!  <VM directory>/jail/<name of the program>/<id>/root/     what the jailed Firecracker takes for /
//!      api.sock  log.fifo  metrics.fifo  agent.vsock  kernel  initrd  drive-<id>  snapshot.state  snapshot.memory
//! ```
//! Relative names are the same for both: a plain Firecracker has the VM's directory as working directory, a jailed one its
//! root. The jailer neither forks nor detaches here, so the process that was spawned is the VMM.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::config::Role;
use super::{API, Firecracker};
use crate::microvm::{Machine, Place, PlacedFile, SnapshotFiles, Start, VmmCommand};

/// Below the VM's directory.
const BASE: &str = "jail";

/// How Firecracker is jailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// The `jailer` program, absolute.
    pub jailer: PathBuf,
    /// The VM's own user: nobody else has it.
    pub uid: u32,
    /// The VM's own group.
    pub gid: u32,
    /// Which hierarchy the groups below are in.
    pub cgroup_version: CgroupVersion,
    /// The group that the jailer makes one for the VM in, relative to the hierarchy; its own default when absent.
    pub parent_cgroup: Option<String>,
    /// Limits there, such as `("memory.max", "200000000")`.
    pub cgroup_limits: Vec<(String, String)>,
}

/// A kind of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CgroupVersion {
    V1,
    V2,
}

/// Where a jailed Firecracker sees a file.
pub(super) fn name_of(role: Role<'_>) -> PathBuf {
    match role {
        Role::Kernel => "kernel".into(),
        Role::Initrd => "initrd".into(),
        Role::Drive(id) => format!("drive-{id}").into(),
        Role::State => super::STATE.into(),
        Role::Memory => super::MEMORY.into(),
    }
}

/// The root of a jail, relative to the VM's directory.
pub(super) fn root(program: &Path, place: &Place) -> PathBuf {
    let name = program.file_name().unwrap_or("firecracker".as_ref());
    [BASE.as_ref(), name, place.id.for_firecracker().as_ref(), "root".as_ref()].iter().collect()
}

/// What is to be executed; `channel` is for the caller to fill in.
pub(super) fn command(firecracker: &Firecracker, place: &Place, machine: &Machine, start: &Start<'_>) -> VmmCommand {
    let id = place.id.for_firecracker();
    let own = ["--api-sock", API];
    let Some(jail) = &firecracker.jail else {
        let arguments = own.into_iter().chain(["--id", &id]).map(OsString::from).collect();
        return VmmCommand {
            program: firecracker.program.clone(),
            arguments,
            environment: Vec::new(),
            network_namespace: machine.network_namespace.clone(),
            files: Vec::new(),
            channel: None,
            api: API.into(),
        };
    };
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--id", id.into());
    option("--exec-file", firecracker.program.clone().into());
    option("--uid", jail.uid.to_string().into());
    option("--gid", jail.gid.to_string().into());
    option("--chroot-base-dir", place.directory.join(BASE).into());
    if let Some(network) = &machine.network_namespace {
        option("--netns", network.into());
    }
    let version = match jail.cgroup_version {
        CgroupVersion::V1 => "1",
        CgroupVersion::V2 => "2",
    };
    option("--cgroup-version", version.into());
    if let Some(parent) = &jail.parent_cgroup {
        option("--parent-cgroup", parent.into());
    }
    for (file, value) in &jail.cgroup_limits {
        option("--cgroup", format!("{file}={value}").into());
    }
    arguments.push("--".into());
    arguments.extend(own.map(OsString::from));
    let root = root(&firecracker.program, place);
    VmmCommand {
        program: jail.jailer.clone(),
        arguments,
        environment: Vec::new(),
        network_namespace: None,
        files: files(&root, machine, start),
        channel: None,
        api: root.join(API),
    }
}

/// What a jailed Firecracker has to find in its root.
fn files(root: &Path, machine: &Machine, start: &Start<'_>) -> Vec<PlacedFile> {
    let placed =
        |role, from: &Path, read_only| PlacedFile { from: from.into(), to: root.join(name_of(role)), read_only };
    let mut files: Vec<PlacedFile> = Vec::new();
    match start {
        Start::Boot | Start::BootTemplate(_) => {
            files.push(placed(Role::Kernel, &machine.kernel, true));
            files.extend(machine.initrd.iter().map(|initrd| placed(Role::Initrd, initrd, true)));
        }
        Start::Restore(SnapshotFiles { state, memory }) => {
            files.push(placed(Role::State, state, true));
            files.extend(memory.iter().map(|memory| placed(Role::Memory, memory, true)));
        }
    }
    files.extend(machine.drives.iter().map(|drive| placed(Role::Drive(&drive.id), &drive.path, drive.read_only)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::microvm::machine::tests::machine;

    fn words(command: &VmmCommand) -> Vec<&str> {
        command.arguments.iter().map(|argument| argument.to_str().unwrap()).collect()
    }

    fn jail() -> Jail {
        Jail {
            jailer: "/bin/jailer".into(),
            uid: 4_001,
            gid: 4_002,
            cgroup_version: CgroupVersion::V2,
            parent_cgroup: Some("hostler/vms".to_owned()),
            cgroup_limits: vec![("memory.max".to_owned(), "200000000".to_owned())],
        }
    }

    #[test]
    fn jailed() {
        let firecracker = Firecracker::jailed("/bin/firecracker".into(), jail());
        let place = Place { directory: "/vms/a_b".into(), id: "a_b".parse().unwrap() };
        let command = command(&firecracker, &place, &machine(), &Start::Boot);
        let id = place.id.for_firecracker();
        let wanted = [
            "--id",
            &id,
            "--exec-file",
            "/bin/firecracker",
            "--uid",
            "4001",
            "--gid",
            "4002",
            "--chroot-base-dir",
            "/vms/a_b/jail",
            "--netns",
            "/run/netns/x",
            "--cgroup-version",
            "2",
            "--parent-cgroup",
            "hostler/vms",
            "--cgroup",
            "memory.max=200000000",
            "--",
            "--api-sock",
            "api.sock",
        ];
        assert_eq!((command.program.as_path(), words(&command)), (Path::new("/bin/jailer"), wanted.to_vec()));
        assert_eq!(command.network_namespace, None, "the jailer goes there");
        let root = PathBuf::from(format!("jail/firecracker/{id}/root"));
        assert_eq!(command.api, root.join("api.sock"));
        let to: Vec<PathBuf> = command.files.iter().map(|file| file.to.clone()).collect();
        assert_eq!(to, ["kernel", "initrd", "drive-data", "drive-root"].map(|name| root.join(name)));
        assert_eq!(command.files.iter().map(|file| file.read_only).collect::<Vec<_>>(), [true, true, true, false]);
        let longest: Place = Place { directory: "/v".into(), id: "a".repeat(76).parse().unwrap() };
        assert!(super::root(&firecracker.program, &longest).join("metrics.fifo").as_os_str().len() <= 107);
    }

    #[test]
    fn plain() {
        let firecracker = Firecracker::unjailed("/bin/firecracker".into());
        let place = Place { directory: "/vms/a".into(), id: "a".parse().unwrap() };
        let files = SnapshotFiles { state: "/s".into(), memory: Some("/m".into()) };
        let command = command(&firecracker, &place, &machine(), &Start::Restore(&files));
        assert_eq!(words(&command), ["--api-sock", "api.sock", "--id", "a"]);
        assert_eq!(command.network_namespace, Some("/run/netns/x".into()));
        assert_eq!((command.files.len(), command.api), (0, "api.sock".into()));
    }
}
