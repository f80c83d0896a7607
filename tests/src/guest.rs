//! Guests for tests: a node whose virtual machines boot for real, by QEMU without KVM where there is none.
//!
//! A boot costs a second or more, so a test asks much of one guest, by `exec`, and boots few.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hostler_api::types::WorkloadView;
use hostler_model::Exit;
use hostler_model::workload::{Phase, RunState};

use crate::container::program;
use crate::node::{Setup, TestNode};
use crate::{Output, PATIENCE, events, leaks, skip, until};

/// QEMU's program.
const QEMU: &str = "qemu-system-x86_64";

/// What `scripts/setup-vms.sh` made ready, or why it did not.
fn kernels() -> Result<PathBuf, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let directory = tools.join("vm/kernels");
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    if entries.into_iter().any(|entry| entry.path().join("kernel.json").is_file()) {
        return Ok(directory.canonicalize().expect("it is there"));
    }
    let why = std::fs::read_to_string(tools.join("vm.skipped"));
    Err(why.map_or_else(|_| "no kernel in target/tools/vm: run make test".to_owned(), |why| why.trim().to_owned()))
}

/// The configuration of a node that has kernels, or `None` and a word about it.
#[must_use]
pub fn config() -> Option<String> {
    if program(QEMU).is_none() {
        skip(&format!("{QEMU} is not installed"));
        return None;
    }
    match kernels() {
        Ok(directory) => Some(format!("[vm]\nkernel_dir = {:?}\n", directory.display().to_string())),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// The kernel that guests boot, for those who bring it themselves.
#[must_use]
pub fn kernel() -> PathBuf {
    let directory = kernels().expect("it was asked before whether there is one");
    let entries = std::fs::read_dir(directory).expect("kernels").flatten();
    entries.map(|entry| entry.path().join("vmlinux")).find(|path| path.is_file()).expect("a kernel")
}

/// Whether directories can become disks here, and a word about it where not.
#[must_use]
pub fn makes_disks() -> bool {
    let can = program("mkfs.erofs").or_else(|| program("mksquashfs")).is_some() && program("mkfs.ext4").is_some();
    if !can {
        skip("disks need mkfs.erofs or mksquashfs, and mkfs.ext4");
    }
    can
}

/// A file with a file system of this size (as `mkfs.ext4` takes it), with what is in the directory, if one is given.
pub fn ext4(path: &Path, size: &str, content: Option<&Path>) {
    let mut command = Command::new(program("mkfs.ext4").expect("e2fsprogs"));
    command.args(["-q", "-F"]).stdin(Stdio::null());
    if let Some(content) = content {
        command.arg("-d").arg(content);
    }
    let status = command.arg(path).arg(size).status().expect("mkfs.ext4");
    assert!(status.success(), "mkfs.ext4: {status}");
}

/// A node that has guests.
#[derive(Debug)]
pub struct Host {
    node: TestNode,
}

impl Host {
    /// One with every default, or `None` and a word about it.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with more words in its configuration.
    #[must_use]
    pub fn start_with(words: &str) -> Option<Self> {
        Some(Self { node: Setup::new().config(&(config()? + words)).start() })
    }

    /// `hostler run --vm` with these options, of this command.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.cli(&[&["run", "--vm"], options, &["--"], command].concat())
    }

    /// The same of a shell script.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }

    /// The same in the background, under this name; the process that makes its machine.
    pub fn detach(&self, name: &str, options: &[&str], script: &str) -> u32 {
        self.sh(&[&["-d", "--name", name], options].concat(), script).ok();
        self.main_pid(name)
    }

    /// Executes a shell script in a guest.
    pub fn exec(&self, name: &str, script: &str) -> Output {
        self.cli(&["exec", name, "--", "sh", "-c", script])
    }

    /// How its last run ended, once that is over.
    pub fn exit_of(&self, name: &str) -> Exit {
        self.ended(name);
        match self.state_of(name) {
            RunState::Ended { exit } => exit,
            other => panic!("{name} has not ended: {other:?}"),
        }
    }

    /// The names of what happened to a workload, in order.
    pub fn history(&self, name: &str) -> Vec<String> {
        let all = self.journal();
        all.iter().filter(|view| events::is_of(view, name)).map(|view| view.event.kind.name().to_owned()).collect()
    }

    /// Processes that make machines of this node.
    #[must_use]
    pub fn vmms(&self) -> Vec<u32> {
        leaks::vmms(self.root())
    }

    /// Waits until a machine is being made; its process.
    pub fn until_boot(&self) -> u32 {
        until("a machine that boots", PATIENCE, || self.vmms().first().copied())
    }

    /// Waits until nothing of any guest is left: machine, its directory, cgroup, run directory.
    pub fn until_no_guest(&self, what: &str) {
        let empty = |name: &str| self.directories(name).is_empty();
        until(&format!("{what}: nothing left"), PATIENCE, || {
            let groups = leaks::run_groups(self.tag().expect("a tag"));
            (self.vmms().is_empty() && empty("vm/machines") && empty("run") && groups.is_empty()).then_some(())
        });
    }

    /// Ends what still runs, checks that every run has one start and one end, takes everything down, and checks that
    /// nothing is left. The last line of every test.
    pub fn finish(self) {
        self.end_all();
        self.until_no_guest("at the end");
        events::assert_history(&self.journal());
        self.node.finish();
    }

    /// The same where guests wait for runs: the node takes them down with it.
    pub fn finish_with_pools(self) {
        self.end_all();
        events::assert_history(&self.journal());
        self.node.finish();
    }

    fn end_all(&self) {
        let is_over = |view: &WorkloadView| matches!(view.phase, Phase::Ended | Phase::Failed | Phase::Lost);
        for view in self.all().iter().filter(|view| !is_over(view)) {
            // It may be on its way out already, and then it is not there any more.
            self.cli(&["stop", "-t", "0s", &view.workload.id.to_string()]);
        }
        until("the end of all workloads", PATIENCE, || self.all().iter().all(is_over).then_some(()));
    }
}

impl Deref for Host {
    type Target = TestNode;

    fn deref(&self) -> &TestNode {
        &self.node
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut TestNode {
        &mut self.node
    }
}
