//! What can go wrong, in words for the person who asked.

use std::io;
use std::path::{Path, PathBuf};

/// Why something was not made. Whatever was begun is removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What we were doing.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A program that is needed is not on this machine.
    #[error("{program} is missing: {mend}")]
    NoProgram {
        /// Its name, or several of which one would do.
        program: &'static str,
        /// What to do about it.
        mend: &'static str,
    },
    /// A program failed, or did not end in time.
    #[error("{program}: {said}")]
    Program {
        /// Its name.
        program: String,
        /// The end of what it said, in one line.
        said: String,
    },
    /// Something that was given is not what it should be.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// More than a bound allows.
    #[error("{} has more than {max} {what}", path.display())]
    TooMuch {
        /// What was given.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The tree went on changing while it was read.
    #[error("{} changes while its image is made: nothing may write to it meanwhile", path.display())]
    Changing {
        /// The tree.
        path: PathBuf,
    },
    /// Somebody else makes the same and takes too long.
    #[error("somebody else holds {} for more than {waited_s} s", path.display())]
    Busy {
        /// The file that is locked.
        path: PathBuf,
        /// How long it was waited for, seconds.
        waited_s: u64,
    },
    /// The package's name, version or content is not as expected.
    #[error("{0}")]
    Package(String),
}

impl ImageError {
    /// For `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_path_buf(), source }
    }

    pub(crate) fn unusable(path: &Path, why: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_path_buf(), why: why.into() }
    }

    /// Whether rights are what is missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}
