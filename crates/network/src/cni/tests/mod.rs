//! Lists, answers, and plugins: stand-ins that do on command what real ones do once a year, and the real ones.

mod lists;
mod real;
mod results;
mod stand_ins;
mod trouble;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Call, List, Wishes};

/// An answer that any plugin may give.
const ANSWER: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/n"}],
    "ips":[{"address":"10.9.0.2/24","gateway":"10.9.0.1","interface":0}],"dns":{}}"#;
/// Answers to ADD, and nothing to the rest.
const GOOD: &str = "[ $CNI_COMMAND != ADD ] || cat $dir/answer";

/// A directory of plugins, which log what they are called for.
struct Kit {
    dir: tempfile::TempDir,
    path: Vec<PathBuf>,
    cache: PathBuf,
    container: String,
    netns: PathBuf,
    deadline_ms: u64,
}

impl Kit {
    /// With plugins `one`, `two` and `three` that do well.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("make a directory");
        std::fs::write(dir.path().join("answer"), ANSWER).expect("write");
        // As unique as the directory is: what has it in its environment gets killed.
        let name = dir.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        let kit = Self {
            path: vec![dir.path().join("nowhere"), bin],
            cache: dir.path().join("record.json"),
            container: format!("c{name}"),
            netns: "/proc/self/ns/net".into(),
            deadline_ms: 30_000,
            dir,
        };
        for name in ["one", "two", "three"] {
            kit.plugin(name, GOOD);
        }
        kit
    }

    /// A plugin that logs its call, its input and its environment, and then does this.
    fn plugin(&self, name: &str, script: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "#!/bin/sh\ndir={dir}\nname={name}\necho $CNI_COMMAND $name >>$dir/calls\n\
             cat >$dir/$name.$CNI_COMMAND.input\nenv >$dir/$name.$CNI_COMMAND.env\n{script}\n"
        );
        let path = self.path[1].join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make executable");
    }

    fn call(&self) -> Call<'_> {
        Call {
            container: &self.container,
            netns: &self.netns,
            interface: "eth0",
            path: &self.path,
            deadline_ms: self.deadline_ms,
            cache: &self.cache,
            wishes: Wishes::default(),
        }
    }

    /// What was called since the last look, in order.
    fn calls(&self) -> Vec<String> {
        let path = self.dir.path().join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        text.lines().map(str::to_owned).collect()
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).unwrap_or_default()
    }

    /// What a plugin read when it was called for this.
    fn input(&self, name: &str, verb: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{name}.{verb}.input"))).expect("JSON")
    }
}

const ADD_ALL: [&str; 3] = ["ADD one", "ADD two", "ADD three"];
const DEL_ALL: [&str; 3] = ["DEL three", "DEL two", "DEL one"];

/// A list of `one`, `two` and `three`.
fn list(version: &str) -> List {
    let plugins = ["one", "two", "three"].map(|name| json!({ "type": name, "own": { "key": [name] } }));
    let list = json!({ "cniVersion": version, "name": "net", "plugins": plugins });
    List::parse(&list.to_string()).expect("a list")
}

/// Whether a process runs, that is, is neither gone nor dead.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until it is so; much longer than it can take.
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The test program runs itself: one ignored test, in a process of its own.
fn myself(test: &str) -> Vec<std::ffi::OsString> {
    let program = std::env::current_exe().expect("a program");
    let arguments = [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    std::iter::once(program.into()).chain(arguments.map(Into::into)).collect()
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
