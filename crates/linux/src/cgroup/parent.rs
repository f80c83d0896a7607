//! The node's own group in each hierarchy: what can be limited there, and the making, listing and removing of groups.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use hostler_model::NodeTag;
use hostler_model::spec::Limits;

use super::{
    AGENTS, Availability, CgroupError, Controller, Group, Hierarchies, Place, Version, explain, files, is_name, v2,
};

/// The node's own group, `h<tag>`, in every hierarchy it needs. The only place where groups are made or removed.
///
/// Cheap to clone. The daemon calls [`Parent::available`] once when it starts, which makes the groups above; agents
/// get theirs by [`Parent::from_arg`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    version: Version,
    /// `…/h<tag>` in each hierarchy.
    places: Vec<Place>,
    /// The groups of the configured parent, top first; made when they are missing, never removed.
    above: Vec<PathBuf>,
    /// v2: groups that must hand controllers down to `h<tag>`, top first.
    chain: Vec<PathBuf>,
    /// Why a controller that exists cannot be used.
    obstacles: Vec<(Controller, String)>,
}

impl Parent {
    /// Names the groups; does not touch the system. `configured` is a path under each hierarchy's mount.
    #[must_use]
    pub fn new(hierarchies: &Hierarchies, configured: Option<&str>, tag: NodeTag) -> Self {
        let mut inner = Inner {
            version: hierarchies.version,
            places: Vec::new(),
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
        Self(Arc::new(inner))
    }

    /// What can be limited here, found out by making the node's group.
    #[must_use]
    pub fn available(&self) -> Availability {
        for group in &self.0.above {
            // A failure shows when the group below cannot be made.
            let _ = fs::create_dir(group);
        }
        let probe = |controller, file: &str| self.probe(controller, file);
        match self.0.version {
            Version::V2 => Availability {
                memory: probe(Controller::Memory, "memory.max"),
                cpu: probe(Controller::Cpu, "cpu.max"),
                pids: probe(Controller::Pids, "pids.max"),
            },
            Version::V1 | Version::None => Availability {
                memory: probe(Controller::Memory, "memory.limit_in_bytes"),
                cpu: probe(Controller::Cpu, "cpu.cfs_quota_us"),
                pids: probe(Controller::Pids, "pids.max"),
            },
        }
    }

    fn probe(&self, controller: Controller, file: &str) -> Result<(), String> {
        if let Some((_, why)) = self.0.obstacles.iter().find(|(held, _)| *held == controller) {
            return Err(why.clone());
        }
        let Some(place) = self.0.places.iter().find(|place| place.holds(controller)) else {
            let name = controller.v1_name();
            return Err(match self.0.version {
                Version::None => {
                    "no cgroup hierarchy with controllers is mounted; mount cgroup2 at /sys/fs/cgroup".into()
                }
                _ => format!("no mounted hierarchy has the {name} controller; mount it, or enable it in the kernel"),
            });
        };
        make_directory(&place.directory).map_err(|error| explain("make", &place.directory, &error))?;
        if self.0.version == Version::V2 {
            let chain = self.chain();
            v2::hand_down(&chain);
            v2::handed_down(&chain, controller)?;
            return Ok(());
        }
        let path = place.directory.join(file);
        rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).map_err(|error| explain("write", &path, &error.into()))
    }

    /// v2: everything above and `h<tag>` itself.
    fn chain(&self) -> Vec<&Path> {
        let own = self.0.places.iter().map(|place| place.directory.as_path());
        self.0.chain.iter().map(PathBuf::as_path).chain(own).collect()
    }

