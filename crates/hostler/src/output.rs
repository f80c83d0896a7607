//! What people read: tables, colours, times, and how a workload stands in a few words.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use hostler_api::types::WorkloadView;
use hostler_model::stack::{GenerationState, Then};
use hostler_model::units::format_duration;
use hostler_model::workload::{LostReason, Phase, StartFailureKind};
use hostler_model::{Cause, Exit, ExitStatus, RunState};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::failure::Failure;

static OWN_NAME: OnceLock<String> = OnceLock::new();

/// How to call this program in hints, with the `--root` that the person typed.
pub(crate) fn own_name() -> String {
    OWN_NAME.get().cloned().unwrap_or_else(|| "hostler".to_owned())
}

/// Sets [`own_name`], once.
pub(crate) fn set_own_name(name: String) {
    OWN_NAME.set(name).ok();
}

/// Prints a line to stdout.
pub(crate) fn say(line: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_ref().as_bytes())?;
    stdout.write_all(b"\n")?;
    Ok(())
}

/// Prints a line to stderr; nothing can be done if that fails.
pub(crate) fn remark(line: impl AsRef<str>) {
    let line = format!("hostler: {}\n", line.as_ref());
    io::stderr().write_all(line.as_bytes()).ok();
}

/// Prints indented JSON.
pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say(serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?)
}

/// Prints JSON in one line.
pub(crate) fn say_json_line(value: &impl Serialize) -> Result<(), Failure> {
    say(serde_json::to_string(value).map_err(|error| Failure::new(error.to_string()))?)
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Colour,
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Normal,
    Good,
    Warning,
    Bad,
    Faint,
    Heading,
}

