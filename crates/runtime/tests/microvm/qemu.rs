//! QEMU for real, emulated: boot, pause, limits, and both ways of snapshots, with a guest that answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostler_runtime::microvm::{
    Accelerator, AfterSnapshot, AnyVmm, Bucket, Channel, Drive, Machine, Place, Qemu, RateLimit, SnapshotFiles, Start,
    Vmm, VmmError, kvm,
};

use crate::guest::{Guest, Port, Process};
use crate::{LONG, machine, place};

/// What a test needs, or why it is skipped.
struct Setting {
    directory: tempfile::TempDir,
    guest: Guest,
    vmm: AnyVmm,
}

impl Setting {
    fn make() -> Option<Self> {
        let programs = ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];
        let Some(program) = programs.iter().map(PathBuf::from).find(|path| path.exists()) else {
            println!("skipped: no qemu-system-x86_64");
            return None;
        };
        let vmm = AnyVmm::Qemu(Qemu::new(program, Accelerator::Tcg));
        Some(Self { directory: tempfile::tempdir().unwrap(), guest: Guest::make()?, vmm })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn machine(&self) -> Machine {
        Machine { initrd: Some(self.guest.initrd.clone()), ..machine(&self.guest.kernel) }
    }

    /// A VM until its processors run, and the port to it.
    async fn run(&self, name: &str, machine: &Machine, start: &Start<'_>) -> (Place, Process, Port) {
        let place = self.place(name);
        self.vmm.prepare(&place, machine, start).unwrap();
        let process = Process::spawn(&self.vmm.command(&place, machine, start).unwrap(), &place.directory);
        self.vmm.start(&place, machine, start).await.unwrap();
        let port = Port::connect(&place.directory.join("agent.sock")).await;
        (place, process, port)
    }

    fn place(&self, name: &str) -> Place {
        let directory = self.path(name);
        fs::create_dir(&directory).unwrap();
        place(&directory)
    }
}

