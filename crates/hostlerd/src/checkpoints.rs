//! Checkpoints on disk: `<directory>/<name>/` with the images of CRIU and, once these are complete and on disk,
//! `checkpoint.json`, which tells what they are of. What has none is not finished, or was given up.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hostler_api::checkpoints::CheckpointView;
use hostler_linux::{process, streams};
use hostler_model::ids::CheckpointName;
use hostler_model::launch::CRIU_INVENTORY as INVENTORY;
use hostler_model::{Problem, ProblemKind, limits};

/// Tells what a checkpoint is of.
const FILE: &str = "checkpoint.json";
/// Where its images are.
const IMAGES: &str = "images";
/// There from the beginning until it is complete.
const MARK: &str = "unfinished";

/// A directory of checkpoints.
#[derive(Debug, Clone)]
pub struct Checkpoints(PathBuf);

fn internal(what: &str, path: &Path, error: &io::Error) -> Problem {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound => {
            ProblemKind::InvalidSpec
        }
        io::ErrorKind::StorageFull => ProblemKind::DiskFull,
        _ => ProblemKind::Internal,
    };
    Problem::new(kind, format!("cannot {what} {}: {error}", path.display()))
}

impl Checkpoints {
    /// Those in this directory.
    #[must_use]
    pub fn within(directory: PathBuf) -> Self {
        Self(directory)
    }

