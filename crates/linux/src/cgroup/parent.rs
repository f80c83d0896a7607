//! The node's own group in each hierarchy: making, listing and removing groups.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostler_model::NodeTag;
use hostler_model::resources::Limits;

use super::limit::{self, Change};
use super::oci::Oci;
use super::{AGENTS, CgroupError, Controller, Group, Hierarchies, Place, Version, explain, files, is_name, v1, v2};

/// The node's own group, `h<tag>`, in every hierarchy it needs. The only place where groups are made or removed.
///
/// Cheap to clone. The daemon calls [`Parent::available`] once when it starts, which makes the groups above; agents
/// get theirs by [`Parent::from_arg`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent(pub(super) Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inner {
    pub(super) version: Version,
    /// `…/h<tag>` in each hierarchy.
    pub(super) places: Vec<Place>,
    /// Where OCI runtimes make groups beside these.
    pub(super) oci: Oci,
    /// The groups of the configured parent, top first; made when they are missing, never removed.
    pub(super) above: Vec<PathBuf>,
    /// v2: groups that must hand controllers down to `h<tag>`, top first.
    pub(super) chain: Vec<PathBuf>,
    /// Why a controller that exists cannot be used.
    pub(super) obstacles: Vec<(Controller, String)>,
}

impl Parent {
    /// Names the groups; does not touch the system. `configured` is a path under each hierarchy's mount.
    #[must_use]
    pub fn new(hierarchies: &Hierarchies, configured: Option<&str>, tag: NodeTag) -> Self {
        let mut inner = Inner {
            version: hierarchies.version,
            places: Vec::new(),
            oci: Oci::default(),
            above: Vec::new(),
            chain: Vec::new(),
            obstacles: Vec::new(),
        };
        let parts = configured.map(|path| clean_parts(path).ok_or(path));
        for mount in &hierarchies.mounts {
            let base = match (&parts, &mount.own) {
                (Some(Ok(parts)), _) => {
                    let mut group = mount.point.clone();
                    inner.chain.push(group.clone());
                    for part in parts {
                        group.push(part);
                        inner.above.push(group.clone());
                        inner.chain.push(group.clone());
                    }
                    Ok(group)
                }
                (Some(Err(path)), _) => Err(format!("cgroup.parent {path:?} is not a plain relative path")),
                (None, Some(own)) => {
                    inner.chain.push(own.clone());
                    Ok(own.clone())
                }
                (None, None) => Err(format!(
                    "the mount at {} does not show the group we are in; name a group under it as cgroup.parent",
                    mount.point.display()
                )),
            };
            match base {
                Ok(base) => inner
                    .places
                    .push(Place { controllers: mount.controllers.clone(), directory: base.join(format!("h{tag}")) }),
                Err(why) => inner.obstacles.extend(mount.controllers.iter().map(|held| (*held, why.clone()))),
            }
        }
        if inner.version != Version::V2 {
            inner.chain.clear();
        }
        inner.oci = Oci::new(hierarchies, &inner.places);
        Self(Arc::new(inner))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// v2: everything above and `h<tag>` itself.
    pub(super) fn chain(&self) -> Vec<&Path> {
        let own = self.0.places.iter().map(|place| place.directory.as_path());
        self.0.chain.iter().map(PathBuf::as_path).chain(own).collect()
    }

    /// Makes the group `name` with these limits. Whatever was made is removed when it fails.
    ///
    /// Each hierarchy that has a use (statistics, killing) is taken when it can be had; only one that a limit asks for
    /// must be. On v1 hierarchies that cost something (cpu, cpuset, blkio) are taken only for a limit. A limit above that
    /// of a group further up is no error; the smaller one counts.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        if !is_name(name) {
            return Err(CgroupError::name(name));
        }
        let mut group = Group::new(self.0.version, name, self.children_named(name));
        let mut fresh = Vec::new();
        let made = self
            .make_places(&mut group, limits, &mut fresh)
            .and_then(|()| limit::apply(&group, limits, Change::of_new()));
        match made.map_err(|error| self.with_reason(error)) {
            Ok(()) => Ok(group),
            Err(error) => {
                for directory in fresh {
                    let _ = fs::remove_dir(directory);
                }
                Err(error)
            }
        }
    }

    fn make_places(&self, group: &mut Group, limits: &Limits, fresh: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
        if self.0.version == Version::V2
            && let Some(place) = self.0.places.first()
            && !v2::hands_down(&place.directory, limits)
        {
            let _ = make_directory(&place.directory);
            v2::hand_down(&self.chain());
        }
        let mut refused = None;
        let version = self.0.version;
        for (place, made) in group.places_mut() {
            let asked = place.controllers.iter().find_map(|held| limit::asked(*held, limits));
            if asked.is_none() && place.is_on_demand(version) {
                continue;
            }
            let parent = place.directory.parent().unwrap_or(Path::new("/"));
            let outcome = match fs::create_dir(&place.directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(parent).and_then(|()| fs::create_dir(&place.directory))
                }
                outcome => outcome,
            };
            match outcome {
                Ok(()) => fresh.push(place.directory.clone()),
                // Left over. Names are never given twice, so whoever is in it does not belong there.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let busy = files::processes(&place.directory).map(|pids| !pids.is_empty());
                    if busy.map_err(|error| CgroupError::io("list", &place.directory, error))? {
                        return Err(CgroupError::Busy { path: place.directory.clone() });
                    }
                }
                Err(error) => {
                    let why = explain("make", &place.directory, &error);
                    if let Some(limit) = asked {
                        return Err(CgroupError::Unavailable { limit, why });
                    }
                    refused = Some(why);
                    continue;
                }
            }
            if version == Version::V1 && place.holds(Controller::Cpuset) {
                v1::fill_cpuset(&place.directory).map_err(|error| CgroupError::Unavailable {
                    limit: "cpuset",
                    why: explain("fill", &place.directory, &error),
                })?;
            }
            *made = true;
        }
        if group.places_mut().any(|(_, made)| *made) {
            return Ok(());
        }
        let why = refused.or_else(|| self.0.obstacles.first().map(|(_, why)| why.clone()));
        Err(CgroupError::NoHierarchy { why: why.unwrap_or_else(|| "no usable hierarchy is mounted".to_owned()) })
    }

    /// A limit's file or controller was not there: says why the controller is not.
    fn with_reason(&self, error: CgroupError) -> CgroupError {
        let CgroupError::Unavailable { limit, why } = error else { return error };
        let (available, more) = (self.available(), self.available_more());
        let reason = match limit {
            "memory" => available.memory,
            "cpu" | "cpu shares" => available.cpu,
            "pids" => available.pids,
            "memory swap" => more.swap,
            "cpuset" => more.cpuset,
            "blkio" => more.device_rates,
            _ => Ok(()),
        };
        CgroupError::Unavailable { limit, why: reason.err().unwrap_or(why) }
    }

    /// The group `name`, whether it exists or not, and whoever made it; does not touch the system. With a name that
    /// cannot be one, every operation on it fails.
    #[must_use]
    pub fn open(&self, name: &str) -> Group {
        let mut places = Vec::new();
        if is_name(name) {
            places = self.children_named(name);
            places.extend(self.0.oci.places.iter().map(|place| child(place, name)));
        }
        Group::new(self.0.version, name, places)
    }

    /// The group `name` as far as it exists now: what is asked of it costs no look at places where it is not.
    #[must_use]
    pub fn find(&self, name: &str) -> Group {
        let mut group = self.open(name);
        group.keep_existing();
        group
    }

    fn children_named(&self, name: &str) -> Vec<Place> {
        self.0.places.iter().map(|place| child(place, name)).collect()
    }

    /// Moves the calling process, which has one thread, into the agents' group, so that no run's end takes it along.
    /// Without any hierarchy there is nothing to join, and that is fine.
    pub fn join_agents(&self) -> Result<(), CgroupError> {
        let agents = Group::new(self.0.version, AGENTS, self.children_named(AGENTS));
        for place in self.children_named(AGENTS) {
            if place.is_on_demand(self.0.version) {
                continue;
            }
            let made = make_directory(&place.directory).or_else(|error| match place.directory.parent() {
                Some(parent) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(parent).and_then(|()| make_directory(&place.directory))
                }
                _ => Err(error),
            });
            // The run's groups will say more about a hierarchy that cannot be used.
            if self.0.version == Version::V2 {
                made.map_err(|error| CgroupError::io("make", &place.directory, error))?;
            }
        }
        match agents.join_self() {
            _ if self.0.places.is_empty() => Ok(()),
            Err(CgroupError::Missing { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Names of the groups that exist, in any hierarchy; for cleaning after a crash.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for place in self.0.places.iter().chain(&self.0.oci.places) {
            let Ok(entries) = fs::read_dir(&place.directory) else { continue };
            let groups = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            names.extend(groups.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name)));
        }
        names.into_iter().collect()
    }

    /// Removes the node's group everywhere. The runs' groups must be gone; one that is left is an error.
    pub fn remove(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for place in &self.0.places {
            for directory in [&place.directory.join(AGENTS), &place.directory] {
                match fs::remove_dir(directory) {
                    Err(error) if !files::is_gone(&error) => outcome = Err(error),
                    _ => {}
                }
            }
        }
        outcome.and(self.remove_oci())
    }
}

fn child(place: &Place, name: &str) -> Place {
    Place { controllers: place.controllers.clone(), directory: place.directory.join(name) }
}

/// Makes a group unless it exists.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// The parts of a configured path; a leading `/` is the top of the hierarchy as well.
fn clean_parts(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let parts: Vec<_> = path.split('/').collect();
    let clean = parts.iter().all(|part| !part.is_empty() && *part != "." && *part != ".." && !part.contains('\0'));
    clean.then_some(parts)
}
