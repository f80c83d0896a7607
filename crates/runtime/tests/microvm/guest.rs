//! A guest for tests: a kernel that is on this machine, an initramfs with busybox and a script for an init, and the process of
//! a VMM.
//!
//! The guest answers lines on its port: `uptime`, `drives`, `read <serial>`, `off`; anything else comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hostler_runtime::microvm::VmmCommand;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::LONG;

/// In the order in which they need each other.
const MODULES: [&str; 5] = ["virtio_ring", "virtio", "virtio_mmio", "virtio_console", "virtio_blk"];

const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs d /dev; $b mount -t proc p /proc; $b mount -t sysfs s /sys
for m in virtio_ring virtio virtio_mmio virtio_console virtio_blk; do [ -f /m/$m.ko ] && $b insmod /m/$m.ko; done
echo hostler-guest: up
while [ -z "$port" ]; do
    for p in /sys/class/virtio-ports/*; do
        [ "$($b cat $p/name 2>/dev/null)" = hostler.agent.0 ] && port=/dev/${p##*/}
    done
    $b usleep 10000
done
disk() { for d in /sys/block/vd*; do [ "$($b cat $d/serial)" = "$1" ] && echo ${d##*/}; done; }
exec 3<>$port
answer() {
    case $what in
    uptime) read up rest </proc/uptime; echo $up >&3 ;;
    drives) for d in /sys/block/vd*; do echo -n "${d##*/}=$($b cat $d/serial):$($b cat $d/ro) "; done >&3; echo >&3 ;;
    read) $b dd if=/dev/$(disk $which) of=/dev/null bs=64k 2>/dev/null; read up rest </proc/uptime; echo $up >&3 ;;
    console) read -t 1 line </dev/ttyS0 && echo "heard $line" >&3 || echo silence >&3 ;;
    off) $b poweroff -f ;;
    *) echo "$what $which" >&3 ;;
    esac
}
# While nobody is at the other end, reading comes to an end at once.
while :; do read what which <&3 && answer || $b usleep 10000; done
"#;

/// What is booted.
pub struct Guest {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    _directory: tempfile::TempDir,
}

impl Guest {
    /// `None`, and why on stdout, where something is missing.
    pub fn make() -> Option<Self> {
        let missing = |what: &str| println!("skipped: {what}");
        let Some(kernel) = kernel() else {
            missing("no kernel: name a vmlinux in HOSTLER_TEST_KERNEL, or have target/tools/vm/kernels/*/vmlinux");
            return None;
        };
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
        let Some(busybox) = busybox else {
            missing("no busybox for the guest");
            return None;
        };
        let modules = MODULES.map(|name| find(kernel.parent()?, &format!("{name}.ko"), 10));
        let [Some(..), Some(..), Some(..), Some(..), Some(..)] = &modules else {
            missing("no modules for virtio beside the kernel");
            return None;
        };
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "proc", "sys", "m"] {
            archive.add(directory, 0o040_755, &[]);
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        archive.add("bin/busybox", 0o100_755, &fs::read(busybox).unwrap());
        for (name, path) in MODULES.iter().zip(modules.iter().flatten()) {
            archive.add(&format!("m/{name}.ko"), 0o100_644, &fs::read(path).unwrap());
        }
        let directory = tempfile::tempdir().unwrap();
        let initrd = directory.path().join("initrd");
        fs::write(&initrd, archive.end()).unwrap();
        Some(Self { kernel, initrd, _directory: directory })
    }
}

fn kernel() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HOSTLER_TEST_KERNEL") {
        return Some(PathBuf::from(named)).filter(|path| path.exists());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm/kernels");
    let mut kernels: Vec<PathBuf> =
        fs::read_dir(root).ok()?.flatten().map(|entry| entry.path().join("vmlinux")).collect();
    kernels.retain(|path| path.exists());
    kernels.sort();
    kernels.pop()
}

/// A file of this name below a directory.
fn find(directory: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    let here = entries.iter().find(|path| path.file_name().is_some_and(|found| found == name)).cloned();
    let below = || {
        let directories = entries.iter().filter(|path| depth > 0 && path.is_dir() && !path.is_symlink());
        directories.filter_map(|path| find(path, name, depth - 1)).next()
    };
    here.or_else(below)
}

/// A cpio archive in the "newc" format, which the kernel unpacks.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).unwrap();
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

/// A VMM, as the host agent would execute it; killed when it is dropped.
pub struct Process {
    child: Child,
    console: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("console: {}", fs::read_to_string(&self.console).unwrap_or_default());
        }
    }
}

impl Process {
    pub fn spawn(command: &VmmCommand, directory: &Path) -> Self {
        let console = directory.join("console");
        let out = fs::File::create(&console).unwrap();
        let child = Command::new(&command.program)
            .args(&command.arguments)
            .env_clear()
            .envs(command.environment.iter().cloned())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, console }
    }

    /// Waits until it has said this on its console.
    pub async fn console_says(&self, text: &str) {
        let began = Instant::now();
        while !fs::read_to_string(&self.console).unwrap_or_default().contains(text) {
            assert!(began.elapsed() < LONG, "the console never says {text}");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Waits for its end.
    pub async fn ends(&mut self) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LONG, "it never ends");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

/// The channel to the guest.
pub struct Port(BufReader<UnixStream>);

impl Port {
    /// Connects as soon as the VMM listens. A guest that boots does not hear yet; what is said is kept for it.
    pub async fn connect(path: &Path) -> Self {
        let began = Instant::now();
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Self(BufReader::new(stream)),
                Err(error) => assert!(began.elapsed() < LONG, "{}: {error}", path.display()),
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    pub async fn send(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub async fn hear(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(LONG, self.0.read_line(&mut line)).await.expect("an answer in time").unwrap();
        line.trim().to_owned()
    }

    pub async fn ask(&mut self, line: &str) -> String {
        self.send(line).await;
        self.hear().await
    }

    pub async fn uptime(&mut self) -> f64 {
        self.ask("uptime").await.parse().unwrap()
    }
}
