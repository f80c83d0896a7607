//! Snapshots that machines are copied from: one of a pool's shape is booted, its guest waits, and its memory stays in a file
//! that every copy maps for itself.
//!
//! ```text
//!  <templates>/<key>.new/  memory, state ──written, synced──► <templates>/<key>/  memory, state, fingerprint
//! ```
//! The key is a hash of all that a snapshot depends on: the program that makes machines, the kernel, the agent, the root, the
//! shape. Whatever changes makes another one; those that no pool uses are removed.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostler_model::vm::Vm;

use super::{Purpose, Template};
use crate::agent::Agent;
use crate::guests::{Driver, GuestError};
use crate::microvm::{SnapshotFiles, Vmm as _};
use crate::process::Shared;
use crate::process::spawn::new_sandbox_id;

/// The words that the key is a hash of.
const FINGERPRINT: &str = "fingerprint";

/// A snapshot that is being made.
#[derive(Debug, Clone)]
pub(super) struct Unmade {
    /// Where, until it is whole.
    new: PathBuf,
    /// Where, then.
    path: PathBuf,
    fingerprint: String,
}

fn files_in(directory: &Path) -> SnapshotFiles {
    SnapshotFiles { state: directory.join("state"), memory: Some(directory.join("memory")) }
}

impl Unmade {
    pub(super) fn files(&self) -> SnapshotFiles {
        files_in(&self.new)
    }

    fn finish(&self) -> std::io::Result<SnapshotFiles> {
        fs::write(self.new.join(FINGERPRINT), &self.fingerprint)?;
        let _ = fs::remove_dir_all(&self.path);
        fs::rename(&self.new, &self.path)?;
        Ok(files_in(&self.path))
    }
}

/// FNV-1a, 128 bits, of what only we write: a change must be seen, and no collision be sought.
fn key(text: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("{hash:032x}")
}

/// The snapshot if it is there, else where it is to be made.
fn look(shared: &Shared, shape: &Vm) -> Result<Result<SnapshotFiles, Unmade>, GuestError> {
    let fingerprint = shared.guests.fingerprint(shape)?;
    let templates = shared.guests.templates();
    let path = templates.join(key(&fingerprint));
    if fs::read_to_string(path.join(FINGERPRINT)).is_ok_and(|found| found == fingerprint) {
        return Ok(Ok(files_in(&path)));
    }
    let new = path.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&new);
    made.map_err(|source| GuestError::Io { what: format!("cannot make {}", new.display()), source })?;
    Ok(Err(Unmade { new, path, fingerprint }))
}

impl Shared {
    /// Looks for the snapshot of a pool, and has it made if there is none.
    pub(super) fn make_template(self: &Arc<Self>, pool: String, shape: Vm) {
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            let (looking, of) = (Arc::clone(&shared), shape.clone());
            let found = shared.handle.spawn_blocking(move || look(&looking, &of)).await;
            match found {
                Ok(Ok(Ok(files))) => shared.template_ready(&pool, files),
                Ok(Ok(Err(unmade))) => {
                    let sandbox = {
                        let state = shared.state();
                        new_sandbox_id(|id| state.agents.contains_key(&id) || state.warm.has(id))
                    };
                    shared.make_warm(pool, shape, sandbox, Purpose::Template(unmade));
                }
                Ok(Err(error)) => shared.no_template(&pool, &error.to_string()),
                Err(_) => shared.no_template(&pool, "the daemon is going down"),
            }
        });
    }

    fn template_ready(self: &Arc<Self>, pool: &str, files: SnapshotFiles) {
        let mut state = self.state();
        if let Some(pool) = state.warm.pools.get_mut(pool) {
            pool.template = Template::Ready(files);
            pool.problem = None;
        }
        self.refill(&mut state);
    }

    fn no_template(self: &Arc<Self>, pool: &str, why: &str) {
        tracing::warn!(pool, why, "the snapshot of a pool cannot be made");
        let now_ms = self.now_ms();
        if let Some(pool) = self.state().warm.pools.get_mut(pool) {
            pool.template = Template::Unknown;
            pool.problem = Some(why.to_owned());
            pool.slots.failed_without_slot(now_ms);
        }
    }

    /// The guest of a machine stands ready to be copied: its memory becomes the snapshot, and it ends.
    pub(crate) fn suspended(self: &Arc<Self>, agent: &Arc<Agent>) {
        let mut state = self.state();
        let is_template = state
            .warm
            .pending
            .get(&agent.sandbox)
            .is_some_and(|pending| matches!(pending.purpose, Purpose::Template(_)));
        let Some(pending) = is_template.then(|| state.warm.pending.remove(&agent.sandbox)).flatten() else { return };
        drop(state);
        let Purpose::Template(unmade) = pending.purpose else { return };
        let (shared, agent) = (Arc::clone(self), Arc::clone(agent));
        self.handle.spawn(async move {
            let written = write(&pending.driver, &unmade).await;
            // It ends with its snapshot; one that does not is ended.
            agent.send(&hostler_wire::ToAgent::Quit);
            match written {
                Ok(files) => shared.template_ready(&pending.pool, files),
                Err(why) => {
                    let _ = fs::remove_dir_all(&unmade.new);
                    shared.no_template(&pending.pool, &why);
                }
            }
        });
    }
}

async fn write(driver: &Driver, unmade: &Unmade) -> Result<SnapshotFiles, String> {
    driver.vmm.pause(&driver.place).await.map_err(|error| error.to_string())?;
    driver.vmm.snapshot(&driver.place, &unmade.files()).await.map_err(|error| error.to_string())?;
    let unmade = unmade.clone();
    let finished = tokio::task::spawn_blocking(move || unmade.finish()).await;
    match finished {
        Ok(Ok(files)) => Ok(files),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the daemon is going down".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn keys_differ_where_their_words_do() {
        assert_ne!(key("a"), key("b"));
        assert_eq!(key("").len(), 32);
    }
}
