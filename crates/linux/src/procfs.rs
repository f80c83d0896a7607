//! Reading `/proc`: who a process is, what it costs, whose child it is, and what the machine has left.
//!
//! Every answer is a snapshot: a process may be gone before the caller looks at it. A process that is not there is
//! [`io::ErrorKind::NotFound`]; text that the kernel should not have written is [`io::ErrorKind::InvalidData`].
//! Nothing here signals, waits or writes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;

use hostler_model::rundir::ProcessId;

/// Most processes one walk of [`descendants`] returns: every pid a default machine can have, twice.
const DESCENDANTS_MAX: usize = 65_536;

/// What a process is and has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStats {
    /// CPU time of all its threads, user and system, microseconds; in steps of a clock tick.
    pub cpu_us: u64,
    /// CPU time of the children that it has waited for, and theirs, microseconds.
    pub children_cpu_us: u64,
    /// Resident memory, bytes, shared pages counted in full.
    pub rss_bytes: u64,
    /// Its threads.
    pub threads: u32,
    /// State as in `ps`: `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Its parent.
    pub ppid: u32,
}

/// The fields of `/proc/<pid>/stat` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    ppid: u32,
    cpu_ticks: u64,
    children_ticks: u64,
    threads: u32,
    start_ticks: u64,
    rss_pages: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot make sense of {what}"))
}

/// Reads a file of `/proc`. A process that ends between open and read answers `ESRCH`: not found as well.
pub(crate) fn read(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(gone(error)),
    }
}

fn gone(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::Error::new(io::ErrorKind::NotFound, error) } else { error }
}

/// The command name may hold spaces and parentheses, so the fields are counted from its last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `fields[0]` is field 3 of proc(5).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        ppid: u32::try_from(number(4)?).ok()?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        children_ticks: number(16)?.saturating_add(number(17)?),
        threads: u32::try_from(number(20)?).ok()?,
        start_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

fn stat(pid: u32) -> io::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(&read(&path)?).ok_or_else(|| invalid(&path))
}

fn system_value(name: libc::c_int, fallback: u64) -> u64 {
    // SAFETY: sysconf takes no pointers and keeps no state; an unknown name answers -1.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0).unwrap_or(fallback)
}

pub(crate) fn ticks_to_us(ticks: u64) -> u64 {
    let per_second = system_value(libc::_SC_CLK_TCK, 100);
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(per_second)).unwrap_or(u64::MAX)
}

/// When the process started, clock ticks after boot: field 22 of `/proc/<pid>/stat`.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// The process that now has this number, so that it can be recognised later.
pub fn process_id(pid: u32) -> io::Result<ProcessId> {
    start_ticks(pid).map(|start_ticks| ProcessId { pid, start_ticks })
}

/// Whether exactly this process is alive: same number, same start, and not a zombie.
#[must_use]
pub fn is_same_process(id: ProcessId) -> bool {
    stat(id.pid).is_ok_and(|stat| stat.start_ticks == id.start_ticks && !matches!(stat.state, 'Z' | 'X' | 'x'))
}

/// The boot in which process numbers mean something. Debug builds let `HOSTLER_TEST_BOOT_ID` play a reboot.
pub fn boot_id() -> io::Result<String> {
    if cfg!(debug_assertions)
        && let Ok(id) = std::env::var("HOSTLER_TEST_BOOT_ID")
    {
        return Ok(id);
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let id = read(path)?.trim().to_owned();
    if id.is_empty() { Err(invalid(path)) } else { Ok(id) }
}

/// What the process has used so far.
pub fn stats(pid: u32) -> io::Result<ProcessStats> {
    stat(pid).map(|stat| described(&stat))
}

/// The same from the text of `/proc/<pid>/stat`, and when the process started, microseconds after boot.
pub(crate) fn parse(text: &str) -> Option<(ProcessStats, u64)> {
    let stat = parse_stat(text)?;
    Some((described(&stat), ticks_to_us(stat.start_ticks)))
}

fn described(stat: &Stat) -> ProcessStats {
    ProcessStats {
        cpu_us: ticks_to_us(stat.cpu_ticks),
        children_cpu_us: ticks_to_us(stat.children_ticks),
        rss_bytes: stat.rss_pages.saturating_mul(system_value(libc::_SC_PAGESIZE, 4096)),
        threads: stat.threads,
        state: stat.state,
        ppid: stat.ppid,
    }
}

/// The numeric entries of a directory: processes of `/proc`, threads of `/proc/<pid>/task`.
fn numbers_in(directory: &str) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory).map_err(gone)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Every process of this machine.
pub fn processes() -> io::Result<Vec<u32>> {
    numbers_in("/proc")
}

