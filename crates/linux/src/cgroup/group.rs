//! One group: joining, limits, statistics, freezing, removal. Ending everything in it is in `kill`.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hostler_model::resources::Limits;

use super::limit::{self, Change};
use super::{
    AGENTS, CgroupError, Controller, GroupStats, Place, Version, explain, files, is_name, kill, place, v1, v2,
};

/// How long [`Group::freeze`] waits, milliseconds.
const FREEZE_WAIT_MS: u64 = 100;
/// Passes over a group's processes when they move to a hierarchy joined late; each pass moves what was forked meanwhile.
const MOVE_PASSES_MAX: usize = 16;
/// How long a removal waits for the last process to be gone for good, milliseconds: the kernel lets go of it a moment
/// after it is listed no more.
const REMOVE_WAIT_MS: u64 = 20;

/// A run's own group, existing or not. Opened by name through [`super::Parent`].
#[derive(Debug, Clone)]
pub struct Group {
    version: Version,
    name: String,
    places: Vec<Place>,
    /// For each place: made by us just now, so that not finding it is an error.
    made: Vec<bool>,
}

impl Group {
    pub(super) fn new(version: Version, name: &str, places: Vec<Place>) -> Self {
        let made = vec![false; places.len()];
        Self { version, name: name.to_owned(), places, made }
    }

    pub(super) fn places_mut(&mut self) -> impl Iterator<Item = (&Place, &mut bool)> {
        self.places.iter().zip(self.made.iter_mut())
    }

    /// Forgets places where it is not, except those that a limit may still bring it to.
    pub(super) fn keep_existing(&mut self) {
        let version = self.version;
        let mut kept = Vec::new();
        for place in &self.places {
            let again = place.controllers.iter().any(|held| kept.iter().any(|known: &Place| known.holds(*held)));
            if place.directory.is_dir() || (place.is_on_demand(version) && !again) {
                kept.push(place.clone());
            }
        }
        self.made = vec![false; kept.len()];
        self.places = kept;
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Its name under the node's group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The places, once the name has proved to be one.
    pub(super) fn places(&self) -> Result<&[Place], CgroupError> {
        // Only `Parent` itself makes the agents' group, and gives it places.
        let own = self.name == AGENTS && !self.places.is_empty();
        if own || is_name(&self.name) { Ok(&self.places) } else { Err(CgroupError::name(&self.name)) }
    }

    pub(super) fn place(&self, controller: Controller) -> Option<&Path> {
        place(&self.places, controller)
    }

    /// The directory that freezes, and kills on v2.
    pub(super) fn freezer(&self) -> Option<&Path> {
        self.place(Controller::Freezer)
    }

    /// Whether it exists in any hierarchy.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.places.iter().any(|place| place.directory.is_dir())
    }

    /// Moves the calling process into the group, everywhere. It must have one thread: this is for a forked child
    /// before it executes.
    pub fn join_self(&self) -> Result<(), CgroupError> {
        self.join("0")
    }

    /// Moves another process into the group, everywhere. It must have one thread, as above.
    pub fn join_process(&self, pid: u32) -> Result<(), CgroupError> {
        self.join(&pid.to_string())
    }

    fn join(&self, who: &str) -> Result<(), CgroupError> {
        // v1: `tasks` moves the calling thread without the lock that makes `cgroup.procs` wait for a grace period
        // of RCU (7 ms measured); for one thread both say the same.
        let file = if self.version == Version::V1 { "tasks" } else { "cgroup.procs" };
        let mut joined = false;
        for (place, made) in self.places()?.iter().zip(&self.made) {
            let path = place.directory.join(file);
            match files::write(&path, who) {
                Ok(()) => joined = true,
                Err(error) if files::is_gone(&error) && !made => {}
                Err(error) => return Err(CgroupError::io("join", &path, error)),
            }
        }
        if joined { Ok(()) } else { Err(CgroupError::Missing { name: self.name.clone() }) }
    }

