//! The key of a tree: what `lstat` says of everything in it, hashed in the order of the names. Contents are not read; a
//! file that was written to has another change time, which nobody can set.
//!
//! Change times are as coarse as the kernel's tick on many file systems, so a tree that changed within the last tick may
//! change again and not show it: then the survey is made again when the tick is over.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hostler_linux::files;
use hostler_model::limits;
use sha2::{Digest as _, Sha256};

use super::{BlockLimits, ImageKey};
use crate::ImageError;

/// Changes when images are made in another way.
const FORMAT: &[u8] = b"block image 1";
/// Longer than a tick of any kernel: they have 100 to 1000 a second.
const TICK: Duration = Duration::from_millis(12);
/// Of extended attributes, what belongs to the content; `trusted.` is the host's own.
const ATTRIBUTES: [&str; 2] = ["security.", "user."];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) key: ImageKey,
    /// Directories in which another file system is mounted, relative to the root; what is in them does not belong to it.
    pub(super) mounts: Vec<PathBuf>,
}

/// Looks at all of the tree. Links are not followed, but the directory itself may be one.
pub(super) fn survey(directory: &Path, limits: BlockLimits) -> Result<Tree, ImageError> {
    let mut survey = Survey::begin(directory, limits)?;
    survey.walk()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let newest = survey.newest;
    // A time in the future says that the clock was set back: nothing to wait for.
    if now.checked_sub(newest).is_some_and(|age| age < TICK) {
        std::thread::sleep(TICK);
        survey = Survey::begin(directory, limits)?;
        survey.walk()?;
    }
    Ok(Tree { key: ImageKey(survey.hash.finalize().into()), mounts: survey.mounts })
}

struct Survey<'a> {
    root: &'a Path,
    limits: BlockLimits,
    device: u64,
    hash: Sha256,
    mounts: Vec<PathBuf>,
    entries: u64,
    bytes: u64,
    /// The latest change time, since the epoch.
    newest: Duration,
}

impl<'a> Survey<'a> {
    fn begin(root: &'a Path, limits: BlockLimits) -> Result<Self, ImageError> {
        let about = std::fs::metadata(root).map_err(ImageError::io("look at", root))?;
        if !about.is_dir() {
            return Err(ImageError::unusable(root, "is no directory"));
        }
        let mut survey = Self {
            root,
            limits,
            device: about.dev(),
            hash: Sha256::new_with_prefix(FORMAT),
            mounts: Vec::new(),
            entries: 0,
            bytes: 0,
            newest: Duration::ZERO,
        };
        // Two trees that were made in the same tick, with the same names and sizes, differ by this and by their inodes.
        survey.hash.update(about.dev().to_le_bytes());
        survey.add(Path::new(""), &about)?;
        Ok(survey)
    }

    /// Depth first, names in order. Each level keeps the names that are still to come.
    fn walk(&mut self) -> Result<(), ImageError> {
        let mut levels = vec![(PathBuf::new(), self.names(Path::new(""))?)];
        while let Some((place, names)) = levels.last_mut() {
            let Some(name) = names.pop() else {
                levels.pop();
                continue;
            };
            let path = place.join(name);
            let full = self.root.join(&path);
            let about = std::fs::symlink_metadata(&full).map_err(|error| self.vanished("look at", &full, error))?;
            self.add(&path, &about)?;
            if !about.is_dir() {
                continue;
            }
            if about.dev() != self.device {
                if self.mounts.len() == limits::BLOCK_MOUNTS_MAX {
                    return Err(self.too_much("mounts in it", limits::BLOCK_MOUNTS_MAX as u64));
                }
                self.mounts.push(path);
            } else if levels.len() >= limits::BLOCK_DEPTH_MAX {
                return Err(self.too_much("directories in each other", limits::BLOCK_DEPTH_MAX as u64));
            } else {
                let names = self.names(&path)?;
                levels.push((path, names));
            }
        }
        Ok(())
    }

    /// Names in a directory, the first one last.
    fn names(&self, path: &Path) -> Result<Vec<std::ffi::OsString>, ImageError> {
        let full = self.root.join(path);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&full).map_err(|error| self.vanished("read", &full, error))? {
            names.push(entry.map_err(|error| self.vanished("read", &full, error))?.file_name());
            if names.len() as u64 > self.limits.entries_max {
                return Err(self.too_much("entries", self.limits.entries_max));
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    fn add(&mut self, path: &Path, about: &Metadata) -> Result<(), ImageError> {
        let full = self.root.join(path);
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(self.too_much("entries", self.limits.entries_max));
        }
        let kind = about.file_type();
        if kind.is_file() {
            self.bytes = self.bytes.saturating_add(about.len());
            if self.bytes > self.limits.bytes_max {
                return Err(self.too_much("bytes", self.limits.bytes_max));
            }
        }
        self.text(path.as_os_str().as_bytes());
        // What is mounted there is not in the image, so it does not count; that something is does.
        let foreign = kind.is_dir() && about.dev() != self.device;
        self.numbers(&[u64::from(foreign), about.mode().into(), about.uid().into(), about.gid().into()]);
        if foreign {
            return Ok(());
        }
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        self.numbers(&times.map(i64::cast_unsigned));
        // Directories of some file systems change their size with what is mounted or removed in them.
        let size = if kind.is_dir() { 0 } else { about.len() };
        self.numbers(&[size, about.ino(), about.nlink()]);
        if kind.is_block_device() || kind.is_char_device() {
            self.numbers(&[about.rdev()]);
        }
        if kind.is_symlink() {
            let to = std::fs::read_link(&full).map_err(|error| self.vanished("read", &full, error))?;
            self.text(to.as_os_str().as_bytes());
        }
        let attributes = files::attributes(&full, &ATTRIBUTES).map_err(|error| self.vanished("read", &full, error))?;
        self.numbers(&[attributes.len() as u64]);
        for (name, value) in &attributes {
            self.text(name);
            self.text(value);
        }
        let seconds = u64::try_from(about.ctime()).unwrap_or(0);
        let nanoseconds = u32::try_from(about.ctime_nsec()).unwrap_or(0);
        self.newest = self.newest.max(Duration::new(seconds, nanoseconds));
        Ok(())
    }

    fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash.update(number.to_le_bytes());
        }
    }

    /// With its length before it, so that nothing can be taken for its neighbour.
    fn text(&mut self, text: &[u8]) {
        self.hash.update((text.len() as u64).to_le_bytes());
        self.hash.update(text);
    }

    /// What was there a moment ago and is not: somebody is at work.
    fn vanished(&self, what: &'static str, path: &Path, error: std::io::Error) -> ImageError {
        if error.kind() == std::io::ErrorKind::NotFound {
            return ImageError::Changing { path: self.root.to_path_buf() };
        }
        ImageError::io(what, path)(error)
    }

    fn too_much(&self, what: &'static str, max: u64) -> ImageError {
        ImageError::TooMuch { path: self.root.to_path_buf(), what, max }
    }
}
