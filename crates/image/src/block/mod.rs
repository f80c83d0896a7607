//! A directory as a read-only disk: made once for what is in the directory, kept in a cache, and shared by all guests.
//!
//! ```text
//! ensure ─ key of the tree ─ there? ──yes──────────────────────────▶ held ─ BlockImage
//!              ▲              │no                                     ▲
//!              │              ▼                                       │
//!              │        lock of the key ─ there meanwhile? ──yes──────┤
//!              │              │no                                     │
//!              │              ▼                                       │
//!              └── changed ─ mkfs ─ key again ─ the same ─ rename ────┘
//! ```
//!
//! Whoever has a [`BlockImage`] or a [`Hold`] holds a shared lock on the file; [`remove_unused`] removes only what nobody
//! holds. A lock ends with its holder: who finds guests again after his own death names their images as kept.
//!
//! - `tree`: the key; `make`: mkfs.erofs or mksquashfs; `format`: which file system a file holds
//!
//! Not here: who may have an image made. The tree is read with our own rights, so the caller must have looked whether the
//! person who asks may read it.

mod format;
mod make;
mod tree;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use hostler_model::limits;

pub use self::format::{FileSystem, format_of};
use crate::lock::{self, Leftover};
use crate::{ImageError, hex};

/// Which read-only file system an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Made by `mkfs.erofs`.
    Erofs,
    /// Made by `mksquashfs`.
    Squashfs,
}

impl Format {
    /// As `mount -t` calls it; also the suffix of the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        }
    }
}

/// What an image was made of, as a SHA-256: every path, with what `lstat` says of it, its link's target and its extended
/// attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey([u8; 32]);

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// This is no key: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key of an image is 64 lower-case hexadecimal digits")]
pub struct InvalidKey;

impl FromStr for ImageKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let bytes = text.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidKey),
        };
        if bytes.len() != 64 {
            return Err(InvalidKey);
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(bytes.chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(key))
    }
}

/// Bounds of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// Files, directories, links, devices: all that has a name.
    pub entries_max: u64,
    /// Bytes of its files.
    pub bytes_max: u64,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self { entries_max: limits::BLOCK_ENTRIES_MAX, bytes_max: limits::BLOCK_BYTES_MAX }
    }
}

/// Keeps an image from being removed, as long as this or a copy of it lives.
#[derive(Debug, Clone)]
pub struct Hold(Arc<File>);

/// The image, open for reading. A process that inherits it holds the image too.
impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An image that is there, held.
#[derive(Debug, Clone)]
pub struct BlockImage {
    /// Its file: readable by all who get at it; the directory lets only its owner in.
    pub path: PathBuf,
    /// What it holds.
    pub format: Format,
    /// What it was made of.
    pub key: ImageKey,
    hold: Hold,
}

impl BlockImage {
    /// A hold that outlives this.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }
}

/// The image of what is in this directory now, made if there is none. Links are not followed, and what is mounted in it is
/// left out. Blocks, for as long as the tree is large; at most [`limits::BLOCK_BUILD_MAX_MS`], and
/// [`limits::BLOCK_WAIT_MAX_MS`] for somebody else who makes the same.
///
/// Errors: no program to make it with, a bound passed, a tree that something writes to, and whatever the system refuses.
pub fn ensure(cache: &Path, directory: &Path, limits: BlockLimits) -> Result<BlockImage, ImageError> {
    /// A tree that was written to is tried once more.
    const ATTEMPTS: usize = 2;
    for _ in 0..ATTEMPTS {
        let tree = tree::survey(directory, limits)?;
        if let Some(image) = find(cache, tree.key)? {
            return Ok(image);
        }
        lock::directory(cache, 0o700)?;
        let _lock = lock::take(&lock_of(cache, tree.key), limits::BLOCK_WAIT_MAX_MS)?;
        if let Some(image) = find(cache, tree.key)? {
            return Ok(image);
        }
        let new = cache.join(format!("{}.new", tree.key));
        lock::remove(&new)?;
        let leftover = Leftover::new(&new);
        let made = make::make(directory, &new, &tree.mounts);
        if tree::survey(directory, limits)?.key != tree.key {
            continue;
        }
        let format = made?;
        lock::put(&new, &path_of(cache, tree.key, format))?;
        leftover.keep();
        if let Some(image) = find(cache, tree.key)? {
            return Ok(image);
        }
    }
    Err(ImageError::Changing { path: directory.to_path_buf() })
}

fn path_of(cache: &Path, key: ImageKey, format: Format) -> PathBuf {
    cache.join(format!("{key}.{}", format.name()))
}

/// Some keys share a lock, so that there are not more lock files than these.
fn lock_of(cache: &Path, key: ImageKey) -> PathBuf {
    cache.join(format!("{:02x}.lock", key.0[0]))
}

/// How long a hold waits for one who just looks whether the image is unused, milliseconds.
const HOLD_MAX_MS: u64 = 5_000;

/// The image of this key, if there is one. For those who know the key of a guest's image from before.
pub fn find(cache: &Path, key: ImageKey) -> Result<Option<BlockImage>, ImageError> {
    for format in [Format::Erofs, Format::Squashfs] {
        let path = path_of(cache, key, format);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.map_err(ImageError::io("open", &path))?,
        };
        lock::wait(&path, HOLD_MAX_MS, || file.try_lock_shared())?;
        // It may have been removed between the two steps above.
        if lock::is_at(&file, &path).map_err(ImageError::io("look at", &path))? {
            return Ok(Some(BlockImage { path, format, key, hold: Hold(Arc::new(file)) }));
        }
    }
    Ok(None)
}

/// What [`remove_unused`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Images.
    pub images: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes images that are neither kept nor held by anybody, and what makers left that died.
pub fn remove_unused(cache: &Path, keep: &HashSet<ImageKey>) -> Result<Removed, ImageError> {
    let entries = match std::fs::read_dir(cache) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Removed::default()),
        entries => entries.map_err(ImageError::io("read", cache))?,
    };
    let mut removed = Removed::default();
    for entry in entries {
        let path = entry.map_err(ImageError::io("read", cache))?.path();
        let parts = path.file_name().and_then(std::ffi::OsStr::to_str).and_then(|name| name.split_once('.'));
        let Some((key, suffix)) = parts.and_then(|(key, suffix)| Some((key.parse::<ImageKey>().ok()?, suffix))) else {
            continue;
        };
        if suffix == "new" {
            // Whoever makes it has its lock.
            if let Some(_lock) = lock::take_now(&lock_of(cache, key))? {
                lock::remove(&path)?;
            }
        } else if !keep.contains(&key) && [Format::Erofs, Format::Squashfs].iter().any(|format| format.name() == suffix)
        {
            let bytes = remove_free(&path)?;
            removed.images += u64::from(bytes.is_some());
            removed.bytes += bytes.unwrap_or(0);
        }
    }
    Ok(removed)
}

/// Removes an image that nobody holds; its bytes, if it did.
fn remove_free(path: &Path) -> Result<Option<u64>, ImageError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(ImageError::io("open", path))?,
    };
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        locked => locked.map_err(|error| ImageError::io("lock", path)(error.into()))?,
    }
    if !lock::is_at(&file, path).map_err(ImageError::io("look at", path))? {
        return Ok(None);
    }
    let bytes = file.metadata().map_err(ImageError::io("look at", path))?.len();
    lock::remove(path)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
