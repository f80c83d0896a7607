//! Where an OCI runtime makes the groups of a container: at one path, in *every* mounted hierarchy, whether we use it or
//! not. The path is that of the node's group where memory is limited. A v1 hierarchy in which the node's own group
//! is elsewhere, or none, so has a second place of the node, which is found, emptied and removed like the first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hierarchy::Mount;
use super::parent::make_directory;
use super::{CgroupError, Controller, Hierarchies, Parent, Place, Version, files, is_name, v1};

/// Marks groups above the node's that were made here, so that whoever is last removes them: an OCI runtime makes them in
/// hierarchies where nobody else has them.
const MADE_HERE: &str = "trusted.hostler";
/// Tries to make a path whose upper parts another node may be removing.
const ATTEMPTS_MAX: usize = 16;

/// The places that only OCI runtimes use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Oci {
    /// The node's group, absolute inside the hierarchies; empty where there are none.
    pub(super) path: PathBuf,
    /// `…/h<tag>` where it is not one of the node's own places.
    pub(super) places: Vec<Place>,
}

impl Oci {
    /// From what is mounted and the node's own places.
    pub(super) fn new(hierarchies: &Hierarchies, places: &[Place]) -> Self {
        let base = places.iter().find(|place| place.holds(Controller::Memory)).or(places.first());
        let mounts = || hierarchies.mounts.iter().chain(&hierarchies.others);
        let below = |mount: &Mount| base?.directory.strip_prefix(&mount.point).ok().map(Path::to_path_buf);
        // The deepest, should one hierarchy be mounted within another.
        let Some(rest) = mounts().filter_map(below).min_by_key(|rest| rest.components().count()) else {
            return Self::default();
        };
        let mut others = Vec::new();
        if hierarchies.version == Version::V1 {
            for mount in mounts() {
                let directory = mount.point.join(&rest);
                if !places.iter().chain(&others).any(|place| place.directory == directory) {
                    others.push(Place { controllers: mount.controllers.clone(), directory });
                }
            }
        }
        Self { path: Path::new("/").join(rest), places: others }
    }
}

/// Takes a wait off the OCI runtime that is being started meanwhile. Whoever moves a process by `cgroup.procs`, as all of
/// them do, waits for a grace period of RCU, unless somebody else has waited just before (9 ms measured; a warm
/// `runc exec` took 28 ms without and 17 ms with it). So this moves the calling process to where it is. Blocks as long.
pub fn expect_moves() -> Result<(), CgroupError> {
    let found = Hierarchies::detect()?;
    let Some(own) = found.mounts.iter().find_map(|mount| mount.own.as_deref()) else { return Ok(()) };
    let path = own.join("cgroup.procs");
    files::write(&path, "0").map_err(|error| CgroupError::io("write", &path, error))
}

impl Parent {
    /// What belongs into `cgroupsPath` of a container's configuration, so that its group is the one that
    /// [`Parent::open`] means by `name`. Makes the node's group in every hierarchy.
    #[must_use]
    pub fn oci_path(&self, name: &str) -> Option<String> {
        let inner = self.inner();
        if inner.places.is_empty() || !is_name(name) {
            return None;
        }
        let path = inner.oci.path.join(name).into_os_string().into_string().ok()?;
        let depth = inner.oci.path.components().count().saturating_sub(1);
        for place in &inner.oci.places {
            // What cannot be made here the runtime cannot make either, and says so.
            let _ = make_all(&place.directory, depth);
            if place.holds(Controller::Cpuset) {
                let _ = v1::fill_cpuset(&place.directory);
            }
        }
        for place in &inner.places {
            let made = make_directory(&place.directory);
            if made.is_ok() && inner.version == Version::V1 && place.holds(Controller::Cpuset) {
                let _ = v1::fill_cpuset(&place.directory);
            }
        }
        Some(path)
    }

    /// Removes the node's groups where only OCI runtimes make any, and those above that were made for them.
    pub(super) fn remove_oci(&self) -> io::Result<()> {
        let inner = self.inner();
        let depth = inner.oci.path.components().count().saturating_sub(1);
        let mut outcome = Ok(());
        for place in &inner.oci.places {
            match fs::remove_dir(&place.directory) {
                Err(error) if !files::is_gone(&error) => {
                    outcome = Err(error);
                    continue;
                }
                _ => {}
            }
            for above in place.directory.ancestors().skip(1).take(depth.saturating_sub(1)) {
                let is_ours = rustix::fs::getxattr(above, MADE_HERE, &mut [0u8; 8]).is_ok();
                // The kernel refuses it while another node needs it.
                if !is_ours || fs::remove_dir(above).is_err() {
                    break;
                }
            }
        }
        outcome
    }
}

/// Makes a group and up to `depth` - 1 above it.
fn make_all(directory: &Path, depth: usize) -> io::Result<()> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS_MAX {
        match fs::create_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 1 => outcome = Err(error),
            Err(error) => return Err(error),
        }
        let above: Vec<_> = directory.ancestors().skip(1).take(depth - 1).collect();
        for group in above.into_iter().rev() {
            if fs::create_dir(group).is_ok() {
                let _ = rustix::fs::setxattr(group, MADE_HERE, b"1", rustix::fs::XattrFlags::empty());
            }
        }
    }
    outcome
}
