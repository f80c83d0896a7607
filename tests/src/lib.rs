//! Whole-node tests: real daemons, agents and programs, side by side, each node under a root of its own.
//!
//! - [`node`]: a node of its own: start, kill, start again, take down; requests through the typed client
//! - [`cli`]: the `hostler` program with a deadline, its streams apart
//! - [`container`]: OCI runtimes, roots, bundles, CRIU; [`stand_in`]: an OCI runtime that fails on command
//! - [`endpoint`]: an HTTP server that keeps what it was sent
//! - [`events`]: the journal, and the rule that every run has at most one start and exactly one end
//! - [`guest`]: a node whose virtual machines boot for real
//! - [`machine`]: a network of its own to run a daemon in, wires between two; what is left of networks
//! - [`raw`]: HTTP as it should not be sent
//! - [`leaks`]: what may not be left after a test: processes, cgroups, mounts, sockets, files, zombies
//! - [`pty`]: a program on a terminal
//!
//! The programs are those of the target directory that this test was built into; `make test` builds them first.
//! Failpoints (`HOSTLER_TEST_FAILPOINT`) and other boots (`HOSTLER_TEST_BOOT_ID`) exist in debug builds only.
#![forbid(unsafe_code)]

pub mod cli;
pub mod container;
pub mod endpoint;
pub mod events;
pub mod guest;
pub mod leaks;
pub mod machine;
pub mod node;
pub mod pty;
pub mod raw;
pub mod stand_in;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use cli::{Cli, Output, Running};
pub use guest::Host;
pub use machine::Machine;
pub use node::{Setup, TestNode};

/// Every wait of a test ends after this time at the latest: a machine full of other tests is slow, not dead.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until this gives a value; fails the test, saying what it waited for, when its time is over.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program of this build.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    // target/debug/deps/<test>
    let directory = test.parent().and_then(std::path::Path::parent).expect("tests lie in target/<profile>/deps");
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace`, or `make test`", path.display());
    path
}

/// The failpoints that the sources of this crate have.
pub fn failpoints(name: &str) -> BTreeSet<String> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src")];
    let mut found = BTreeSet::new();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("a crate's sources").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).expect("a source");
            let points = text.split("failpoint::hit(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(points.map(str::to_owned));
        }
    }
    found
}

/// Says that a test cannot run here, in the words that are counted.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Whether these tests run as root; most of what they test about other users needs it.
#[must_use]
pub fn is_root() -> bool {
    hostler_linux::process::effective_uid() == 0
}

/// Sends a signal to one process that the test knows by its number.
pub fn signal(pid: u32, number: u8) {
    let signal = hostler_model::units::Signal::from_number(number).expect("a signal's number");
    hostler_linux::process::signal(pid, signal).unwrap_or_else(|error| panic!("signal {number} to {pid}: {error}"));
}

/// Whether a process is there and not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    hostler_linux::procfs::stats(pid).is_ok_and(|stats| !matches!(stats.state, 'Z' | 'X' | 'x'))
}

/// Waits until a process is gone.
pub fn until_gone(pid: u32) {
    until(&format!("the end of process {pid}"), PATIENCE, || (!is_alive(pid)).then_some(()));
}
