//! Guest kernels. Each has a directory of its own, named by its version:
//!
//! ```text
//! <kernels>/<version>/vmlinux or bzImage   what a VMM boots
//!                     modules/00-….ko      in the order in which guests load them
//!                     modules-pci/00-….ko  those that machines with PCI load after them
//!                     busybox              static; absent where none could be had
//!                     kernel.json          what all this is; written last
//! ```
//!
//! - `setup`: makes such a directory, under another name first; `package`: fetches and unpacks packages
//! - `modules`: which modules, in which order; `bzimage`, `elf`: reading files of others
//! - `record`: `kernel.json`
//!
//! Not here: booting. A kernel that a virtual machine runs from may be replaced; its VMM has read it.

mod bzimage;
mod elf;
mod modules;
mod package;
mod record;
mod setup;

use std::io;
use std::path::{Path, PathBuf};

use hostler_model::limits;
use serde::{Deserialize, Serialize};

use crate::ImageError;

/// What a VMM is given to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An ELF file, unpacked: boots faster.
    Vmlinux,
    /// As distributions ship it; unpacks itself.
    Bzimage,
}

impl Kind {
    /// The file's name.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Vmlinux => "vmlinux",
            Self::Bzimage => "bzImage",
        }
    }
}

/// A kernel that is there, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// As `uname -r` says it in the guest.
    pub version: String,
    /// The file to boot.
    pub image: PathBuf,
    /// What that file is.
    pub kind: Kind,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// The same of everything there is: the image, the modules and the busybox.
    pub content_sha256: String,
    /// Modules, in the order in which they are loaded; named `NN-name.ko`.
    pub modules: Vec<PathBuf>,
    /// Those that machines with PCI load after them.
    pub modules_pci: Vec<PathBuf>,
    /// A static busybox.
    pub busybox: Option<PathBuf>,
    /// Where it came from, in words.
    pub source: String,
    /// When it was set up, milliseconds since the epoch.
    pub made_at_ms: u64,
}

impl Kernel {
    /// Bytes of all its files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let files = [&self.image].into_iter().chain(&self.modules).chain(&self.modules_pci).chain(&self.busybox);
        files.filter_map(|path| std::fs::metadata(path).ok()).map(|about| about.len()).sum()
    }
}

/// Where a kernel is to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The package of this machine's distribution; Debian's, so far.
    Distribution,
    /// A Debian package in a file.
    Package(PathBuf),
    /// A kernel, ELF or bzImage, and a directory below which its modules are.
    Files {
        /// The kernel.
        kernel: PathBuf,
        /// Its modules; none where all that guests need is built in.
        modules: Option<PathBuf>,
    },
}

/// What to do about a kernel of the same version that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it as it is.
    Keep,
    /// Make it anew.
    Replace,
}

/// What a set-up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// The kernel.
    pub kernel: Kernel,
    /// Whether it was there before and is as it was.
    pub was_there: bool,
}

/// The directory with all kernels of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernels {
    directory: PathBuf,
}

impl Kernels {
    /// The directory need not be there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The kernel that guests boot: the whole one that was set up last. Reads small files.
    pub fn current(&self) -> Result<Option<Kernel>, ImageError> {
        Ok(self.list()?.into_iter().next())
    }

    /// All that are whole, the one set up last first.
    pub fn list(&self) -> Result<Vec<Kernel>, ImageError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(ImageError::io("read", &self.directory))?,
        };
        let mut found = Vec::new();
        for entry in entries.take(limits::KERNELS_MAX) {
            let entry = entry.map_err(ImageError::io("read", &self.directory))?;
            if let Some(version) = entry.file_name().to_str().filter(|name| is_version(name)) {
                found.extend(self.get(version)?);
            }
        }
        let newest = |kernel: &Kernel| (kernel.made_at_ms, kernel.version.clone());
        found.sort_by_key(|kernel| std::cmp::Reverse(newest(kernel)));
        Ok(found)
    }

    /// The kernel of this version, if it is there and whole.
    pub fn get(&self, version: &str) -> Result<Option<Kernel>, ImageError> {
        if !is_version(version) {
            return Ok(None);
        }
        record::read(&self.directory.join(version), version)
    }

    /// Makes a kernel ready for guests. `progress` hears what is being done, a line each. Only one at a time works in this
    /// directory, the others wait. Blocks, for minutes where a package is fetched.
    ///
    /// Without the right to write there: an error for which [`ImageError::is_permission`] is true.
    pub fn setup(
        &self,
        source: &Source,
        existing: Existing,
        progress: &mut dyn FnMut(&str),
    ) -> Result<SetUp, ImageError> {
        setup::setup(self, source, existing, progress)
    }
}

/// Whether this can be a kernel's version, and so a directory's name.
fn is_version(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= limits::KERNEL_VERSION_LENGTH_MAX
        && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_names_of_directories() {
        for good in ["6.1.0-48-cloud-amd64", "6.12.0+deb13", "5.10.0~rc1", "6.8.0-1010_x"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", ".", "..", ".setup", "-x", "a/b", "a b", "a\0", "ü", &"1".repeat(129)] {
            assert!(!is_version(bad), "{bad:?}");
        }
    }

    #[test]
    fn nothing_there() {
        let place = tempfile::tempdir().unwrap();
        let kernels = Kernels::new(place.path().join("absent"));
        assert_eq!(kernels.current().unwrap(), None);
        assert_eq!(kernels.get("../x").unwrap(), None);
    }
}
