//! `kernel.json`: what a kernel's directory holds. A directory without one, or with one that names what is not there, holds
//! no kernel.

use std::io;
use std::path::{Path, PathBuf};

use hostler_model::limits;
use serde::{Deserialize, Serialize};

use super::{Kernel, Kind, modules};
use crate::{ImageError, read_bounded};

/// The file's name.
pub(super) const FILE: &str = "kernel.json";
/// Directories of modules.
pub(super) const MODULES: &str = "modules";
pub(super) const MODULES_PCI: &str = "modules-pci";
pub(super) const BUSYBOX: &str = "busybox";
/// Of what this version writes, and of what it reads.
const FORMAT: u32 = 1;

/// The file's content. Files are named without their directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) version: String,
    pub(super) kind: Kind,
    pub(super) sha256: String,
    pub(super) content_sha256: String,
    pub(super) modules: Vec<String>,
    pub(super) modules_pci: Vec<String>,
    pub(super) busybox: bool,
    pub(super) source: String,
    pub(super) made_at_ms: u64,
}

impl Record {
    pub(super) fn of(kernel: &Kernel) -> Self {
        let names = |paths: &[PathBuf]| {
            paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
        };
        Self {
            format: FORMAT,
            version: kernel.version.clone(),
            kind: kernel.kind,
            sha256: kernel.sha256.clone(),
            content_sha256: kernel.content_sha256.clone(),
            modules: names(&kernel.modules),
            modules_pci: names(&kernel.modules_pci),
            busybox: kernel.busybox.is_some(),
            source: kernel.source.clone(),
            made_at_ms: kernel.made_at_ms,
        }
    }

    /// With the paths in this directory.
    pub(super) fn kernel(self, directory: &Path) -> Kernel {
        let paths = |place: &str, names: Vec<String>| {
            let place = directory.join(place);
            names.into_iter().map(|name| place.join(name)).collect()
        };
        Kernel {
            image: directory.join(self.kind.file_name()),
            kind: self.kind,
            version: self.version,
            sha256: self.sha256,
            content_sha256: self.content_sha256,
            modules: paths(MODULES, self.modules),
            modules_pci: paths(MODULES_PCI, self.modules_pci),
            busybox: self.busybox.then(|| directory.join(BUSYBOX)),
            source: self.source,
            made_at_ms: self.made_at_ms,
        }
    }

    /// Whether it can be believed: names become paths, hashes become names.
    fn is_sane(&self, version: &str) -> bool {
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.format == FORMAT
            && self.version == version
            && is_hash(&self.sha256)
            && is_hash(&self.content_sha256)
            && self.modules.iter().chain(&self.modules_pci).all(|name| is_module_file(name))
    }
}

/// `NN-name.ko`
fn is_module_file(name: &str) -> bool {
    name.strip_suffix(".ko").is_some_and(modules::is_name)
}

/// The kernel in this directory, if there is a whole one of this version.
pub(super) fn read(directory: &Path, version: &str) -> Result<Option<Kernel>, ImageError> {
    let path = directory.join(FILE);
    let bytes = match read_bounded(&path, limits::KERNEL_RECORD_MAX) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        Err(error) => return Err(ImageError::io("read", &path)(error)),
    };
    // One of another version of Hostler, or one that somebody has spoilt, is no kernel; `setup` makes it anew.
    let record = serde_json::from_slice::<Record>(&bytes).ok().filter(|record| record.is_sane(version));
    Ok(record.map(|record| record.kernel(directory)).filter(is_whole))
}

fn is_whole(kernel: &Kernel) -> bool {
    let mut files =
        [&kernel.image].into_iter().chain(&kernel.modules).chain(&kernel.modules_pci).chain(&kernel.busybox);
    files.all(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(directory: &Path) -> Kernel {
        Kernel {
            version: "6.1".to_owned(),
            image: directory.join("vmlinux"),
            kind: Kind::Vmlinux,
            sha256: "0".repeat(64),
            content_sha256: "a".repeat(64),
            modules: vec![directory.join("modules/00-a.ko")],
            modules_pci: Vec::new(),
            busybox: None,
            source: "a test".to_owned(),
            made_at_ms: 5,
        }
    }

    #[test]
    fn only_what_is_whole_and_sane_is_a_kernel() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        let read = || read(directory, "6.1").unwrap();
        let good = kernel(directory);
        let json = serde_json::to_string(&Record::of(&good)).unwrap();
        let write = |text: &str| std::fs::write(directory.join(FILE), text).unwrap();
        assert_eq!(read(), None);
        write(&json);
        assert_eq!(read(), None, "no files");
        std::fs::create_dir(directory.join("modules")).unwrap();
        std::fs::write(directory.join("vmlinux"), "").unwrap();
        std::fs::write(directory.join("modules/00-a.ko"), "").unwrap();
        assert_eq!(read(), Some(good));
        let spoilt = [
            ("\"format\":1", "\"format\":2"),
            ("\"6.1\"", "\"6.2\""),
            ("vmlinux", "bzimage"),
            ("00-a.ko", "../vmlinux"),
            ("00-a.ko", "01-a.ko"),
            ("aaaa", "aa/a"),
            ("\"busybox\":false", "\"busybox\":true"),
            ("}", ""),
        ];
        for (from, to) in spoilt {
            let text = json.replacen(from, to, 1);
            assert_ne!(text, json, "{from}");
            write(&text);
            assert_eq!(read(), None, "{from} → {to}");
        }
        write(&" ".repeat(limits::KERNEL_RECORD_MAX as usize + 1));
        assert_eq!(read(), None);
    }
}
