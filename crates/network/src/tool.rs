//! Calls of `nft` and `tc`, each with a deadline; what they say becomes the error.

use std::path::PathBuf;
use std::time::Duration;

use hostler_linux::tool;
use hostler_model::limits;
use thiserror::Error;

/// Of a complaint, what is told, characters.
const COMPLAINT_MAX: usize = 400;

/// What a program did not do.
#[derive(Debug, Error)]
pub(crate) enum ToolError {
    #[error("there is no {program}; install it (Debian: apt-get install {package})")]
    Missing { program: &'static str, package: &'static str },
    #[error("{program} could not {doing}: {said}")]
    Said { program: &'static str, doing: String, said: String },
    #[error("{program} did not {doing} within {} s", limits::NETWORK_TOOL_MAX_MS / 1_000)]
    Late { program: &'static str, doing: String },
    #[error("cannot run {program}")]
    Run {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// One that is needed, and what Debian has it in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(crate) const NFT: Program = Program { name: "nft", package: "nftables" };
pub(crate) const TC: Program = Program { name: "tc", package: "iproute2" };

impl Program {
    pub(crate) fn find(self) -> Result<PathBuf, ToolError> {
        tool::find(self.name).ok_or(ToolError::Missing { program: self.name, package: self.package })
    }

    /// Has it do something; what it said on stdout.
    pub(crate) fn run(self, doing: &str, arguments: &[&str], input: &str) -> Result<String, ToolError> {
        let (program, path) = (self.name, self.find()?);
        let longest = Duration::from_millis(limits::NETWORK_TOOL_MAX_MS);
        let environment = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];
        let done = match tool::call(&path, arguments, &environment, input.as_bytes(), longest) {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(ToolError::Late { program, doing: doing.to_owned() });
            }
            Err(source) => return Err(ToolError::Run { program, source }),
            Ok(done) => done,
        };
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.out).into_owned());
        }
        let text = String::from_utf8_lossy(&done.err);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty());
        let said = first.map_or_else(|| done.status.to_string(), |line| line.chars().take(COMPLAINT_MAX).collect());
        Err(ToolError::Said { program, doing: doing.to_owned(), said })
    }
}
