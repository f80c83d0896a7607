//! QEMU's command line, purely: from a machine to arguments. Anything with a path in it is told in JSON, because in QEMU's own
//! notation a comma in a path begins the next option.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};

use super::{CHANNEL, MONITOR};
use crate::microvm::machine::{MIB, mac_text};
use crate::microvm::{Accelerator, Bucket, Channel, Drive, Machine, RateLimit, Share, Start};

/// The port's name in the guest, `/sys/class/virtio-ports/*/name`.
const PORT: &str = "hostler.agent.0";
/// Name of the memory; snapshots hold it, so it is the same for all kinds of it.
pub(super) const MEMORY: &str = "ram";
/// What QEMU's process cannot do any more once it runs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// Largest rate that QEMU's throttling takes, units a second.
const RATE_MAX: u64 = 1_000_000_000_000_000;

/// What of this computer goes into the command line.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// How the guest's instructions are carried out.
    pub(super) accelerator: Accelerator,
    /// Ticks of its clock, thousands a second, if they are known.
    pub(super) tsc_khz: Option<u64>,
    /// Whether a path is a block device, by index of the machine's drives.
    pub(super) block_devices: Vec<bool>,
}

/// All arguments.
pub(super) fn arguments(machine: &Machine, start: &Start<'_>, host: &Host) -> Vec<OsString> {
    let mut to = Arguments::default();
    let (accelerator, cpu) = match host.accelerator {
        Accelerator::Tcg => ("tcg", "max"),
        Accelerator::Kvm => ("kvm", "host"),
    };
    to.option("-M", format!("microvm,memory-backend={MEMORY}"));
    to.option("-accel", accelerator);
    to.option("-cpu", cpu);
    to.option("-smp", machine.vcpus.to_string());
    to.option("-m", format!("{}M", machine.memory_bytes / MIB));
    to.json("-object", &memory(machine, start));
    to.option("-kernel", &machine.kernel);
    if let Some(initrd) = &machine.initrd {
        to.option("-initrd", initrd);
    }
    to.option("-append", kernel_arguments(machine, host));
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        to.flag(flag);
    }
    to.option("-display", "none");
    to.option("-sandbox", SANDBOX);
    // Without `signal=off` a guest could interrupt its VMM from the console.
    to.option("-chardev", "stdio,id=console,signal=off");
    to.option("-serial", "chardev:console");
    to.option("-chardev", format!("socket,id=monitor,path={MONITOR},server=on,wait=off"));
    to.option("-mon", "chardev=monitor,mode=control");
    if machine.channel == Channel::Agent {
        to.option("-device", "virtio-serial-device");
        to.option("-chardev", format!("socket,id=agent,path={CHANNEL},server=on,wait=off"));
        to.option("-device", format!("virtserialport,chardev=agent,name={PORT}"));
    }
    to.json("-object", &json!({ "qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom" }));
    to.option("-device", "virtio-rng-device,rng=entropy");
    drives(&mut to, machine, host);
    for nic in &machine.nics {
        let (id, tap) = (&nic.id, &nic.tap);
        to.option("-netdev", format!("tap,id=net-{id},ifname={tap},script=no,downscript=no"));
        to.option("-device", format!("virtio-net-device,netdev=net-{id},id=nic-{id},mac={}", mac_text(nic.mac)));
    }
    for share in &machine.shares {
        to.share(share);
    }
    if matches!(start, Start::Restore(_)) {
        to.option("-incoming", "defer");
    }
    to.all
}

/// The drives, the root first: the kernel calls that one `vda`.
fn drives(to: &mut Arguments, machine: &Machine, host: &Host) {
    let is_device = |index: usize| host.block_devices.get(index).copied().unwrap_or(false);
    let all = || machine.drives.iter().enumerate();
    for (index, drive) in all().filter(|(_, drive)| drive.is_root).chain(all().filter(|(_, drive)| !drive.is_root)) {
        to.drive(drive, is_device(index));
    }
}

