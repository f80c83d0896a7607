//! Which modules a guest needs, and in which order they are loaded: each after those that it needs, as every module says
//! itself. The lists that `depmod` makes are not asked: a package that was never installed has none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hostler_model::limits;

use super::elf;
use crate::{ImageError, program, read_bounded};

/// What guests need, in load order: what is built in or does not exist is left out. The transport, the console by which
/// the agent is reached, the network, disks, vsock, shares, file systems of disks, randomness, the balloon.
pub(super) const WANTED: [&str; 21] = [
    "virtio_ring",
    "virtio",
    "virtio_mmio",
    "virtio_console",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "fuse",
    "virtiofs",
    "ext4",
    "overlay",
    "erofs",
    "squashfs",
    "loop",
    "rng_core",
    "virtio_rng",
    "virtio_balloon",
];

/// What guests on a machine with PCI need beside them.
pub(super) const WANTED_PCI: [&str; 3] = ["virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"];

/// Suffixes of modules' files, and by which program they are unpacked.
const SUFFIXES: [(&str, Option<&str>); 4] =
    [(".ko", None), (".ko.xz", Some("xz")), (".ko.zst", Some("zstd")), (".ko.gz", Some("gzip"))];

/// A module, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// With underscores, as the kernel calls it.
    pub(super) name: String,
    /// Its file's content.
    pub(super) content: Vec<u8>,
}

/// The modules of both lists in load order, those that they need among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Loaded by every guest.
    pub(super) wanted: Vec<Module>,
    /// Loaded on machines with PCI.
    pub(super) pci: Vec<Module>,
    /// Wanted, there, and left out because what they need is not there: with what that is.
    pub(super) left_out: Vec<String>,
}

/// Finds the modules below a directory and reads those that are wanted. Compressed ones are unpacked in `scratch`.
pub(super) fn choose(directory: &Path, scratch: &Path) -> Result<Chosen, ImageError> {
    let files = find(directory)?;
    let mut choice = Choice { files: &files, scratch, state: BTreeMap::new(), order: Vec::new(), left_out: Vec::new() };
    for name in WANTED {
        choice.visit(name, 0)?;
    }
    let wanted = std::mem::take(&mut choice.order);
    for name in WANTED_PCI {
        choice.visit(name, 0)?;
    }
    Ok(Chosen { wanted, pci: choice.order, left_out: choice.left_out })
}

/// Every module's file by its name. Links are not followed.
fn find(directory: &Path) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    let mut looked_at = 0;
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).map_err(ImageError::io("read", &place))? {
            let entry = entry.map_err(ImageError::io("read", &place))?;
            looked_at += 1;
            if looked_at > limits::KERNEL_FILES_MAX {
                let max = limits::KERNEL_FILES_MAX as u64;
                return Err(ImageError::TooMuch { path: directory.to_path_buf(), what: "files", max });
            }
            let kind = entry.file_type().map_err(ImageError::io("read", &place))?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file()
                && let Some(name) = entry.file_name().to_str().and_then(module_name)
            {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

/// `virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(file: &str) -> Option<String> {
    let stem = SUFFIXES.iter().find_map(|(suffix, _)| file.strip_suffix(suffix))?;
    is_name(stem).then(|| stem.replace('-', "_"))
}

/// Whether it may be part of a file's name.
pub(super) fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.len() <= 64 && text.chars().all(good)
}

/// One walk along the needs, depth first.
struct Choice<'a> {
    files: &'a BTreeMap<String, PathBuf>,
    scratch: &'a Path,
    /// Whether a module that was visited will be loaded; one that is being visited will not need itself.
    state: BTreeMap<String, bool>,
    order: Vec<Module>,
    left_out: Vec<String>,
}

/// Deeper than this no module needs another.
const DEPTH_MAX: usize = 32;

