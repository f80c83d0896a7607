//! Modules of the kernel, from the initial RAM disk: some at the beginning, the others when something needs them, for each
//! costs time.
//!
//! `/modules` holds `<number>-<name>.ko`, and everything that one needs has a lower number; `/modules/needs` has a line
//! `name: other other …` for each that needs others. What is built into the kernel has no file there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use hostler_linux::guest as machine;

/// What reaches the host by a port of its own.
pub(super) const AT_BOOT: &[&str] = &["virtio_ring", "virtio", "virtio_mmio", "virtio_console"];
/// What reaches it by a vsock.
pub(super) const VSOCK: &[&str] = &["vmw_vsock_virtio_transport"];

/// The kind of a vsock among virtio devices (`linux/virtio_ids.h`).
pub(super) const VIRTIO_VSOCK: u32 = 19;

/// Where the modules are.
const DIRECTORY: &str = "/modules";
/// Longest file of needs, bytes.
const NEEDS_MAX: u64 = 64 * 1024;

/// The modules that are there.
pub(crate) struct Modules {
    /// Held open: a new root hides the path.
    directory: Option<File>,
    /// By name, their files.
    files: BTreeMap<String, String>,
    needs: BTreeMap<String, Vec<String>>,
}

impl Modules {
    /// A kernel that has everything built in needs none.
    pub(super) fn open() -> io::Result<Self> {
        let mut modules = Self { directory: None, files: BTreeMap::new(), needs: BTreeMap::new() };
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
        let needs = PathBuf::from(DIRECTORY).join("needs");
        if fs::metadata(&needs).is_ok_and(|found| found.len() <= NEEDS_MAX) {
            modules.needs = parse_needs(&fs::read_to_string(needs)?);
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
        for needed in self.needs.get(name).into_iter().flatten() {
            self.load_one(needed, depth + 1)?;
        }
        let (Some(file), Some(directory)) = (self.files.get(name), &self.directory) else { return Ok(()) };
        let path = format!("/proc/self/fd/{}/{file}", directory.as_raw_fd());
        machine::load_module(path.as_ref()).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    }
}

/// The kernel takes both characters for the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn parse_needs(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (name, needs) = line.split_once(':')?;
        Some((plain(name.trim()), needs.split_whitespace().map(plain).collect()))
    };
    text.lines().filter_map(line).collect()
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
    fn needs_are_read_and_noise_is_passed_over() {
        let needs = parse_needs("erofs: libcrc32c netfs\n\nvirtio-net: net_failover\nno colon\n");
        assert_eq!(needs.get("erofs").map(Vec::len), Some(2));
        assert_eq!(needs.get("virtio_net").map(|needs| needs[0].as_str()), Some("net_failover"));
        assert_eq!(needs.len(), 2);
    }
}
