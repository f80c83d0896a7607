//! What went wrong, in one line, and what to do next, in another; with `--json` as a problem document.
//!
//! Exit codes: 1 for a request that was refused or failed, 2 for arguments (clap), 124 when the time of `wait` is over,
//! 125 when `run`, `exec`, `attach` or `wait` could not do their part, 141 (128 + SIGPIPE) when nobody reads the output
//! any more.

use std::io::{self, Write as _};
use std::process::ExitCode;

use hostler_api::client::ClientError;
use hostler_model::error::{Problem, ProblemDocument, ProblemKind};

use crate::output;

/// Exit code of the verbs that end with a program's own code, when something else went wrong: docker's and podman's
/// habit.
pub(crate) const TOOL_FAILED: u8 = 125;
/// Exit code of `wait --timeout` when the time is over: that of timeout(1).
pub(crate) const TIME_ELAPSED: u8 = 124;
/// 128 + SIGPIPE.
const PIPE_CLOSED: u8 = 141;

/// How failures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Form {
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    hint: Option<String>,
    problem: ProblemDocument,
    /// The problem is in the daemon's words.
    from_node: bool,
    quiet: bool,
}

impl Failure {
    /// A failure on this side of the socket.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::of_problem(ProblemDocument::from(&Problem::new(ProblemKind::Internal, message)))
    }

    /// An argument that clap cannot judge.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::of_problem(ProblemDocument::from(&Problem::new(ProblemKind::MalformedRequest, message))).with_code(2)
    }

    pub(crate) fn of_problem(problem: ProblemDocument) -> Self {
        Self { code: 1, hint: None, problem, from_node: false, quiet: false }
    }

    /// Everything was said already.
    pub(crate) fn silent(code: u8) -> Self {
        Self { quiet: true, ..Self::new("").with_code(code) }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What kind of refusal, if it is one.
    pub(crate) fn kind(&self) -> Option<ProblemKind> {
        self.problem.kind()
    }

    /// As the verbs say it that end with a program's code: a shell's 127 and 126 where the command is at fault, else
    /// 125; a closed pipe or an argument stays what it is.
    pub(crate) fn of_tool(self) -> Self {
        let code = match self.problem.kind() {
            _ if self.code != 1 => return self,
            Some(ProblemKind::CommandNotFound) => 127,
            Some(ProblemKind::CommandNotExecutable) => 126,
            _ => TOOL_FAILED,
        };
        self.with_code(code)
    }

    /// Says it, and gives the exit code.
    pub(crate) fn report(&self, form: Form) -> ExitCode {
        if !self.quiet {
            // Nobody is left to tell when stderr is gone.
            io::stderr().write_all(self.text(form).as_bytes()).ok();
        }
        ExitCode::from(self.code)
    }

    fn text(&self, form: Form) -> String {
        if form == Form::Json {
            return serde_json::to_string(&self.problem).unwrap_or_default() + "\n";
        }
        let mut text = format!("hostler: {}\n", one_line(&self.problem.detail));
        // The daemon's own advice knows more; two of them only contradict each other.
        let advised = self.from_node && self.problem.detail.contains("hostler ");
        if let Some(hint) = self.hint.as_ref().filter(|_| !advised) {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        text
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hostler = output::own_name();
        let local = |kind: ProblemKind| ProblemDocument::from(&Problem::new(kind, error.to_string()));
        let hint = match &error {
            ClientError::Problem(document, retry_after) => {
                let hint = hint_of(document.kind(), *retry_after, &hostler);
                return Self { hint, from_node: true, ..Self::of_problem(document.clone()) };
            }
            ClientError::NotRunning { .. } => {
                return Self::of_problem(local(ProblemKind::Unavailable))
                    .with_hint(format!("start one with `{hostler} up`"));
            }
            ClientError::Permission { .. } => {
                return Self::of_problem(local(ProblemKind::Forbidden)).with_hint(
                    "ask as a user who may open the socket (such as root), or start a node of your own with --root DIR",
                );
            }
            ClientError::Timeout(_) => {
                return Self::of_problem(local(ProblemKind::Timeout))
                    .with_hint(format!("`{hostler} doctor` says how the node stands"));
            }
            ClientError::Disconnected(_) => {
                return Self::of_problem(local(ProblemKind::Unavailable))
                    .with_hint(format!("`{hostler} up` starts the node again; what runs goes on meanwhile"));
            }
            ClientError::Protocol(_) => {
                Some("hostler and hostlerd may be of different versions; see `hostler node info`")
            }
            ClientError::Io { .. } => None,
        };
        Self { hint: hint.map(str::to_owned), ..Self::of_problem(local(ProblemKind::Internal)) }
    }
}

fn hint_of(kind: Option<ProblemKind>, retry_after: Option<u32>, hostler: &str) -> Option<String> {
    let hint = match kind? {
        ProblemKind::NotFound => format!("`{hostler} ps -a` lists what there is"),
        ProblemKind::Ambiguous => "type more of the id, or the whole name".to_owned(),
        ProblemKind::NameInUse => {
            format!("choose another --name, or remove the old one with `{hostler} rm NAME`, `rm -f` while it runs")
        }
        ProblemKind::LameDuck => format!("let it take work again with `{hostler} node lame-duck --off`"),
        ProblemKind::DiskFull => format!("free some space; `{hostler} node info` says where"),
        ProblemKind::LimitUnavailable => format!("`{hostler} doctor` says which limits this machine can give"),
        ProblemKind::NetworkUnavailable => format!("`{hostler} doctor` says what this machine lacks for networks"),
        ProblemKind::EventsGone => "ask without --since, or from a later event".to_owned(),
        ProblemKind::Internal => format!("the daemon's log says more; `{hostler} doctor` says where it is"),
        _ => return retry_after.map(|seconds| format!("try again in {seconds} s")),
    };
    Some(hint)
}

/// Errors of writing the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(PIPE_CLOSED),
            _ => Self::new(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_and_a_hint() {
        let failure = Failure::from(ClientError::NotRunning { socket: "/x/hostler.sock".into() });
        let text = failure.text(Form::Text);
        assert!(
            text.starts_with("hostler: no node is running at /x/hostler.sock\n  hint: start one with `hostler"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2);
        let json: ProblemDocument = serde_json::from_str(&failure.text(Form::Json)).expect("a problem document");
        assert_eq!(json.status, 503);
        assert_eq!(Failure::new("a\nb \n").text(Form::Text), "hostler: a; b\n");
    }

    #[test]
    fn advice_is_given_once() {
        let of = |detail: &str| {
            let problem = Problem::new(ProblemKind::NameInUse, detail);
            Failure::from(ClientError::Problem((&problem).into(), None)).with_hint("other").text(Form::Text)
        };
        assert_eq!(of("taken"), "hostler: taken\n  hint: other\n");
        assert_eq!(of("remove it with: hostler rm x"), "hostler: remove it with: hostler rm x\n");
    }

    #[test]
    fn codes() {
        assert_eq!(Failure::new("x").of_tool().code, TOOL_FAILED);
        assert_eq!(Failure::usage("x").of_tool().code, 2);
        let absent = Problem::new(ProblemKind::CommandNotFound, "x");
        assert_eq!(Failure::of_problem((&absent).into()).of_tool().code, 127);
        let pipe = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(pipe.quiet && pipe.of_tool().code == PIPE_CLOSED);
    }
}
