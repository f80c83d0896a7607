//! Why a CNI operation failed, in words that say which plugin, what it was called for, and what it said.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use hostler_model::limits;
use serde::Deserialize;

use super::call::Verb;

/// Why a CNI operation failed. The text is complete: what the system or the plugin answered is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    /// The configuration list cannot be used.
    #[error("the CNI configuration list {0}")]
    List(String),
    /// No plugin can be called with these arguments.
    #[error("CNI plugins cannot be called: {0}")]
    Call(String),
    /// There is nowhere for them to work in.
    #[error("there is nowhere to work in: {0}")]
    Namespace(String),
    /// No directory has the plugin.
    #[error("the CNI plugin {plugin} is missing in {}", shown(looked))]
    Missing {
        /// Its `type`.
        plugin: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A plugin was called and failed.
    #[error("the CNI plugin {plugin} {failure} ({verb})")]
    Plugin {
        /// Its `type`.
        plugin: String,
        /// What it was called for.
        verb: Verb,
        /// What went wrong.
        failure: Failure,
    },
    /// An ADD failed, and so did the DEL that should have undone it; the record is kept, and DEL can be tried again.
    #[error("{error}; undoing it failed as well: {undo}")]
    NotUndone {
        /// Why ADD failed.
        error: Box<CniError>,
        /// The first failure of DEL.
        undo: Box<CniError>,
    },
    /// The record of a set-up says something that cannot be.
    #[error("the CNI record {} {what}", path.display())]
    Record {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The record of a set-up cannot be read or written.
    #[error("{doing} the CNI record {}: {source}", path.display())]
    RecordFile {
        /// What we were doing.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

impl CniError {
    /// Whether the plugin says that it does not take its configuration, whatever it is called for: its version, a field,
    /// its form, or what it says (codes 1, 2, 6 and 7 of the specification).
    pub(super) fn is_of_the_list(&self) -> bool {
        matches!(self, Self::Plugin { failure: Failure::Said(Refusal { code: 1 | 2 | 6 | 7, .. }), .. })
    }
}

/// How a plugin failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system does not start it, or lets us not attend to it.
    #[error("cannot be run: {0}")]
    NotRun(#[from] io::Error),
    /// It took too long, and was killed.
    #[error("did not answer within {}", seconds(*.0))]
    Hung(u64),
    /// It says more than any plugin has to say, and was killed.
    #[error("answers more than {} bytes", limits::CNI_ANSWER_MAX)]
    Flooded,
    /// It says why itself.
    #[error("says: {0}")]
    Said(Refusal),
    /// It failed without an answer that can be understood.
    #[error("ended {} and said {}", ending(*status), quoted(said))]
    Ended {
        /// Code or signal.
        status: ExitStatus,
        /// The last of what it wrote to stderr, or the first of what it wrote to stdout.
        said: String,
    },
    /// It succeeded, and its answer is no result.
    #[error("gives no usable result: {why}; it answers {}", quoted(answer))]
    Nonsense {
        /// What is wrong with it.
        why: String,
        /// How the answer begins.
        answer: String,
    },
}

/// An error as a plugin tells it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Refusal {
    /// Up to 99 as in the specification; 11 is "try again later".
    pub(crate) code: i64,
    /// In short.
    #[serde(default)]
    pub(crate) msg: String,
    /// At length.
    #[serde(default)]
    pub(crate) details: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (msg, details) = (beginning(self.msg.as_bytes()), beginning(self.details.as_bytes()));
        let text = if msg.is_empty() { "nothing but a code" } else { &msg };
        if details.is_empty() {
            write!(f, "{text}, code {}", self.code)
        } else {
            write!(f, "{text} ({details}), code {}", self.code)
        }
    }
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "in an unknown way".to_owned(),
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { "nothing".to_owned() } else { format!("{said:?}") }
}

fn shown(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no directory at all: none is configured".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// One line of what somebody said: nothing of it can steer a terminal or look like a line of our own log.
fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The first of what was said, in one line.
pub(super) fn beginning(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(limits::CNI_SAID_MAX)];
    if kept.len() < bytes.len() { format!("{}…", line(kept)) } else { line(kept) }
}

/// The last of what was said, in one line.
pub(super) fn end(bytes: &[u8]) -> String {
    let kept = &bytes[bytes.len().saturating_sub(limits::CNI_SAID_MAX)..];
    if kept.len() < bytes.len() { format!("…{}", line(kept)) } else { line(kept) }
}
