//! What the standard library does not do with files: copies that keep holes, extended attributes, two names that change
//! places.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    CWD, RenameFlags, SeekFrom, copy_file_range, ioctl_ficlone, lgetxattr, llistxattr, renameat_with, seek,
};
use rustix::io::Errno;

/// Longest list of names of extended attributes, and longest value, bytes: the kernel's own bound.
const ATTRIBUTE_MAX: usize = 65_536;
/// What is copied at one time where the kernel does not copy by itself, bytes.
const PIECE: usize = 128 * 1024;

/// Makes the empty file `to` the same as `from`, holes included: both share their blocks where the file system can do that,
/// else only what is no hole is copied.
pub fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(from, SeekFrom::Hole(data))?;
        copy_range(from, to, data, hole)?;
        at = hole;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let (mut read_at, mut write_at) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length) {
            Ok(copied) if copied > 0 => at += copied as u64,
            // Some file systems refuse it or answer nothing: then by hand.
            _ => {
                let mut piece = vec![0; length.min(PIECE)];
                from.read_exact_at(&mut piece, at)?;
                to.write_all_at(&piece, at)?;
                at += piece.len() as u64;
            }
        }
    }
    Ok(())
}

/// Extended attributes of what is at this path, a link itself, whose names begin with one of these. None where the file
/// system has none. In the order of their names.
pub fn attributes(path: &Path, prefixes: &[&str]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = Vec::with_capacity(ATTRIBUTE_MAX.min(1_024));
    match list(path, &mut names) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        other => other?,
    }
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes())) {
            continue;
        }
        let mut value = Vec::with_capacity(ATTRIBUTE_MAX);
        let c_name = CString::new(name).map_err(|_| io::ErrorKind::InvalidData)?;
        match lgetxattr(path, &*c_name, rustix::buffer::spare_capacity(&mut value)) {
            // Removed meanwhile, or one that may be named but not read.
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => {}
            other => {
                other?;
                found.push((name.to_vec(), value));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A list that is longer than what there is room for at first is asked for again.
fn list(path: &Path, names: &mut Vec<u8>) -> Result<(), Errno> {
    match llistxattr(path, rustix::buffer::spare_capacity(names)) {
        Err(Errno::RANGE) => {
            names.reserve(ATTRIBUTE_MAX);
            llistxattr(path, rustix::buffer::spare_capacity(names)).map(drop)
        }
        other => other.map(drop),
    }
}

/// Lets two names in the same file system change places, at once: nobody sees one of them missing.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// The path as the bytes it is.
#[must_use]
pub fn bytes(path: &Path) -> &[u8] {
    OsStr::as_bytes(path.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn holes_stay_holes() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            File::options()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(directory.path().join(name))
                .unwrap()
        };
        let from = open("from");
        let length = 64 << 20;
        for (at, text) in [(0, "begin"), (32 << 20, "middle"), (length - 3, "end")] {
            from.write_all_at(text.as_bytes(), at).unwrap();
        }
        let to = open("to");
        copy_sparse(&from, &to).unwrap();
        let about = to.metadata().unwrap();
        assert_eq!(about.len(), length);
        assert!(about.blocks() * 512 < 1 << 20, "{} blocks", about.blocks());
        for (at, text) in [(0, "begin"), (32 << 20, "middle"), (length - 3, "end")] {
            let mut read = vec![0; text.len()];
            to.read_exact_at(&mut read, at).unwrap();
            assert_eq!(read, text.as_bytes());
        }
        let (hole, other) = (open("hole"), open("other"));
        hole.set_len(12_345).unwrap();
        copy_sparse(&hole, &other).unwrap();
        assert_eq!(other.metadata().unwrap().len(), 12_345);
    }

    #[test]
    fn attributes_are_found_by_their_prefix() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert_eq!(attributes(&path, &["user."]).unwrap(), []);
        for (name, value) in [("user.b", "2"), ("user.a", "1")] {
            let set = rustix::fs::setxattr(&path, name, value.as_bytes(), rustix::fs::XattrFlags::empty());
            if let Err(error) = set {
                println!("skipped: no extended attributes here: {error}");
                return;
            }
        }
        let found = attributes(&path, &["user."]).unwrap();
        assert_eq!(found, [(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), b"2".to_vec())]);
        assert_eq!(attributes(&path, &["security."]).unwrap(), []);
    }

    #[test]
    fn names_change_places() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        std::fs::write(&one, "1").unwrap();
        std::fs::create_dir(&other).unwrap();
        exchange(&one, &other).unwrap();
        assert!(one.is_dir() && other.is_file());
        assert!(exchange(&one, &directory.path().join("absent")).is_err());
    }
}
