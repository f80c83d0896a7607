//! Containers, as far as the daemon has to do with them: what is left of one whose agent is gone. Everything else is the
//! agent's: it calls the OCI runtime, and is the parent of what comes of it.
//!
//! The OCI runtime is not asked here: what it made beside processes is a cgroup, which is killed and removed as any
//! run's is, and a directory in which it remembers the container. Mounts and namespaces go with the last process.

use std::path::Path;

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
    let Ok(claims) = std::fs::read_dir(state.with_file_name(USERS_DIRECTORY)) else { return };
    for claim in claims.flatten() {
        if std::fs::read(claim.path()).is_ok_and(|owner| owner == name.as_bytes()) {
            let _ = std::fs::remove_file(claim.path());
        }
    }
}
