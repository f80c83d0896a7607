//! What can go wrong between a caller and the node.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hostler_model::error::{ProblemDocument, ProblemKind};
use thiserror::Error;

/// Why there is no answer, or which refusal it is.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The node refused; with seconds after which trying again makes sense.
    #[error("{}", .0.detail)]
    Problem(ProblemDocument, Option<u32>),
    /// Nobody listens on the socket.
    #[error("no node is running at {}", .socket.display())]
    NotRunning {
        /// Where a node was looked for.
        socket: PathBuf,
    },
    /// The socket may not be opened.
    #[error("may not connect to {}", .socket.display())]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke before the answer, or the stream before its end.
    #[error("the connection to the node broke: {0}")]
    Disconnected(String),
    /// No answer within the request's deadline.
    #[error("the node did not answer within {0:?}")]
    Timeout(Duration),
    /// The system refused something else.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The answer is not what this version understands.
    #[error("the node's answer cannot be understood: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The kind of refusal, if it is one that this program knows.
    #[must_use]
    pub fn problem_kind(&self) -> Option<ProblemKind> {
        match self {
            Self::Problem(document, _) => document.kind(),
            _ => None,
        }
    }

    /// Whether a daemon that is killed and comes back explains it: connecting again may help.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::Disconnected(_))
            || self.problem_kind() == Some(ProblemKind::Unavailable)
    }

    pub(super) fn protocol(what: impl std::fmt::Display) -> Self {
        Self::Protocol(what.to_string())
    }
}
