//! Reading and writing the small files of a cgroup directory, and walking its sub-groups.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Sub-groups looked at below one group; a workload with rights of its own may make some.
const SUBGROUPS_MAX: usize = 4_096;

pub(super) fn read(path: &Path) -> io::Result<String> {
    // Bytes first: a kernel file is ASCII, and what is not shall not be an error of its own.
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// One open, one write: a control file takes its value in a single `write`. Never makes a file.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(value.as_bytes())
}

pub(super) fn read_u64(path: &Path) -> io::Result<u64> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| {
        let shown: String = text.trim().chars().take(80).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("{shown:?} is not a number"))
    })
}

/// The number behind `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == key).then(|| words.next()?.parse().ok()).flatten()
    })
}

/// Gone: no directory, or (`ENODEV`) a directory removed while one of its files was open.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// `directory` and all groups below it, parents first. Missing ones are left out.
pub(super) fn subtree(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_path_buf()];
    let mut next = 0;
    while next < found.len() && found.len() < SUBGROUPS_MAX {
        if let Ok(entries) = fs::read_dir(&found[next]) {
            let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(below.map(|entry| entry.path()).take(SUBGROUPS_MAX));
        }
        next += 1;
    }
    found
}

/// The processes of a group and all groups below it. Those of foreign pid namespaces, which the kernel lists as 0,
/// are left out: 0 means "my own group" to `kill`.
pub(super) fn processes(directory: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for group in subtree(directory) {
        match read(&group.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok())),
            Err(error) if is_gone(&error) => {}
            // A threaded v2 group: its processes are listed by the group above it.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    pids.retain(|pid| *pid != 0);
    Ok(pids)
}
