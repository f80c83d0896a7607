//! Containers for tests: which OCI runtimes this machine has, root file systems, bundles, CRIU.
//!
//! Every test of containers is a function of an [`Oci`]; [`with_each_oci_runtime`](crate::with_each_oci_runtime) makes
//! one test of it for each OCI runtime that Hostler knows.

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hostler_api::types::WorkloadView;
use hostler_model::workload::Phase;
use serde_json::{Value, json};

use crate::node::{Setup, TestNode};
use crate::{Output, is_root, skip};

/// What busybox does in the roots of tests, beside being itself.
const APPLETS: [&str; 51] = [
    "sh", "ash", "cat", "chmod", "cp", "cut", "dd", "df", "dmesg", "echo", "env", "false", "grep", "head", "hostname",
    "httpd", "id", "insmod", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "netstat", "nslookup",
    "ping", "printf", "ps", "pwd", "readlink", "rm", "sed", "seq", "setsid", "sleep", "stat", "stty", "su", "sysctl",
    "tail", "test", "touch", "true", "umount", "unshare", "wc", "wget",
];

/// An OCI runtime of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oci {
    /// `runc` or `crun`.
    pub name: &'static str,
}

/// Runs a test with this OCI runtime, or says why not.
pub fn with(name: &'static str, test: impl FnOnce(Oci)) {
    if !is_root() {
        return skip("containers need root");
    }
    if program(name).is_none() {
        return skip(&format!("{name} is not installed"));
    }
    if program("busybox").is_none() {
        return skip("busybox is not installed, of which roots are made");
    }
    test(Oci { name });
}

/// A test for each OCI runtime out of each function that takes an `Oci`.
#[macro_export]
macro_rules! with_each_oci_runtime {
    ($($name:ident),* $(,)?) => {
        mod runc {
            $(#[test] fn $name() { $crate::container::with("runc", super::$name) })*
        }
        mod crun {
            $(#[test] fn $name() { $crate::container::with("crun", super::$name) })*
        }
    };
}

/// Where a program is, by the path that the daemon looks at as well.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// What `scripts/setup.sh test` made.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools")
}

/// A part of it, or why it is not there.
fn tool(name: &str, mark: &str) -> Result<PathBuf, String> {
    let path = tools().join(name);
    if path.join(mark).exists() {
        return Ok(path.canonicalize().expect("it is there"));
    }
    let why = std::fs::read_to_string(tools().join(format!("{name}.skipped")));
    Err(why.map_or_else(|_| format!("no target/tools/{name}: run scripts/setup.sh test"), |why| why.trim().to_owned()))
}

/// The directory of a CRIU that works, or `None` and a word about it.
#[must_use]
pub fn criu() -> Option<PathBuf> {
    if program("iptables-restore").is_none() {
        skip("iptables-restore is not installed, without which CRIU cannot lock a network");
        return None;
    }
    match tool("criu", "bin/criu") {
        Ok(path) => Some(path.join("bin")),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// A Debian root with nginx, redis, PostgreSQL and Python: shared by all tests, so it is used read-only.
#[must_use]
pub fn debian() -> Option<PathBuf> {
    match tool("debian", "usr/bin/python3") {
        Ok(path) => Some(path),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// Makes a root of busybox and a few files in this directory.
pub fn busybox_root(directory: &Path) {
    for name in ["bin", "etc", "tmp", "dev", "proc", "sys", "root", "srv"] {
        std::fs::create_dir_all(directory.join(name)).expect("a directory");
    }
    std::fs::set_permissions(directory.join("tmp"), std::fs::Permissions::from_mode(0o1777)).expect("chmod");
    std::fs::copy(program("busybox").expect("busybox"), directory.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        symlink("busybox", directory.join("bin").join(applet)).expect("a link");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv:/bin/sh\n";
    std::fs::write(directory.join("etc/passwd"), passwd).expect("passwd");
    std::fs::write(directory.join("etc/group"), "root:x:0:\nweb:x:44:\nextra:x:55:web\n").expect("group");
}

/// Writes a bundle whose root is `rootfs` in it: a plain `config.json`, changed by the test.
pub fn bundle(directory: &Path, args: &[&str], change: impl FnOnce(&mut Value)) {
    busybox_root(&directory.join("rootfs"));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin", "FROM=bundle"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        },
        "root": { "path": "rootfs" },
        "hostname": "of-the-bundle",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        ],
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
        ] },
    });
    change(&mut config);
    std::fs::write(directory.join("config.json"), config.to_string()).expect("config.json");
}

/// A node, an OCI runtime, and a root of busybox in the node's working directory.
#[derive(Debug)]
pub struct Place {
    node: TestNode,
    oci: Oci,
}

impl Oci {
    /// A place with every default.
    #[must_use]
    pub fn start(self) -> Place {
        self.start_with(Setup::new())
    }

    /// A place on such a node.
    #[must_use]
    pub fn start_with(self, setup: Setup) -> Place {
        let node = setup.start();
        busybox_root(&node.work().join("root"));
        Place { node, oci: self }
    }

    /// A place whose node finds CRIU, or `None` and a word about it.
    #[must_use]
    pub fn start_with_criu(self) -> Option<Place> {
        if self.name == "crun" && !crun_has_criu() {
            skip("this crun is built without CRIU");
            return None;
        }
        let criu = criu()?;
        Some(self.start_with(Setup::new().config(&format!("[oci]\ncriu_dir = {:?}\n", criu.display().to_string()))))
    }
}

/// Whether crun says that it was built with CRIU.
fn crun_has_criu() -> bool {
    let said = std::process::Command::new("crun").arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("+CRIU"))
}

