//! Every refusal a caller can get: one table of stable types and HTTP statuses (RFC 9457 problem documents).

use serde::{Deserialize, Serialize};
use thiserror::Error;

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $name:ident = $type:literal, $status:literal, $title:literal;)*) => {
        /// What kind of refusal. The type is part of the interface and never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[$doc])* $name,)*
        }

        impl ProblemKind {
            /// All of them, for the documentation and for tests that the table is total.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable type: the last part of the problem's `type` URI.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $type,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// One line that is the same for every problem of this kind.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// Not JSON, not the expected shape, or a bad query.
    MalformedRequest = "malformed-request", 400, "The request cannot be read";
    /// Well-formed, but not something that can be run.
    InvalidSpec = "invalid-spec", 422, "The spec is not valid";
    /// The command or environment is longer than Linux takes.
    ArgumentsTooLong = "arguments-too-long", 422, "The argument list is too long";
    /// The user or group does not exist.
    UnknownUser = "unknown-user", 422, "The user or group does not exist";
    /// The program does not exist, or is not in `PATH`.
    CommandNotFound = "command-not-found", 422, "The command does not exist";
    /// The program exists and cannot be executed.
    CommandNotExecutable = "command-not-executable", 422, "The command cannot be executed";
    /// A limit that this machine cannot give.
    LimitUnavailable = "limit-unavailable", 422, "This machine cannot give the limit";
    /// No program is there that makes containers.
    OciRuntimeMissing = "oci-runtime-missing", 422, "There is no OCI runtime";
    /// No network of this name is there.
    UnknownNetwork = "unknown-network", 422, "There is no such network";
    /// Networks, or what was asked of one, cannot be had on this machine.
    NetworkUnavailable = "network-unavailable", 422, "This machine cannot give the network";
    /// Everything of the kind is in use; some will be free again.
    TryAgain = "try-again", 503, "There is none left at the moment";
    /// Not allowed for this caller.
    Forbidden = "forbidden", 403, "The caller may not do this";
    /// No such workload, run, exec or page.
    NotFound = "not-found", 404, "There is no such thing";
    /// More than one workload matches.
    Ambiguous = "ambiguous", 409, "The reference matches more than one workload";
    /// The name is taken.
    NameInUse = "name-in-use", 409, "The name is in use";
    /// Not possible in the state it is in.
    Conflict = "conflict", 409, "The workload's state does not allow this";
    /// The idempotency key was used for another request.
    IdempotencyMismatch = "idempotency-mismatch", 422, "The idempotency key belongs to another request";
    /// The events asked for are no longer kept.
    EventsGone = "events-gone", 410, "These events are no longer kept";
    /// The body is larger than accepted.
    BodyTooLarge = "body-too-large", 413, "The request body is too large";
    /// Method or upgrade not supported here.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here";
    /// Lame duck: no new work.
    LameDuck = "lame-duck", 503, "The node takes no new work";
    /// Too many workloads, runs, execs or readers.
    LimitReached = "limit-reached", 429, "A limit of the node is reached";
    /// Too little free space to accept work that must not be lost.
    DiskFull = "disk-full", 507, "Too little disk space is left to accept work";
    /// The program could not be started (execs; for runs it is the run's end).
    StartFailed = "start-failed", 422, "The program could not be started";
    /// CRIU or the OCI runtime could not make or restore an image.
    CheckpointFailed = "checkpoint-failed", 422, "The checkpoint could not be made";
    /// Something that should have answered did not in time.
    Timeout = "timeout", 504, "No answer in time";
    /// The node is shutting down or not yet ready.
    Unavailable = "unavailable", 503, "The node is not ready";
    /// A defect or a failing machine.
    Internal = "internal", 500, "Something went wrong in the node";
}

/// A refusal: what kind, and what exactly was wrong with this request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct Problem {
    /// The kind, with its status.
    pub kind: ProblemKind,
    /// What was wrong, and where there is one, what to do about it.
    pub detail: String,
    /// Seconds after which trying again makes sense.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after_s: None }
    }
}

/// The problem document as it travels, RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProblemDocument {
    /// `https://hostler.dev/problems/…` would be a promise of a page; a URN is only a name: `urn:hostler:problem:<type>`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The same for every problem of this type.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What was wrong with this request.
    pub detail: String,
}

/// Prefix of every problem type.
pub const PROBLEM_URN: &str = "urn:hostler:problem:";

impl From<&Problem> for ProblemDocument {
    fn from(problem: &Problem) -> Self {
        Self {
            type_: format!("{PROBLEM_URN}{}", problem.kind.as_str()),
            title: problem.kind.title().to_owned(),
            status: problem.kind.status(),
            detail: problem.detail.clone(),
        }
    }
}

impl ProblemDocument {
    /// The kind, if this program knows it.
    #[must_use]
    pub fn kind(&self) -> Option<ProblemKind> {
        let name = self.type_.strip_prefix(PROBLEM_URN)?;
        ProblemKind::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_total_and_types_are_unique() {
        let names: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!((400..600).contains(&kind.status()), "{kind:?}");
            assert_eq!(ProblemDocument::from(&Problem::new(*kind, "x")).kind(), Some(*kind));
        }
    }
}
