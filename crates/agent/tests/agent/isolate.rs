//! Programs that are kept apart from the machine: what the agent sees of them, and what they see.

use std::os::unix::fs::PermissionsExt;

use hostler_linux::{process, procfs};
use hostler_model::ExitStatus;
use hostler_model::exit::Cause;
use hostler_model::isolation::Isolation;
use hostler_model::launch::{Confinement, Launch};
use hostler_model::units::Signal;
use hostler_model::workload::{Identity, StartFailureKind};
use hostler_wire::{AttachTarget, FromAgent, SignalScope, ToAgent};

use crate::client::{Node, is_root, program};

/// Kept apart by a profile with these changes, as JSON.
fn isolated(node: &mut Node, command: &[&str], changes: &str) -> Launch {
    let mut launch = node.launch(command);
    let asked: Isolation = serde_json::from_str(changes).expect("isolation");
    asked.check().expect("valid");
    let profile = asked.profile.clone().unwrap_or_else(|| "default".to_owned());
    let isolation = asked.on(Isolation::built_in(&profile).expect("built in"));
    let hidden = vec![node.path("").as_os_str().into()];
    launch.program.confinement = Some(Box::new(Confinement { isolation, hostname: "kept-apart".to_owned(), hidden }));
    launch
}

/// Whether this machine lets anybody be kept apart; says why not.
fn can_isolate() -> bool {
    match hostler_linux::confine::support::look().user_namespaces {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: no user namespaces: {why}");
            false
        }
    }
}

fn lines(node: &Node) -> Vec<String> {
    node.log_lines().iter().map(|line| line["stdout F ".len()..].to_owned()).collect()
}

const SELF: &str = "id -u; hostname; ps -e -o comm= | sort | uniq | tr '\\n' ' '; echo; ls /tmp | wc -l; \
                    grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status; \
                    ls /sys/class/net | tr '\\n' ' '; cat /proc/1/cmdline | wc -c; tr -d '\\0' </proc/1/cmdline | wc -c";

#[test]
fn sees_only_its_own() {
    if !can_isolate() {
        return;
    }
    let mut node = Node::new();
    let launch = isolated(&mut node, &["sh", "-c", SELF], "{}");
    node.whole(&launch);
    let lines = lines(&node);
    assert_eq!(lines[1], "kept-apart");
    assert_eq!(lines[2].trim(), "hostler-init ps sh sort tr uniq", "{lines:?}");
    assert_eq!(lines[3], "0");
    for (line, name) in lines[4..9].iter().zip(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        assert_eq!(*line, format!("{name}:\t0000000000000000"));
    }
    assert_eq!(lines[9..11], ["NoNewPrivs:\t1", "Seccomp:\t2"]);
}