    /// Applies the limits that are named; the others stay as they are. All of them or, when one of them cannot be given,
    /// none.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), CgroupError> {
        self.places()?;
        limit::apply(self, limits, Change::of_running())
    }

    /// Brings the group's processes to a hierarchy where it did not exist until now.
    pub(super) fn move_all_to(&self, place: &Path, limit: &'static str) -> Result<(), CgroupError> {
        let path = place.join("cgroup.procs");
        let mut moved = BTreeSet::new();
        for _ in 0..MOVE_PASSES_MAX {
            let before = moved.len();
            for pid in self.pids()? {
                if moved.insert(pid)
                    && let Err(error) = files::write(&path, &pid.to_string())
                    && error.raw_os_error() != Some(libc::ESRCH)
                {
                    return Err(CgroupError::Unavailable { limit, why: explain("write", &path, &error) });
                }
            }
            if moved.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// What it uses and has used.
    pub fn stats(&self) -> Result<GroupStats, CgroupError> {
        let places = self.places()?;
        if !self.exists() {
            return Err(CgroupError::Missing { name: self.name.clone() });
        }
        let mut stats = match (self.version, places.first()) {
            (Version::V2, Some(place)) => v2::stats(&place.directory),
            _ => v1::stats(places),
        };
        // Nobody counts: no pids controller. Then processes stand for processes and threads.
        if stats.pids == 0 {
            stats.pids = u32::try_from(self.members()?.len()).unwrap_or(u32::MAX);
        }
        Ok(stats)
    }

    /// The processes in it and in groups below it, in every hierarchy, sorted. Zombies are not among them.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for place in self.places()? {
            let found = files::processes(&place.directory);
            pids.extend(found.map_err(|error| CgroupError::io("list", &place.directory, error))?);
        }
        Ok(pids.into_iter().collect())
    }

    /// The processes in it as one hierarchy lists them, sorted: cheaper than [`Group::pids`], and the same unless the
    /// workload itself moves processes about.
    pub fn members(&self) -> Result<Vec<u32>, CgroupError> {
        let places = self.places()?;
        let held = places.iter().find(|place| !place.is_on_demand(self.version) && place.directory.exists());
        let Some(place) = held else { return Ok(Vec::new()) };
        let mut pids =
            files::processes(&place.directory).map_err(|error| CgroupError::io("list", &place.directory, error))?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// Whether nothing runs in it.
    pub(super) fn is_empty(&self) -> Result<bool, CgroupError> {
        let place = self.places()?.first().filter(|_| self.version == Version::V2);
        if let Some(empty) = place.and_then(|place| v2::is_empty(&place.directory)) {
            return Ok(empty);
        }
        self.pids().map(|pids| pids.is_empty())
    }

    /// One pass of killing all that is in it, however fast it forks; returns whether it is empty now. Call again
    /// until it is. Takes 100 ms at most, mostly much less; leaves the group thawed. A group that does not exist is empty.
    pub fn kill_all(&self) -> Result<bool, CgroupError> {
        kill::kill_all(self)
    }

    /// How many processes were killed because the group ran out of memory; 0 when nobody counts.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let Some(place) = self.place(Controller::Memory) else { return 0 };
        if self.version == Version::V2 { v2::oom_kills(place) } else { v1::oom_kills(place) }
    }

    /// A descriptor, nonblocking and closed on exec, that becomes readable when the group runs out of memory. It tells
    /// *that* something happened, on v1 even a moment before the kill: ask [`Group::oom_kills`], at the end again.
    pub fn oom_watch(&self) -> Result<OwnedFd, CgroupError> {
        self.places()?;
        let place = self
            .place(Controller::Memory)
            .ok_or(CgroupError::NoController { operation: "watch for out-of-memory", controller: "memory" })?;
        if self.version == Version::V2 { v2::oom_watch(place) } else { v1::oom_watch(place) }
    }

    /// Stops everything in it where it stands. When that takes longer than 100 ms it is undone and an error.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.freeze_within(Duration::from_millis(FREEZE_WAIT_MS))
    }

    /// The same with a deadline of the caller's. Waits in this thread.
    pub fn freeze_within(&self, limit: Duration) -> Result<(), CgroupError> {
        self.refuse_own("freeze")?;
        let freezer = self.freezer_for("freeze")?;
        match kill::freeze_within(self, limit) {
            Ok(true) => Ok(()),
            outcome => {
                let _ = kill::thaw(self);
                match outcome {
                    Err(error) => Err(CgroupError::io("freeze", freezer, error)),
                    Ok(_) => {
                        let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                        Err(CgroupError::FreezeTimeout { path: freezer.to_path_buf(), waited_ms })
                    }
                }
            }
        }
    }

    /// Lets it run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer_for("thaw")?;
        kill::thaw(self).map_err(|error| CgroupError::io("thaw", freezer, error))
    }

    /// Whether all of it stands still.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let freezer = self.freezer_for("see whether it is frozen")?;
        let frozen = if self.version == Version::V2 { v2::is_frozen(freezer) } else { v1::is_frozen(freezer) };
        frozen.map_err(|error| CgroupError::io("read the state of", freezer, error))
    }

    fn freezer_for(&self, operation: &'static str) -> Result<&Path, CgroupError> {
        self.places()?;
        self.freezer().ok_or(CgroupError::NoController { operation, controller: "freezer" })
    }

    /// A frozen caller would never thaw itself.
    pub(super) fn refuse_own(&self, operation: &'static str) -> Result<(), CgroupError> {
        let inside = self.pids()?.binary_search(&std::process::id()).is_ok();
        if inside { Err(CgroupError::OwnGroup { operation, name: self.name.clone() }) } else { Ok(()) }
    }

    /// Removes the group in all hierarchies, groups below it first. What is missing is fine; what still holds a process
    /// is [`CgroupError::Busy`], after everything else was tried.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut outcome = Ok(());
        for place in self.places()? {
            // Mostly there is nothing below it, and looking costs more than trying.
            if fs::remove_dir(&place.directory).is_ok() {
                continue;
            }
            for directory in files::subtree(&place.directory).iter().rev() {
                if let Err(error) = remove_directory(directory) {
                    outcome = Err(error);
                }
            }
        }
        outcome
    }
}

fn remove_directory(directory: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + Duration::from_millis(REMOVE_WAIT_MS);
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if files::is_gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let occupied = files::processes(directory).is_ok_and(|pids| !pids.is_empty());
                if occupied || Instant::now() >= deadline {
                    return Err(CgroupError::Busy { path: directory.to_path_buf() });
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(CgroupError::io("remove", directory, error)),
        }
    }
}