/// The memory, by how it is to be shared.
fn memory(machine: &Machine, start: &Start<'_>) -> Value {
    let size = machine.memory_bytes;
    let file = |path: &Path, share: bool| json!({ "qom-type": "memory-backend-file", "id": MEMORY, "size": size, "mem-path": path, "share": share });
    match start {
        Start::BootTemplate(files) | Start::Restore(files) if files.memory.is_some() => {
            let path = files.memory.as_deref().unwrap_or(Path::new(""));
            file(path, matches!(start, Start::BootTemplate(_)))
        }
        // The server of a shared directory reads and writes the guest's memory.
        _ if !machine.shares.is_empty() => {
            json!({ "qom-type": "memory-backend-memfd", "id": MEMORY, "size": size, "share": true })
        }
        _ => json!({ "qom-type": "memory-backend-ram", "id": MEMORY, "size": size }),
    }
}

/// Ours first: of an argument that is there twice the kernel takes the last one.
fn kernel_arguments(machine: &Machine, host: &Host) -> String {
    let mut words = vec!["console=ttyS0 quiet reboot=t panic=-1".to_owned()];
    // Emulated, the kernel measures this clock with emulated timers, and now and then never comes to an end; and it compares
    // it with them later, and falls back to ticks of 4 ms.
    if let (Accelerator::Tcg, Some(khz)) = (host.accelerator, host.tsc_khz) {
        words.push(format!("tsc_early_khz={khz} tsc=reliable"));
    }
    if let (None, Some(root)) = (&machine.initrd, machine.drives.iter().find(|drive| drive.is_root)) {
        words.push(format!("root=/dev/vda {}", if root.read_only { "ro" } else { "rw" }));
    }
    if !machine.kernel_arguments.is_empty() {
        words.push(machine.kernel_arguments.clone());
    }
    words.join(" ")
}

/// The limits of a throttle group. QEMU's bursts are given in units a second for one second.
fn throttle(rate: RateLimit) -> Value {
    let mut limits = serde_json::Map::new();
    for (name, bucket) in [("bps-total", rate.bandwidth), ("iops-total", rate.ops)] {
        if let Some(bucket) = bucket {
            let (average, burst) = average_and_burst(bucket);
            limits.insert(name.to_owned(), json!(average));
            if let Some(burst) = burst {
                limits.insert(format!("{name}-max"), json!(burst));
            }
        }
    }
    Value::Object(limits)
}

/// What a bucket comes to in a second, and what may come at once if that is more.
fn average_and_burst(bucket: Bucket) -> (u64, Option<u64>) {
    let average = bucket.per_second().min(RATE_MAX);
    let burst = bucket.size.min(RATE_MAX);
    (average, (burst > average).then_some(burst))
}

#[derive(Default)]
struct Arguments {
    all: Vec<OsString>,
}

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.all.push(flag.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.all.push(name.into());
        self.all.push(value.into());
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.option(name, value.to_string());
    }

    fn drive(&mut self, drive: &Drive, is_device: bool) {
        let Drive { id, path, read_only, rate, .. } = drive;
        let driver = if is_device { "host_device" } else { "file" };
        let file = json!({ "driver": driver, "filename": path, "read-only": read_only });
        let raw = json!({ "driver": "raw", "file": file, "read-only": read_only });
        let node = format!("drive-{id}");
        let node = match rate {
            None => merge(raw, json!({ "node-name": node })),
            Some(rate) => {
                let group = format!("rate-{id}");
                self.json("-object", &json!({ "qom-type": "throttle-group", "id": group, "limits": throttle(*rate) }));
                json!({
                    "driver": "throttle", "node-name": node, "throttle-group": group, "file": raw, "read-only": read_only,
                })
            }
        };
        self.json("-blockdev", &node);
        self.option("-device", format!("virtio-blk-device,drive=drive-{id},id=blk-{id},serial={id}"));
    }

    fn share(&mut self, share: &Share) {
        let tag = &share.tag;
        // `-chardev` knows no JSON; a comma is written twice.
        let path = share.socket.to_string_lossy().replace(',', ",,");
        self.option("-chardev", format!("socket,id=share-{tag},path={path}"));
        self.option("-device", format!("vhost-user-fs-device,chardev=share-{tag},tag={tag}"));
    }
}

