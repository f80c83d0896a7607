//! Which OCI runtimes this machine has: found by name or path, and asked once who they are.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hostler_linux::tool;
use hostler_model::container::Container;
use hostler_model::launch::{OciKind, OciRuntime};
use hostler_model::{ByteString, Problem, ProblemKind, config};

/// Tried in this order by a node that names none.
const NAMES: [&str; 2] = ["runc", "crun"];
/// How long one may take to say who it is.
const VERSION_MAX: Duration = Duration::from_secs(2);
/// How long CRIU may take to look at the kernel.
const CRIU_MAX: Duration = Duration::from_secs(10);

/// One that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub program: PathBuf,
    /// Whose it is.
    pub kind: OciKind,
    /// The first line of what it says of itself.
    pub version: String,
}

/// All that were asked for so far.
#[derive(Debug)]
pub struct OciRuntimes {
    config: config::Oci,
    state: PathBuf,
    known: Mutex<HashMap<PathBuf, Found>>,
}

impl OciRuntimes {
    /// Nothing is looked for yet.
    #[must_use]
    pub fn new(config: config::Oci, state: PathBuf) -> Self {
        Self { config, state, known: Mutex::default() }
    }

    /// The one that this container asks for, or the node's. Looks at files, and at first sight runs it: not for the
    /// node's own thread.
    pub fn find(&self, asked: Option<&ByteString>) -> Result<Found, Problem> {
        let program = self.locate(asked)?;
        if let Some(found) = self.known(&program) {
            return Ok(found);
        }
        let found = ask(program);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(found.program.clone(), found.clone());
        Ok(found)
    }

    fn known(&self, program: &Path) -> Option<Found> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(program).cloned()
    }

    fn locate(&self, asked: Option<&ByteString>) -> Result<PathBuf, Problem> {
        let configured = self.config.runtime.as_deref().map(Path::new);
        let names: Vec<&Path> = match (asked.map(ByteString::as_path), configured) {
            (Some(name), _) | (None, Some(name)) => vec![name],
            (None, None) => NAMES.iter().map(Path::new).collect(),
        };
        names.iter().find_map(|name| look_up(name)).ok_or_else(|| {
            let shown: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
            let detail = format!(
                "there is no OCI runtime {}; install one (Debian: apt-get install runc), or name one that is there",
                shown.join(" or ")
            );
            Problem::new(ProblemKind::OciRuntimeMissing, detail)
        })
    }

    /// How it is called for a container that was accepted. Runs nothing: one that was never seen by this daemon is
    /// called as any would be.
    #[must_use]
    pub fn runtime_of(&self, container: &Container) -> OciRuntime {
        let asked = container.oci_runtime.as_ref();
        let program = self
            .locate(asked)
            .unwrap_or_else(|_| asked.map_or_else(|| PathBuf::from("runc"), |asked| asked.as_path().to_owned()));
        let kind = self.known(&program).map_or(OciKind::Other, |found| found.kind);
        let configured = self.config.args.iter().map(|arg| ByteString::from(arg.as_str()));
        OciRuntime {
            program: program.as_os_str().into(),
            kind,
            args: configured.chain(container.oci_runtime_args.iter().cloned()).collect(),
            state: self.state.as_os_str().into(),
            criu_dir: self.config.criu_dir.as_deref().map(ByteString::from),
            call_max_ms: call_max_ms(),
        }
    }
}

