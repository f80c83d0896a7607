//! Firecracker as it should be: a life from its boot to a restored clone, plain and jailed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hostler_runtime::microvm::firecracker::CgroupVersion;
use hostler_runtime::microvm::{
    AfterSnapshot, AnyVmm, Bucket, ChannelAddress, Drive, Firecracker, Jail, Machine, Nic, RateLimit, SnapshotFiles,
    Start, Vmm, VmmError,
};
use serde_json::json;

use crate::stand_in::StandIn;
use crate::{LONG, deadlines, guest, machine, place};

/// A limit with these numbers.
fn rate(size: u64) -> Option<RateLimit> {
    let bucket = |size| Bucket { size, one_time_burst: Some(size + 1), refill_ms: 100 };
    Some(RateLimit { bandwidth: Some(bucket(size)), ops: Some(bucket(size + 10)) })
}

/// Something of everything that Firecracker has.
pub fn full(kernel: &Path) -> Machine {
    let drive = |id: &str, is_root: bool| Drive {
        id: id.to_owned(),
        path: kernel.with_file_name(format!("{id}.img")),
        read_only: !is_root,
        is_root,
        rate: rate(1_000),
    };
    let nic = Nic {
        id: "eth0".to_owned(),
        tap: "tap0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        rate_rx: rate(2_000),
        rate_tx: rate(3_000),
    };
    Machine {
        initrd: Some(kernel.with_file_name("initrd")),
        drives: vec![drive("root", true), drive("data", false)],
        nics: vec![nic],
        ..machine(kernel)
    }
}

/// The driver as others use it.
pub fn any(mut firecracker: Firecracker, each: std::time::Duration) -> AnyVmm {
    firecracker.deadlines = deadlines(each);
    AnyVmm::Firecracker(firecracker)
}

#[tokio::test]
async fn a_life() {
    let dir = tempfile::tempdir().unwrap();
    let (vm, kernel) = (dir.path().join("vm"), dir.path().join("vmlinux"));
    fs::create_dir(&vm).unwrap();
    fs::write(&kernel, "").unwrap();
    let (place, machine) = (place(&vm), full(&kernel));
    let vmm = any(Firecracker::unjailed("/fc".into()), LONG);
    let watch = vmm.prepare(&place, &machine, &Start::Boot).unwrap();
    for name in ["log.fifo", "metrics.fifo"] {
        assert_eq!(fs::metadata(vm.join(name)).unwrap().mode() & 0o777, 0o600);
    }
    let server = StandIn::start(&vm, None);
    vmm.start(&place, &machine, &Start::Boot).await.unwrap();

    let bucket = |size: u64| json!({ "size": size, "one_time_burst": size + 1, "refill_time": 100 });
    let limiter = |size| json!({ "bandwidth": bucket(size), "ops": bucket(size + 10) });
    assert_eq!(server.body("/drives/root")["rate_limiter"], limiter(1_000));
    assert_eq!(server.body("/drives/data")["rate_limiter"], limiter(1_000));
    assert_eq!(server.body("/network-interfaces/eth0")["rx_rate_limiter"], limiter(2_000));
    assert_eq!(server.body("/network-interfaces/eth0")["tx_rate_limiter"], limiter(3_000));

    let error = vmm.start(&place, &machine, &Start::Boot).await.unwrap_err();
    assert!(matches!(&error, VmmError::Refused { doing, .. } if doing == "size the machine"), "{error}");
    let files = SnapshotFiles { state: dir.path().join("state"), memory: Some(dir.path().join("memory")) };
    let error = vmm.snapshot(&place, &files).await.unwrap_err();
    assert!(error.to_string().contains("Cannot save a running microVM"), "{error}");
    assert!(!files.state.exists() && !dir.path().join("state.unfinished").exists());
    vmm.pause(&place).await.unwrap();
    assert_eq!(vmm.snapshot(&place, &files).await.unwrap(), AfterSnapshot::Paused);
    assert_eq!(fs::read_to_string(&files.state).unwrap(), "snapshot_path");
    assert_eq!(fs::read_to_string(files.memory.as_ref().unwrap()).unwrap(), "mem_file_path");
    vmm.resume(&place).await.unwrap();

    let metrics = vmm.metrics(&place, &watch).await.unwrap();
    assert_eq!((metrics.drives_read_bytes, metrics.nics_throttled), (Some(7), Some(1)));
    assert_eq!(watch.firecracker().unwrap().lines, 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "kernel, VM and the snapshot");

    let clone = dir.path().join("clone");
    fs::create_dir(&clone).unwrap();
    let place = crate::place(&clone);
    let _watch = vmm.prepare(&place, &machine, &Start::Restore(&files)).unwrap();
    let server = StandIn::start(&clone, None);
    vmm.start(&place, &machine, &Start::Restore(&files)).await.unwrap();
    assert_eq!(server.body("/snapshot/load")["resume_vm"], json!(true));
    vmm.pause(&place).await.unwrap();
}

