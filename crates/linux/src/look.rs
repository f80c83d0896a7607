//! A closer look at single processes: who they are, and the network interfaces they see. For people who ask; what is
//! looked at often is in [`crate::procfs`] and [`crate::usage`].

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use hostler_model::ByteString;
use hostler_model::accounting::InterfaceAccount;
use hostler_model::limits::{PROCESS_COMMAND_MAX, PROCESSES_TOLD_MAX, STATS_DEVICES_MAX};
use hostler_model::process::{Process, Processes, Role};

use crate::{clock, procfs};

/// What these processes are, sorted; those that end meanwhile are left out. The roles are the caller's to fill in.
#[must_use]
pub fn processes(pids: &[u32]) -> Processes {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids.dedup();
    let left_out = pids.len().saturating_sub(PROCESSES_TOLD_MAX);
    // Both clocks at one moment: when the machine was started.
    let booted_ms = clock::wall_ms().saturating_sub(clock::boot_ms());
    let told = pids.iter().take(PROCESSES_TOLD_MAX);
    let processes = told.filter_map(|pid| process(*pid, booted_ms).ok()).collect();
    Processes { processes, left_out: u32::try_from(left_out).unwrap_or(u32::MAX) }
}

fn process(pid: u32, booted_ms: u64) -> io::Result<Process> {
    let stat = procfs::read(&format!("/proc/{pid}/stat"))?;
    let (stats, start_us) = procfs::parse(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let status = procfs::read(&format!("/proc/{pid}/status"))?;
    let words = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    // `Uid: real effective saved file`; `NSpid:` from the outermost namespace to its own.
    let uid = words("Uid").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok());
    let namespace_pid = words("NSpid").and_then(|pids| pids.split_ascii_whitespace().next_back()?.parse().ok());
    let mut command = command(pid).unwrap_or_default();
    if command.is_empty() {
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
        command.push(format!("[{}]", name.map_or("?", |(name, _)| name)).into_bytes().into());
    }
    Ok(Process {
        pid,
        namespace_pid: namespace_pid.unwrap_or(pid),
        parent_pid: stats.ppid,
        role: Role::Other,
        uid: uid.unwrap_or(u32::MAX),
        state: stats.state.to_string(),
        started_at_ms: booted_ms.saturating_add(start_us / 1_000),
        cpu_us: stats.cpu_us,
        rss_bytes: stats.rss_bytes,
        threads: stats.threads,
        command,
    })
}

/// Program and arguments, cut at [`PROCESS_COMMAND_MAX`] bytes. A process may write anything there.
fn command(pid: u32) -> io::Result<Vec<ByteString>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/cmdline"))?;
    file.take(PROCESS_COMMAND_MAX as u64).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bytes.split(|byte| *byte == 0).map(|word| word.to_vec().into()).collect())
}

/// The interfaces that the process sees, unless it is in our own network namespace: then they are not its own.
#[must_use]
pub fn interfaces(pid: u32) -> Vec<InterfaceAccount> {
    let namespace = |path: String| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let theirs = namespace(format!("/proc/{pid}/ns/net"));
    if theirs.is_none() || theirs == namespace("/proc/self/ns/net".to_owned()) {
        return Vec::new();
    }
    procfs::read(&format!("/proc/{pid}/net/dev")).map(|text| parse_interfaces(&text)).unwrap_or_default()
}

/// Lines such as `  eth0: 1 2 3 …`: eight numbers for what was received, eight for what was sent.
fn parse_interfaces(text: &str) -> Vec<InterfaceAccount> {
    let parse = |line: &str| {
        let (name, rest) = line.rsplit_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let [
            received_bytes,
            received_packets,
            received_errors,
            received_dropped,
            _,
            _,
            _,
            _,
            sent_bytes,
            sent_packets,
            sent_errors,
            sent_dropped,
            ..,
        ] = numbers[..]
        else {
            return None;
        };
        Some(InterfaceAccount {
            name: name.trim().to_owned(),
            received_bytes,
            received_packets,
            received_errors,
            received_dropped,
            sent_bytes,
            sent_packets,
            sent_errors,
            sent_dropped,
        })
    };
    text.lines().skip(2).filter_map(parse).take(STATS_DEVICES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn interfaces_line_by_line() {
        let text = "Inter-|   Receive                |  Transmit\n face |bytes packets errs drop fifo\n    \
                    lo: 10 2 0 0 0 0 0 0 11 3 0 0 0 0 0 0\n  eth0.7:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n broken: 1\n";
        let found = parse_interfaces(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].received_bytes, found[0].sent_bytes), ("lo", 10, 11));
        let told = &found[1];
        assert_eq!((told.name.as_str(), told.received_errors, told.received_dropped), ("eth0.7", 3, 4));
        assert_eq!((told.sent_packets, told.sent_errors, told.sent_dropped), (10, 11, 12));
        assert!(interfaces(std::process::id()).is_empty(), "our own network is nobody's in particular");
    }

    #[test]
    fn a_process_in_full() {
        let odd = std::ffi::OsString::from("odd\u{e9} (x) ");
        let mut child = Command::new("sleep").arg0(&odd).arg("600").stdin(Stdio::null()).spawn().unwrap();
        let zombie = Command::new("true").spawn().unwrap();
        let pids = [child.id(), zombie.id(), child.id(), u32::MAX];
        let found = loop {
            let found = processes(&pids);
            // Until both are what they will be.
            let settled = found.processes.iter().any(|process| process.state == "Z")
                && found.processes.iter().any(|process| process.command.len() == 2);
            if settled {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!((found.processes.len(), found.left_out), (2, 0));
        let told = found.processes.iter().find(|process| process.pid == child.id()).unwrap();
        assert_eq!(told.command[0].as_bytes(), odd.as_encoded_bytes());
        assert_eq!((told.namespace_pid, told.parent_pid, told.threads), (child.id(), std::process::id(), 1));
        assert_eq!(told.uid, rustix::process::geteuid().as_raw());
        let age_ms = clock::wall_ms().saturating_sub(told.started_at_ms);
        assert!(age_ms < 60_000, "{told:?}");
        let told = found.processes.iter().find(|process| process.pid == zombie.id()).unwrap();
        assert_eq!(told.command, ["[true]".into()]);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut zombie = zombie;
        zombie.wait().unwrap();
    }
}
