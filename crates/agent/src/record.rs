//! The run directory: `run.json` before the program starts, room for the end made before that, the end written into
//! that room in one piece. Nothing here syncs unless it is asked to.
//!
//! The directory is made ahead of need, in the sandbox, and *moved* to `run/<run id>`; when the end is on the node's
//! disk it is moved back and serves the next run. Making and deleting files for each run is what a file system is slow
//! at: ext4 looks, for each new file, past every inode that was freed in the last seconds, which took 1 ms of a 2 ms
//! job at 700 jobs a second.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hostler_linux::streams;
use hostler_model::RunId;
use hostler_model::rundir::{EXIT_FILE, ExitFile, Outcome, RUN_FILE, RunFile};
use hostler_wire::exit_file;

/// Room made for the end, bytes: an exit is about 400, a failure names a path.
pub(crate) const EXIT_RESERVED: u32 = 2_048;
/// Size of `run.json`, bytes, unless it needs more: it is about 450.
const RUN_SIZE: usize = 1_024;
/// Name of the directory in the sandbox while no run has it.
const SPARE: &str = "spare";

/// A run directory that no run has yet.
pub(crate) struct Spare {
    path: PathBuf,
    run: File,
    exit: File,
}

/// The directory of one run.
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// Where it goes when the run is over.
    home: PathBuf,
    run: File,
    exit: File,
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
            Ok((run, exit)) => Ok(Self { path, run, exit }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// Becomes the directory of this run, which must have none. What it says is complete before it can be found.
    pub(crate) fn bind(self, root: &Path, file: &RunFile) -> io::Result<RunDirectory> {
        let path = root.join(file.run.to_string());
        let bound = write_run(&self.run, file).and_then(|()| streams::rename_new(&self.path, &path));
        match bound {
            Ok(()) => Ok(RunDirectory { path, home: self.path, run: self.run, exit: self.exit }),
            Err(error) => {
                self.remove();
                Err(error)
            }
        }
    }

    /// Removes it.
    pub(crate) fn remove(self) {
        remove(&self.path);
    }
}

/// Padded over whatever an earlier run wrote here: cutting the file would cost a journal entry for each run.
fn write_run(at: &File, file: &RunFile) -> io::Result<()> {
    let mut json = serde_json::to_vec(file)?;
    json.resize(json.len().max(RUN_SIZE), b' ');
    at.write_all_at(&json, 0)
}

impl RunDirectory {
    /// Says anew who runs here. Opens and closes nothing, so that a child may do it that shares our memory.
    pub(crate) fn write_run(&self, file: &RunFile) -> io::Result<()> {
        write_run(&self.run, file)
    }

    /// Records the end.
    pub(crate) fn write_exit(&self, run: RunId, outcome: Outcome) -> io::Result<()> {
        let file = ExitFile { run, outcome };
        self.exit.write_all_at(&exit_file::encode(&file, EXIT_RESERVED as usize), 0)
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

    /// The run is over and recorded: out of the node's sight first, then ready for the next.
    pub(crate) fn release(self) -> Option<Spare> {
        if std::fs::rename(&self.path, &self.home).is_err() {
            remove(&self.path);
            return None;
        }
        let ready = || {
            // A longer record than the room that was made is cut, so that no tail of it stays.
            for (file, size) in [(&self.run, RUN_SIZE as u64), (&self.exit, u64::from(EXIT_RESERVED))] {
                if file.metadata()?.len() > size {
                    file.set_len(size)?;
                }
            }
            io::Result::Ok(())
        };
        let ready = ready();
        let spare = Spare { path: self.home, run: self.run, exit: self.exit };
        match ready {
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
