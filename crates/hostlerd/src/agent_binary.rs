//! The agent that this daemon carries. It is installed under its hash, because agents of an older daemon may still
//! run theirs.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const AGENT: &[u8] = include_bytes!(env!("HOSTLER_AGENT"));
/// Digits of the hash in the file's name.
const NAME_DIGITS: usize = 16;

/// Installs the agent if it is not there yet; its path.
pub fn install(directory: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let hash: String = Sha256::digest(AGENT).iter().map(|byte| format!("{byte:02x}")).take(NAME_DIGITS / 2).collect();
    let path = directory.join(hash);
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == AGENT.len() as u64) {
        return Ok(path);
    }
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&new)?;
    file.write_all(AGENT)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&new, &path)?;
    Ok(path)
}

/// Removes agents of other builds that nobody runs any more.
pub fn remove_unused(directory: &Path, current: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // The kernel refuses to write to a program that runs ("text file busy").
        if path != current && std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
            tracing::info!(agent = %path.display(), "removing the agent of an older build");
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
