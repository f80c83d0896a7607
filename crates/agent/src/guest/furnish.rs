//! What a guest sees: its root, and what is mounted in it. Afterwards it is a plain machine, and nothing of how it was made
//! is in sight.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostler_linux::guest::{self as machine, Access};
use hostler_model::guest::{Furnish, GuestMount, GuestRoot, GuestSource, GuestWrites};

use super::Guest;

/// How long a disk may take to appear.
const DISK_MAX: Duration = Duration::from_secs(5);
/// Between two looks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Where a new root is put together, in the initial RAM disk, which is out of sight afterwards.
const WORKSHOP: &str = "/newroot";
/// What is mounted before, and goes along.
const KEPT: [&str; 4] = ["proc", "sys", "dev", "run"];

fn at<T>(what: impl std::fmt::Display, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl Guest {
    /// Mounts everything. Once in the life of a guest.
    pub(crate) fn furnish(&mut self, furnish: &Furnish) -> Result<(), String> {
        if let Some(root) = &furnish.root {
            self.root(root).map_err(|error| format!("the guest's root: {error}"))?;
            if root.writes == GuestWrites::Through {
                self.written.push("/".into());
            }
        }
        for mount in &furnish.mounts {
            let target = mount.target.to_string_lossy().into_owned();
            self.mount(mount).map_err(|error| format!("the volume at {target}: {error}"))?;
            if !mount.read_only {
                self.written.push(mount.target.as_path().to_owned());
            }
        }
        Ok(())
    }

    fn disk(&self, serial: &str, format: &str) -> Result<PathBuf, String> {
        at("modules for disks", self.modules.load(&["virtio_blk"]))?;
        if !machine::knows_file_system(format) {
            at(format_args!("a module for {format}"), self.modules.load(&[format]))?;
        }
        let began = Instant::now();
        loop {
            if let Some(disk) = disk_of(serial) {
                return Ok(disk);
            }
            if began.elapsed() > DISK_MAX {
                return Err(format!("there is no disk {serial:?}"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn root(&self, root: &GuestRoot) -> Result<(), String> {
        let workshop = Path::new(WORKSHOP);
        let place = |name: &str| {
            let path = workshop.join(name);
            at(path.display(), fs::create_dir_all(&path)).map(|()| path)
        };
        at(workshop.display(), fs::create_dir_all(workshop))?;
        let disk = self.disk(&root.disk, &root.format)?;
        let new = place("new")?;
        let mount = |source: &Path, target: &Path, format: &str, access: Access, options: &str| {
            let shown = source.to_string_lossy();
            at(format_args!("mount {shown} as {format}"), machine::mount(&shown, target, format, access, options))
        };
        match &root.writes {
            GuestWrites::Nowhere => mount(&disk, &new, &root.format, Access::ReadOnly, "")?,
            GuestWrites::Through => mount(&disk, &new, &root.format, Access::ReadWrite, "")?,
            GuestWrites::Memory | GuestWrites::Disk(_) => {
                let (lower, layer) = (place("lower")?, place("layer")?);
                mount(&disk, &lower, &root.format, Access::ReadOnly, "")?;
                if let GuestWrites::Disk(serial) = &root.writes {
                    mount(&self.disk(serial, "ext4")?, &layer, "ext4", Access::ReadWrite, "")?;
                } else {
                    mount(Path::new("tmpfs"), &layer, "tmpfs", Access::ReadWrite, "mode=0755")?;
                }
                let (upper, work) = (layer.join("upper"), layer.join("work"));
                for directory in [&upper, &work] {
                    at(directory.display(), fs::create_dir_all(directory))?;
                }
                at("a module for overlay", self.modules.load(&["overlay"]))?;
                let options =
                    format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
                mount(Path::new("overlay"), &new, "overlay", Access::ReadWrite, &options)?;
            }
        }
        enter(&new)
    }

    fn mount(&self, mount: &GuestMount) -> Result<(), String> {
        let target = mount.target.as_path();
        if !machine::is_plain_absolute(target) {
            return Err("it is no plain absolute path".to_owned());
        }
        let access = if mount.read_only { Access::ReadOnly } else { Access::ReadWrite };
        match &mount.source {
            GuestSource::Disk { disk, format } => {
                let disk = self.disk(disk, format)?;
                at("make the directory", fs::create_dir_all(target))?;
                at("mount", machine::mount(&disk.to_string_lossy(), target, format, access, ""))
            }
            GuestSource::Share { tag, file } => {
                at("a module for virtiofs", self.modules.load(&["virtiofs"]))?;
                match file {
                    None => {
                        at("make the directory", fs::create_dir_all(target))?;
                        at("mount", machine::mount(tag, target, "virtiofs", access, ""))
                    }
                    Some(file) => share_file(tag, file.as_path(), target, access),
                }
            }
        }
    }
}

/// One file of a shared directory.
fn share_file(tag: &str, file: &Path, target: &Path, access: Access) -> Result<(), String> {
    let whole = Path::new("/run/hostler/shares").join(tag);
    at("make a directory", fs::create_dir_all(&whole))?;
    at("mount", machine::mount(tag, &whole, "virtiofs", access, ""))?;
    if let Some(parent) = target.parent() {
        at("make the directory", fs::create_dir_all(parent))?;
    }
    if fs::symlink_metadata(target).is_err() {
        at("make the file", fs::write(target, ""))?;
    }
    at("show the file", machine::bind(&whole.join(file), target, access))
}

/// Becomes a machine with this root.
fn enter(new: &Path) -> Result<(), String> {
    for name in KEPT {
        let (old, target) = (Path::new("/").join(name), new.join(name));
        if !target.is_dir() {
            at(format_args!("it has no directory /{name}, and cannot get one"), fs::create_dir(&target))?;
        }
        // What is mounted below it goes with it.
        at(format_args!("move /{name}"), machine::move_mount(&old, &target))?;
    }
    at("change roots", machine::switch_root(new))
}

/// The disk with this serial number.
fn disk_of(serial: &str) -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").ok()?;
    disks.flatten().find_map(|disk| {
        let found = fs::read_to_string(disk.path().join("serial")).ok()?;
        (found.trim_end() == serial).then(|| Path::new("/dev").join(disk.file_name()))
    })
}
