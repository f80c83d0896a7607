//! What a guest boots into, as one file: the agent is its init, and beside it are the kernel's modules and a busybox.
//!
//! ```text
//! /init                    the agent
//! /modules/NN-name.ko      loaded in this order; /modules-pci/NN-name.ko after them, on machines with PCI
//! /bin/busybox             with links for its names in /bin, /sbin, /usr/bin, /usr/sbin
//! /etc/{passwd,group,hosts}
//! /dev/console, /dev/null
//! /proc /sys /run /tmp /root /newroot /var
//! ```
//!
//! It is made once for each kernel and agent and kept in a cache. It is not compressed: the guest would have to unpack it.
//! The same kernel and agent give the same bytes.

mod newc;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hostler_model::limits;
use sha2::{Digest as _, Sha256};

use self::newc::{Archive, Entry};
use crate::kernels::Kernel;
use crate::lock::{self, Leftover};
use crate::{ImageError, hex, program, read_bounded, sha256_of};

/// Changes when the content changes while kernel and agent do not.
const FORMAT: &str = "initramfs 1";
/// Digits of the hash in the file's name.
const NAME_DIGITS: usize = 16;
const PREFIX: &str = "initramfs-";
const SUFFIX: &str = ".cpio";
const LOCK: &str = "initramfs.lock";
/// Where names of busybox may be.
const PROGRAMS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];
/// What every busybox has, where one does not tell.
const APPLETS: [&str; 20] = [
    "bin/cat",
    "bin/chmod",
    "bin/cp",
    "bin/dmesg",
    "bin/echo",
    "bin/kill",
    "bin/ln",
    "bin/ls",
    "bin/mkdir",
    "bin/mount",
    "bin/mv",
    "bin/ps",
    "bin/rm",
    "bin/sh",
    "bin/sleep",
    "bin/true",
    "bin/umount",
    "sbin/ip",
    "usr/bin/env",
    "usr/bin/id",
];
/// Directories with their modes, parents first.
const DIRECTORIES: [(&str, u32); 16] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("modules", 0o755),
    ("modules-pci", 0o755),
    ("newroot", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
];
const FILES: [(&str, &str); 3] = [
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
];

/// The initramfs of this kernel with this agent, made if it is not there: its file, readable by all who may enter the
/// directory. The agent is read and hashed at every call; it has at most [`limits::INITRAMFS_AGENT_MAX`] bytes.
pub fn ensure(cache: &Path, kernel: &Kernel, agent: &Path) -> Result<PathBuf, ImageError> {
    let hash = sha256_of(agent, limits::INITRAMFS_AGENT_MAX).map_err(ImageError::io("read the agent", agent))?;
    let mut key = Sha256::new();
    key.update(FORMAT);
    key.update(&kernel.content_sha256);
    key.update(hash);
    let name = format!("{PREFIX}{}{SUFFIX}", &hex(&key.finalize())[..NAME_DIGITS]);
    let path = cache.join(name);
    if path.is_file() {
        return Ok(path);
    }
    lock::directory(cache, 0o700)?;
    let _lock = lock::take(&cache.join(LOCK), limits::INITRAMFS_WAIT_MAX_MS)?;
    if path.is_file() {
        return Ok(path);
    }
    let new = cache.join(format!("{PREFIX}new"));
    lock::remove(&new)?;
    let leftover = Leftover::new(&new);
    let agent_now =
        read_bounded(agent, limits::INITRAMFS_AGENT_MAX).map_err(ImageError::io("read the agent", agent))?;
    if Sha256::digest(&agent_now)[..] != hash {
        return Err(ImageError::unusable(agent, "changes while it is read"));
    }
    write(&new, kernel, &agent_now)?;
    lock::put(&new, &path)?;
    leftover.keep();
    lock::keep_newest(cache, (PREFIX, SUFFIX), &path, limits::INITRAMFS_KEPT_MAX)?;
    Ok(path)
}

fn write(new: &Path, kernel: &Kernel, agent: &[u8]) -> Result<(), ImageError> {
    let written = ImageError::io("write", new);
    let read = |path: &Path| read_bounded(path, limits::KERNEL_MODULE_MAX).map_err(ImageError::io("read", path));
    let mut files = vec![("init".to_owned(), 0o755, agent.to_vec())];
    files.extend(FILES.map(|(path, text)| (path.to_owned(), 0o644, text.as_bytes().to_vec())));
    for (directory, modules) in [("modules", &kernel.modules), ("modules-pci", &kernel.modules_pci)] {
        for module in modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            files.push((format!("{directory}/{name}"), 0o644, read(module)?));
        }
    }
    let mut links = BTreeSet::new();
    if let Some(busybox) = &kernel.busybox {
        files.push(("bin/busybox".to_owned(), 0o755, read(busybox)?));
        links = applets(busybox);
    }
    let mut entries: Vec<(&str, Entry<'_>)> = Vec::new();
    entries.extend(DIRECTORIES.iter().map(|&(path, mode)| (path, Entry::Directory { mode })));
    entries.extend(files.iter().map(|(path, mode, content)| (path.as_str(), Entry::File { mode: *mode, content })));
    entries.extend(links.iter().map(|path| (path.as_str(), Entry::Link { to: "/bin/busybox" })));
    entries.push(("dev/console", Entry::Device { mode: 0o600, major: 5, minor: 1 }));
    entries.push(("dev/null", Entry::Device { mode: 0o666, major: 1, minor: 3 }));
    // A directory's path is a prefix of what is in it, so it comes first.
    entries.sort_by_key(|(path, _)| *path);
    let archive = || {
        let file = File::create_new(new)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        let mut archive = Archive::new(BufWriter::new(file));
        for (path, entry) in &entries {
            archive.add(path, entry)?;
        }
        archive.finish().map(drop)
    };
    archive().map_err(written)
}

/// The names that this busybox has, as paths; what it says is believed only where it makes sense.
fn applets(busybox: &Path) -> BTreeSet<String> {
    let said = program::call(Path::new("/"), busybox, &[OsStr::new("--list-full")], limits::VERSION_MAX_MS);
    let said = said.unwrap_or_default();
    let lines = said.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let found: BTreeSet<String> =
        lines.filter(|line| is_applet(line)).take(limits::INITRAMFS_APPLETS_MAX).map(str::to_owned).collect();
    if found.is_empty() { APPLETS.iter().map(ToString::to_string).collect() } else { found }
}

fn is_applet(path: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._+-[".contains(c);
    path != "bin/busybox"
        && path.rsplit_once('/').is_some_and(|(directory, name)| {
            PROGRAMS.contains(&directory)
                && !name.is_empty()
                && name.len() <= 64
                && name.chars().all(good)
                && name != ".."
                && name != "."
        })
}

#[cfg(test)]
mod tests;
