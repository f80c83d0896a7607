//! Programs brought up or connected to: run, exec, attach.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::path::Path;

use hostler_api::types::{CreateQuery, ExecRequest, WaitFor, WorkloadView};
use hostler_model::spec::{Restart, RestartWhen, Stdio, Stop, TtySize};
use hostler_model::units::format_size;
use hostler_model::vm::Vm;
use hostler_model::workload::RunState;
use hostler_model::{ByteString, Spec, limits};

use super::{Context, patiently};
use crate::cli::{Attach, Exec, LimitArguments, Run};
use crate::failure::Failure;
use crate::foreground::{Foreground, Plan, Subject};
use crate::hooks;
use crate::output::{say, say_json};
use crate::parse::{self, absolute};
use crate::terminal::{self, with_spinner};

pub(super) async fn run(context: &Context, run: Run) -> Result<u8, Failure> {
    let spec = spec(&run)?;
    if let Some(file) = &run.each {
        return super::each::each(context, &spec, file).await;
    }
    if run.detach || spec.schedule.is_some() {
        return detached(context, &spec).await;
    }
    // Before the program exists: a Ctrl-C from here on is meant for it.
    let mut foreground = Foreground::new(context.client.clone())?;
    let creating = with_spinner("asking the node", create(context, &spec, WaitFor::Accepted));
    let view = foreground.prepare(creating).await??;
    let plan = Plan {
        reference: view.workload.id.to_string(),
        name: view.workload.name.to_string(),
        subject: Subject::Own {
            remove: spec.remove,
            restarts: spec.protected || spec.restart.when != RestartWhen::Never,
        },
        stdin: run.interactive,
        tty: run.tty,
    };
    foreground.follow(plan).await
}

async fn detached(context: &Context, spec: &Spec) -> Result<u8, Failure> {
    // Its turn may come much later.
    let until = if spec.queue.is_some() { WaitFor::Accepted } else { WaitFor::Started };
    let view = with_spinner("waiting for the start", create(context, spec, until)).await?;
    if context.json() {
        say_json(&view)?;
    } else {
        say(view.workload.id.to_string())?;
    }
    match view.workload.run.as_ref().map(|run| &run.state) {
        Some(RunState::Failed { failure }) => {
            let message = format!("{} was not started: {}", view.workload.name, failure.message);
            Err(Failure::new(message).with_code(failure.kind.shell_code()))
        }
        _ => Ok(0),
    }
}

/// Creates exactly one workload, also when the daemon dies before it has answered.
async fn create(context: &Context, spec: &Spec, wait: WaitFor) -> Result<WorkloadView, Failure> {
    let query = CreateQuery { wait: Some(wait), ..CreateQuery::default() };
    let key = fresh_key();
    Ok(patiently(async || context.client.create(spec, &query, Some(&key)).await).await?)
}

/// A request that is sent again under this key happens once.
pub(super) fn fresh_key() -> String {
    format!("run-{:016x}{:016x}", RandomState::new().hash_one(std::process::id()), RandomState::new().hash_one(0))
}

fn caller(key: &OsStr) -> Option<OsString> {
    std::env::var_os(key)
}

fn bytes(texts: &[OsString]) -> Vec<ByteString> {
    texts.iter().map(|text| ByteString::from(text.as_os_str())).collect()
}

fn tty_size(tty: bool) -> Option<TtySize> {
    tty.then(|| terminal::size().unwrap_or_default())
}

/// Files first, then `--env`; with a terminal also its kind, unless that was set.
fn environment(files: &[std::path::PathBuf], entries: &[OsString], tty: bool) -> Result<Vec<ByteString>, Failure> {
    let mut all = Vec::new();
    for file in files {
        let name = file.display();
        let content = std::fs::read(file).map_err(|error| Failure::usage(format!("--env-file {name}: {error}")))?;
        let entries = parse::env_file(&content, caller)
            .map_err(|(line, error)| Failure::usage(format!("--env-file {name}:{line}: {error}")))?;
        all.extend(entries);
    }
    for entry in entries {
        all.extend(parse::env(entry, caller).map_err(|error| Failure::usage(format!("--env {error}")))?);
    }
    if tty
        && !all.iter().any(|entry| entry.as_bytes().starts_with(b"TERM="))
        && let Ok(Some(term)) = parse::env(OsStr::new("TERM"), caller)
    {
        all.push(term);
    }
    Ok(all)
}

