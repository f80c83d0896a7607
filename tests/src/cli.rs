//! The `hostler` program as a person runs it: arguments in, exit code, stdout and stderr out, within a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a command may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a command left.
#[derive(Debug)]
pub struct Output {
    /// Its code; 1000 + n when it was ended by signal n.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    line: String,
}

impl Output {
    /// Its stdout as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stderr as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It must have ended with this code.
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(
            self.code,
            expected,
            "exit code of `{}`\nstdout: {}\nstderr: {}",
            self.line,
            shorten(&self.out()),
            shorten(&self.err())
        );
        self
    }

    /// It must have succeeded; its stdout, trimmed.
    pub fn ok(self) -> String {
        let done = self.code(0);
        done.out().trim_end().to_owned()
    }

    /// It must have succeeded; its stdout as JSON.
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON: {error}: {}", shorten(&text)))
    }

    /// The same where there may be none.
    pub fn json_lines_or_nothing(self) -> Vec<serde_json::Value> {
        if self.code == 0 { self.json_lines() } else { Vec::new() }
    }

    /// Each of its stdout's lines as JSON.
    pub fn json_lines(self) -> Vec<serde_json::Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// It must have failed with this code, and said this on stderr.
    pub fn refused(self, code: i32, words: &str) -> Self {
        let done = self.code(code);
        assert!(done.err().contains(words), "`{}` does not say {words:?}: {}", done.line, done.err());
        done
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(2_000).collect()
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 1_000 + status.signal().unwrap_or(0))
}

/// A command to be run.
#[derive(Debug)]
pub struct Cli {
    program: OsString,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
    stdin: Option<Vec<u8>>,
    uid: Option<u32>,
    deadline: Duration,
}

impl Cli {
    /// `hostler` with these arguments on the node at `root`, started in `directory`.
    pub fn new(root: &std::path::Path, directory: PathBuf, arguments: &[&str]) -> Self {
        Self {
            program: crate::binary("hostler").into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            env: vec![("HOSTLER_ROOT".into(), root.into())],
            directory,
            stdin: None,
            uid: None,
            deadline: DEADLINE,
        }
    }

    /// One more argument, any bytes.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// A variable of the command's own environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.into(), value.as_ref().to_owned()));
        self
    }

    /// What it finds on stdin; nothing unless set.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Run it as this user and group, without other groups. Needs root.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Instead of 30 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn command(&self) -> Command {
        let mut command = match self.uid {
            None => Command::new(&self.program),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
                command.args(["--clear-groups", "--"]).arg(&self.program);
                command
            }
        };
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HOSTLER_")) {
            command.env_remove(key);
        }
        command.args(&self.arguments).current_dir(&self.directory).envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts it, for those that go on by themselves.
    pub fn spawn(self) -> Running {
        let mut command = self.command();
        let line = format!("{:?}", self.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {line}: {error}"));
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = collect(child.stderr.take().expect("piped"));
        Running { child: Some(child), stdin, lines, reader: Some(reader), stderr: Some(stderr), line }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Output {
        let line = format!("{:?}", self.arguments);
        let mut command = self.command();
        let input = self.stdin.take();
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {line}: {error}"));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
            // A program that does not read its stdin to the end is no failure of the test.
            std::thread::spawn(move || stdin.write_all(&bytes).ok());
        }
        let began = Instant::now();
        let status = loop {
            match child.try_wait().expect("waiting for a child") {
                Some(status) => break status,
                None if began.elapsed() > self.deadline => {
                    child.kill().expect("killing a child");
                    child.wait().expect("reaping a child");
                    let (stdout, stderr) = (stdout.join(), stderr.join());
                    let text = |bytes: std::thread::Result<Vec<u8>>| {
                        shorten(&String::from_utf8_lossy(&bytes.unwrap_or_default()))
                    };
                    panic!(
                        "`hostler {line}` did not end within {:?}\nstdout: {}\nstderr: {}",
                        self.deadline,
                        text(stdout),
                        text(stderr)
                    );
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let stdout = stdout.join().expect("a reader does not panic");
        let stderr = stderr.join().expect("a reader does not panic");
        Output { code: code_of(status), stdout, stderr, line }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        bytes
    })
}

/// A command that goes on: killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    line: String,
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits for the next line of its stdout.
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(crate::PATIENCE) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(RecvTimeoutError::Timeout) => panic!("{} prints nothing more", self.line),
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended without another line", self.line),
        }
    }

    /// Waits for a line of its stdout that contains this.
    pub fn line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Writes to its stdin.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("not yet closed");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap_or_else(|error| panic!("{}: {error}", self.line));
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, number: u8) {
        crate::signal(self.pid(), number);
    }

    /// Waits for its end; what it printed since the last line that was read.
    pub fn end(mut self) -> Output {
        let mut child = self.child.take().expect("not yet ended");
        let status = crate::until(&format!("the end of {}", self.line), crate::PATIENCE, || {
            child.try_wait().expect("waiting for a child")
        });
        self.stdin = None;
        self.reader.take().map(JoinHandle::join);
        let stdout: Vec<Vec<u8>> = self.lines.try_iter().collect();
        let stderr = self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default();
        Output { code: code_of(status), stdout: stdout.join(&b'\n'), stderr, line: std::mem::take(&mut self.line) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its own child, not yet reaped: nobody else can have its number.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