    /// Makes the group `name` with these limits. Whatever was made is removed when it fails.
    ///
    /// Each hierarchy that has a use (statistics, killing) is taken when it can be had; only one that a limit asks for
    /// must be. On v1 a cpu hierarchy of its own is taken only for a limit: sitting there would forbid real-time
    /// scheduling. A limit above that of a group further up is no error; the smaller one counts.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        if !is_name(name) {
            return Err(CgroupError::name(name));
        }
        let mut group = self.open(name);
        let mut fresh = Vec::new();
        let made = self.make_places(&mut group, limits, &mut fresh).and_then(|()| group.set_limits(limits));
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
            && !v2::hands_down_all(&place.directory)
        {
            let _ = make_directory(&place.directory);
            v2::hand_down(&self.chain());
        }
        let mut refused = None;
        for (place, made) in group.places_mut() {
            let asked = place.controllers.iter().find_map(|held| limit_name(*held, limits));
            if asked.is_none() && place.controllers == [Controller::Cpu] {
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
        let available = self.available();
        let reason = match limit {
            "memory" => available.memory,
            "cpu" => available.cpu,
            _ => available.pids,
        };
        CgroupError::Unavailable { limit, why: reason.err().unwrap_or(why) }
    }

    /// The group `name`, whether it exists or not; does not touch the system. With a name that cannot be one, every
    /// operation on it fails.
    #[must_use]
    pub fn open(&self, name: &str) -> Group {
        let places = if is_name(name) { self.children_named(name) } else { Vec::new() };
        Group::new(self.0.version, name, places)
    }

    /// The path of the group `name` within the hierarchies, for an OCI configuration's `cgroupsPath`.
    #[must_use]
    pub fn oci_path(&self, name: &str) -> Option<String> {
        let place = self.0.places.iter().find(|place| place.holds(Controller::Memory)).or(self.0.places.first())?;
        let parts = place.directory.components().skip(if self.0.version == Version::V2 { 4 } else { 5 });
        let inner: PathBuf = parts.collect();
        Some(format!("/{}/{name}", inner.display()))
    }

    fn children_named(&self, name: &str) -> Vec<Place> {
        let child =
            |place: &Place| Place { controllers: place.controllers.clone(), directory: place.directory.join(name) };
        self.0.places.iter().map(child).collect()
    }

    /// Moves the calling process, which has one thread, into the agents' group, so that no run's end takes it along.
    /// Without any hierarchy there is nothing to join, and that is fine.
    pub fn join_agents(&self) -> Result<(), CgroupError> {
        let agents = Group::new(self.0.version, AGENTS, self.children_named(AGENTS));
        for place in self.children_named(AGENTS) {
            if self.0.version == Version::V1 && place.controllers == [Controller::Cpu] {
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
        for place in &self.0.places {
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
        outcome
    }

    /// One word for a command line, such as `v1;memory=/sys/fs/cgroup/memory/h00ff12;cpu,cpuacct=…`.
    #[must_use]
    pub fn to_arg(&self) -> String {
        let mut text = match self.0.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::None => "none",
        }
        .to_owned();
        for place in &self.0.places {
            let names: Vec<_> = place.controllers.iter().map(|held| held.v1_name()).collect();
            text.push(';');
            if self.0.version == Version::V1 {
                text.push_str(&names.join(","));
            }
            text.push('=');
            text.push_str(&escape(&place.directory));
        }
        text
    }

    /// Reads what [`Parent::to_arg`] made. Takes only plain absolute paths that end in a node's group, the same in all
    /// hierarchies.
    pub fn from_arg(text: &str) -> Result<Self, CgroupError> {
        let bad = |why| CgroupError::Argument { text: text.chars().take(200).collect(), why };
        let mut fields = text.split(';');
        let version = match fields.next() {
            Some("v1") => Version::V1,
            Some("v2") => Version::V2,
            Some("none") => Version::None,
            _ => return Err(bad("it must begin with v1, v2 or none")),
        };
        let mut places: Vec<Place> = Vec::new();
        for field in fields {
            let (names, path) = field.split_once('=').ok_or_else(|| bad("expected controllers=path"))?;
            let directory = unescape(path).ok_or_else(|| bad("a bad escape in a path"))?;
            let controllers = match version {
                Version::V1 => names.split(',').map(controller_named).collect::<Option<Vec<_>>>(),
                Version::V2 => (names.is_empty() && places.is_empty()).then(|| Controller::ALL.to_vec()),
                Version::None => None,
            };
            let controllers = controllers.ok_or_else(|| bad("a controller that is not known or does not fit"))?;
            if places.iter().any(|place| controllers.iter().any(|held| place.holds(*held))) {
                return Err(bad("a controller is named twice"));
            }
            let plain = directory.strip_prefix("/").is_ok_and(|rest| {
                rest.components().all(|part| matches!(part, Component::Normal(_)))
                    && !directory.as_os_str().as_bytes().split(|byte| *byte == b'/').any(|part| part == b".")
            });
            let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let tagged = name.strip_prefix('h').is_some_and(|tag| tag.parse::<NodeTag>().is_ok());
            if !plain || !tagged {
                return Err(bad("a path must be absolute and plain and end in h<node tag>"));
            }
            if places.first().is_some_and(|first| first.directory.file_name() != directory.file_name()) {
                return Err(bad("the paths name different nodes"));
            }
            places.push(Place { controllers, directory });
        }
        Ok(Self(Arc::new(Inner { version, places, above: Vec::new(), chain: Vec::new(), obstacles: Vec::new() })))
    }
}

/// Makes a group unless it exists.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// The limit that a hierarchy is needed for, if one is asked.
fn limit_name(controller: Controller, limits: &Limits) -> Option<&'static str> {
    match controller {
        Controller::Memory => limits.memory_bytes.map(|_| "memory"),
        Controller::Cpu => limits.cpu_millis.map(|_| "cpu"),
        Controller::Pids => limits.pids.map(|_| "pids"),
        Controller::Cpuacct | Controller::Freezer => None,
    }
}

fn controller_named(name: &str) -> Option<Controller> {
    Controller::ALL.into_iter().find(|held| held.v1_name() == name)
}

/// The parts of a configured path; a leading `/` is the top of the hierarchy as well.
fn clean_parts(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let parts: Vec<_> = path.split('/').collect();
    let clean = parts.iter().all(|part| !part.is_empty() && *part != "." && *part != ".." && !part.contains('\0'));
    clean.then_some(parts)
}

/// Bytes that would end a field, or that are not plain text, as `%41`.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b';' | b'%' | 0..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02x}")),
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let value = u8::from_str_radix(part.get(..2)?, 16).ok().filter(|byte| *byte != 0)?;
        out.push(value);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(out)))
}
