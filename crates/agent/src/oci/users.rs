//! User ids of this machine that one container has for itself: 65,536 of them, claimed by a link that names its run, so
//! that no two containers of a node share any. A link is there whole or not at all, whoever is killed meanwhile.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use hostler_model::RunId;

/// The first id that is ever given: above those that people and distributions give to users and to others' containers.
const FIRST: u32 = 0x2000_0000;
/// Ids of one container.
pub(super) const COUNT: u32 = 65_536;
/// How many containers can have some.
const SLOTS: u32 = 32_768;
/// Slots tried before it is given up: live runs are far fewer than slots.
const TRIES: u32 = 256;

/// Ids that a container has.
pub(super) struct Claim {
    /// The first of them.
    pub(super) first: u32,
    path: PathBuf,
}

impl Claim {
    /// Takes some that nobody has.
    pub(super) fn take(directory: &Path, run: RunId) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let hash = run
            .workload
            .as_bytes()
            .iter()
            .fold(run.number, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        for offset in 0..TRIES {
            let slot = hash.wrapping_add(offset) % SLOTS;
            let path = directory.join(slot.to_string());
            match symlink(run.to_string(), &path) {
                Ok(()) => return Ok(Self { first: FIRST + slot * COUNT, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no user ids are left"))
    }

    /// Gives them back.
    pub(super) fn release(self) {
        let _ = std::fs::remove_file(self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = |number| RunId { workload: hostler_model::WorkloadId::from_bytes([7; 6]), number };
        let first = Claim::take(&dir.path().join("ids"), run(1)).expect("free");
        let again = Claim::take(&dir.path().join("ids"), run(1)).expect("another");
        assert_ne!(first.first, again.first);
        let freed = first.first;
        first.release();
        assert_eq!(Claim::take(&dir.path().join("ids"), run(1)).expect("free again").first, freed);
    }
}
