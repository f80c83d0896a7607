//! Making an image, by the first of two programs that is there. Nothing is compressed: guests read faster so, and the host
//! keeps one copy in its memory for all of them.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hostler_linux::{files, tool};
use hostler_model::limits;

use super::Format;
use crate::{ImageError, program};

/// Makes `new` of what is in `directory` but not below `mounts`, which are paths in it.
pub(super) fn make(directory: &Path, new: &Path, mounts: &[PathBuf]) -> Result<Format, ImageError> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(ImageError::io("find", path));
    let (directory, new) = (absolute(directory)?, absolute(new)?);
    let (program, format) = choose(tool::find)?;
    let arguments = match format {
        Format::Erofs => erofs(&directory, &new, mounts),
        Format::Squashfs => squashfs(&directory, &new, mounts),
    };
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    program::call(Path::new("/"), &program, &arguments, limits::BLOCK_BUILD_MAX_MS)?;
    // Guests of other users read it; the cache's directory keeps out whoever was not given it.
    std::fs::set_permissions(&new, Permissions::from_mode(0o444)).map_err(ImageError::io("open to readers", &new))?;
    Ok(format)
}

fn choose(find: impl Fn(&str) -> Option<PathBuf>) -> Result<(PathBuf, Format), ImageError> {
    let erofs = find("mkfs.erofs").map(|program| (program, Format::Erofs));
    erofs.or_else(|| find("mksquashfs").map(|program| (program, Format::Squashfs))).ok_or(ImageError::NoProgram {
        program: "mkfs.erofs (or mksquashfs)",
        mend: "install it (Debian: apt-get install erofs-utils, or squashfs-tools)",
    })
}

/// Its patterns are regular expressions for paths in the tree; a mount's directory stays, what is in it does not.
fn erofs(directory: &Path, new: &Path, mounts: &[PathBuf]) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-d1")];
    arguments.extend(mounts.iter().map(|mount| joined(b"--exclude-regex=^", mount, b"/")));
    arguments.extend([new.as_os_str(), directory.as_os_str()].map(OsStr::to_os_string));
    arguments
}

/// Its patterns are those of a shell, in which a star is not for names that begin with a dot. Its own
/// `-one-file-system` leaves out the directories as well.
fn squashfs(directory: &Path, new: &Path, mounts: &[PathBuf]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [directory.as_os_str(), new.as_os_str()].map(OsStr::to_os_string).into();
    // Inodes, ids, data, fragments, attributes: none of them compressed.
    let flags = ["-noappend", "-quiet", "-no-progress", "-noI", "-noId", "-noD", "-noF", "-noX"];
    arguments.extend(flags.map(OsString::from));
    if !mounts.is_empty() {
        arguments.extend(["-wildcards", "-e"].map(OsString::from));
        let patterns = |mount: &PathBuf| [joined(b"", mount, b"/*"), joined(b"", mount, b"/.*")];
        arguments.extend(mounts.iter().flat_map(patterns));
    }
    arguments
}

/// A pattern in which every sign of the path stands for itself.
fn joined(before: &[u8], path: &Path, after: &[u8]) -> OsString {
    let mut pattern = before.to_vec();
    for byte in files::bytes(path) {
        if byte.is_ascii_punctuation() && !b"/_-<>'`".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.extend(after);
    OsString::from_vec(pattern)
}

/// For tests: whichever of the two.
#[cfg(test)]
pub(super) fn make_with(format: Format, directory: &Path, new: &Path, mounts: &[PathBuf]) -> Result<(), ImageError> {
    let (name, arguments) = match format {
        Format::Erofs => ("mkfs.erofs", erofs(directory, new, mounts)),
        Format::Squashfs => ("mksquashfs", squashfs(directory, new, mounts)),
    };
    let program = program::find(name, "nothing")?;
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    program::call(Path::new("/"), &program, &arguments, limits::BLOCK_BUILD_MAX_MS).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn the_first_that_is_there() {
        let find = |there: &'static str| move |name: &str| (name == there).then(|| PathBuf::from("/x").join(name));
        assert_eq!(choose(find("mkfs.erofs")).unwrap().1, Format::Erofs);
        assert_eq!(choose(find("mksquashfs")).unwrap().1, Format::Squashfs);
        let error = choose(find("none")).unwrap_err().to_string();
        assert!(error.contains("erofs-utils") && error.contains("squashfs-tools"), "{error}");
    }

    #[test]
    fn names_of_mounts_are_no_patterns() {
        let (directory, new, mounts) = (Path::new("/d"), Path::new("/n"), [PathBuf::from("a.b/c*[x]")]);
        assert_eq!(erofs(directory, new, &mounts)[1], OsStr::from_bytes(br"--exclude-regex=^a\.b/c\*\[x\]/"));
        let last = [br"a\.b/c\*\[x\]/*".as_slice(), br"a\.b/c\*\[x\]/.*"].map(OsStr::from_bytes);
        assert!(squashfs(directory, new, &mounts).ends_with(&last.map(OsStr::to_os_string)));
        assert!(squashfs(directory, new, &[]).iter().all(|argument| argument != "-e"));
    }
}