/// What is on this command's own stdin, to its end: as much as a workload can take along.
fn own_stdin() -> Result<ByteString, Failure> {
    let mut data = Vec::new();
    let most = limits::STDIN_DATA_MAX as u64;
    let read = std::io::stdin().lock().take(most + 1).read_to_end(&mut data);
    read.map_err(|error| Failure::usage(format!("--stdin -: {error}")))?;
    if data.len() as u64 > most {
        let message = format!("--stdin -: there are more than {} on stdin", format_size(most));
        let hint = "put it into a file and use --stdin FILE, or pass it as it comes with -i, without -d";
        return Err(Failure::usage(message).with_hint(hint));
    }
    Ok(data.into())
}

/// A guest that does not answer is made once more, and both attempts have their time.
fn start_deadline_ms(vm: Option<&Vm>) -> u64 {
    let boots_ms = vm.map_or(0, |vm| vm.boot_max_ms.saturating_mul(u64::from(limits::VM_BOOT_ATTEMPTS)));
    limits::START_DEADLINE_MS.max(boots_ms.saturating_add(limits::START_DEADLINE_MS / 5)).min(limits::TIME_MAX_MS)
}

fn restart_of(run: &Run) -> Restart {
    let (when, max_attempts) = run.restart;
    let defaults = Restart::default();
    let delay_ms = run.restart_delay.unwrap_or(defaults.backoff_initial_ms);
    Restart {
        when,
        max_attempts,
        backoff_initial_ms: delay_ms,
        backoff_max_ms: run.restart_delay_max.unwrap_or(defaults.backoff_max_ms.max(delay_ms)),
        ..defaults
    }
}

/// Where the program starts; `is_elsewhere` when that is no directory of this machine.
fn workdir(run: &Run, is_elsewhere: bool) -> Result<Option<ByteString>, Failure> {
    Ok(match &run.workdir {
        Some(directory) if is_elsewhere => Some(ByteString::from(directory.as_os_str())),
        Some(directory) => Some(absolute(directory)?),
        // A directory that was removed under the shell has no name; the node's default is better than a refusal.
        // A container or a guest has directories of its own.
        None if is_elsewhere => None,
        None => std::env::current_dir().ok().map(|directory| ByteString::from(directory.as_os_str())),
    })
}

fn spec(run: &Run) -> Result<Spec, Failure> {
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(absolute).transpose();
    let vm = run.machine.machine(&run.container, &run.limits)?;
    let container = if vm.is_some() { None } else { run.container.container()? };
    let is_elsewhere = container.is_some() || vm.is_some();
    let workdir = workdir(run, is_elsewhere)?;
    let isolation = run.sandbox.isolation(&run.container)?;
    // Of a virtual machine it is its memory.
    let limits = LimitArguments { memory: run.limits.memory.filter(|_| vm.is_none()), ..run.limits.clone() };
    // What is the current one here may not even be there.
    let workdir = workdir.filter(|_| isolation.is_none() || run.workdir.is_some());
    let stop = Stop::default();
    let mut labels = BTreeMap::new();
    labels.extend(run.label.iter().cloned());
    let inline = run.stdin.as_deref() == Some(Path::new("-"));
    let stdin_data = if inline { Some(own_stdin()?) } else { run.stdin_text.as_deref().map(ByteString::from) };
    Ok(Spec {
        name: run.name.clone(),
        env: environment(&run.env_file, &run.env, run.tty)?,
        workdir,
        user: run.user.clone(),
        queue: run.queue.clone(),
        priority: run.priority,
        restart: restart_of(run).into(),
        protected: run.protected,
        schedule: run.schedule.schedule().map(Box::new),
        stop: Stop {
            signal: run.stop_signal.unwrap_or(stop.signal),
            grace_ms: run.stop_timeout.unwrap_or(stop.grace_ms),
        },
        hooks: hooks::of_run(run)?.into(),
        max_time_ms: run.max_time,
        start_deadline_ms: run.start_timeout.unwrap_or_else(|| start_deadline_ms(vm.as_ref())),
        limits: limits.limits().map_err(Failure::usage)?.into(),
        rlimits: run.rlimit.clone().into(),
        stdio: Stdio {
            interactive: run.interactive,
            tty: tty_size(run.tty),
            owner: !run.detach && run.schedule.schedule().is_none(),
            stdin: if inline { None } else { path(&run.stdin)? },
            stdin_data,
            stdout: path(&run.stdout)?,
            stderr: path(&run.stderr)?,
        }
        .into(),
        labels: labels.into(),
        tags: run.tag.clone().into(),
        stats_interval_ms: run.stats_interval,
        remove: run.rm,
        no_new_privileges: run.container.no_new_privileges(),
        container: container.map(Box::new),
        vm: vm.map(Box::new),
        isolation: isolation.map(Box::new),
        ..Spec::new(bytes(&run.command))
    })
}

