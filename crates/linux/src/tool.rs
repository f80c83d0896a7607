//! Calling a program that does one thing and ends: what it is told and what it says are kept in memory files, so that
//! nobody who holds an end of a pipe can hold up the caller.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Of what a program says, what is read, bytes.
const SAID_MAX: u64 = 1024 * 1024;

/// How long the end of one that was killed is waited for.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// Where programs usually are.
pub const DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a call went.
#[derive(Debug)]
pub struct Done {
    /// Its end.
    pub status: ExitStatus,
    /// What it said on stdout.
    pub out: Vec<u8>,
    /// What it said on stderr.
    pub err: Vec<u8>,
}

/// Whether this is a program.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The program of this name, if it is in one of the usual places, whatever our own environment says.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| is_program(path))
}

/// A file that is nowhere, with this in it.
fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("call", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Calls it with nothing in its environment but these, and waits for its end. `TimedOut` when it takes longer: it was killed
/// then, with whatever it started in its process group.
pub fn call(
    program: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &[u8],
    longest: Duration,
) -> io::Result<Done> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().copied());
    wait_for(command, input, longest)
}

/// The same in another directory, with arguments and an environment of any bytes.
pub fn call_in(
    directory: &Path,
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(&str, &OsStr)],
    longest: Duration,
) -> io::Result<Done> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().copied()).current_dir(directory);
    wait_for(command, &[], longest)
}

fn wait_for(mut command: Command, input: &[u8], longest: Duration) -> io::Result<Done> {
    let (mut out, mut err) = (memory_file(&[])?, memory_file(&[])?);
    command.process_group(0);
    command.stdin(memory_file(input)?).stdout(Stdio::from(out.try_clone()?)).stderr(Stdio::from(err.try_clone()?));
    let mut child = command.spawn()?;
    let ended = wait(&child, longest);
    if !matches!(ended, Ok(true)) {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
        let _ = child.kill();
        // One that is stuck in the kernel is nobody's to wait for.
        if !wait(&child, KILLED_MAX)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let status = child.wait()?;
    match ended? {
        true => Ok(Done { status, out: read(&mut out)?, err: read(&mut err)? }),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether it ended in time.
fn wait(child: &std::process::Child, longest: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let began = Instant::now();
    loop {
        let left = longest.saturating_sub(began.elapsed());
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8]) -> io::Result<Done> {
        let longest = Duration::from_secs(5);
        call(Path::new("/bin/sh"), &["-c", script], &[("PATH", "/usr/bin:/bin"), ("X", "y")], input, longest)
    }

    #[test]
    fn told_and_heard() {
        let done = sh("cat; echo $X; echo no >&2; exit 3", b"hello ").unwrap();
        assert_eq!((done.status.code(), &done.out[..], &done.err[..]), (Some(3), &b"hello y\n"[..], &b"no\n"[..]));
        assert!(find("sh").is_some() && find("no-such-program").is_none());
    }

    #[test]
    fn in_another_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().canonicalize().unwrap();
        let arguments = ["-c", "pwd; echo $A"].map(OsStr::new);
        let longest = Duration::from_secs(5);
        let done = call_in(&place, Path::new("/bin/sh"), &arguments, &[("A", OsStr::new("b"))], longest).unwrap();
        assert_eq!(done.out, format!("{}\nb\n", place.display()).as_bytes());
    }

    #[test]
    fn somebody_it_left_behind_holds_nothing_up() {
        let began = Instant::now();
        let done = sh("sleep 4 & echo done", b"").unwrap();
        assert_eq!(done.out, b"done\n");
        assert!(began.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn it_ends_in_time_or_is_ended() {
        let longest = Duration::from_millis(50);
        let error = call(Path::new("/bin/sh"), &["-c", "sleep 60; true"], &[], b"", longest).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