    fn of(&self, name: &CheckpointName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Where a checkpoint's images are.
    #[must_use]
    pub fn images(&self, name: &CheckpointName) -> PathBuf {
        self.of(name).join(IMAGES)
    }

    /// Makes room for a new one; the directory for its images, and what keeps it from being removed meanwhile.
    pub fn begin(&self, name: &CheckpointName) -> Result<(PathBuf, File), Problem> {
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&self.0).map_err(|error| internal("make the directory", &self.0, &error))?;
        let directory = self.of(name);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = if directory.join(FILE).exists() { "there is a" } else { "there is an unfinished" };
                let detail = format!(
                    "{what} checkpoint {name} in {} already; take another name, or remove it with: hostler checkpoint rm {name}",
                    self.0.display()
                );
                return Err(Problem::new(ProblemKind::NameInUse, detail));
            }
            made => made.map_err(|error| internal("make the directory", &directory, &error))?,
        }
        let (images, mark) = (directory.join(IMAGES), directory.join(MARK));
        File::create_new(&mark).map_err(|error| internal("make the file", &mark, &error))?;
        make(&images).map_err(|error| internal("make the directory", &images, &error))?;
        let lock = File::open(&directory).and_then(|lock| lock.lock().map(|()| lock));
        Ok((images, lock.map_err(|error| internal("lock", &directory, &error))?))
    }

    /// Brings the images to the disk, and then says that they are complete. The size of everything is filled in.
    pub fn complete(&self, mut view: CheckpointView) -> Result<CheckpointView, Problem> {
        let directory = self.of(&view.name);
        let complete = || {
            view.size_bytes = sync_all(&directory.join(IMAGES))?;
            let (path, new) = (directory.join(FILE), directory.join("checkpoint.json.new"));
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&view)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::remove_file(directory.join(MARK))?;
            File::open(&directory)?.sync_all()?;
            File::open(&self.0)?.sync_all()?;
            Ok(view)
        };
        let outcome: io::Result<CheckpointView> = complete();
        outcome.map_err(|error| internal("finish the checkpoint in", &directory, &error))
    }

    /// Removes it, complete or not.
    pub fn remove(&self, name: &CheckpointName) -> Result<(), Problem> {
        let directory = self.of(name);
        // A directory of somebody else's is not taken for one of ours: it has what `begin` or CRIU leaves, or nothing.
        let images = directory.join(IMAGES);
        let is_ours =
            directory.join(FILE).is_file() || images.join(INVENTORY).is_file() || directory.join(MARK).is_file();
        if !images.is_dir() || !is_ours {
            return Err(missing(name, &self.0));
        }
        let lock = File::open(&directory).map_err(|error| internal("open", &directory, &error))?;
        if lock.try_lock().is_err() {
            return Err(Problem::new(ProblemKind::Conflict, format!("checkpoint {name} is being made")));
        }
        // From here on it is no checkpoint any more, whatever happens.
        let _ = fs::remove_file(directory.join(FILE));
        fs::remove_dir_all(&directory).map_err(|error| internal("remove", &directory, &error))
    }

    /// One of them.
    pub fn get(&self, name: &CheckpointName) -> Result<CheckpointView, Problem> {
        let path = self.of(name).join(FILE);
        let bytes = match read_own(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(name, &self.0)),
            read => read.map_err(|error| internal("read", &path, &error))?,
        };
        let mut view: CheckpointView = serde_json::from_slice(&bytes).map_err(|error| {
            Problem::new(ProblemKind::Internal, format!("{} makes no sense: {error}", path.display()))
        })?;
        // It may have been moved since.
        view.directory = self.of(name).as_os_str().into();
        Ok(view)
    }

    /// All that are complete, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<CheckpointView> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut found: Vec<_> = names.take(limits::CHECKPOINTS_MAX).filter_map(|name| self.get(&name).ok()).collect();
        found.sort_by_key(|view| std::cmp::Reverse(view.created_at_ms));
        found
    }

    /// Removes what a daemon that died left unfinished. Something that was begun lately may still be under way.
    pub fn tidy(&self) {
        let oldest = SystemTime::now() - Duration::from_millis(2 * limits::OCI_CHECKPOINT_MAX_MS);
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_old = entry.metadata().and_then(|found| found.modified()).is_ok_and(|changed| changed < oldest);
            // An image that CRIU has finished may be all that is left of a container: that is for its owner to remove.
            if is_old && path.join(MARK).is_file() && !path.join(IMAGES).join(INVENTORY).exists() {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// Reads what says which program is to run as whom: only a file that the node, or root, has written.
fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let most = limits::HTTP_BODY_MAX as u64 * 2;
    let file = streams::open_plain(path)?;
    let found = file.metadata()?;
    if !is_own(found.uid()) {
        return Err(io::Error::other(format!("it belongs to user {}", found.uid())));
    }
    if found.len() > most {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_own(uid: u32) -> bool {
    uid == 0 || uid == process::effective_uid()
}

/// A directory in which somebody else could put links in the way of CRIU, or change what is to be restored, is refused.
pub fn check_directory(directory: &Path) -> Result<(), Problem> {
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else { return Ok(()) };
    let found = existing.canonicalize().map_err(|error| internal("look at", existing, &error))?;
    for part in found.ancestors() {
        let of = fs::symlink_metadata(part).map_err(|error| internal("look at", part, &error))?;
        let (others_write, is_sticky) = (of.mode() & 0o022 != 0, of.mode() & 0o1000 != 0);
        if !is_own(of.uid()) || (others_write && !is_sticky) {
            let detail = format!(
                "checkpoints cannot be in {}: others than the node's owner can change {} (user {}, mode {:o})",
                directory.display(),
                part.display(),
                of.uid(),
                of.mode() & 0o7777
            );
            return Err(Problem::new(ProblemKind::InvalidSpec, detail));
        }
    }
    Ok(())
}

fn missing(name: &CheckpointName, directory: &Path) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no checkpoint {name} in {}", directory.display()))
}

/// Syncs every file of a directory and the directory itself; the sum of their sizes.
fn sync_all(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            sum += file.metadata()?.len();
        }
    }
    File::open(directory)?.sync_all()?;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::{Namespace, Spec};

    fn view(name: &str) -> CheckpointView {
        CheckpointView {
            name: name.parse().expect("a name"),
            namespace: Namespace::owner(),
            workload: "0a1b2c3d4e5f".parse().expect("an id"),
            workload_name: "web".parse().expect("a name"),
            run: "0a1b2c3d4e5f-1".parse().expect("a run"),
            created_at_ms: 7,
            options: Default::default(),
            directory: "/elsewhere".into(),
            size_bytes: 0,
            spec: Spec::new(vec!["true".into()]),
        }
    }

    #[test]
    fn only_what_is_complete_is_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let checkpoints = Checkpoints::within(dir.path().join("all"));
        let name: CheckpointName = "one".parse().expect("a name");
        assert!(checkpoints.list().is_empty() && checkpoints.get(&name).is_err() && checkpoints.remove(&name).is_err());
        let (images, lock) = checkpoints.begin(&name).expect("room");
        fs::write(images.join("pages"), [0; 100]).expect("write");
        assert!(checkpoints.list().is_empty(), "not yet complete");
        assert_eq!(checkpoints.begin(&name).expect_err("taken").kind, ProblemKind::NameInUse);
        let made = checkpoints.complete(view("one")).expect("complete");
        assert_eq!(made.size_bytes, 100);
        assert_eq!(checkpoints.remove(&name).expect_err("under way").kind, ProblemKind::Conflict);
        drop(lock);
        let found = checkpoints.get(&name).expect("there");
        assert_eq!((found.size_bytes, found.directory.as_path()), (100, dir.path().join("all/one").as_path()));
        assert_eq!(checkpoints.list().len(), 1);
        checkpoints.tidy();
        fs::write(dir.path().join("all/one/checkpoint.json"), "{").expect("damage");
        assert!(checkpoints.get(&name).expect_err("damaged").detail.contains("no sense"));
        checkpoints.remove(&name).expect("removed");
        assert!(fs::read_dir(dir.path().join("all")).expect("there").next().is_none());
        // What is left of one that nobody finishes can be removed, and an image that CRIU has finished is not tidied away.
        let (images, lock) = checkpoints.begin(&name).expect("room");
        drop(lock);
        fs::write(images.join(INVENTORY), "all there is").expect("write");
        let old = SystemTime::now() - Duration::from_millis(4 * limits::OCI_CHECKPOINT_MAX_MS);
        File::open(dir.path().join("all/one")).and_then(|directory| directory.set_modified(old)).expect("older");
        checkpoints.tidy();
        assert!(images.join(INVENTORY).exists());
        fs::remove_file(images.join(INVENTORY)).expect("none");
        checkpoints.tidy();
        assert!(!images.exists());
    }

    #[test]
    fn what_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temp dir");
        let safe = dir.path().join("safe/below");
        check_directory(&safe).expect("not there yet");
        fs::create_dir_all(&safe).expect("directories");
        check_directory(&safe).expect("private");
        fs::set_permissions(dir.path().join("safe"), fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(check_directory(&safe).expect_err("open").detail.contains("mode 777"));
        std::os::unix::fs::symlink(&safe, dir.path().join("link")).expect("a link");
        assert!(check_directory(&dir.path().join("link/new")).is_err());
        // Only a plain file of our own says what is to run.
        let (link, name) = (dir.path().join("n/checkpoint.json"), "n".parse().expect("a name"));
        fs::create_dir(dir.path().join("n")).expect("a directory");
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link");
        assert!(Checkpoints::within(dir.path().to_owned()).get(&name).is_err());
        assert_eq!(
            Checkpoints::within(dir.path().to_owned()).remove(&name).expect_err("foreign").kind,
            ProblemKind::NotFound
        );
    }
}
