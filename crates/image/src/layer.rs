//! The disk that a guest may write to: an empty ext4 in a file that takes only the space that is written. Formatting takes a
//! while, so a formatted one of each size is kept and copied, which takes milliseconds.
//!
//! Without a journal: a layer lives as long as its guest, and a guest that dies takes it along.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hostler_linux::files;
use hostler_model::limits;

use crate::lock::{self, Leftover};
use crate::{ImageError, program};

/// Sizes are multiples of this, bytes: so there are not too many of them.
const GRAIN: u64 = 1024 * 1024;
const LOCK: &str = "layer.lock";
const PREFIX: &str = "layer-";
const SUFFIX: &str = ".ext4";

/// Makes a layer of this size, rounded up to whole MiB, at `path`, where nothing may be yet. Only its owner may read it.
/// `cache` is where formatted ones are kept. Errors: a size out of bounds, no `mkfs.ext4`, something at `path`.
pub fn create(cache: &Path, path: &Path, size_bytes: u64) -> Result<(), ImageError> {
    if !(limits::LAYER_MIN..=limits::LAYER_MAX).contains(&size_bytes) {
        let why = format!("a layer has from {} to {} bytes, not {size_bytes}", limits::LAYER_MIN, limits::LAYER_MAX);
        return Err(ImageError::unusable(path, why));
    }
    let template = template(cache, size_bytes.next_multiple_of(GRAIN))?;
    let new = path.with_added_extension("new");
    lock::remove(&new)?;
    let _gone = Leftover::new(&new);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    made.and_then(|made| files::copy_sparse(&template, &made)).map_err(ImageError::io("write", &new))?;
    // Unlike a rename, this replaces nothing.
    std::fs::hard_link(&new, path).map_err(ImageError::io("make", path))
}

/// The formatted file of this size, open; an open one may be removed meanwhile.
fn template(cache: &Path, size_bytes: u64) -> Result<File, ImageError> {
    let path = cache.join(format!("{PREFIX}{size_bytes}{SUFFIX}"));
    if let Ok(file) = File::open(&path) {
        return Ok(file);
    }
    lock::directory(cache, 0o700)?;
    let _lock = lock::take(&cache.join(LOCK), limits::LAYER_WAIT_MAX_MS)?;
    if let Ok(file) = File::open(&path) {
        return Ok(file);
    }
    let new = cache.join(format!("{PREFIX}new"));
    lock::remove(&new)?;
    let leftover = Leftover::new(&new);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    made.and_then(|made| made.set_len(size_bytes)).map_err(ImageError::io("write", &new))?;
    format(&new)?;
    lock::put(&new, &path)?;
    leftover.keep();
    lock::keep_newest(cache, (PREFIX, SUFFIX), &path, limits::LAYER_TEMPLATES_MAX)?;
    File::open(&path).map_err(ImageError::io("open", &path))
}

fn format(path: &Path) -> Result<(), ImageError> {
    let mend = "layers are formatted by it; install it (Debian: apt-get install e2fsprogs)";
    let mkfs = program::find("mkfs.ext4", mend)?;
    // In a new sparse file the tables are zero already, which `discard` lets it find out: it writes none of them, and
    // neither does the guest. No blocks are kept back for root, and the root directory is root's.
    let options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "discard,lazy_itable_init=1,root_owner=0:0"];
    let path = std::path::absolute(path).map_err(ImageError::io("find", path))?;
    let arguments: Vec<&OsStr> = options.iter().map(OsStr::new).chain([path.as_os_str()]).collect();
    program::call(Path::new("/"), &mkfs, &arguments, limits::UNPACK_MAX_MS).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{FileSystem, format_of};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn layers_are_formatted_sparse_and_private() {
        if hostler_linux::tool::find("mkfs.ext4").is_none() {
            println!("skipped: no mkfs.ext4");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let cache = place.path().join("cache");
        let size = 4 << 30;
        let paths = ["one", "two", "three"].map(|name| place.path().join(name));
        for path in &paths {
            let began = std::time::Instant::now();
            create(&cache, path, size - 1).unwrap();
            println!("{} after {:?}", path.display(), began.elapsed());
            let about = std::fs::metadata(path).unwrap();
            assert_eq!((about.len(), about.mode() & 0o777, about.nlink()), (size, 0o600, 1));
            assert!(about.blocks() * 512 < 8 << 20, "{} blocks", about.blocks());
            assert_eq!(format_of(path).unwrap(), FileSystem::Ext4);
        }
        // Whole, as e2fsck sees it.
        if let Some(check) = hostler_linux::tool::find("e2fsck") {
            let arguments = [OsStr::new("-fn"), paths[2].as_os_str()];
            program::call(Path::new("/"), &check, &arguments, 60_000).unwrap();
        }
        assert!(create(&cache, &paths[0], size).unwrap_err().to_string().contains("File exists"));
        let names = std::fs::read_dir(place.path()).unwrap().count();
        assert_eq!(names, 4, "three layers and the cache");
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2, "a template and the lock");
    }

    #[test]
    fn sizes_have_bounds() {
        let place = tempfile::tempdir().unwrap();
        for size in [0, limits::LAYER_MIN - 1, limits::LAYER_MAX + 1, u64::MAX] {
            let error = create(place.path(), &place.path().join("x"), size).unwrap_err().to_string();
            assert!(error.contains("a layer has from"), "{error}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_sizes_are_not_kept() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..limits::LAYER_TEMPLATES_MAX + 5 {
            std::fs::write(place.path().join(format!("{PREFIX}{number}{SUFFIX}")), "").unwrap();
        }
        let current = place.path().join(format!("{PREFIX}0{SUFFIX}"));
        lock::keep_newest(place.path(), (PREFIX, SUFFIX), &current, limits::LAYER_TEMPLATES_MAX).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), limits::LAYER_TEMPLATES_MAX);
        assert!(place.path().join(format!("{PREFIX}0{SUFFIX}")).exists());
    }
}
