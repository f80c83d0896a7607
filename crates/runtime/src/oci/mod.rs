//! Containers, as far as the daemon has to do with them: what is left of one whose agent is gone. Everything else is the
//! agent's: it calls the OCI runtime, and is the parent of what comes of it.
//!
//! The OCI runtime is not asked here: what it made beside processes is a cgroup, which is killed and removed as any
//! run's is, and a directory in which it remembers the container. Mounts and namespaces go with the last process.

use std::path::{Path, PathBuf};

use hostler_model::RunId;
use hostler_model::rundir::USERS_DIRECTORY;

use crate::process::spawn::remove_dir;

/// Removes what the OCI runtime remembers of a run's container, and the user ids that it had. Nothing of it may run.
pub(crate) fn forget(state: &Path, run: RunId) {
    let name = run.to_string();
    let remembered = state.join(&name);
    if remembered.exists() {
        remove_dir(&remembered);
    }
    for (claim, _) in claims(state).into_iter().filter(|(_, owner)| *owner == run) {
        let _ = std::fs::remove_file(claim);
    }
}

/// Runs that have user ids for themselves.
pub(crate) fn owners(state: &Path) -> impl Iterator<Item = RunId> {
    claims(state).into_iter().map(|(_, owner)| owner)
}

fn claims(state: &Path) -> Vec<(PathBuf, RunId)> {
    let entries = std::fs::read_dir(state.with_file_name(USERS_DIRECTORY)).into_iter().flatten().flatten();
    let owned = entries.filter_map(|entry| {
        let owner = std::fs::read_link(entry.path()).ok()?.to_str()?.parse().ok()?;
        Some((entry.path(), owner))
    });
    owned.collect()
}