pub(super) async fn exec(context: &Context, exec: Exec) -> Result<u8, Failure> {
    let request = ExecRequest {
        command: bytes(&exec.command),
        env: environment(&[], &exec.env, exec.tty)?,
        // The workload's file system is this one, or what it sees of it; but a relative path is meant from its own directory.
        workdir: exec.workdir.as_ref().map(|directory| ByteString::from(directory.as_os_str())),
        user: exec.user,
        rlimits: exec.rlimit,
        interactive: exec.interactive,
        tty: tty_size(exec.tty),
    };
    let plan = Plan {
        name: exec.reference.clone(),
        reference: exec.reference,
        subject: Subject::Exec(Box::new(request)),
        stdin: exec.interactive,
        tty: exec.tty,
    };
    Foreground::new(context.client.clone())?.follow(plan).await
}

pub(super) async fn attach(context: &Context, attach: &Attach) -> Result<u8, Failure> {
    let view = patiently(async || context.client.inspect(&attach.reference).await).await?;
    let stdio = &view.workload.spec.stdio;
    let plan = Plan {
        reference: view.workload.id.to_string(),
        name: view.workload.name.to_string(),
        subject: Subject::Guest { no_backlog: attach.no_backlog },
        stdin: stdio.interactive && !attach.no_stdin,
        tty: stdio.tty.is_some(),
    };
    Foreground::new(context.client.clone())?.follow(plan).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser as _;

    fn spec_of(line: &[&str]) -> Spec {
        let parsed = Arguments::try_parse_from(["hostler", "run"].iter().chain(line)).expect("valid");
        let Command::Run(run) = parsed.command else { panic!("not run") };
        spec(&run).expect("a spec")
    }

    #[test]
    fn defaults_and_options_become_a_valid_spec() {
        let plain = spec_of(&["--", "true"]);
        plain.check().expect("valid");
        assert!(plain.stdio.owner && !plain.stdio.interactive && plain.workdir.is_some());

        let full = spec_of(&[
            "-d",
            "--name",
            "web",
            "--restart",
            "on-failure:3",
            "--env",
            "A=1",
            "--label",
            "k=v",
            "--tag",
            "nightly",
            "--tag",
            "two words",
            "--stats-interval",
            "5s",
            "--stdin-text",
            "typed",
            "--memory",
            "64M",
            "--cpus",
            "0.5",
            "--pids",
            "9",
            "--rlimit",
            "nofile=10:20",
            "--max-time",
            "10s",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "2s",
            "--stdout",
            "out",
            "sleep",
            "1",
        ]);
        full.check().expect("valid");
        assert!(!full.stdio.owner);
        assert_eq!(full.restart.max_attempts, Some(3));
        assert_eq!(
            (full.limits.memory_bytes, full.limits.cpu_millis, full.limits.pids),
            (Some(64 << 20), Some(500), Some(9))
        );
        assert_eq!((full.max_time_ms, full.stop.grace_ms), (Some(10_000), 2_000));
        assert!(full.stdio.stdout.as_ref().expect("a path").as_bytes().starts_with(b"/"));
        assert_eq!((full.tags.len(), full.stats_interval_ms), (2, Some(5_000)));
        assert_eq!(full.stdio.stdin_data, Some("typed".into()));
        assert_eq!(full.labels.get("k").map(String::as_str), Some("v"));

        let every = spec_of(&["--every", "30s", "--first-after", "1m", "--misfire", "once", "--", "true"]);
        every.check().expect("valid");
        let schedule = every.schedule.expect("a schedule");
        assert_eq!((schedule.every_ms, schedule.first_after_ms), (Some(30_000), Some(60_000)));
        assert_eq!((schedule.misfire.as_str(), schedule.overlap.as_str()), ("once", "forbid"));
        assert!(!every.stdio.owner);
    }
}
