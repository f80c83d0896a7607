//! What this machine can and cannot do: what this program sees by itself, then the daemon's own report.

use std::path::Path;
use std::time::Duration;

use hostler_api::client::ClientError;
use hostler_api::types::{Check, CheckStatus, DoctorReport};

use super::{Context, node};
use crate::failure::Failure;
use crate::output::{Tone, own_name, say, say_json};

/// A daemon that is well answers within this time.
const PROBE_MAX: Duration = Duration::from_secs(3);

pub(super) async fn doctor(context: &Context) -> Result<u8, Failure> {
    // Its own report may take a while; whether it is there at all is known sooner.
    let report = match context.client.clone().with_deadline(PROBE_MAX).healthz().await {
        Ok(_) => context.client.doctor().await,
        Err(error) => Err(error),
    };
    let (daemon, report) = match report {
        Ok(report) => (
            check("daemon", CheckStatus::Ok, format!("answers at {}", context.client.socket().display())),
            Some(report),
        ),
        Err(error) => (absent(context, &error), None),
    };
    let mut checks = vec![program(), daemon];
    match report {
        Some(report) => checks.extend(report.checks),
        // The daemon says these better, but it is not there to ask.
        None => checks.extend([user(), cgroups(), daemon_log(context)].into_iter().flatten()),
    }
    let missing = checks.iter().any(|check| check.status == CheckStatus::Missing);
    if context.json() {
        say_json(&DoctorReport { checks })?;
    } else {
        for check in &checks {
            tell(context, check)?;
        }
    }
    Ok(u8::from(missing))
}

fn tell(context: &Context, check: &Check) -> Result<(), Failure> {
    let (mark, tone) = match check.status {
        CheckStatus::Ok => ("✓", Tone::Good),
        CheckStatus::Limited => ("!", Tone::Warning),
        CheckStatus::Missing => ("✗", Tone::Bad),
    };
    say(format!("{} {}: {}", context.style.paint(tone, mark), check.name, check.detail))?;
    if let Some(mend) = &check.mend {
        say(format!("    {} {mend}", context.style.paint(Tone::Faint, "mend:")))?;
    }
    Ok(())
}

fn check(name: &str, status: CheckStatus, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status, detail: detail.into(), mend: None }
}

fn with_mend(mut check: Check, mend: impl Into<String>) -> Check {
    check.mend = Some(mend.into());
    check
}

fn absent(context: &Context, error: &ClientError) -> Check {
    let check = check("daemon", CheckStatus::Missing, error.to_string());
    match error {
        ClientError::NotRunning { .. } => with_mend(check, format!("{} up", own_name())),
        ClientError::Permission { .. } => with_mend(check, "ask as a user who may open the socket, or use --root DIR"),
        ClientError::Timeout(_) if let Some(pid) = node::recorded_daemon(&context.layout.pid_file()) => {
            with_mend(check, format!("kill -9 {pid}, then {} up; workloads go on meanwhile", own_name()))
        }
        _ => with_mend(check, format!("{} down, then {} up; workloads go on meanwhile", own_name(), own_name())),
    }
}

fn program() -> Check {
    match node::find_daemon() {
        Ok(path) => check("program", CheckStatus::Ok, format!("hostlerd is {}", path.display())),
        Err(_) => with_mend(
            check("program", CheckStatus::Missing, "hostlerd is neither beside this program nor in PATH"),
            "build it with `make build`, or install it with `make install`",
        ),
    }
}

fn user() -> Option<Check> {
    let uid = rustix::process::geteuid();
    Some(if uid.is_root() {
        check("user", CheckStatus::Ok, "root: workloads may run as any user, with limits")
    } else {
        with_mend(
            check(
                "user",
                CheckStatus::Limited,
                format!("uid {uid}: workloads run as this user; limits need a cgroup of his own"),
            ),
            "start the node as root for other users and for limits",
        )
    })
}

fn cgroups() -> Option<Check> {
    let root = Path::new("/sys/fs/cgroup");
    Some(if root.join("cgroup.controllers").exists() {
        check("cgroups", CheckStatus::Ok, "version 2")
    } else if root.join("memory").exists() || root.join("cpu").exists() {
        check("cgroups", CheckStatus::Ok, "version 1")
    } else {
        with_mend(
            check(
                "cgroups",
                CheckStatus::Limited,
                "not mounted at /sys/fs/cgroup: no limits on memory, CPU and processes",
            ),
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
    })
}

fn daemon_log(context: &Context) -> Option<Check> {
    let log = context.layout.daemon_log();
    log.exists().then(|| check("log", CheckStatus::Ok, format!("what the daemon said last is in {}", log.display())))
}
