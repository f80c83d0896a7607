//! Which file system a file holds, by its magic number: somebody may give a finished image as a guest's root.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::ImageError;

/// What was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileSystem {
    /// EROFS, read-only.
    Erofs,
    /// SquashFS, read-only.
    Squashfs,
    /// ext4, or one of its forerunners.
    Ext4,
    /// Anything else.
    Other,
}

/// Where the magic number is, and what it is: `fs/erofs/erofs_fs.h`, `fs/squashfs/squashfs_fs.h`, `fs/ext4/ext4.h` of the
/// kernel.
const MAGICS: [(usize, &[u8], FileSystem); 3] = [
    (1_024, &0xe0f5_e1e2_u32.to_le_bytes(), FileSystem::Erofs),
    (0, b"hsqs", FileSystem::Squashfs),
    (1_080, &0xef53_u16.to_le_bytes(), FileSystem::Ext4),
];
/// What is read of the file, bytes.
const HEAD: usize = 2_048;

/// Looks at the file's beginning; links are followed. An error for what is no regular file.
pub fn format_of(path: &Path) -> Result<FileSystem, ImageError> {
    // A FIFO would hold us up at opening.
    if !std::fs::metadata(path).map_err(ImageError::io("look at", path))?.is_file() {
        return Err(ImageError::unusable(path, "is no regular file"));
    }
    let file = File::open(path).map_err(ImageError::io("open", path))?;
    let mut head = [0; HEAD];
    let mut length = 0;
    while length < HEAD {
        match file.read_at(&mut head[length..], length as u64).map_err(ImageError::io("read", path))? {
            0 => break,
            read => length += read,
        }
    }
    Ok(recognise(&head[..length]))
}

fn recognise(head: &[u8]) -> FileSystem {
    let found = MAGICS.iter().find(|(at, magic, _)| head.get(*at..*at + magic.len()) == Some(*magic));
    found.map_or(FileSystem::Other, |(_, _, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers() {
        for (at, magic, kind) in MAGICS {
            let mut head = vec![0; HEAD];
            head[at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(recognise(&head), kind);
            assert_eq!(recognise(&head[..at + 1]), FileSystem::Other);
            head[at] ^= 1;
            assert_eq!(recognise(&head), FileSystem::Other);
        }
        assert_eq!(recognise(&[]), FileSystem::Other);
        let place = tempfile::tempdir().unwrap();
        assert!(format_of(place.path()).is_err());
        assert!(format_of(&place.path().join("absent")).is_err());
        let short = place.path().join("short");
        std::fs::write(&short, "hs").unwrap();
        assert_eq!(format_of(&short).unwrap(), FileSystem::Other);
    }
}
