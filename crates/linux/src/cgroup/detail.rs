//! Everything that a group accounts, from the files of either version.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hostler_model::accounting::{Accounting, CpuAccount, DeviceAccount, HugetlbAccount, MemoryAccount};
use hostler_model::limits::{STATS_CPUS_MAX, STATS_DEVICES_MAX};

use super::v1::UNLIMITED;
use super::{Controller, Group, Version, files};
use crate::procfs::ticks_to_us;

impl Group {
    /// Everything that is accounted for it, but its network. What the kernel does not tell is absent.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        let Ok(places) = self.places() else { return Accounting::default() };
        if self.version() == Version::V2 {
            return places.first().map(|place| v2(&place.directory)).unwrap_or_default();
        }
        let file = |controller, name: &str| files::read(&self.place(controller)?.join(name)).ok();
        Accounting {
            cpu: cpu_v1(
                &file(Controller::Cpuacct, "cpuacct.stat").unwrap_or_default(),
                &file(Controller::Cpuacct, "cpuacct.usage_percpu").unwrap_or_default(),
                &file(Controller::Cpu, "cpu.stat").unwrap_or_default(),
            ),
            memory: self.place(Controller::Memory).map(memory_v1).unwrap_or_default(),
            block_io: self.place(Controller::Blkio).map(block_io_v1).unwrap_or_default(),
            hugetlb: self.place(Controller::Hugetlb).map(hugetlb_v1).unwrap_or_default(),
            network: Vec::new(),
        }
    }
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    files::read_u64(&directory.join(file)).ok()
}

fn cpu_v1(stat: &str, per_cpu: &str, throttling: &str) -> CpuAccount {
    let numbers = per_cpu.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
    CpuAccount {
        user_us: files::keyed(stat, "user").map(ticks_to_us),
        system_us: files::keyed(stat, "system").map(ticks_to_us),
        per_cpu_us: numbers.take(STATS_CPUS_MAX).map(|ns| ns / 1_000).collect(),
        periods: files::keyed(throttling, "nr_periods"),
        throttled_periods: files::keyed(throttling, "nr_throttled"),
        throttled_us: files::keyed(throttling, "throttled_time").map(|ns| ns / 1_000),
    }
}

fn memory_v1(directory: &Path) -> MemoryAccount {
    let stat = files::read(&directory.join("memory.stat")).unwrap_or_default();
    MemoryAccount {
        usage_bytes: number(directory, "memory.usage_in_bytes"),
        max_usage_bytes: number(directory, "memory.max_usage_in_bytes"),
        limit_bytes: number(directory, "memory.limit_in_bytes").filter(|bytes| *bytes < UNLIMITED),
        cache_bytes: files::keyed(&stat, "total_cache"),
        swap_bytes: files::keyed(&stat, "total_swap"),
        fail_count: number(directory, "memory.failcnt"),
        kernel_bytes: number(directory, "memory.kmem.usage_in_bytes"),
    }
}

/// `8:0 Read 123` lines, one file for bytes and one for operations.
fn block_io_v1(directory: &Path) -> Vec<DeviceAccount> {
    let read = |name: &str| {
        let with_those_below = files::read(&directory.join(format!("{name}_recursive")));
        with_those_below.or_else(|_| files::read(&directory.join(name))).unwrap_or_default()
    };
    let (bytes, operations) = (read("blkio.throttle.io_service_bytes"), read("blkio.throttle.io_serviced"));
    let mut devices = BTreeMap::<&str, DeviceAccount>::new();
    for (text, is_bytes) in [(&bytes, true), (&operations, false)] {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(kind), Some(Ok(value))) =
                (words.next(), words.next(), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            let account = devices.entry(device).or_default();
            match (kind, is_bytes) {
                ("Read", true) => account.read_bytes = value,
                ("Write", true) => account.written_bytes = value,
                ("Read", false) => account.reads = value,
                ("Write", false) => account.writes = value,
                _ => {}
            }
        }
    }
    used(devices)
}

