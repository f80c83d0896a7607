//! Every request of every sequence, and everything that can go wrong at it: each gives an error that says what was being done
//! and what came of it, in time, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hostler_runtime::microvm::{AnyVmm, Firecracker, Machine, Place, SnapshotFiles, Start, Vmm, VmmError};

use crate::firecracker::{any, full};
use crate::stand_in::{FAULTS, Fault, StandIn};
use crate::{LONG, place};

/// How long each call may take here.
const SHORT: Duration = Duration::from_millis(150);

/// Everything that is done to a VM, as far as it comes.
async fn life(vmm: &AnyVmm, place: &Place, machine: &Machine, files: &SnapshotFiles) -> Result<(), VmmError> {
    let watch = vmm.prepare(place, machine, &Start::Boot)?;
    vmm.start(place, machine, &Start::Boot).await?;
    vmm.pause(place).await?;
    vmm.snapshot(place, files).await?;
    vmm.resume(place).await?;
    vmm.metrics(place, &watch).await.map(|_| ())
}

async fn restored(vmm: &AnyVmm, place: &Place, machine: &Machine, files: &SnapshotFiles) -> Result<(), VmmError> {
    let _watch = vmm.prepare(place, machine, &Start::Restore(files))?;
    vmm.start(place, machine, &Start::Restore(files)).await
}

/// What is being done at each request of a life.
const DOING: [&str; 13] = [
    "have it log",
    "have it write metrics",
    "size the machine",
    "give it a kernel",
    "attach drive root",
    "attach drive data",
    "attach network card eth0",
    "make the channel to its agent",
    "start the guest",
    "pause the guest",
    "write a snapshot",
    "resume the guest",
    "have the metrics written",
];

/// What is being done at each request of a restore.
const RESTORING: [&str; 3] = ["have it log", "have it write metrics", "restore a snapshot"];

fn is_expected(fault: Fault, doing: &str, error: &VmmError) -> bool {
    let text = error.to_string();
    text.contains(doing)
        && match fault {
            Fault::Refuse => matches!(error, VmmError::Refused { said, .. } if said == "told to refuse"),
            Fault::RefuseWithGarbage => matches!(error, VmmError::Refused { said, .. } if said.starts_with("500")),
            Fault::Stall | Fault::StallInBody => matches!(error, VmmError::Deadline { .. }),
            Fault::Close | Fault::CloseInHead | Fault::CloseInBody | Fault::Die => {
                matches!(error, VmmError::Closed { .. })
            }
            Fault::Garbage | Fault::HugeHead | Fault::HugeBody | Fault::HugeBodyPromised | Fault::OddStatus => {
                matches!(error, VmmError::Garbage { .. })
            }
        }
}

/// Nobody reads this pipe: it cannot be opened for writing without waiting.
fn nobody_reads(path: &Path) -> bool {
    const O_NONBLOCK: i32 = 0o4000;
    let opened = fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path);
    opened.is_err_and(|error| error.raw_os_error() == Some(6))
}

/// One life with one fault.
async fn one(restores: bool, at: usize, fault: Fault) {
    let what = format!("{fault:?} at {at}, restores: {restores}");
    let dir = tempfile::tempdir().unwrap();
    let (vm, kernel) = (dir.path().join("vm"), dir.path().join("vmlinux"));
    fs::create_dir(&vm).unwrap();
    fs::write(&kernel, "").unwrap();
    let files = SnapshotFiles { state: dir.path().join("state"), memory: Some(dir.path().join("memory")) };
    if restores {
        fs::write(&files.state, "").unwrap();
        fs::write(files.memory.as_ref().unwrap(), "").unwrap();
    }
    let (place, machine) = (place(&vm), full(&kernel));
    let vmm = any(Firecracker::unjailed("/fc".into()), SHORT);
    let server = StandIn::start(&vm, Some((at, fault)));
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let began = Instant::now();
    let (outcome, doing) = match restores {
        false => (life(&vmm, &place, &machine, &files).await, DOING[at]),
        true => (restored(&vmm, &place, &machine, &files).await, RESTORING[at]),
    };
    let error = outcome.expect_err(&what);
    assert!(is_expected(fault, doing, &error), "{what}: {error:?}");
    assert!(began.elapsed() < LONG, "{what}");
    assert_eq!(server.requests().len(), at + 1, "{what}: nothing comes after an error");
    // Tasks that were told to end do so when they are looked at next.
    let ends = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before
            || !nobody_reads(&vm.join("log.fifo"))
            || !nobody_reads(&vm.join("metrics.fifo"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, ends).await.unwrap_or_else(|_| panic!("{what}: somebody stays"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".unfinished")), "{what}: {left:?}");
}

#[tokio::test]
async fn every_fault_at_every_request() {
    for fault in FAULTS {
        for at in 0..DOING.len() {
            one(false, at, fault).await;
        }
        for at in 0..RESTORING.len() {
            one(true, at, fault).await;
        }
    }
}

#[tokio::test]
async fn nobody_ever_listens() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    let vmm = any(Firecracker::unjailed("/fc".into()), SHORT);
    let (place, machine) = (place(dir.path()), full(&kernel));
    let _watch = vmm.prepare(&place, &machine, &Start::Boot).unwrap();
    let error = vmm.start(&place, &machine, &Start::Boot).await.unwrap_err();
    assert!(matches!(error, VmmError::NoSocket { .. }), "{error:?}");
    let error = vmm.pause(&place).await.unwrap_err();
    assert!(matches!(error, VmmError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn what_it_lacks_is_said_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let vmm = any(Firecracker::unjailed("/fc".into()), SHORT);
    let mut machine = full(&dir.path().join("vmlinux"));
    let share = hostler_runtime::microvm::Share { tag: "home".to_owned(), socket: "/run/fs.sock".into() };
    machine.shares.push(share);
    let files = SnapshotFiles { state: "/s".into(), memory: None };
    assert_eq!(vmm.lacks(&machine, &Start::Restore(&files)).len(), 2);
    let place = place(dir.path());
    let error = vmm.prepare(&place, &machine, &Start::Boot).unwrap_err();
    assert_eq!(error.to_string(), "firecracker has no shared directories");
    assert!(vmm.command(&place, &machine, &Start::Boot).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