impl Choice<'_> {
    /// Puts a module into the order after what it needs. Whether it is there.
    fn visit(&mut self, name: &str, depth: usize) -> Result<bool, ImageError> {
        if let Some(there) = self.state.get(name) {
            return Ok(*there);
        }
        let Some(path) = self.files.get(name).filter(|_| depth < DEPTH_MAX) else {
            self.state.insert(name.to_owned(), false);
            return Ok(false);
        };
        let content = read(path, self.scratch)?;
        let info = elf::module_info(&content);
        if info.is_empty() {
            return Err(ImageError::unusable(path, "is no kernel module"));
        }
        self.state.insert(name.to_owned(), true);
        let mut there = true;
        for needed in needs(&info) {
            // What is built in is not among a module's needs, so what is missing here is missing.
            if !self.visit(&needed, depth + 1)? {
                self.left_out.push(format!("{name}, which needs {needed}"));
                there = false;
            }
        }
        for helpful in helped_by(&info) {
            // This may be a module, an algorithm that some module has, or built in.
            if !self.visit(&helpful, depth + 1)? {
                self.visit(&format!("{helpful}_generic"), depth + 1)?;
            }
        }
        self.state.insert(name.to_owned(), there);
        if there {
            self.order.push(Module { name: name.to_owned(), content });
        }
        Ok(there)
    }
}

/// Modules without which it cannot be loaded.
fn needs(info: &[(String, String)]) -> BTreeSet<String> {
    let lists = info.iter().filter(|(key, _)| key == "depends").map(|(_, list)| list);
    lists.flat_map(|list| list.split(',')).filter(|name| is_name(name)).map(|name| name.replace('-', "_")).collect()
}

/// Modules that should be loaded before it: `softdep=pre: a b post: c`.
fn helped_by(info: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, list) in info.iter().filter(|(key, _)| key == "softdep") {
        let mut before = false;
        for word in list.split_ascii_whitespace() {
            match word {
                "pre:" => before = true,
                "post:" => before = false,
                name if before && is_name(name) => {
                    found.insert(name.replace('-', "_"));
                }
                _ => {}
            }
        }
    }
    found
}

/// The module's content, unpacked.
fn read(path: &Path, scratch: &Path) -> Result<Vec<u8>, ImageError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let packed = SUFFIXES.iter().find(|(suffix, packer)| packer.is_some() && file.ends_with(suffix));
    let Some((suffix, Some(packer))) = packed else {
        return read_bounded(path, limits::KERNEL_MODULE_MAX).map_err(ImageError::io("read", path));
    };
    let content = read_bounded(path, limits::KERNEL_MODULE_MAX).map_err(ImageError::io("read", path))?;
    unpack(&content, packer, suffix.trim_start_matches(".ko."), scratch, limits::KERNEL_MODULE_MAX)
}