/// Those that were used at all, with their names.
fn used(devices: BTreeMap<&str, DeviceAccount>) -> Vec<DeviceAccount> {
    let used = devices.into_iter().filter(|(_, account)| *account != DeviceAccount::default());
    used.map(|(device, account)| DeviceAccount { device: device.to_owned(), ..account })
        .take(STATS_DEVICES_MAX)
        .collect()
}

/// Page sizes: `hugetlb.<size><ending>`, those of reservations aside.
fn page_sizes(directory: &Path, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<_> = names
        .filter_map(|name| Some(name.strip_prefix("hugetlb.")?.strip_suffix(ending)?.to_owned()))
        .filter(|size| !size.contains('.'))
        .take(STATS_DEVICES_MAX)
        .collect();
    sizes.sort_unstable();
    sizes
}

fn hugetlb_v1(directory: &Path) -> Vec<HugetlbAccount> {
    let account = |page_size: String| {
        let value = |name: &str| number(directory, &format!("hugetlb.{page_size}.{name}"));
        let (usage, max, limit) = (value("usage_in_bytes"), value("max_usage_in_bytes"), value("limit_in_bytes"));
        HugetlbAccount {
            usage_bytes: usage.unwrap_or(0),
            max_usage_bytes: max,
            limit_bytes: limit.filter(|bytes| *bytes < UNLIMITED),
            fail_count: value("failcnt"),
            page_size,
        }
    };
    page_sizes(directory, ".usage_in_bytes").into_iter().map(account).collect()
}