#[tokio::test]
async fn paused_it_stands_still() {
    let Some(setting) = Setting::make() else { return };
    let began = Instant::now();
    let (place, mut process, mut port) = setting.run("vm", &setting.machine(), &Start::Boot).await;
    let vmm = &setting.vmm;
    assert_eq!(port.ask("hello there").await, "hello there");
    println!("boot to the first answer: {:?}", began.elapsed());
    assert_eq!(port.ask("console").await, "silence", "nobody speaks on its console");
    let before = port.uptime().await;
    vmm.pause(&place).await.unwrap();
    vmm.pause(&place).await.unwrap();
    let paused = Duration::from_secs(2);
    port.send("uptime").await;
    // Time has to pass here: that is what the test is about.
    tokio::time::sleep(paused).await;
    vmm.resume(&place).await.unwrap();
    let after: f64 = port.hear().await.parse().unwrap();
    assert!((0.0..paused.as_secs_f64()).contains(&(after - before)), "{before} to {after}");
    let files = SnapshotFiles { state: setting.path("state"), memory: None };
    let error = vmm.snapshot(&place, &files).await.unwrap_err();
    assert!(error.to_string().contains("not paused"), "{error}");
    port.send("off").await;
    process.ends().await;
    let error = vmm.pause(&place).await.unwrap_err();
    assert!(matches!(error, VmmError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_template_and_its_clones() {
    let Some(setting) = Setting::make() else { return };
    let (vmm, machine) = (&setting.vmm, setting.machine());
    let files = SnapshotFiles { state: setting.path("state"), memory: Some(setting.path("memory")) };
    let template = Start::BootTemplate(&files);
    let (place, mut process, mut port) = setting.run("template", &machine, &template).await;
    let before = port.uptime().await;
    drop(port);
    vmm.pause(&place).await.unwrap();
    let began = Instant::now();
    assert_eq!(vmm.snapshot(&place, &files).await.unwrap(), AfterSnapshot::Ended);
    println!("template written: {:?}, state {} bytes", began.elapsed(), fs::metadata(&files.state).unwrap().len());
    process.ends().await;
    let memory = fs::read(files.memory.as_ref().unwrap()).unwrap();
    let mut clones = Vec::new();
    for number in 0..3 {
        let began = Instant::now();
        let (place, process, mut port) =
            setting.run(&format!("clone{number}"), &machine, &Start::Restore(&files)).await;
        assert_eq!(port.ask("who").await, "who");
        println!("clone {number}, spawn to its answer: {:?}", began.elapsed());
        let uptime = port.uptime().await;
        assert!((before..before + 10.0).contains(&uptime), "{before} to {uptime}: it goes on from the template");
        clones.push((place, process, port));
    }
    assert!(
        fs::read(files.memory.as_ref().unwrap()).unwrap() == memory,
        "clones write to no one's memory but their own"
    );
    a_clone_as_a_whole(&setting, &machine, clones.remove(0)).await;
    // A state file that is none.
    fs::write(&files.state, "nonsense").unwrap();
    let place = setting.place("broken");
    let start = Start::Restore(&files);
    let _process = Process::spawn(&vmm.command(&place, &machine, &start).unwrap(), &place.directory);
    let began = Instant::now();
    let error = vmm.start(&place, &machine, &start).await.unwrap_err();
    assert!(matches!(error, VmmError::Refused { .. } | VmmError::Closed { .. }), "{error:?}");
    assert!(began.elapsed() < LONG);
}

/// A guest with memory of its own is written as a whole, goes on, and goes on elsewhere.
async fn a_clone_as_a_whole(setting: &Setting, machine: &Machine, clone: (Place, Process, Port)) {
    let (vmm, (place, _process, port)) = (&setting.vmm, clone);
    drop(port);
    let other = SnapshotFiles { state: setting.path("other"), memory: Some(setting.path("memory")) };
    vmm.pause(&place).await.unwrap();
    let error = vmm.snapshot(&place, &other).await.unwrap_err();
    assert!(error.to_string().contains("not booted as a template"), "{error}");
    let whole = SnapshotFiles { state: setting.path("whole"), memory: None };
    let began = Instant::now();
    assert_eq!(vmm.snapshot(&place, &whole).await.unwrap(), AfterSnapshot::Paused);
    println!("whole guest written: {:?}, {} bytes", began.elapsed(), fs::metadata(&whole.state).unwrap().len());
    vmm.resume(&place).await.unwrap();
    let mut port = Port::connect(&place.directory.join("agent.sock")).await;
    assert_eq!(port.ask("still here").await, "still here");
    let began = Instant::now();
    let (_place, _process, mut port) = setting.run("whole-vm", machine, &Start::Restore(&whole)).await;
    assert_eq!(port.ask("and here").await, "and here");
    println!("whole guest, spawn to its answer: {:?}", began.elapsed());
    let left = fs::read_dir(setting.directory.path()).unwrap().flatten();
    assert!(!left.into_iter().any(|entry| entry.path().to_string_lossy().ends_with(".unfinished")));
}

fn image(path: &Path, bytes: u64) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

#[tokio::test]
async fn drives_are_found_by_their_ids_and_limited() {
    let Some(setting) = Setting::make() else { return };
    const MIB: u64 = 1024 * 1024;
    let drive = |id: &str, is_root: bool, rate: Option<RateLimit>| {
        let path = setting.path(&format!("{id},with=comma.img"));
        image(&path, 8 * MIB);
        Drive { id: id.to_owned(), path, read_only: !is_root, is_root, rate }
    };
    let bucket = Bucket { size: 4 * MIB, one_time_burst: None, refill_ms: 1_000 };
    let slow = Some(RateLimit { bandwidth: Some(bucket), ops: None });
    let drives = vec![drive("first", false, None), drive("slow", false, slow), drive("root", true, None)];
    let machine = Machine { drives, vcpus: 2, ..setting.machine() };
    let (place, _process, mut port) = setting.run("vm", &machine, &Start::Boot).await;
    assert_eq!(port.ask("drives").await, "vda=root:0 vdb=first:1 vdc=slow:1");
    let mut took = async |id: &str| {
        let before = port.uptime().await;
        port.ask(&format!("read {id}")).await.parse::<f64>().unwrap() - before
    };
    let (fast, slow) = (took("first").await, took("slow").await);
    println!("8 MiB at will: {fast:.2} s, at 4 MiB a second: {slow:.2} s");
    assert!(slow > 1.2, "8 MiB at 4 MiB a second in {slow} s");
    let watch = hostler_runtime::microvm::Watch::default();
    let metrics = setting.vmm.metrics(&place, &watch).await.unwrap();
    assert!(metrics.drives_read_bytes.unwrap() >= 16 * MIB, "{metrics:?}");
}

#[tokio::test]
async fn a_version_and_an_accelerator() {
    let Some(setting) = Setting::make() else { return };
    let version = setting.vmm.version().await.unwrap();
    assert!(version.starts_with("QEMU emulator version "), "{version}");
    let nowhere = AnyVmm::Qemu(Qemu::new("/nowhere".into(), Accelerator::Tcg));
    assert!(matches!(nowhere.version().await, Err(VmmError::Io { .. })));
    let silent = AnyVmm::Qemu(Qemu::new("/bin/true".into(), Accelerator::Tcg));
    let said = silent.version().await;
    assert!(said.is_ok() || matches!(said, Err(VmmError::Garbage { .. })));
    let remembered = setting.path("kvm.json");
    let found = kvm::prove(setting.vmm.program(), &setting.guest.kernel, &remembered).await;
    println!("accelerator: {found:?}");
    assert_eq!(kvm::prove(setting.vmm.program(), &setting.guest.kernel, &remembered).await, found);
    assert_eq!(setting.machine().channel, Channel::Agent);
}
