//! What Firecracker is told, purely: the calls of its API with their bodies, in the order in which it wants them. Fields
//! and paths are those of its public API description.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::{CHANNEL, GUEST_CID, LOG, METRICS};
use crate::microvm::machine::{MIB, mac_text};
use crate::microvm::{Bucket, Channel, Drive, Machine, Nic, RateLimit, SnapshotFiles};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Put,
    Patch,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// What Firecracker only notes.
    Moment,
    /// What starts a guest.
    Start,
    /// What writes all memory of a guest.
    Snapshot,
}

/// One call of the API.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Value,
    /// In the infinitive, for errors.
    pub(super) doing: String,
    pub(super) takes: Takes,
}

/// Where Firecracker finds a file, by what it is.
pub(super) type Seen<'a> = &'a dyn Fn(Role<'_>, &Path) -> PathBuf;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    Kernel,
    Initrd,
    Drive(&'a str),
    State,
    Memory,
}

#[derive(Serialize)]
struct RateLimiter {
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth: Option<TokenBucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<TokenBucket>,
}

#[derive(Serialize)]
struct TokenBucket {
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_time_burst: Option<u64>,
    /// Milliseconds.
    refill_time: u64,
}

#[derive(Serialize)]
struct MachineConfig {
    vcpu_count: u8,
    mem_size_mib: u64,
    /// Hyper-threads of one core tell each other's secrets.
    smt: bool,
}

#[derive(Serialize)]
struct BootSource<'a> {
    kernel_image_path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd_path: Option<PathBuf>,
    boot_args: &'a str,
}

#[derive(Serialize)]
struct DriveConfig<'a> {
    drive_id: &'a str,
    path_on_host: PathBuf,
    is_root_device: bool,
    is_read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limiter: Option<RateLimiter>,
}

#[derive(Serialize)]
struct NetworkInterface<'a> {
    iface_id: &'a str,
    host_dev_name: &'a str,
    guest_mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_rate_limiter: Option<RateLimiter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_rate_limiter: Option<RateLimiter>,
}

/// From a Firecracker that knows nothing to a guest that runs.
pub(super) fn boot(machine: &Machine, seen: Seen<'_>) -> Vec<Call> {
    let mut calls = watched();
    let memory = machine.memory_bytes / MIB;
    let config = MachineConfig { vcpu_count: machine.vcpus, mem_size_mib: memory, smt: false };
    calls.push(put("/machine-config", "size the machine", &config));
    let arguments = boot_arguments(machine);
    let source = BootSource {
        kernel_image_path: seen(Role::Kernel, &machine.kernel),
        initrd_path: machine.initrd.as_deref().map(|initrd| seen(Role::Initrd, initrd)),
        boot_args: &arguments,
    };
    calls.push(put("/boot-source", "give it a kernel", &source));
    calls.extend(machine.drives.iter().map(|drive| drive_call(drive, seen)));
    calls.extend(machine.nics.iter().map(nic_call));
    if machine.channel == Channel::Agent {
        let vsock = json!({ "guest_cid": GUEST_CID, "uds_path": CHANNEL });
        calls.push(put("/vsock", "make the channel to its agent", &vsock));
    }
    let start = json!({ "action_type": "InstanceStart" });
    calls.push(Call { takes: Takes::Start, ..put("/actions", "start the guest", &start) });
    calls
}

/// From a Firecracker that knows nothing to a guest that goes on where its snapshot was taken.
pub(super) fn restore(files: &SnapshotFiles, memory: &Path, seen: Seen<'_>) -> Vec<Call> {
    let mut calls = watched();
    let body = json!({
        "snapshot_path": seen(Role::State, &files.state),
        "mem_backend": { "backend_type": "File", "backend_path": seen(Role::Memory, memory) },
        // Saves a call.
        "resume_vm": true,
    });
    calls.push(Call { takes: Takes::Start, ..put("/snapshot/load", "restore a snapshot", &body) });
    calls
}

/// Everything of a paused guest.
pub(super) fn snapshot(state: &Path, memory: &Path) -> Call {
    let body = json!({ "snapshot_type": "Full", "snapshot_path": state, "mem_file_path": memory });
    Call { takes: Takes::Snapshot, ..put("/snapshot/create", "write a snapshot", &body) }
}

/// Stops the processors.
pub(super) fn pause() -> Call {
    let body = json!({ "state": "Paused" });
    Call { method: Method::Patch, ..put("/vm", "pause the guest", &body) }
}

/// Lets them run again.
pub(super) fn resume() -> Call {
    let body = json!({ "state": "Resumed" });
    Call { method: Method::Patch, ..put("/vm", "resume the guest", &body) }
}

/// Has it write a line of metrics now.
pub(super) fn flush() -> Call {
    put("/actions", "have the metrics written", &json!({ "action_type": "FlushMetrics" }))
}

