//! The run directory: `run.json` before the program starts, room for the end made before that, the end written into
//! that room in one piece. Nothing here syncs unless it is asked to.
//!
//! The directory is made ahead of need, in the sandbox, and *moved* to `run/<run id>`; when the end is on the node's
//! disk it is moved on to the next run's name, or back if there is none. Making and deleting files for each run is what a file system is slow
//! at: ext4 looks, for each new file, past every inode that was freed in the last seconds, which took 1 ms of a 2 ms
//! job at 700 jobs a second.

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hostler_linux::streams;
use hostler_model::RunId;
use hostler_model::launch::Launch;
use hostler_model::rundir::{EXIT_FILE, ExecEnd, ExitFile, Outcome, RUN_FILE, RunFile};
use hostler_wire::exit_file;

use crate::shared::Shared;

/// Room made for the end, bytes: an exit is about 400, a failure names a path.
const EXIT_RESERVED: u32 = 2_048;

/// What is known of a run before there is anything of it: in this sandbox, in the group that was asked for.
pub(crate) fn run_file(launch: &Launch, shared: &Shared) -> RunFile {
    RunFile {
        store: shared.config.store,
        run: launch.run,
        namespace: launch.namespace.clone(),
        sandbox: shared.config.sandbox,
        boot_id: shared.config.boot_id.clone(),
        agent: shared.config.own,
        main: None,
        cgroup: launch.cgroup.clone(),
        container: None,
        vm: None,
        exit_reserved: EXIT_RESERVED,
    }
}
/// Size of `run.json`, bytes, unless it needs more: it is about 450.
const RUN_SIZE: usize = 1_024;
/// Name of the directory in the sandbox while no run has it.
const SPARE: &str = "spare";

/// A run directory that no run has.
pub(crate) struct Spare {
    /// Where it is: at home, or still under the name of its last run, whose end is recorded.
    path: PathBuf,
    home: PathBuf,
    run: File,
    exit: File,
    /// A longer record than the room that was made for it was written.
    long: Cell<bool>,
}

/// The directory of one run.
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// Where it goes when nobody needs it.
    home: PathBuf,
    run: File,
    exit: File,
    long: Cell<bool>,
}

/// Writes a run's first file; whether it is longer than others are.
fn write_run(to: &File, file: &RunFile) -> io::Result<bool> {
    // Padded over whatever an earlier run wrote here: cutting the file would cost a journal entry for each run.
    let mut json = serde_json::to_vec(file)?;
    let is_long = json.len() > RUN_SIZE;
    json.resize(json.len().max(RUN_SIZE), b' ');
    to.write_all_at(&json, 0)?;
    Ok(is_long)
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl Spare {
    /// Makes one in the sandbox, with room for the end.
    pub(crate) fn create(sandbox: &Path) -> io::Result<Self> {
        let path = sandbox.join(SPARE);
        DirBuilder::new().mode(0o700).create(&path)?;
        let files = || {
            let run = create_file(&path.join(RUN_FILE))?;
            let exit = create_file(&path.join(EXIT_FILE))?;
            streams::reserve(&exit, EXIT_RESERVED as usize)?;
            io::Result::Ok((run, exit))
        };
        match files() {
            Ok((run, exit)) => Ok(Self { home: path.clone(), path, run, exit, long: Cell::new(false) }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// Says who runs here and takes the run's name, which must be free. What it says is complete before it can be found
    /// by that name. Opens and closes nothing, so that a child may do it that shares our memory.
    pub(crate) fn name(&self, root: &Path, file: &RunFile) -> io::Result<()> {
        self.long.set(self.long.get() || write_run(&self.run, file)?);
        streams::rename_new(&self.path, &root.join(file.run.to_string()))
    }

    /// Has taken the run's name.
    pub(crate) fn bound(self, root: &Path, run: RunId) -> RunDirectory {
        let Self { home, run: run_file, exit, long, .. } = self;
        RunDirectory { path: root.join(run.to_string()), home, run: run_file, exit, long }
    }

    /// Out of the node's sight.
    pub(crate) fn go_home(mut self) -> Option<Self> {
        if self.path == self.home {
            return Some(self);
        }
        if std::fs::rename(&self.path, &self.home).is_err() {
            self.remove();
            return None;
        }
        self.path.clone_from(&self.home);
        Some(self)
    }

    /// Removes it.
    pub(crate) fn remove(self) {
        remove(&self.path);
    }
}

impl RunDirectory {
    /// Says anew who runs here, when that was not known before.
    pub(crate) fn identify(&self, file: &RunFile) -> io::Result<()> {
        self.long.set(self.long.get() || write_run(&self.run, file)?);
        Ok(())
    }

    /// Records the end, and those of execs that the node has not recorded, if there is room for them.
    pub(crate) fn write_exit(&self, run: RunId, outcome: Outcome, execs: &[ExecEnd]) -> io::Result<()> {
        let write = |execs: &[ExecEnd]| {
            let file = ExitFile { run, outcome: outcome.clone(), execs: execs.to_vec() };
            let record = exit_file::encode(&file, EXIT_RESERVED as usize);
            if record.len() > EXIT_RESERVED as usize {
                self.long.set(true);
            }
            self.exit.write_all_at(&record, 0)
        };
        match write(execs) {
            // More than was reserved on a full disk. The run's own end always has its room.
            Err(_) if !execs.is_empty() => write(&[]),
            written => written,
        }
    }

    /// Brings the record to the disk itself, its name too.
    pub(crate) fn sync(&self) {
        // What fails here is reported by nobody: the daemon has the end from us, or finds what there is.
        let _ = self.exit.sync_all();
        let _ = File::open(&self.path).and_then(|directory| directory.sync_all());
        if let Some(root) = self.path.parent() {
            let _ = File::open(root).and_then(|directory| directory.sync_all());
        }
    }

    /// The run is over and recorded: ready for the next. [`Spare::go_home`] when there is none right now.
    pub(crate) fn release(self) -> Option<Spare> {
        // A longer record than the room that was made is cut, so that no tail of it stays.
        let cut = [(&self.run, RUN_SIZE as u64), (&self.exit, u64::from(EXIT_RESERVED))]
            .into_iter()
            .filter(|_| self.long.get())
            .try_for_each(|(file, size)| if file.metadata()?.len() > size { file.set_len(size) } else { Ok(()) });
        let long = Cell::new(false);
        let spare = Spare { path: self.path, home: self.home, run: self.run, exit: self.exit, long };
        match cut {
            Ok(()) => Some(spare),
            Err(_) => {
                spare.remove();
                None
            }
        }
    }
}

/// Removes the files that belong in such a directory, and the directory.
fn remove(path: &Path) {
    for name in [RUN_FILE, EXIT_FILE] {
        let _ = std::fs::remove_file(path.join(name));
    }
    let _ = std::fs::remove_dir(path);
}
