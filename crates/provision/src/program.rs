//! Whether a program is there, asked before work is accepted, so that a typing error is an answer and not an end.
//! Only for the node's owner: for anybody else the question could tell what is in directories that he cannot read;
//! his start fails as himself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hostler_model::spec::Spec;
use hostler_model::{Problem, ProblemKind};

use crate::launch::DEFAULT_PATH;

/// Checks working directory and program of a spec against this machine as it is now.
pub fn check(spec: &Spec) -> Result<(), Problem> {
    // They may be anywhere then; its start will tell.
    if spec.isolation.as_ref().is_some_and(|isolation| !isolation.volumes.is_empty()) {
        return Ok(());
    }
    let workdir = spec.workdir.as_ref().map_or(Path::new("/"), |dir| dir.as_path());
    if !workdir.is_dir() {
        let detail = format!("workdir {} is not a directory on this machine", workdir.display());
        return Err(Problem::new(ProblemKind::InvalidSpec, detail));
    }
    let Some(program) = spec.command.first() else { return Ok(()) };
    let path = spec.env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![workdir.join(program.as_path())]
    } else {
        let path = path.unwrap_or(DEFAULT_PATH.as_bytes());
        path.split(|byte| *byte == b':')
            .map(|dir| if dir.is_empty() { workdir.to_owned() } else { workdir.join(OsStr::from_bytes(dir)) })
            .map(|dir| dir.join(program.as_path()))
            .collect()
    };
    let mut unusable = None;
    for candidate in &candidates {
        match std::fs::metadata(candidate) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return Ok(()),
            Ok(found) if found.is_file() || candidates.len() == 1 => unusable = Some(candidate),
            _ => {}
        }
    }
    let shown = program.to_string_lossy();
    Err(match unusable {
        Some(candidate) => {
            let what = if candidate.is_dir() { "is a directory" } else { "is not executable" };
            let detail = format!("{} {what}; make it executable with: chmod +x", candidate.display());
            let detail = if candidate.is_dir() { format!("{} {what}", candidate.display()) } else { detail };
            Problem::new(ProblemKind::CommandNotExecutable, detail)
        }
        None if candidates.len() == 1 => {
            Problem::new(ProblemKind::CommandNotFound, format!("there is no program {shown}"))
        }
        None => Problem::new(
            ProblemKind::CommandNotFound,
            format!(
                "there is no program {shown:?} in PATH ({})",
                String::from_utf8_lossy(path.unwrap_or(DEFAULT_PATH.as_bytes()))
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(command: &str, env: &[&str], workdir: Option<&Path>) -> Option<ProblemKind> {
        let mut spec = Spec::new(vec![command.into()]);
        spec.env = env.iter().map(|entry| (*entry).into()).collect();
        spec.workdir = workdir.map(|dir| dir.as_os_str().into());
        check(&spec).err().map(|problem| problem.kind)
    }

    #[test]
    fn finds_what_execve_would_find() {
        let dir = tempfile::tempdir().expect("temp dir");
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "x").expect("write");
        assert_eq!(kind("sh", &[], None), None);
        assert_eq!(kind("/bin/sh", &[], None), None);
        assert_eq!(kind("no-such-program", &[], None), Some(ProblemKind::CommandNotFound));
        assert_eq!(kind("/no/such", &[], None), Some(ProblemKind::CommandNotFound));
        assert_eq!(kind("sh", &["PATH=/nowhere"], None), Some(ProblemKind::CommandNotFound));
        assert_eq!(kind("/", &[], None), Some(ProblemKind::CommandNotExecutable));
        assert_eq!(kind("./plain", &[], Some(dir.path())), Some(ProblemKind::CommandNotExecutable));
        assert_eq!(kind("sh", &[], Some(&plain)), Some(ProblemKind::InvalidSpec));
    }
}
