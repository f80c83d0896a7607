//! Calling the programs that fetch, unpack and format: by absolute path, with a deadline, and with nothing of our own
//! environment but what says how to reach the package archive.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_linux::tool;

use crate::ImageError;

/// Of what a failed program said, what is told, bytes: its end.
const SAID_MAX: usize = 600;

/// What apt asks the environment about how to reach the archive. Proxies may carry passwords: they are passed on, never
/// shown.
const PASSED_ON: [&str; 8] =
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "APT_CONFIG"];

/// A program that must be there.
pub(crate) fn find(program: &'static str, mend: &'static str) -> Result<PathBuf, ImageError> {
    tool::find(program).ok_or(ImageError::NoProgram { program, mend })
}

/// Calls it in this directory; what it said on stdout. An error holds the end of what it said on stderr.
pub(crate) fn call(
    directory: &Path,
    program: &Path,
    arguments: &[&OsStr],
    longest_ms: u64,
) -> Result<Vec<u8>, ImageError> {
    let name = || program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = tool::DIRECTORIES.join(":");
    let passed: Vec<(&str, OsString)> =
        PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
    let mut environment: Vec<(&str, &OsStr)> = vec![
        ("PATH", OsStr::new(&path)),
        ("LC_ALL", OsStr::new("C.UTF-8")),
        ("DEBIAN_FRONTEND", OsStr::new("noninteractive")),
    ];
    environment.extend(passed.iter().map(|(name, value)| (*name, value.as_os_str())));
    let done = tool::call_in(directory, program, arguments, &environment, Duration::from_millis(longest_ms));
    let done = done.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => {
            ImageError::Program { program: name(), said: format!("did not end within {} s", longest_ms / 1_000) }
        }
        _ => ImageError::Io { what: "call", path: program.to_path_buf(), source: error },
    })?;
    if done.status.success() {
        return Ok(done.out);
    }
    // mkfs.erofs says its reasons on stdout.
    let said = if done.err.iter().all(u8::is_ascii_whitespace) { &done.out } else { &done.err };
    Err(ImageError::Program { program: name(), said: format!("{} ({})", ending(said), done.status) })
}

/// The last lines, as one, of bounded length.
fn ending(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_MAX)..]).into_owned();
    let lines: Vec<_> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "failed and said nothing".to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, longest_ms: u64) -> Result<Vec<u8>, ImageError> {
        call(Path::new("/"), Path::new("/bin/sh"), &["-c", script].map(OsStr::new), longest_ms)
    }

    #[test]
    fn what_it_said_is_told() {
        assert_eq!(sh("pwd; echo $HOME", 5_000).unwrap(), b"/\n\n");
        let cases = [
            ("echo one; echo 'two ' >&2; echo three >&2; exit 3", "sh: two; three (exit status: 3)"),
            ("echo only; exit 1", "sh: only (exit status: 1)"),
            ("exit 1", "sh: failed and said nothing (exit status: 1)"),
        ];
        for (script, expected) in cases {
            assert_eq!(sh(script, 5_000).unwrap_err().to_string(), expected);
        }
        assert!(sh("sleep 60", 20).unwrap_err().to_string().contains("did not end"));
        let long = sh("yes | head -c 100000 >&2; exit 1", 5_000).unwrap_err().to_string();
        assert!(long.len() < 2 * SAID_MAX, "{}", long.len());
        assert!(find("no-such-program", "get it").unwrap_err().to_string().contains("get it"));
    }
}
