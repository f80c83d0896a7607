//! The ballast: a file beside the store that is given up when the disk is full, so that there is room to record ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hostler_model::limits;

/// The file `ballast` beside a store, of [`limits::BALLAST`] bytes.
#[derive(Debug, Clone)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// The ballast of the store at this path. Touches nothing.
    #[must_use]
    pub fn beside(store: &Path) -> Self {
        Self { path: store.with_file_name("ballast") }
    }

    /// Whether it is there, whole.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.is_file() && found.len() >= limits::BALLAST)
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// What the system answered; then nothing is left behind, and a full disk is no fuller than before.
    pub fn ensure(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let unfinished = self.path.with_extension("new");
        let result = fill(&unfinished).and_then(|()| fs::rename(&unfinished, &self.path));
        if result.is_err() {
            // It may not even be there; the error to tell is the first one.
            let _ = fs::remove_file(&unfinished);
        }
        result?;
        sync_directory(&self.path)
    }

    /// Gives it up. Says whether there was one.
    ///
    /// # Errors
    /// What the system answered.
    pub fn release(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => sync_directory(&self.path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Real blocks: a length alone would be a hole, and zeros would vanish on a file system that compresses.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut block = [0; 64 * 1024];
    // Marsaglia's xorshift64.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = limits::BALLAST as usize;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            word.copy_from_slice(&noise.to_le_bytes());
        }
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    file.sync_all()
}

/// Makes a new name in the path's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
