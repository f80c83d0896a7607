//! Ending plugins: one that hangs, with its group; and what an interrupted ADD has left running.

use std::process::Child;
use std::time::{Duration, Instant};

use hostler_linux::pidfd::Pidfd;
use hostler_linux::{process, procfs};
use hostler_model::limits;
use hostler_model::units::Signal;

/// Looks at a group before it is accepted that it forks faster than we look.
const SWEEPS: usize = 16;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Kills a child that leads a group, all below it and all of the group, and reaps it. One that was reaped already is
/// left alone: its number may be somebody else's.
pub(super) fn end_group(child: &mut Child, plugin: &str) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let leader = child.id();
    let _ = process::kill_tree(leader);
    // Those whose parent is gone are not below it. The number of the group is not used again before it is reaped.
    for _ in 0..SWEEPS {
        let members = members(leader);
        if members.is_empty() {
            break;
        }
        for member in members {
            let _ = process::signal_stranger(member, Signal::KILL, || group_of(member) == Some(leader));
        }
    }
    let began = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if began.elapsed() >= Duration::from_millis(limits::CNI_KILLED_MAX_MS) {
            tracing::warn!(plugin, pid = leader, "a CNI plugin was killed and does not end: it waits in the kernel");
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Who is in a group and lives, but its leader.
fn members(group: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != group && group_of(*pid) == Some(group)).collect()
}

/// The group of a process that lives: the fifth field of `/proc/<pid>/stat`.
fn group_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

/// Kills every process that was called for this container: plugins of a daemon that was killed, and what a plugin that
/// died has left. Otherwise they make, after DEL, what DEL was to undo.
pub(super) fn end_strays(container: &str) {
    let began = Instant::now();
    let is_ours = |value: &[u8]| (value == container.as_bytes()).then_some(());
    loop {
        let found = procfs::with_environment(b"CNI_CONTAINERID", is_ours).unwrap_or_default();
        let held: Vec<_> = found.into_iter().filter_map(|((), id)| Some((id.pid, Pidfd::open(id)?))).collect();
        if held.is_empty() {
            return;
        }
        if began.elapsed() >= Duration::from_millis(limits::CNI_KILLED_MAX_MS) {
            tracing::warn!(container, "what a CNI plugin left was killed and does not end: it waits in the kernel");
            return;
        }
        for (pid, held) in held {
            tracing::info!(container, pid, "ending what an interrupted CNI plugin left");
            held.kill();
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
