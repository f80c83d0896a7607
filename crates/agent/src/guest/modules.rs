//! Modules of the kernel, from the initial RAM disk: some at the beginning, the others when something needs them, for each
//! costs time.
//!
//! `/modules` holds `<number>-<name>.ko`. Each says itself which others it needs. What is built into the kernel has no file
//! there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::path::Path;

use hostler_linux::guest as machine;

/// What reaches the host by a port of its own.
pub(super) const AT_BOOT: &[&str] = &["virtio_ring", "virtio", "virtio_mmio", "virtio_console"];
/// What reaches it by a vsock.
pub(super) const VSOCK: &[&str] = &["vmw_vsock_virtio_transport"];

/// The kind of a vsock among virtio devices (`linux/virtio_ids.h`).
pub(super) const VIRTIO_VSOCK: u32 = 19;

/// Where the modules are.
const DIRECTORY: &str = "/modules";
/// Longest file of a module, bytes.
const MODULE_MAX: u64 = 64 * 1024 * 1024;

/// The modules that are there.
pub(crate) struct Modules {
    /// Held open: a new root hides the path.
    directory: Option<File>,
    /// By name, their files.
    files: BTreeMap<String, String>,
}

impl Modules {
    /// A kernel that has everything built in needs none.
    pub(super) fn open() -> io::Result<Self> {
        let mut modules = Self { directory: None, files: BTreeMap::new() };
        let entries = match fs::read_dir(DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(modules),
            entries => entries?,
        };
        modules.directory = Some(File::open(DIRECTORY)?);
        for entry in entries {
            let Ok(file) = entry?.file_name().into_string() else { continue };
            let name = file.strip_suffix(".ko").and_then(|stem| stem.split_once('-')).map(|(_, name)| plain(name));
            if let Some(name) = name {
                modules.files.insert(name, file);
            }
        }
        Ok(modules)
    }

    /// Loads these, and before them what they need.
    pub(super) fn load(&self, names: &[&str]) -> io::Result<()> {
        names.iter().try_for_each(|name| self.load_one(&plain(name), 0))
    }

    fn load_one(&self, name: &str, depth: usize) -> io::Result<()> {
        /// No chain of needs is as long, unless it is a ring.
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let (Some(file), Some(directory)) = (self.files.get(name), &self.directory) else { return Ok(()) };
        if is_loaded(name) {
            return Ok(());
        }
        let path = format!("/proc/self/fd/{}/{file}", directory.as_raw_fd());
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(MODULE_MAX).read_to_end(&mut bytes)).map_err(failed)?;
        for needed in needs_of(&bytes) {
            self.load_one(&needed, depth + 1)?;
        }
        machine::load_module(path.as_ref()).map_err(failed)
    }
}

fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).join("initstate").exists()
}

/// The kernel takes both characters for the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// What a module says of others that it needs: `depends=one,other`, ended by a NUL, in its section `.modinfo`.
fn needs_of(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"\0depends=";
    let Some(at) = module.windows(MARK.len()).position(|window| window == MARK) else { return Vec::new() };
    let rest = &module[at + MARK.len()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(&rest[..end]);
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(plain).collect()
}

/// Whether there is a virtio device of this kind.
pub(super) fn has_device(kind: u32) -> bool {
    let devices = fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten();
    devices.into_iter().any(|device| {
        let found = fs::read_to_string(device.path().join("device")).unwrap_or_default();
        found.trim().strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()) == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_read_from_it() {
        assert_eq!(
            needs_of(b"xx\0license=GPL\0depends=libcrc32c,net-failover\0name=x\0"),
            ["libcrc32c", "net_failover"]
        );
        for nothing in [&b""[..], b"\0depends=\0", b"\0depends=never_ended", b"depends=at_the_beginning\0"] {
            assert!(needs_of(nothing).is_empty());
        }
    }
}