/// Unpacks by `gzip`, `xz` or `zstd`, in a file of `scratch` that is removed again.
pub(super) fn unpack(
    packed: &[u8],
    packer: &str,
    suffix: &str,
    scratch: &Path,
    max: u64,
) -> Result<Vec<u8>, ImageError> {
    let (program, mend) = match packer {
        "xz" => ("xz", "install it (Debian: apt-get install xz-utils)"),
        "zstd" => ("zstd", "install it (Debian: apt-get install zstd)"),
        _ => ("gzip", "install it (Debian: apt-get install gzip)"),
    };
    let program = program::find(program, mend)?;
    let (from, to) = (scratch.join(format!("packed.{suffix}")), scratch.join("packed"));
    let _gone = (crate::lock::Leftover::new(&from), crate::lock::Leftover::new(&to));
    std::fs::write(&from, packed).map_err(ImageError::io("write", &from))?;
    // All three take the suffix off, and know these flags.
    let arguments = ["-d", "-f", "-q"].map(std::ffi::OsStr::new);
    let arguments = [&arguments[..], &[from.as_os_str()]].concat();
    program::call(scratch, &program, &arguments, limits::UNPACK_MAX_MS)?;
    read_bounded(&to, max).map_err(ImageError::io("read", &to))
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::module;
    use super::*;

    /// A tree of modules: file name, what it says.
    fn tree(files: &[(&str, &[&str])]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for (name, info) in files {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, module(info)).unwrap();
        }
        place
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    fn chosen(files: &[(&str, &[&str])]) -> Chosen {
        let (tree, scratch) = (tree(files), tempfile::tempdir().unwrap());
        choose(tree.path(), scratch.path()).unwrap()
    }

    #[test]
    fn each_after_what_it_needs() {
        let found = chosen(&[
            ("kernel/a/virtio.ko", &["depends=virtio_ring"]),
            ("kernel/a/virtio_ring.ko", &["depends="]),
            ("kernel/b/virtio-rng.ko", &["depends=virtio,virtio_ring"]),
            ("kernel/c/erofs.ko", &["depends=libcrc32c", "softdep=pre: absent post: loop"]),
            ("kernel/c/libcrc32c.ko", &["depends=", "softdep=pre: crc32c"]),
            ("kernel/c/crc32c_generic.ko", &["depends="]),
            ("kernel/c/unwanted.ko", &["depends="]),
            ("kernel/c/virtio_pci.ko", &["depends=virtio_pci_modern_dev,virtio"]),
            ("kernel/c/virtio_pci_modern_dev.ko", &["depends="]),
            ("modules.order", &[]),
        ]);
        assert_eq!(
            names(&found.wanted),
            ["virtio_ring", "virtio", "crc32c_generic", "libcrc32c", "erofs", "virtio_rng"]
        );
        assert_eq!(names(&found.pci), ["virtio_pci_modern_dev", "virtio_pci"]);
        assert!(found.left_out.is_empty());
    }

    #[test]
    fn nothing_is_loaded_without_what_it_needs() {
        let found = chosen(&[
            ("overlay.ko", &["depends=absent"]),
            ("fuse.ko", &["depends=virtiofs"]),
            ("virtiofs.ko", &["depends=fuse"]),
            ("loop.ko", &["depends=../../etc/passwd"]),
        ]);
        // Those that need each other are the kernel's to refuse; names that are none are no needs.
        assert_eq!(names(&found.wanted), ["virtiofs", "fuse", "loop"]);
        assert_eq!(found.left_out, ["overlay, which needs absent"]);
    }

    #[test]
    fn compressed_modules() {
        let scratch = tempfile::tempdir().unwrap();
        let content = module(&["depends="]);
        for (packer, suffix) in [("xz", "xz"), ("gzip", "gz"), ("zstd", "zst")] {
            let Some(program) = hostler_linux::tool::find(packer) else {
                println!("skipped: no {packer}");
                continue;
            };
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("loop.ko");
            std::fs::write(&path, &content).unwrap();
            let arguments = ["-q", path.to_str().unwrap()].map(std::ffi::OsStr::new);
            program::call(place.path(), &program, &arguments, 10_000).unwrap();
            let packed = place.path().join(format!("loop.ko.{suffix}"));
            if packer == "zstd" {
                std::fs::remove_file(&path).unwrap();
            }
            let found = choose(place.path(), scratch.path()).unwrap();
            assert_eq!(found.wanted, [Module { name: "loop".to_owned(), content: content.clone() }], "{packer}");
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "{packer} left something");
            std::fs::write(&packed, "not packed").unwrap();
            assert!(choose(place.path(), scratch.path()).is_err(), "{packer}");
            assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "{packer} left something");
        }
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let (place, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(place.path().join("loop.ko"), "text").unwrap();
        let error = choose(place.path(), scratch.path()).unwrap_err().to_string();
        assert!(error.contains("loop.ko: is no kernel module"), "{error}");
        assert_eq!(module_name("virtio-rng.ko.zst"), Some("virtio_rng".to_owned()));
        for bad in ["a.o", ".ko", "a b.ko", "a/b.ko", "ko"] {
            assert_eq!(module_name(bad), None, "{bad}");
        }
    }
}