/// First of all, so that what goes wrong later is heard.
fn watched() -> Vec<Call> {
    let log = json!({ "log_path": LOG, "level": "Info", "show_level": true, "show_log_origin": false });
    vec![
        put("/logger", "have it log", &log),
        put("/metrics", "have it write metrics", &json!({ "metrics_path": METRICS })),
    ]
}

/// Firecracker adds the root itself. Ours first: of an argument that is there twice the kernel takes the last one.
fn boot_arguments(machine: &Machine) -> String {
    // There is no keyboard controller worth waiting for, and no PCI.
    let ours = "console=ttyS0 quiet reboot=k panic=-1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd";
    match machine.kernel_arguments.as_str() {
        "" => ours.to_owned(),
        theirs => format!("{ours} {theirs}"),
    }
}

fn drive_call(drive: &Drive, seen: Seen<'_>) -> Call {
    let config = DriveConfig {
        drive_id: &drive.id,
        path_on_host: seen(Role::Drive(&drive.id), &drive.path),
        is_root_device: drive.is_root,
        is_read_only: drive.read_only,
        rate_limiter: drive.rate.map(limiter),
    };
    put(&format!("/drives/{}", drive.id), &format!("attach drive {}", drive.id), &config)
}

fn nic_call(nic: &Nic) -> Call {
    let config = NetworkInterface {
        iface_id: &nic.id,
        host_dev_name: &nic.tap,
        guest_mac: mac_text(nic.mac),
        rx_rate_limiter: nic.rate_rx.map(limiter),
        tx_rate_limiter: nic.rate_tx.map(limiter),
    };
    put(&format!("/network-interfaces/{}", nic.id), &format!("attach network card {}", nic.id), &config)
}

fn limiter(rate: RateLimit) -> RateLimiter {
    let bucket =
        |Bucket { size, one_time_burst, refill_ms }| TokenBucket { size, one_time_burst, refill_time: refill_ms };
    RateLimiter { bandwidth: rate.bandwidth.map(bucket), ops: rate.ops.map(bucket) }
}

fn put(path: &str, doing: &str, body: &impl Serialize) -> Call {
    let body = serde_json::to_value(body).expect("our own structures are JSON: their paths were checked to be UTF-8");
    Call { method: Method::Put, path: path.to_owned(), body, doing: doing.to_owned(), takes: Takes::Moment }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::microvm::machine::tests::machine;

    fn as_they_are(_: Role<'_>, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    fn at<'a>(calls: &'a [Call], path: &str) -> &'a Value {
        &calls.iter().find(|call| call.path == path).expect("a call").body
    }

    #[test]
    fn a_boot_in_order() {
        let mut machine = machine();
        let burst = Bucket { size: 5, one_time_burst: Some(7), refill_ms: 11 };
        machine.nics[0].rate_rx = Some(RateLimit { bandwidth: Some(burst), ops: None });
        machine.nics[0].rate_tx = Some(RateLimit { bandwidth: None, ops: Some(burst) });
        let calls = boot(&machine, &as_they_are);
        let paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
        let wanted = [
            "/logger",
            "/metrics",
            "/machine-config",
            "/boot-source",
            "/drives/data",
            "/drives/root",
            "/network-interfaces/eth0",
            "/vsock",
            "/actions",
        ];
        assert_eq!(paths, wanted);
        assert_eq!(at(&calls, "/machine-config"), &json!({ "vcpu_count": 2, "mem_size_mib": 128, "smt": false }));
        let drive = json!({
            "drive_id": "root", "path_on_host": "/d/root.img", "is_root_device": true, "is_read_only": false,
            "rate_limiter": {
                "bandwidth": { "size": 1_000_000, "refill_time": 500 },
                "ops": { "size": 100, "refill_time": 500 },
            },
        });
        assert_eq!(at(&calls, "/drives/root"), &drive);
        assert_eq!(at(&calls, "/drives/data").get("rate_limiter"), None);
        let bucket = json!({ "size": 5, "one_time_burst": 7, "refill_time": 11 });
        let nic = json!({
            "iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "02:00:00:00:00:01",
            "rx_rate_limiter": { "bandwidth": bucket }, "tx_rate_limiter": { "ops": bucket },
        });
        assert_eq!(at(&calls, "/network-interfaces/eth0"), &nic);
        assert!(at(&calls, "/boot-source")["boot_args"].as_str().is_some_and(|args| args.ends_with("hostler.a=1")));
        let channel = at(&calls, "/vsock")["uds_path"].as_str().expect("a name");
        assert!(!channel.contains('/'), "the same in every directory");
    }

    #[test]
    fn a_restore_is_one_call() {
        let files = SnapshotFiles { state: "/s".into(), memory: Some("/m".into()) };
        let calls = restore(&files, Path::new("/m"), &as_they_are);
        assert_eq!(calls.len(), 3);
        let body = json!({
            "snapshot_path": "/s", "mem_backend": { "backend_type": "File", "backend_path": "/m" }, "resume_vm": true,
        });
        assert_eq!(at(&calls, "/snapshot/load"), &body);
    }
}