fn parent_of_each() -> io::Result<HashMap<u32, Vec<u32>>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in numbers_in("/proc")? {
        if let Ok(stat) = stat(pid) {
            children.entry(stat.ppid).or_default().push(pid);
        }
    }
    Ok(children)
}

/// Direct children through `/proc/<pid>/task/*/children`; `None` when the kernel has no such file.
fn listed_children(pid: u32) -> io::Result<Option<Vec<u32>>> {
    let mut children = Vec::new();
    let mut known = false;
    for thread in numbers_in(&format!("/proc/{pid}/task"))? {
        match read(&format!("/proc/{pid}/task/{thread}/children")) {
            Ok(text) => {
                known = true;
                children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            // A thread may end while we look; a kernel without CONFIG_PROC_CHILDREN has the file for none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known.then_some(children))
}

/// Direct children of a process, zombies included.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    if let Some(children) = listed_children(pid)? {
        return Ok(children);
    }
    // Distinguishes "no such process" from "no such file".
    stat(pid)?;
    Ok(parent_of_each()?.remove(&pid).unwrap_or_default())
}

/// All descendants of a process, parents before their children, at most `DESCENDANTS_MAX` (65,536).
///
/// What forks while we walk may be missed: call again until nothing new comes.
pub fn descendants(pid: u32) -> io::Result<Vec<u32>> {
    let table = match listed_children(pid)? {
        Some(_) => None,
        None => {
            stat(pid)?;
            Some(parent_of_each()?)
        }
    };
    let mut found = Vec::new();
    let mut seen = HashSet::from([pid]);
    let mut queue = VecDeque::from([pid]);
    while let Some(parent) = queue.pop_front() {
        let below = match &table {
            Some(table) => table.get(&parent).cloned().unwrap_or_default(),
            // Gone meanwhile: its children are now somebody else's, and the next walk finds them.
            None => listed_children(parent).ok().flatten().unwrap_or_default(),
        };
        for child in below {
            if found.len() >= DESCENDANTS_MAX {
                return Ok(found);
            }
            if seen.insert(child) {
                found.push(child);
                queue.push_back(child);
            }
        }
    }
    Ok(found)
}

/// `Name:   123 kB` lines: the value of `name` in bytes.
pub(crate) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    })
}

fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let total = kilobytes(text, "MemTotal")?;
    // Kernels before 3.14 lack MemAvailable.
    let available = kilobytes(text, "MemAvailable").or_else(|| kilobytes(text, "MemFree"))?;
    Some((total, available))
}

/// Processes that were started with this variable in their environment, and what `wanted` makes of its value. A look
/// at every process: for repairs only.
pub fn with_environment<T>(key: &[u8], wanted: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<(T, ProcessId)>> {
    let mut found = Vec::new();
    for directory in fs::read_dir("/proc")? {
        let name = directory?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Those that end meanwhile, and those we may not look into, cannot be ours.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let values =
            environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(key)?.strip_prefix(b"="));
        if let Some(value) = values.into_iter().find_map(&wanted)
            && let Ok(id) = process_id(pid)
        {
            found.push((value, id));
        }
    }
    Ok(found)
}

/// Memory of the machine, bytes: all of it, and what can be had without swapping.
pub fn memory_total_available() -> io::Result<(u64, u64)> {
    parse_meminfo(&read("/proc/meminfo")?).ok_or_else(|| invalid("/proc/meminfo"))
}

fn parse_cpu_ticks(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.lines().next()?.split_ascii_whitespace();
    if fields.next()? != "cpu" {
        return None;
    }
    // user nice system idle iowait irq softirq steal; guest time is part of user already.
    let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or(0));
    let all = ticks.iter().fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
    Some((all.saturating_sub(idle), idle))
}

/// CPU time of the machine since boot, all cores together, microseconds: busy and idle.
pub fn cpu_times_us() -> io::Result<(u64, u64)> {
    let (busy, idle) = parse_cpu_ticks(&read("/proc/stat")?).ok_or_else(|| invalid("/proc/stat"))?;
    Ok((ticks_to_us(busy), ticks_to_us(idle)))
}

fn parse_uptime_ms(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let fraction: String = rest.chars().chain("000".chars()).take(3).collect();
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction.parse().ok()?)
}

/// Time since boot, suspends included, milliseconds.
pub fn uptime_ms() -> io::Result<u64> {
    parse_uptime_ms(&read("/proc/uptime")?).ok_or_else(|| invalid("/proc/uptime"))
}

