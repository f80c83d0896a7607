//! QEMU's `microvm` machine: emulated (TCG), which runs anywhere and isolates nothing that a determined guest could not get
//! out of; or under KVM, where [`super::kvm::prove`] has shown that it works.
//!
//! - `arguments`: the command line; `qmp`: the monitor
//!
//! ```text
//!  template   boot, memory in a shared file ─ stop ─ state to a file, memory left where it is ─ quit
//!  clone      the same file, copy-on-write ─ wait for the state ─ state from the file ─ cont
//!  any guest  stop ─ everything to one file                    ... everything from it ─ cont
//! ```
//! State files are opened by us and given to QEMU as descriptors: it may not start programs, so `exec:` is not to be
//! had, and a file by descriptor came out faster than a stream over a socket (57 against 79 ms to a restored clone). The end
//! of a migration is told by its event.
//!
//! Snapshots are tied to QEMU's build, the machine and the kernel: whoever keeps them has these in their key.

mod arguments;
mod qmp;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::vmm::admit;
use super::{
    Accelerator, AfterSnapshot, Channel, ChannelAddress, Deadlines, Lack, Machine, Place, SnapshotFiles, Start, Vmm,
    VmmCommand, VmmError, VmmMetrics, Watch,
};
use arguments::{Host, MEMORY};
use qmp::Qmp;

/// The monitor's socket.
const MONITOR: &str = "qmp.sock";
/// The socket of the port to the guest's agent.
const CHANNEL: &str = "agent.sock";
/// By which QEMU knows a state file that it was given.
const STATE: &str = "state";
/// Bytes a second that a snapshot may be written with: all there are.
const BANDWIDTH: u64 = 1 << 40;

/// The driver.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// `qemu-system-x86_64`, absolute.
    pub program: PathBuf,
    /// How instructions of the guest are carried out.
    pub accelerator: Accelerator,
    /// How long it may take.
    pub deadlines: Deadlines,
}

impl Qemu {
    /// With the usual deadlines.
    #[must_use]
    pub fn new(program: PathBuf, accelerator: Accelerator) -> Self {
        Self { program, accelerator, deadlines: Deadlines::default() }
    }

    fn lack(what: impl Into<String>) -> Lack {
        Lack { vmm: "qemu", what: what.into() }
    }

    /// The monitor of one that has been there for a while.
    async fn monitor(&self, place: &Place) -> Result<Qmp, VmmError> {
        Qmp::connect_again(place, MONITOR, self.deadlines.call).await
    }

    async fn restore(&self, place: &Place, files: &SnapshotFiles) -> Result<(), VmmError> {
        let doing = "restore a snapshot";
        let path = files.state.clone();
        let state = blocking(doing, move || File::open(path)).await?;
        let mut qmp = Qmp::connect(place, MONITOR, self.deadlines.socket, self.deadlines.call).await?;
        capabilities(&mut qmp, files.memory.is_some()).await?;
        qmp.give_file(STATE, &state).await?;
        drop(state);
        qmp.call("migrate-incoming", json!({ "uri": format!("fd:{STATE}") })).await?;
        let done = qmp.event(doing, "MIGRATION", self.deadlines.start, migrated).await?;
        if !done {
            return Err(VmmError::refused(doing, &why_not(&mut qmp).await));
        }
        qmp.call("cont", Value::Null).await.map(|_| ())
    }

    /// Writes the state into a new file, and all memory too unless that is in a file already.
    async fn write_state(&self, qmp: &mut Qmp, state: &File, memory_stays: bool) -> Result<(), VmmError> {
        let doing = "write a snapshot";
        capabilities(qmp, memory_stays).await?;
        qmp.call("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH })).await?;
        qmp.give_file(STATE, state).await?;
        qmp.call("migrate", json!({ "uri": format!("fd:{STATE}") })).await?;
        match qmp.event(doing, "MIGRATION", self.deadlines.snapshot, migrated).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(VmmError::refused(doing, &why_not(qmp).await)),
            Err(error) => {
                // It may go on for long, into a file that is gone.
                let _ = qmp.call("migrate_cancel", Value::Null).await;
                Err(error)
            }
        }
    }
}

