//! VMMs through the trait: Firecracker against a stand-in of its API and, where one is configured, for real; QEMU for real.
//!
//! - `stand_in`: an API server that answers as Firecracker does, or fails on command; `firecracker`, `faults`: against it
//! - `guest`: a kernel and a small guest; `qemu`: with it
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;
mod firecracker;
mod guest;
mod qemu;
mod stand_in;

use std::path::Path;
use std::time::Duration;

use hostler_runtime::microvm::{Channel, Deadlines, Machine, Place};

/// Longer than anything takes; a test that gets here has failed.
const LONG: Duration = Duration::from_secs(30);

fn place(directory: &Path) -> Place {
    Place { directory: directory.to_path_buf(), id: "vm-1.a".parse().unwrap() }
}

fn deadlines(each: Duration) -> Deadlines {
    Deadlines { socket: each, call: each, start: each, snapshot: each }
}

/// The least there is.
fn machine(kernel: &Path) -> Machine {
    Machine {
        kernel: kernel.to_path_buf(),
        initrd: None,
        kernel_arguments: String::new(),
        vcpus: 1,
        memory_bytes: 128 * 1024 * 1024,
        drives: Vec::new(),
        nics: Vec::new(),
        network_namespace: None,
        shares: Vec::new(),
        channel: Channel::Agent,
    }
}
