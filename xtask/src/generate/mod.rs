//! Files made from the code and checked in, so that readers need no build and reviews show what changed.
//!
//! - [`openapi`]: `docs/openapi.json`, from the table of endpoints and the types' schemas
//! - [`config`]: `docs/config.schema.json`, from the configuration's type
//! - [`stack`]: `docs/stack.schema.json`, from the type of stack files
//! - [`command_line`]: man pages and completions, from the arguments of `hostler`
//!
//! A test fails when one of them is stale; `make generate` writes them again.

mod command_line;
mod config;
mod openapi;
mod stack;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tree;

/// A file as it should be.
pub(crate) struct Generated {
    /// Relative to the project's root.
    pub(crate) path: String,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

impl Generated {
    fn json(path: &str, value: &serde_json::Value) -> Result<Self> {
        let mut content = serde_json::to_vec_pretty(value)?;
        content.push(b'\n');
        Ok(Self { path: path.to_owned(), content })
    }
}

fn all() -> Result<Vec<Generated>> {
    let mut files = vec![openapi::generate()?, config::generate()?, stack::generate()?];
    files.extend(command_line::generate()?);
    Ok(files)
}

/// Files of an earlier generation that none is made of any more.
fn left_over(root: &Path, files: &[Generated]) -> Result<Vec<String>> {
    let paths = tree::read(root)?.into_iter().map(|file| file.path).filter(|path| command_line::is_ours(path));
    Ok(paths.filter(|path| !files.iter().any(|file| file.path == *path)).collect())
}

/// Writes every file that is not as it should be, and removes those that nothing makes any more.
pub(crate) fn write(root: &Path) -> Result<()> {
    let files = all()?;
    for path in left_over(root, &files)? {
        fs::remove_file(root.join(&path)).with_context(|| format!("removing {path}"))?;
        println!("removed: {path}");
    }
    for file in files {
        let path = root.join(&file.path);
        if fs::read(&path).is_ok_and(|content| content == file.content) {
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        }
        fs::write(&path, &file.content).with_context(|| format!("writing {}", file.path))?;
        println!("written: {}", file.path);
    }
    Ok(())
}

/// What is not as it should be, one line each.
pub(crate) fn stale(root: &Path) -> Result<Vec<String>> {
    let is_stale = |file: &Generated| !fs::read(root.join(&file.path)).is_ok_and(|content| content == file.content);
    let complaint = |file: Generated| format!("{}: is stale: run make generate", file.path);
    let files = all()?;
    let mut complaints: Vec<String> = left_over(root, &files)?
        .into_iter()
        .map(|path| format!("{path}: is made by nothing any more: run make generate"))
        .collect();
    complaints.extend(files.into_iter().filter(is_stale).map(complaint));
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_fresh() {
        let stale = stale(&tree::project_root()).expect("everything can be generated");
        assert!(stale.is_empty(), "{}", stale.join("\n"));
    }
}
