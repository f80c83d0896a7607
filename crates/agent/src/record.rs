//! The run directory: `run.json` before the program starts, room for `exit.json` made at the same time, the end
//! written into that room and renamed. Nothing here syncs unless it is asked to.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hostler_linux::streams;
use hostler_model::RunId;
use hostler_model::rundir::{EXIT_FILE, EXIT_FILE_NEW, ExitFile, Outcome, RUN_FILE, RunFile};

/// Room made for the end, bytes: an exit is about 400, a failure names a path.
pub(crate) const EXIT_RESERVED: u32 = 2_048;

/// The directory of one run.
pub(crate) struct RunDirectory {
    path: PathBuf,
    exit: File,
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl RunDirectory {
    /// Makes the directory, which must not exist, with room for the end.
    pub(crate) fn create(root: &Path, run: RunId) -> io::Result<Self> {
        let path = root.join(run.to_string());
        DirBuilder::new().mode(0o700).create(&path)?;
        let exit = create_file(&path.join(EXIT_FILE_NEW))
            .and_then(|exit| streams::reserve(&exit, EXIT_RESERVED as usize).map(|()| exit));
        match exit {
            Ok(exit) => Ok(Self { path, exit }),
            Err(error) => {
                let _ = std::fs::remove_file(path.join(EXIT_FILE_NEW));
                let _ = std::fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// Says who runs what here.
    pub(crate) fn write_run(&self, run: &RunFile) -> io::Result<()> {
        let json = serde_json::to_vec(run)?;
        create_file(&self.path.join(RUN_FILE))?.write_all_at(&json, 0)
    }

    /// Records the end: written, then renamed.
    pub(crate) fn write_exit(&self, run: RunId, outcome: Outcome) -> io::Result<()> {
        let mut json = serde_json::to_vec(&ExitFile { run, outcome })?;
        json.push(b'\n');
        json.resize(json.len().max(EXIT_RESERVED as usize), b' ');
        self.exit.write_all_at(&json, 0)?;
        std::fs::rename(self.path.join(EXIT_FILE_NEW), self.path.join(EXIT_FILE))
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

    /// Removes the files that belong here, and the directory.
    pub(crate) fn remove(self) {
        for name in [RUN_FILE, EXIT_FILE, EXIT_FILE_NEW] {
            let _ = std::fs::remove_file(self.path.join(name));
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}