#[tokio::test]
async fn a_jailed_life() {
    let dir = tempfile::tempdir().unwrap();
    let (vm, kernel) = (dir.path().join("d".repeat(120)), dir.path().join("vmlinux"));
    fs::create_dir(&vm).unwrap();
    // One's own user can be given what one has, without being root.
    let own = fs::metadata(dir.path()).unwrap();
    let jail = Jail {
        jailer: "/jailer".into(),
        uid: own.uid(),
        gid: own.gid(),
        cgroup_version: CgroupVersion::V2,
        parent_cgroup: None,
        cgroup_limits: Vec::new(),
    };
    let (place, machine) = (place(&vm), full(&kernel));
    let vmm = any(Firecracker::jailed("/bin/firecracker".into(), jail), LONG);
    let command = vmm.command(&place, &machine, &Start::Boot).unwrap();
    let root = vm.join(command.api.parent().unwrap());
    let socket = command.api.with_file_name("agent.vsock");
    assert_eq!(command.channel, Some(ChannelAddress::FirecrackerVsock { socket, port: 1024 }));
    let _watch = vmm.prepare(&place, &machine, &Start::Boot).unwrap();
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
    for file in &command.files {
        fs::write(vm.join(&file.to), "").unwrap();
    }
    // The server has the jail for its root, as Firecracker would; a short way to it, since its own address is too long.
    let short = dir.path().join("r");
    std::os::unix::fs::symlink(&root, &short).unwrap();
    let server = StandIn::start(&short, None);
    vmm.start(&place, &machine, &Start::Boot).await.unwrap();
    assert_eq!(server.body("/boot-source")["kernel_image_path"], json!("kernel"));
    assert_eq!(server.body("/drives/data")["path_on_host"], json!("drive-data"));
    vmm.pause(&place).await.unwrap();
    let files = SnapshotFiles { state: dir.path().join("state"), memory: Some(dir.path().join("memory")) };
    vmm.snapshot(&place, &files).await.unwrap();
    assert_eq!(server.body("/snapshot/create")["snapshot_path"], json!("snapshot.state.unfinished"));
    assert!(files.state.is_file() && !root.join("snapshot.state.unfinished").exists());
    let command = vmm.command(&place, &machine, &Start::Restore(&files)).unwrap();
    let names: Vec<PathBuf> = command.files.iter().map(|file| file.to.file_name().unwrap().into()).collect();
    assert_eq!(names, ["snapshot.state", "snapshot.memory", "drive-root", "drive-data"].map(PathBuf::from));
}

/// The same sequence with the real one, where there is one.
#[tokio::test]
async fn a_real_life() {
    let Some(program) = std::env::var_os("HOSTLER_TEST_FIRECRACKER").map(PathBuf::from) else {
        println!("skipped: no firecracker binary is configured (HOSTLER_TEST_FIRECRACKER)");
        return;
    };
    let Some(guest) = guest::Guest::make() else { return };
    let dir = tempfile::tempdir().unwrap();
    let vmm = any(Firecracker::unjailed(program), LONG);
    println!("{}", vmm.version().await.unwrap());
    let machine = Machine { initrd: Some(guest.initrd.clone()), ..machine(&guest.kernel) };
    let files = SnapshotFiles { state: dir.path().join("state"), memory: Some(dir.path().join("memory")) };
    for (name, start) in [("vm", Start::Boot), ("clone", Start::Restore(&files))] {
        let directory = dir.path().join(name);
        fs::create_dir(&directory).unwrap();
        let place = place(&directory);
        let watch = vmm.prepare(&place, &machine, &start).unwrap();
        let process = guest::Process::spawn(&vmm.command(&place, &machine, &start).unwrap(), &directory);
        vmm.start(&place, &machine, &start).await.unwrap();
        if start == Start::Boot {
            process.console_says("hostler-guest: up").await;
        }
        vmm.pause(&place).await.unwrap();
        if start == Start::Boot {
            vmm.snapshot(&place, &files).await.unwrap();
        }
        vmm.resume(&place).await.unwrap();
        assert!(vmm.metrics(&place, &watch).await.unwrap().drives_reads.is_some());
    }
}