impl Place {
    /// The OCI runtime.
    #[must_use]
    pub fn oci(&self) -> Oci {
        self.oci
    }

    /// The root of busybox.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.work().join("root")
    }

    /// A container of busybox, as a spec has it.
    #[must_use]
    pub fn container(&self) -> hostler_model::container::Container {
        hostler_model::container::Container {
            rootfs: Some(self.rootfs().as_os_str().into()),
            oci_runtime: Some(self.oci.name.into()),
            ..Default::default()
        }
    }

    /// `hostler run` with these options, of this command in a container of busybox.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let rootfs = self.rootfs();
        let first = ["run", "--oci-runtime", self.oci.name, "--rootfs", rootfs.to_str().expect("UTF-8")];
        self.cli(&[&first, options, &["--"], command].concat())
    }

    /// The same of a shell script.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }

    /// The same in the background, under this name; its main process.
    pub fn detach(&self, name: &str, options: &[&str], script: &str) -> u32 {
        self.sh(&[&["-d", "--name", name], options].concat(), script).ok();
        self.main_pid(name)
    }

    /// Executes a shell script in a container.
    pub fn exec(&self, name: &str, script: &str) -> Output {
        self.cli(&["exec", name, "--", "sh", "-c", script])
    }

    /// Ends what still runs, checks that every run has one start and one end, takes everything down, and checks that
    /// nothing is left. The last line of every test.
    pub fn finish(self) {
        for view in self.all().iter().filter(|view| !matches!(view.phase, Phase::Ended | Phase::Failed | Phase::Lost)) {
            // It may be on its way out already, and then it is not there any more.
            self.cli(&["stop", "-t", "0s", &view.workload.id.to_string()]);
        }
        let is_over = |view: &WorkloadView| matches!(view.phase, Phase::Ended | Phase::Failed | Phase::Lost);
        crate::until("the end of all workloads", crate::PATIENCE, || self.all().iter().all(is_over).then_some(()));
        crate::events::assert_history(&self.journal());
        self.node.finish();
    }

    /// The names of what happened to a workload, in order, from its first run on.
    pub fn history(&self, name: &str) -> Vec<String> {
        let events = self.journal();
        let of_it = events.iter().filter(|view| crate::events::is_of(view, name));
        of_it.map(|view| view.event.kind.name().to_owned()).collect()
    }
}

impl Deref for Place {
    type Target = TestNode;

    fn deref(&self) -> &TestNode {
        &self.node
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut TestNode {
        &mut self.node
    }
}