impl Vmm for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn lacks(&self, machine: &Machine, start: &Start<'_>) -> Vec<Lack> {
        let mut lacks = Vec::new();
        if machine.nics.iter().any(|nic| nic.rate_rx.is_some() || nic.rate_tx.is_some()) {
            lacks.push(Self::lack("rate limits of network cards: limit the tap instead"));
        }
        let mut buckets =
            machine.drives.iter().filter_map(|drive| drive.rate).flat_map(|rate| [rate.bandwidth, rate.ops]);
        if buckets.any(|bucket| bucket.is_some_and(|bucket| bucket.one_time_burst.is_some())) {
            lacks.push(Self::lack("bursts of drives that come only once"));
        }
        if !matches!(start, Start::Boot) && !machine.shares.is_empty() {
            lacks.push(Self::lack("snapshots of machines with shared directories"));
        }
        if matches!(start, Start::BootTemplate(files) if files.memory.is_none()) {
            lacks.push(Self::lack("templates without a file for their memory"));
        }
        lacks
    }

    fn command(&self, _: &Place, machine: &Machine, start: &Start<'_>) -> Result<VmmCommand, VmmError> {
        admit(self, machine, start)?;
        let is_device = |path: &Path| fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        let host = Host {
            accelerator: self.accelerator,
            tsc_khz: tsc_khz(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            block_devices: machine.drives.iter().map(|drive| is_device(&drive.path)).collect(),
        };
        Ok(VmmCommand {
            program: self.program.clone(),
            arguments: arguments::arguments(machine, start, &host),
            environment: Vec::new(),
            network_namespace: machine.network_namespace.clone(),
            files: Vec::new(),
            channel: (machine.channel == Channel::Agent).then(|| ChannelAddress::Stream(CHANNEL.into())),
            api: MONITOR.into(),
        })
    }

    fn prepare(&self, _: &Place, machine: &Machine, start: &Start<'_>) -> Result<Watch, VmmError> {
        admit(self, machine, start)?;
        if let Start::BootTemplate(SnapshotFiles { memory: Some(memory), .. }) = start {
            // QEMU would make it readable for everybody: it is all that the guest knows.
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(memory);
            made.map_err(|error| VmmError::io(format!("make {}", memory.display()), error))?;
        }
        Ok(Watch::default())
    }

    async fn start(&self, place: &Place, _: &Machine, start: &Start<'_>) -> Result<(), VmmError> {
        match start {
            // It starts its processors by itself.
            Start::Boot | Start::BootTemplate(_) => Ok(()),
            Start::Restore(files) => self.restore(place, files).await,
        }
    }

    async fn pause(&self, place: &Place) -> Result<(), VmmError> {
        self.monitor(place).await?.call("stop", Value::Null).await.map(|_| ())
    }

    async fn resume(&self, place: &Place) -> Result<(), VmmError> {
        self.monitor(place).await?.call("cont", Value::Null).await.map(|_| ())
    }

    async fn snapshot(&self, place: &Place, into: &SnapshotFiles) -> Result<AfterSnapshot, VmmError> {
        let doing = "write a snapshot";
        let mut qmp = self.monitor(place).await?;
        let status = qmp.call("query-status", Value::Null).await?;
        if status["running"] != json!(false) {
            return Err(VmmError::refused(doing, "the guest is not paused"));
        }
        if let Some(memory) = &into.memory {
            is_template(&mut qmp, memory).await?;
        }
        let unfinished = Unfinished::beside(&into.state);
        let path = unfinished.path.clone();
        let make = move || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let state = blocking(doing, make).await?;
        self.write_state(&mut qmp, &state, into.memory.is_some()).await?;
        let memory = into.memory.clone();
        let sync = move || {
            state.sync_all()?;
            memory.map_or(Ok(()), |memory| File::open(memory)?.sync_all())
        };
        blocking(doing, sync).await?;
        if into.memory.is_none() {
            unfinished.finish(&into.state)?;
            return Ok(AfterSnapshot::Paused);
        }
        // First no more writes to the memory, then a snapshot that others find.
        match qmp.call("quit", Value::Null).await {
            // It may be gone before it has answered.
            Ok(_) | Err(VmmError::Closed { .. }) => {}
            Err(error) => return Err(error),
        }
        unfinished.finish(&into.state)?;
        Ok(AfterSnapshot::Ended)
    }

    async fn metrics(&self, place: &Place, _: &Watch) -> Result<VmmMetrics, VmmError> {
        let answer = self.monitor(place).await?.call("query-blockstats", Value::Null).await?;
        let Some(devices) = answer.as_array() else {
            return Err(VmmError::garbage("read the statistics of drives", "not a list"));
        };
        let sum = |name: &str| {
            let values = devices.iter().filter_map(|device| device["stats"][name].as_u64());
            Some(values.fold(0_u64, u64::saturating_add))
        };
        Ok(VmmMetrics {
            drives_read_bytes: sum("rd_bytes"),
            drives_written_bytes: sum("wr_bytes"),
            drives_reads: sum("rd_operations"),
            drives_writes: sum("wr_operations"),
            ..VmmMetrics::default()
        })
    }
}