fn merge(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::microvm::SnapshotFiles;
    use crate::microvm::machine::tests::machine;

    fn host() -> Host {
        Host { accelerator: Accelerator::Tcg, tsc_khz: Some(2_600_000), block_devices: vec![false, true] }
    }

    fn lines(machine: &Machine, start: &Start<'_>, host: &Host) -> Vec<String> {
        let all = arguments(machine, start, host);
        all.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    /// Whether these arguments stand there one after the other.
    fn has(lines: &[String], wanted: &[&str]) -> bool {
        lines.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(line, wanted)| line == wanted))
    }

    #[test]
    fn everything_of_a_machine_is_in_it() {
        let lines = lines(&machine(), &Start::Boot, &host());
        for wanted in [
            &["-M", "microvm,memory-backend=ram"][..],
            &["-accel", "tcg"],
            &["-smp", "2"],
            &["-m", "128M"],
            &["-kernel", "/k/vmlinux"],
            &["-initrd", "/k/initrd"],
            &["-append", "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2600000 tsc=reliable hostler.a=1"],
            &["-no-reboot"],
            &["-sandbox", SANDBOX],
            &["-netdev", "tap,id=net-eth0,ifname=tap0,script=no,downscript=no"],
            &["-device", "virtio-net-device,netdev=net-eth0,id=nic-eth0,mac=02:00:00:00:00:01"],
            &["-device", "virtserialport,chardev=agent,name=hostler.agent.0"],
        ] {
            assert!(has(&lines, wanted), "{wanted:?} in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line == "-incoming"));
        let devices: Vec<&String> = lines.iter().filter(|line| line.starts_with("virtio-blk-device")).collect();
        assert!(devices[0].ends_with("serial=root") && devices[1].ends_with("serial=data"), "the root is vda");
        let group = "{\"id\":\"rate-root\",\"limits\":{\"bps-total\":2000000,\"iops-total\":200},\"qom-type\":\"throttle-group\"}";
        assert!(has(&lines, &["-object", group]), "{lines:#?}");
        let data: Value = serde_json::from_str(lines.iter().find(|line| line.contains("drive-data")).unwrap()).unwrap();
        assert_eq!(data["file"], json!({ "driver": "file", "filename": "/d/a,b=c.img", "read-only": true }));
    }

    #[test]
    fn memory_by_how_it_is_started() {
        let files = |memory: Option<&str>| SnapshotFiles { state: "/s".into(), memory: memory.map(Into::into) };
        let (both, one) = (files(Some("/m")), files(None));
        let plain = Machine { nics: Vec::new(), ..machine() };
        let share = Share { tag: "t".to_owned(), socket: "/s,t".into() };
        let shared = Machine { shares: vec![share], ..plain.clone() };
        let cases = [
            (&plain, Start::Boot, "memory-backend-ram", None, false),
            (&plain, Start::BootTemplate(&both), "memory-backend-file", Some(true), false),
            (&plain, Start::Restore(&both), "memory-backend-file", Some(false), true),
            (&plain, Start::Restore(&one), "memory-backend-ram", None, true),
            (&shared, Start::Boot, "memory-backend-memfd", Some(true), false),
        ];
        for (machine, start, kind, share, incoming) in cases {
            let memory = memory(machine, &start);
            assert_eq!((&memory["qom-type"], memory["share"].as_bool()), (&json!(kind), share), "{start:?}");
            let lines = lines(machine, &start, &host());
            assert_eq!(has(&lines, &["-incoming", "defer"]), incoming);
        }
        assert!(has(&lines(&shared, &Start::Boot, &host()), &["-chardev", "socket,id=share-t,path=/s,,t"]));
    }

    #[test]
    fn kernels_without_an_initrd_mount_their_root() {
        let mut machine = Machine { initrd: None, kernel_arguments: String::new(), ..machine() };
        let kvm = Host { accelerator: Accelerator::Kvm, ..host() };
        assert_eq!(kernel_arguments(&machine, &kvm), "console=ttyS0 quiet reboot=t panic=-1 root=/dev/vda rw");
        machine.drives[1].read_only = true;
        assert!(kernel_arguments(&machine, &kvm).ends_with(" ro"));
    }

    #[test]
    fn bursts_are_what_a_bucket_holds_beyond_its_rate() {
        let bucket = |size, refill_ms| average_and_burst(Bucket { size, one_time_burst: None, refill_ms });
        assert_eq!(bucket(1_000, 100), (10_000, None));
        assert_eq!(bucket(10_000, 10_000), (1_000, Some(10_000)));
        assert_eq!(bucket(u64::MAX, 1), (RATE_MAX, None));
    }
}