impl Style {
    /// Colours when stdout is a terminal that has them and nobody objects (`NO_COLOR`).
    pub(crate) fn detect() -> Self {
        let objected = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if io::stdout().is_terminal() && !objected && !dumb { Self::Colour } else { Self::Plain }
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Normal => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Heading => "1",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One field of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell(pub(crate) String, pub(crate) Tone);

impl Cell {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self(text.into(), Tone::Normal)
    }
}

/// Lays out a table: columns as wide as their widest field, two blanks between; the last one is cut to `width`.
pub(crate) fn table(style: Style, width: Option<usize>, header: &[&str], rows: &[Vec<Cell>]) -> String {
    let header: Vec<Cell> = header.iter().map(|title| Cell((*title).to_owned(), Tone::Heading)).collect();
    let lines = || std::iter::once(&header).chain(rows);
    let last = header.len().saturating_sub(1);
    let widths: Vec<usize> =
        (0..last).map(|at| lines().map(|line| line[at].0.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines() {
        let mut used = 0;
        for (at, Cell(field, tone)) in line.iter().enumerate() {
            if at < last {
                text.push_str(&style.paint(*tone, field));
                text.push_str(&" ".repeat(widths[at] - field.chars().count() + 2));
                used += widths[at] + 2;
            } else {
                let room = width.map_or(usize::MAX, |width| width.saturating_sub(used).max(8));
                text.push_str(&style.paint(*tone, &shorten(field, room)));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// At most so many characters, the last one `…` when some are left off.
pub(crate) fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A command as people type it: arguments that need it are quoted, control characters are shown.
pub(crate) fn command_line(command: &[hostler_model::ByteString]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(byte) || *byte >= 0x80;
    let words = command.iter().map(|word| {
        let text = word.to_string_lossy();
        if !word.as_bytes().is_empty() && word.as_bytes().iter().all(plain) {
            return text.into_owned();
        }
        let shown: String =
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
        format!("'{}'", shown.replace('\'', "'\\''"))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Wall clock, milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of `restart_at_boot_ms`, milliseconds.
pub(crate) fn boot_now_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}

/// Local date and time.
pub(crate) fn local_time(ms: u64) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match timestamp {
        Some(timestamp) => timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => format!("{ms} ms"),
    }
}

/// Local date and time, to the second, with the zone's abbreviation.
pub(crate) fn local_date(ms: u64) -> String {
    date(ms, TimeZone::system(), "%Y-%m-%d %H:%M:%S %Z")
}

/// Date and time in UTC, to the second.
pub(crate) fn utc_date(ms: u64) -> String {
    date(ms, TimeZone::UTC, "%Y-%m-%dT%H:%M:%SZ")
}

fn date(ms: u64, zone: TimeZone, format: &str) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| format!("{ms} ms"), |timestamp| timestamp.to_zoned(zone).strftime(format).to_string())
}

/// How a workload stands, or how its last run ended while it waits for its next fire.
pub(crate) fn state(view: &WorkloadView, now_ms: u64, boot_ms: u64) -> Cell {
    let Some(plan) = view.workload.schedule.as_ref().filter(|_| view.phase == Phase::Scheduled) else {
        return last(view, now_ms, boot_ms);
    };
    let wait_ms = match (plan.next_fire_boot_ms, plan.next_fire_ms) {
        (Some(at_boot_ms), _) => at_boot_ms.saturating_sub(boot_ms),
        (None, Some(at_ms)) => at_ms.saturating_sub(now_ms),
        (None, None) => return Cell("schedule paused".to_owned(), Tone::Warning),
    };
    let mut text = format!("scheduled in {}", format_duration(wait_ms));
    if view.workload.run.is_some() {
        text = format!("{text}, {}", last(view, now_ms, boot_ms).0);
    }
    Cell(text, Tone::Faint)
}

/// How its last run stands, at these two clocks.
pub(crate) fn last(view: &WorkloadView, now_ms: u64, boot_ms: u64) -> Cell {
    let run = view.workload.run.as_ref();
    let ago = |then: u64| format!("{} ago", format_duration(now_ms.saturating_sub(then)));
    match (view.phase, run.map(|run| &run.state)) {
        (Phase::Pending, _) => match view.workload.restart_at_boot_ms {
            Some(at) => {
                Cell(format!("pending, restart in {}", format_duration(at.saturating_sub(boot_ms))), Tone::Warning)
            }
            None => Cell("pending".to_owned(), Tone::Warning),
        },
        (Phase::Running, _) => match run.and_then(|run| run.started_at_ms) {
            Some(then) => Cell(format!("running {}", format_duration(now_ms.saturating_sub(then))), Tone::Good),
            None => Cell("running".to_owned(), Tone::Good),
        },
        (_, Some(RunState::Ended { exit })) => {
            let tone = if exit.status.is_success() { Tone::Faint } else { Tone::Bad };
            Cell(format!("ended {} {}", exit_words(exit), ago(exit.ended_at_ms)), tone)
        }
        (_, Some(RunState::Failed { failure })) => Cell(format!("failed: {}", failure_words(failure.kind)), Tone::Bad),
        (_, Some(RunState::Lost { reason })) => Cell(format!("lost: {}", lost_words(*reason)), Tone::Bad),
        (phase, _) => Cell(phase.as_str().to_owned(), Tone::Warning),
    }
}

/// `0`, `3`, `SIGKILL (oom)`, `143 (timeout)`.
pub(crate) fn exit_words(exit: &Exit) -> String {
    let status = match exit.status {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal(signal) => format!("SIG{signal}"),
    };
    match exit.cause {
        Cause::Oom => format!("{status} (out of memory)"),
        Cause::Timeout => format!("{status} (max-time)"),
        Cause::Machine => "with its virtual machine".to_owned(),
        _ => status,
    }
}

pub(crate) fn failure_words(kind: StartFailureKind) -> &'static str {
    match kind {
        StartFailureKind::CommandNotFound => "command not found",
        StartFailureKind::CommandNotExecutable => "command not executable",
        StartFailureKind::Workdir => "working directory",
        StartFailureKind::Stdio => "stdin, stdout or stderr",
        StartFailureKind::Credentials => "user or groups",
        StartFailureKind::Limit => "limit not available",
        StartFailureKind::Isolation => "isolation not available",
        StartFailureKind::Network => "network",
        StartFailureKind::Sandbox => "no sandbox",
        StartFailureKind::Deadline => "not started in time",
        StartFailureKind::Cancelled => "stopped before its start",
        StartFailureKind::System => "system",
    }
}

pub(crate) fn lost_words(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Reboot => "the machine was rebooted",
        LostReason::Agent => "its agent died",
        LostReason::RunDirectory => "its run directory is gone",
    }
}

/// Where a version of a stack's unit stands, in words.
pub(crate) fn standing_words(state: &GenerationState) -> String {
    match state {
        GenerationState::Waiting { on, .. } if on.is_empty() => "waiting".to_owned(),
        GenerationState::Waiting { on, .. } => format!("waiting for {}", on.join(", ")),
        GenerationState::Checking => "looking at its condition".to_owned(),
        GenerationState::Failed { reason } => format!("failed: {reason}"),
        GenerationState::Skipped { reason } => format!("skipped: {reason}"),
        GenerationState::Stopping { then: Then::Failed(reason) } => format!("stopping: {reason}"),
        GenerationState::Stopped { reason } => format!("stopped: {reason}"),
        other => other.as_str().to_owned(),
    }
}

/// Its colour.
pub(crate) fn standing_tone(state: &GenerationState) -> Tone {
    match state {
        GenerationState::Ready => Tone::Good,
        GenerationState::Failed { .. } => Tone::Bad,
        GenerationState::Starting { .. } | GenerationState::Stopping { .. } | GenerationState::Checking => {
            Tone::Warning
        }
        GenerationState::Waiting { .. } | GenerationState::Skipped { .. } | GenerationState::Stopped { .. } => {
            Tone::Faint
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_are_cut() {
        let rows = vec![
            vec![Cell::plain("a"), Cell("ünï".to_owned(), Tone::Good), Cell::plain("short")],
            vec![Cell::plain("longer"), Cell::plain(""), Cell::plain("a rather long command line")],
        ];
        let text = table(Style::Plain, Some(24), &["ID", "STATE", "COMMAND"], &rows);
        assert_eq!(text, "ID      STATE  COMMAND\na       ünï    short\nlonger         a rather…\n");
        let coloured = table(Style::Colour, None, &["ID", "STATE", "COMMAND"], &rows);
        assert!(coloured.contains("\x1b[32münï\x1b[0m    short"), "{coloured:?}");
        assert!(coloured.contains("a rather long command line"));
        assert_eq!(table(Style::Plain, None, &["ID"], &[]), "ID\n");
    }

    #[test]
    fn commands_are_quoted_when_they_must() {
        let words = ["sh", "-c", "echo 'x'\n", "", "a=b"].map(hostler_model::ByteString::from);
        assert_eq!(command_line(&words), r"sh -c 'echo '\''x'\''\n' '' a=b");
    }

    #[test]
    fn states_in_words() {
        let view = |run: &str, more: &str| -> WorkloadView {
            let json = format!(
                r#"{{"id":"00ff1234abcd","namespace":"default","name":"x","generation":1,"spec":{{"command":["true"]}},
                "identity":{{"uid":0,"gid":0}},"limits":{{}},"desired":"run","created_at_ms":0,"runs":1{more},
                "run":{{"id":"00ff1234abcd-1","created_at_ms":0,"started_at_ms":1000,{run}}}}}"#
            );
            WorkloadView::from(std::sync::Arc::new(serde_json::from_str(&json).expect("a workload")))
        };
        let ended = r#""state":"ended","exit":{"status":{"signal":"KILL"},"cause":"oom","started_at_ms":0,"ended_at_ms":60000,"duration_ms":1}"#;
        let cases = [
            (view(r#""state":"running""#, ""), "running 2m59s"),
            (view(r#""state":"stopping""#, ""), "stopping"),
            (
                view(ended, r#","schedule":{"next_fire_ms":240000}"#),
                "scheduled in 1m0s, ended SIGKILL (out of memory) 2m0s ago",
            ),
            (view(ended, r#","schedule":{"paused":true}"#), "ended SIGKILL (out of memory) 2m0s ago"),
            (view(ended, ""), "ended SIGKILL (out of memory) 2m0s ago"),
            (view(ended, r#","restart_at_boot_ms":7000"#), "pending, restart in 2s"),
            (
                view(r#""state":"failed","failure":{"kind":"command_not_found","message":"m"}"#, ""),
                "failed: command not found",
            ),
            (view(r#""state":"lost","reason":"reboot""#, ""), "lost: the machine was rebooted"),
        ];
        for (view, expected) in cases {
            assert_eq!(state(&view, 180_000, 5_000).0, expected);
        }
    }
}