fn v2(directory: &Path) -> Accounting {
    let text = |file: &str| files::read(&directory.join(file)).unwrap_or_default();
    let (cpu, memory, events) = (text("cpu.stat"), text("memory.stat"), text("memory.events"));
    // Kernels before 5.18 do not tell the sum.
    let parts = || Some(files::keyed(&memory, "slab")?.saturating_add(files::keyed(&memory, "kernel_stack")?));
    let hugetlb = page_sizes(directory, ".current").into_iter().map(|page_size| {
        let events = text(&format!("hugetlb.{page_size}.events"));
        HugetlbAccount {
            usage_bytes: number(directory, &format!("hugetlb.{page_size}.current")).unwrap_or(0),
            max_usage_bytes: None,
            limit_bytes: number(directory, &format!("hugetlb.{page_size}.max")),
            fail_count: files::keyed(&events, "max"),
            page_size,
        }
    });
    Accounting {
        cpu: CpuAccount {
            user_us: files::keyed(&cpu, "user_usec"),
            system_us: files::keyed(&cpu, "system_usec"),
            per_cpu_us: Vec::new(),
            periods: files::keyed(&cpu, "nr_periods"),
            throttled_periods: files::keyed(&cpu, "nr_throttled"),
            throttled_us: files::keyed(&cpu, "throttled_usec"),
        },
        memory: MemoryAccount {
            usage_bytes: number(directory, "memory.current"),
            max_usage_bytes: number(directory, "memory.peak"),
            limit_bytes: number(directory, "memory.max"),
            cache_bytes: files::keyed(&memory, "file"),
            swap_bytes: number(directory, "memory.swap.current"),
            fail_count: files::keyed(&events, "max"),
            kernel_bytes: files::keyed(&memory, "kernel").or_else(parts),
        },
        block_io: block_io_v2(&text("io.stat")),
        hugetlb: hugetlb.collect(),
        network: Vec::new(),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, one line a device.
fn block_io_v2(text: &str) -> Vec<DeviceAccount> {
    let mut devices = BTreeMap::<&str, DeviceAccount>::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next() else { continue };
        let account = devices.entry(device).or_default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => account.read_bytes = value,
                "wbytes" => account.written_bytes = value,
                "rios" => account.reads = value,
                "wios" => account.writes = value,
                _ => {}
            }
        }
    }
    used(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().expect("a directory");
        for (name, text) in files {
            fs::write(root.path().join(name), text).expect("written");
        }
        root
    }

    #[test]
    fn version_1() {
        let cpu =
            cpu_v1("user 250\nsystem 50\n", "7000 9000999 \n", "nr_periods 9\nnr_throttled 4\nthrottled_time 5999\n");
        assert_eq!((cpu.user_us, cpu.system_us), (Some(2_500_000), Some(500_000)));
        assert_eq!(cpu.per_cpu_us, [7, 9_000]);
        assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_us), (Some(9), Some(4), Some(5)));
        assert_eq!(cpu_v1("", "", ""), CpuAccount::default(), "what is not told is absent");

        let root = directory(&[
            ("memory.usage_in_bytes", "100\n"),
            ("memory.max_usage_in_bytes", "200\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.failcnt", "3\n"),
            ("memory.kmem.usage_in_bytes", "44\n"),
            ("memory.stat", "cache 1\ntotal_cache 50\ntotal_swap 6\n"),
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:16 Read 0\nTotal 30\n",
            ),
            ("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Write 2\n253:0 Write 7\nTotal 3\n"),
            ("hugetlb.2MB.usage_in_bytes", "4096\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "1\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "8192\n"),
            ("hugetlb.2MB.limit_in_bytes", "16384\n"),
            ("hugetlb.2MB.failcnt", "2\n"),
        ]);
        let expected = MemoryAccount {
            usage_bytes: Some(100),
            max_usage_bytes: Some(200),
            limit_bytes: None,
            cache_bytes: Some(50),
            swap_bytes: Some(6),
            fail_count: Some(3),
            kernel_bytes: Some(44),
        };
        assert_eq!(memory_v1(root.path()), expected);
        let devices = block_io_v1(root.path());
        assert_eq!(devices.len(), 2, "{devices:?}");
        assert_eq!((devices[1].device.as_str(), devices[1].read_bytes, devices[1].written_bytes), ("8:0", 10, 20));
        assert_eq!((devices[1].reads, devices[1].writes, devices[0].writes), (1, 2, 7));
        let pages = hugetlb_v1(root.path());
        assert_eq!(pages.len(), 1);
        assert_eq!((pages[0].page_size.as_str(), pages[0].usage_bytes), ("2MB", 4_096));
        assert_eq!(
            (pages[0].max_usage_bytes, pages[0].limit_bytes, pages[0].fail_count),
            (Some(8_192), Some(16_384), Some(2))
        );
    }

    #[test]
    fn version_2() {
        let root = directory(&[
            ("cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n"),
            ("memory.current", "100\n"),
            ("memory.peak", "150\n"),
            ("memory.max", "200\n"),
            ("memory.swap.current", "7\n"),
            ("memory.stat", "anon 1\nfile 60\nkernel_stack 10\nslab 30\n"),
            ("memory.events", "low 0\nhigh 0\nmax 8\noom 1\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=0 wbytes=0\n"),
            ("hugetlb.1GB.current", "5\n"),
            ("hugetlb.1GB.max", "max\n"),
            ("hugetlb.1GB.events", "max 6\n"),
            ("hugetlb.1GB.rsvd.current", "0\n"),
        ]);
        let found = v2(root.path());
        assert_eq!((found.cpu.user_us, found.cpu.system_us, found.cpu.throttled_us), (Some(5), Some(4), Some(1)));
        let expected = MemoryAccount {
            usage_bytes: Some(100),
            max_usage_bytes: Some(150),
            limit_bytes: Some(200),
            cache_bytes: Some(60),
            swap_bytes: Some(7),
            fail_count: Some(8),
            kernel_bytes: Some(40),
        };
        assert_eq!(found.memory, expected);
        assert_eq!(found.block_io.len(), 1);
        assert_eq!((found.block_io[0].reads, found.block_io[0].writes), (3, 4));
        assert_eq!((found.hugetlb[0].usage_bytes, found.hugetlb[0].limit_bytes), (5, None));
        assert_eq!((found.hugetlb[0].page_size.as_str(), found.hugetlb[0].fail_count), ("1GB", Some(6)));
        assert_eq!(v2(Path::new("/nowhere")), Accounting::default());
    }
}