impl OciRuntimes {
    /// What this machine has, for the doctor. Blocks.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let runtime = self.find(None).map_err(|problem| problem.detail);
        let is_other = |found: &Found| runtime.as_ref().map_or(true, |own| own.program != found.program);
        let others = NAMES.iter().filter_map(|name| self.find(Some(&ByteString::from(*name))).ok()).filter(is_other);
        Survey { others: others.collect(), runtime: runtime.clone(), criu: self.criu() }
    }

    /// Whether CRIU says that it works here.
    fn criu(&self) -> Result<String, String> {
        let configured = self.config.criu_dir.as_ref().map(|directory| Path::new(directory).join("criu"));
        let program = configured.filter(|path| look_up(path).is_some()).or_else(|| look_up(Path::new("criu")));
        let program = program.ok_or("there is no criu")?;
        if look_up(Path::new("iptables-restore")).is_none() {
            return Err("there is no iptables-restore, by which criu keeps a container's network still".to_owned());
        }
        let says = |arguments: &[&str]| said(&program, arguments, CRIU_MAX);
        match says(&["check"]) {
            Some(Said { success: true, .. }) => {
                let version = says(&["--version"]).map(|said| said.text).unwrap_or_default();
                let version = version.lines().next().unwrap_or_default().trim_start_matches("Version: ").to_owned();
                Ok(format!("{} ({version})", program.display()))
            }
            Some(Said { text, .. }) => {
                let why = text.lines().find(|line| line.contains("Error")).unwrap_or("it says no more").to_owned();
                Err(format!("{} check fails: {why}", program.display()))
            }
            None => Err(format!("{} check does not end", program.display())),
        }
    }
}

/// What there is to make containers with.
#[derive(Debug, Clone)]
pub struct Survey {
    /// What makes those that ask for nothing else, or why there is none.
    pub runtime: Result<Found, String>,
    /// What else there is.
    pub others: Vec<Found>,
    /// CRIU, or why it cannot be used.
    pub criu: Result<String, String>,
}

/// Debug builds let `HOSTLER_TEST_OCI_CALL_MS` shorten the deadlines of calls.
fn call_max_ms() -> Option<u64> {
    if cfg!(debug_assertions) { std::env::var("HOSTLER_TEST_OCI_CALL_MS").ok()?.parse().ok() } else { None }
}

fn look_up(name: &Path) -> Option<PathBuf> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return tool::is_program(name).then(|| name.to_owned());
    }
    tool::find(name.to_str()?)
}

/// Asks it who it is. One that does not say so in time, or says something unknown, is called as any would be.
fn ask(program: PathBuf) -> Found {
    let said = version(&program).unwrap_or_default();
    let version = said.lines().next().unwrap_or_default().to_owned();
    let kind = match version.split_whitespace().next() {
        Some("runc") => OciKind::Runc,
        Some("crun") => OciKind::Crun,
        _ => OciKind::Other,
    };
    Found { program, kind, version }
}

fn version(program: &Path) -> Option<String> {
    Some(said(program, &["--version"], VERSION_MAX)?.text)
}

/// What a program said, and whether it succeeded.
struct Said {
    text: String,
    success: bool,
}

/// Runs a program that says little and ends soon.
fn said(program: &Path, arguments: &[&str], longest: Duration) -> Option<Said> {
    let done = tool::call(program, arguments, &[], &[], longest).ok()?;
    let text = String::from_utf8_lossy(&done.out).into_owned() + &String::from_utf8_lossy(&done.err);
    Some(Said { text, success: done.status.success() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn stand_in(directory: &Path, name: &str, script: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make executable");
        path
    }

    #[test]
    fn who_they_say_they_are() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cases = [
            ("a", "echo 'runc version 1.1.5'", OciKind::Runc),
            ("runc", "echo 'crun version 1.8.1'; echo spec", OciKind::Crun),
            ("c", "echo mine 3", OciKind::Other),
            ("d", "exit 1", OciKind::Other),
            ("e", "echo runc version 1; sleep 5 & exit 0", OciKind::Runc),
        ];
        for (name, script, kind) in cases {
            let path = stand_in(dir.path(), name, script);
            let oci = OciRuntimes::new(config::Oci::default(), dir.path().join("state"));
            let asked = ByteString::from(path.as_os_str());
            assert_eq!(oci.find(Some(&asked)).expect("there").kind, kind, "{script}");
            let container = Container { oci_runtime: Some(asked), ..Container::default() };
            assert_eq!(oci.runtime_of(&container).kind, kind);
        }
        let oci = OciRuntimes::new(config::Oci::default(), dir.path().join("state"));
        let missing = oci.find(Some(&"no-such-runtime".into())).expect_err("missing");
        assert_eq!(missing.kind, ProblemKind::OciRuntimeMissing);
        assert!(oci.find(Some(&"/etc/passwd".into())).is_err(), "not executable");
    }
}
