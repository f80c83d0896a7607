//! The project's text files, read once and handed to every rule.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One text file.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Relative to the project's root, with `/`.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl TextFile {
    /// Whether it is Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it lies in this directory.
    pub(crate) fn is_in(&self, directory: &str) -> bool {
        self.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Where the project lies: this crate's parent directory.
pub(crate) fn project_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// Hidden directories that belong to the project.
const HIDDEN_BUT_OURS: [&str; 3] = [".ci", ".config", ".github"];

/// Reads every text file below `root`, sorted by path; build output and hidden directories of tools are left out.
pub(crate) fn read(root: &Path) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let skipped = name == "target" || (name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str()));
            if !skipped {
                collect(root, &entry.path(), files)?;
            }
        } else if kind.is_file() {
            // A file that vanishes between listing and reading belongs to an editor.
            let Ok(bytes) = fs::read(entry.path()) else { continue };
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let path = entry.path().strip_prefix(root)?.to_string_lossy().into_owned();
            files.push(TextFile { path, text });
        }
    }
    Ok(())
}