/// How many descriptors the process has open.
pub fn open_fds(pid: u32) -> io::Result<usize> {
    numbers_in(&format!("/proc/{pid}/fd")).map(|numbers| numbers.len())
}

/// Proportional memory of the process, bytes: each shared page divided by its users. Needs ptrace rights.
pub fn pss_bytes(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    kilobytes(&read(&path)?, "Pss").ok_or_else(|| invalid(&path))
}

fn parse_switches(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| matches!(*name, "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// Context switches of all living threads of the process, voluntary and not: how often it was woken.
pub fn context_switches(pid: u32) -> io::Result<u64> {
    let mut sum = 0u64;
    for thread in numbers_in(&format!("/proc/{pid}/task"))? {
        match read(&format!("/proc/{pid}/task/{thread}/status")) {
            Ok(text) => sum = sum.saturating_add(parse_switches(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const TAIL: &str = "S 7 1 1 0 -1 4194560 1 2 3 4 50 25 0 0 20 0 3 0 98765 1000 42 18446744073709551615 1";

    #[test]
    fn stat_lines_with_hostile_names() {
        for name in ["sh", "a b", ")", "a) R 1 (", "", "é\u{fffd}"] {
            let stat = parse_stat(&format!("12 ({name}) {TAIL}\n")).expect(name);
            assert_eq!((stat.state, stat.ppid, stat.start_ticks), ('S', 7, 98765), "{name}");
            assert_eq!((stat.cpu_ticks, stat.threads, stat.rss_pages), (75, 3, 42), "{name}");
            assert_eq!(stat.children_ticks, 0, "{name}");
        }
        for bad in ["", "12", "12 (sh)", "12 (sh) S", "12 (sh) S x y z", "()()()"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn machine_files() {
        assert_eq!(parse_meminfo("MemTotal: 10 kB\nMemFree: 4 kB\nMemAvailable:  6 kB\n"), Some((10240, 6144)));
        assert_eq!(parse_meminfo("MemTotal: 10 kB\nMemFree: 4 kB\n"), Some((10240, 4096)));
        assert_eq!(parse_meminfo("MemTotal: many kB"), None);
        assert_eq!(parse_cpu_ticks("cpu  1 2 3 40 5 6 7 8 100 100\ncpu0 9"), Some((27, 45)));
        assert_eq!(parse_cpu_ticks("intr 1 2"), None);
        assert_eq!(parse_uptime_ms("12.34 56.78"), Some(12_340));
        assert_eq!(parse_uptime_ms("nonsense"), None);
        assert_eq!(parse_switches("voluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\nx: 9\n"), 7);
        let (total, available) = memory_total_available().unwrap();
        assert!(total >= available && available > 0);
        let (busy, idle) = cpu_times_us().unwrap();
        assert!(busy > 0 && idle > 0 && uptime_ms().unwrap() > 0);
    }

    #[test]
    fn ourselves() {
        let pid = std::process::id();
        let id = process_id(pid).unwrap();
        assert!(is_same_process(id));
        assert!(!is_same_process(ProcessId { start_ticks: id.start_ticks + 1, ..id }));
        let stats = stats(pid).unwrap();
        assert!(stats.rss_bytes > 0 && stats.threads > 0 && stats.ppid > 0);
        assert!(open_fds(pid).unwrap() > 2);
        assert!(pss_bytes(pid).unwrap() > 0);
        assert!(context_switches(pid).unwrap() > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(stat(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(children(u32::MAX).is_err() && descendants(u32::MAX).is_err());
    }

    #[test]
    fn families_and_zombies() {
        let script = "sleep 60 & sh -c 'sleep 60 & echo ready; wait' & wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let id = process_id(child.id()).unwrap();
        let near = children(child.id()).unwrap();
        assert_eq!(near.len(), 2);
        assert!(children(std::process::id()).unwrap().contains(&child.id()));
        let all = descendants(child.id()).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(&all[..2], &near[..], "parents first");
        let mut scanned = parent_of_each().unwrap().remove(&child.id()).unwrap();
        scanned.sort_unstable();
        let mut listed = near.clone();
        listed.sort_unstable();
        assert_eq!(scanned, listed, "both ways of finding children agree");

        for pid in all.iter().rev().chain([&child.id()]) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Waits for the exit without reaping, so that there is a zombie to look at.
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert!(!is_same_process(id), "a zombie is not alive");
        assert_eq!(stats(child.id()).unwrap().state, 'Z');
        child.wait().unwrap();
        assert!(!is_same_process(id));
        assert_eq!(start_ticks(id.pid).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