/// Without the shared memory, or with all of it; and tell how it goes.
async fn capabilities(qmp: &mut Qmp, memory_stays: bool) -> Result<(), VmmError> {
    let capabilities = json!({ "capabilities": [
        { "capability": "x-ignore-shared", "state": memory_stays },
        { "capability": "events", "state": true },
    ] });
    qmp.call("migrate-set-capabilities", capabilities).await.map(|_| ())
}

/// The end of a migration, good or bad.
fn migrated(data: &Value) -> Option<bool> {
    match data["status"].as_str() {
        Some("completed") => Some(true),
        Some("failed" | "cancelled") => Some(false),
        _ => None,
    }
}

async fn why_not(qmp: &mut Qmp) -> String {
    let answer = qmp.call("query-migrate", Value::Null).await.unwrap_or_default();
    answer["error-desc"].as_str().unwrap_or("no reason given").to_owned()
}

/// Whether the guest's memory is this file, for everybody to see: its state alone would be of no use otherwise.
async fn is_template(qmp: &mut Qmp, memory: &Path) -> Result<(), VmmError> {
    let object = format!("/objects/{MEMORY}");
    let mut property = async |name: &str| qmp.call("qom-get", json!({ "path": object, "property": name })).await;
    let is_here = match property("mem-path").await {
        Ok(path) => path.as_str().map(Path::new) == Some(memory) && property("share").await? == json!(true),
        // Memory of its own has no path.
        Err(VmmError::Refused { .. }) => false,
        Err(error) => return Err(error),
    };
    match is_here {
        true => Ok(()),
        false => Err(VmmError::refused("write a snapshot", "the guest was not booted as a template with this memory")),
    }
}

/// A file under a name of its own until it is complete.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".unfinished");
        Self { path: name.into() }
    }

    fn finish(self, path: &Path) -> Result<(), VmmError> {
        fs::rename(&self.path, path).map_err(|error| VmmError::io(format!("make {}", path.display()), error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Something with files, where it may wait.
async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, VmmError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
    done.map_err(|error| VmmError::io(doing, error))
}

/// Ticks of the processors' clock, thousands a second. The fastest processor: those that rest may show less.
fn tsc_khz(cpuinfo: &str) -> Option<u64> {
    let lines = cpuinfo.lines().filter(|line| line.starts_with("cpu MHz"));
    let khz = lines.filter_map(|line| line.split_once(':')?.1.trim().parse::<f64>().ok()).map(|mhz| mhz * 1_000.0);
    // Anything else is not a processor of our time.
    khz.filter(|khz| (100_000.0..20_000_000.0).contains(khz)).map(|khz| khz as u64).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::microvm::machine::tests::machine;
    use crate::microvm::{Bucket, RateLimit, Share};

    #[test]
    fn what_it_lacks_is_said_before() {
        let qemu = Qemu::new("/q".into(), Accelerator::Tcg);
        let place = Place { directory: "/vm".into(), id: "vm".parse().unwrap() };
        assert_eq!(qemu.lacks(&machine(), &Start::Boot), []);
        let command = qemu.command(&place, &machine(), &Start::Boot).unwrap();
        assert_eq!(command.channel, Some(ChannelAddress::Stream("agent.sock".into())));
        assert_eq!(command.network_namespace, Some("/run/netns/x".into()));
        let files = SnapshotFiles { state: "/s".into(), memory: None };
        let bucket = Bucket { size: 1, one_time_burst: Some(1), refill_ms: 1 };
        let rate = Some(RateLimit { bandwidth: Some(bucket), ops: None });
        let mut more = machine();
        more.nics[0].rate_tx = rate;
        more.drives[0].rate = rate;
        more.shares = vec![Share { tag: "t".to_owned(), socket: "/s".into() }];
        assert_eq!(qemu.lacks(&more, &Start::BootTemplate(&files)).len(), 4);
        assert!(matches!(qemu.command(&place, &more, &Start::Boot), Err(VmmError::Lacks(lacks)) if lacks.len() == 2));
        assert!(matches!(qemu.prepare(&place, &more, &Start::Boot), Err(VmmError::Lacks(_))));
        more.vcpus = 0;
        assert!(matches!(qemu.command(&place, &more, &Start::Boot), Err(VmmError::Machine(_))));
    }

    #[test]
    fn clocks() {
        for (text, khz) in [
            ("cpu MHz\t\t: 2596.126\ncpu MHz\t\t: 800.000\n", Some(2_596_126)),
            ("", None),
            ("cpu MHz : x\n", None),
            ("cpu MHz : nan\n", None),
            ("cpu MHz : 1e300\n", None),
        ] {
            assert_eq!(tsc_khz(text), khz, "{text}");
        }
    }
}
