//! Limits of a whole run, enforced by its cgroup: what can be asked, what makes sense, and what a change comes to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::limits;
use crate::spec::invalid;

/// Least memory limit that is accepted, bytes.
const MEMORY_MIN: u64 = 1 << 20;
/// What the kernel takes for the relative weight of CPU time.
const CPU_SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// Windows in which a quota may be counted, microseconds.
const CPU_PERIOD_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// Least quota, microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// What the OCI runtime specification takes for the relative weight of block I/O.
const BLKIO_WEIGHT: std::ops::RangeInclusive<u16> = 10..=1_000;
/// Largest number in a list of CPUs or memory nodes.
const CPU_NUMBER_MAX: u32 = 65_535;

/// Limits of a whole run, enforced by its cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, bytes; past it the kernel kills within the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory that the kernel leaves to the run when the machine is short of it, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Swap on top of the memory limit, bytes; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap_bytes: Option<u64>,
    /// CPU time for each second of wall time, thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Weight among those who want CPU time at the same moment, from 2 to 262,144; 1,024 is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, microseconds; instead of `cpu_millis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<u64>,
    /// The period of the quota, microseconds, from 1,000 to 1,000,000; 100,000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period_us: Option<u64>,
    /// CPUs that it may use, as the kernel lists them: `0-3,6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it may use, as the kernel lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads alive at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Weight among those who want block I/O at the same moment, from 10 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// The same for single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Bytes read from single devices in each second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes written to single devices in each second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads from single devices in each second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes to single devices in each second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_iops: Vec<DeviceRate>,
}

/// How much a block device may do for a run in each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceRate {
    /// Which device.
    pub device: BlockDevice,
    /// Bytes or operations in each second; 0 lifts the limit.
    pub per_second: u64,
}

/// The weight of a run on one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceWeight {
    /// Which device.
    pub device: BlockDevice,
    /// From 10 to 1,000.
    pub weight: u16,
}

/// A block device: `/dev/NAME`, which is looked up when the limit is put in force, or `MAJOR:MINOR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct BlockDevice(String);

impl BlockDevice {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its numbers, when it was given by them.
    #[must_use]
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let (major, minor) = self.0.split_once(':')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some((number(major)?, number(minor)?))
    }
}

impl TryFrom<String> for BlockDevice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let device = Self(text);
        let path = device.0.strip_prefix("/dev/");
        let plain = path.is_some_and(|rest| {
            device.0.len() <= limits::DEVICE_PATH_MAX
                && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
                && !rest.bytes().any(|byte| byte.is_ascii_control())
        });
        if plain || device.numbers().is_some() {
            return Ok(device);
        }
        let shown: String = device.0.chars().take(80).collect();
        Err(format!("{shown:?} is no block device: write /dev/NAME or MAJOR:MINOR"))
    }
}

impl From<BlockDevice> for String {
    fn from(device: BlockDevice) -> Self {
        device.0
    }
}

impl FromStr for BlockDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of one kind of device rate: its name in messages, and the list.
pub type DeviceRates<'a> = (&'static str, &'a [DeviceRate]);

impl Limits {
    /// No limit asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anything about memory is asked.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.memory_bytes.is_some() || self.memory_reservation_bytes.is_some() || self.memory_swap_bytes.is_some()
    }

    /// Whether anything about CPU time is asked.
    #[must_use]
    pub fn has_cpu(&self) -> bool {
        self.cpu_millis.is_some()
            || self.cpu_shares.is_some()
            || self.cpu_quota_us.is_some()
            || self.cpu_period_us.is_some()
    }

    /// Whether anything about single CPUs or memory nodes is asked.
    #[must_use]
    pub fn has_cpuset(&self) -> bool {
        self.cpuset_cpus.is_some() || self.cpuset_mems.is_some()
    }

    /// Whether a weight of block I/O is asked.
    #[must_use]
    pub fn has_blkio_weight(&self) -> bool {
        self.blkio_weight.is_some() || !self.blkio_weight_device.is_empty()
    }

    /// Whether a rate of a block device is asked.
    #[must_use]
    pub fn has_device_rates(&self) -> bool {
        self.device_rates().iter().any(|(_, rates)| !rates.is_empty())
    }

    /// Whether anything is asked that only agents from protocol version 3 on know.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let first =
            Self { memory_bytes: self.memory_bytes, cpu_millis: self.cpu_millis, pids: self.pids, ..Self::default() };
        *self != first
    }

    /// The rates of block devices, by kind: bytes read, bytes written, reads, writes.
    #[must_use]
    pub fn device_rates(&self) -> [DeviceRates<'_>; 4] {
        [
            ("device_read_bps", &self.device_read_bps),
            ("device_write_bps", &self.device_write_bps),
            ("device_read_iops", &self.device_read_iops),
            ("device_write_iops", &self.device_write_iops),
        ]
    }

    /// These limits with every one that `change` names replaced. A quota takes the place of `cpu_millis`, and the other
    /// way round; of devices, those that are named are replaced.
    #[must_use]
    pub fn updated(&self, change: &Self) -> Self {
        let mut new = self.clone();
        if change.cpu_millis.is_some() {
            (new.cpu_quota_us, new.cpu_period_us) = (None, None);
        }
        if change.cpu_quota_us.is_some() || change.cpu_period_us.is_some() {
            new.cpu_millis = None;
        }
        replace(&mut new.memory_bytes, &change.memory_bytes);
        replace(&mut new.memory_reservation_bytes, &change.memory_reservation_bytes);
        replace(&mut new.memory_swap_bytes, &change.memory_swap_bytes);
        replace(&mut new.cpu_millis, &change.cpu_millis);
        replace(&mut new.cpu_shares, &change.cpu_shares);
        replace(&mut new.cpu_quota_us, &change.cpu_quota_us);
        replace(&mut new.cpu_period_us, &change.cpu_period_us);
        replace(&mut new.cpuset_cpus, &change.cpuset_cpus);
        replace(&mut new.cpuset_mems, &change.cpuset_mems);
        replace(&mut new.pids, &change.pids);
        replace(&mut new.blkio_weight, &change.blkio_weight);
        for weight in &change.blkio_weight_device {
            new.blkio_weight_device.retain(|known| known.device != weight.device);
            new.blkio_weight_device.push(weight.clone());
        }
        replace_rates(&mut new.device_read_bps, &change.device_read_bps);
        replace_rates(&mut new.device_write_bps, &change.device_write_bps);
        replace_rates(&mut new.device_read_iops, &change.device_read_iops);
        replace_rates(&mut new.device_write_iops, &change.device_write_iops);
        new
    }

    /// Checks each value for sense, machine or no machine, and that they go together.
    pub fn check(&self) -> Result<(), Problem> {
        self.check_change()?;
        if self.memory_swap_bytes.is_some() && self.memory_bytes.is_none() {
            return Err(invalid("limits.memory_swap_bytes", "goes on top of limits.memory_bytes, which is absent"));
        }
        if let (Some(reserved), Some(most)) = (self.memory_reservation_bytes, self.memory_bytes)
            && reserved > most
        {
            return Err(invalid("limits.memory_reservation_bytes", "must not be above limits.memory_bytes"));
        }
        Ok(())
    }

    /// Checks each value of a change, whose other half is what is in force.
    pub fn check_change(&self) -> Result<(), Problem> {
        if self.memory_bytes.is_some_and(|bytes| bytes < MEMORY_MIN) {
            return Err(invalid("limits.memory_bytes", "must be at least 1M: no program starts in less"));
        }
        self.check_cpu()?;
        if self.pids == Some(0) {
            return Err(invalid("limits.pids", "must be at least 1"));
        }
        check_list("limits.cpuset_cpus", self.cpuset_cpus.as_deref())?;
        check_list("limits.cpuset_mems", self.cpuset_mems.as_deref())?;
        let weights = self.blkio_weight_device.iter().map(|weight| weight.weight).chain(self.blkio_weight);
        for weight in weights {
            if !BLKIO_WEIGHT.contains(&weight) {
                return Err(invalid("limits.blkio_weight", "and those of devices must be from 10 to 1,000"));
            }
        }
        let devices = self.blkio_weight_device.iter().map(|weight| &weight.device).collect();
        check_devices("blkio_weight_device", devices)?;
        for (field, rates) in self.device_rates() {
            check_devices(field, rates.iter().map(|rate| &rate.device).collect())?;
        }
        Ok(())
    }

    fn check_cpu(&self) -> Result<(), Problem> {
        if self.cpu_millis.is_some_and(|millis| millis < 10) {
            return Err(invalid("limits.cpu_millis", "must be at least 10, a hundredth of a core"));
        }
        if self.cpu_millis.is_some() && (self.cpu_quota_us.is_some() || self.cpu_period_us.is_some()) {
            return Err(invalid("limits.cpu_millis", "says the same as limits.cpu_quota_us: name one of them"));
        }
        if self.cpu_shares.is_some_and(|shares| !CPU_SHARES.contains(&shares)) {
            return Err(invalid("limits.cpu_shares", "must be from 2 to 262,144"));
        }
        if self.cpu_quota_us.is_some_and(|quota| quota < CPU_QUOTA_MIN_US) {
            return Err(invalid("limits.cpu_quota_us", "must be at least 1,000, a millisecond"));
        }
        if self.cpu_period_us.is_some_and(|period| !CPU_PERIOD_US.contains(&period)) {
            return Err(invalid("limits.cpu_period_us", "must be from 1,000 to 1,000,000"));
        }
        Ok(())
    }
}

fn replace<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        old.clone_from(new);
    }
}

fn replace_rates(old: &mut Vec<DeviceRate>, new: &[DeviceRate]) {
    for rate in new {
        old.retain(|known| known.device != rate.device);
        if rate.per_second > 0 {
            old.push(rate.clone());
        }
    }
}

fn check_devices(field: &str, devices: Vec<&BlockDevice>) -> Result<(), Problem> {
    let field = format!("limits.{field}");
    if devices.len() > limits::LIMITED_DEVICES_MAX {
        return Err(invalid(&field, &format!("names more than {} devices", limits::LIMITED_DEVICES_MAX)));
    }
    let twice = devices.iter().enumerate().find(|(at, device)| devices[..*at].contains(device));
    twice.map_or(Ok(()), |(_, device)| Err(invalid(&field, &format!("names {device} twice"))))
}

/// A list as the kernel takes it: numbers, ranges, and `FIRST-LAST:USED/GROUP`, separated by commas.
fn check_list(field: &str, list: Option<&str>) -> Result<(), Problem> {
    let Some(list) = list else { return Ok(()) };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten().filter(|number| *number <= CPU_NUMBER_MAX)
    };
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(text).map(|only| (only, only)),
    };
    let part = |text: &str| {
        let Some((whole, step)) = text.split_once(':') else {
            return range(text).is_some_and(|(first, last)| first <= last);
        };
        let step = step.split_once('/').and_then(|(used, group)| Some((number(used)?, number(group)?)));
        range(whole).is_some_and(|(first, last)| first <= last)
            && step.is_some_and(|(used, group)| 0 < used && used <= group)
    };
    if list.len() > limits::CPU_LIST_MAX || !list.split(',').all(part) {
        return Err(invalid(field, "must be a list of numbers and ranges, such as 0-3,6"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> Result<Limits, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let data = [
            (r#"{"memory_bytes":1000}"#, "limits.memory_bytes"),
            (r#"{"memory_swap_bytes":0}"#, "limits.memory_swap_bytes"),
            (r#"{"memory_bytes":1048576,"memory_reservation_bytes":1048577}"#, "limits.memory_reservation_bytes"),
            (r#"{"cpu_millis":9}"#, "limits.cpu_millis"),
            (r#"{"cpu_millis":500,"cpu_quota_us":50000}"#, "limits.cpu_quota_us"),
            (r#"{"cpu_millis":500,"cpu_period_us":50000}"#, "limits.cpu_quota_us"),
            (r#"{"cpu_shares":1}"#, "limits.cpu_shares"),
            (r#"{"cpu_quota_us":999}"#, "limits.cpu_quota_us"),
            (r#"{"cpu_period_us":1000001}"#, "limits.cpu_period_us"),
            (r#"{"pids":0}"#, "limits.pids"),
            (r#"{"cpuset_cpus":""}"#, "limits.cpuset_cpus"),
            (r#"{"cpuset_cpus":"3-1"}"#, "limits.cpuset_cpus"),
            (r#"{"cpuset_cpus":"0,"}"#, "limits.cpuset_cpus"),
            (r#"{"cpuset_cpus":"+1"}"#, "limits.cpuset_cpus"),
            (r#"{"cpuset_mems":"0-7:2"}"#, "limits.cpuset_mems"),
            (r#"{"cpuset_mems":"0\n1"}"#, "limits.cpuset_mems"),
            (r#"{"blkio_weight":9}"#, "limits.blkio_weight"),
            (r#"{"blkio_weight_device":[{"device":"8:0","weight":1001}]}"#, "limits.blkio_weight"),
            (r#"{"device_read_bps":[{"device":"8:0","per_second":1},{"device":"8:0","per_second":2}]}"#, {
                "limits.device_read_bps"
            }),
        ];
        for (json, field) in data {
            let problem = limits(json).expect(json).check().expect_err(json);
            assert!(problem.detail.contains(field), "{json}: {}", problem.detail);
        }
        for bad in ["sda", "/dev/", "/dev/../etc", "/dev//x", "8", "8:x", ":", "+8:0", "/etc/passwd", "/dev/a\u{0}"] {
            assert!(bad.parse::<BlockDevice>().is_err(), "{bad}");
        }
        for good in [
            r#"{"cpuset_cpus":"0-3,6","cpuset_mems":"0","cpu_quota_us":50000,"cpu_period_us":20000}"#,
            r#"{"cpuset_cpus":"0-15:2/4","blkio_weight":10,"memory_bytes":1048576,"memory_swap_bytes":0}"#,
            r#"{"device_write_iops":[{"device":"/dev/mapper/a-b","per_second":0}],"cpu_shares":2}"#,
        ] {
            limits(good).expect(good).check().expect(good);
        }
    }

    #[test]
    fn a_change_replaces_what_it_names() {
        let data = [
            (r#"{"pids":5,"cpu_millis":500}"#, r#"{"cpu_quota_us":9000}"#, r#"{"cpu_quota_us":9000,"pids":5}"#),
            (r#"{"cpu_quota_us":9000,"cpu_period_us":20000}"#, r#"{"cpu_millis":100}"#, r#"{"cpu_millis":100}"#),
            (r#"{"cpu_quota_us":9000}"#, r#"{"cpu_period_us":2000}"#, r#"{"cpu_quota_us":9000,"cpu_period_us":2000}"#),
            (
                r#"{"device_read_bps":[{"device":"8:0","per_second":1},{"device":"8:16","per_second":2}]}"#,
                r#"{"device_read_bps":[{"device":"8:0","per_second":0},{"device":"8:16","per_second":3}]}"#,
                r#"{"device_read_bps":[{"device":"8:16","per_second":3}]}"#,
            ),
            (
                r#"{"blkio_weight_device":[{"device":"8:0","weight":10}],"memory_bytes":1048576}"#,
                r#"{"blkio_weight_device":[{"device":"8:0","weight":20}],"cpuset_cpus":"0"}"#,
                r#"{"memory_bytes":1048576,"cpuset_cpus":"0","blkio_weight_device":[{"device":"8:0","weight":20}]}"#,
            ),
        ];
        for (old, change, new) in data {
            let (old, change, new) = (limits(old).unwrap(), limits(change).unwrap(), limits(new).unwrap());
            assert_eq!(old.updated(&change), new);
            assert_eq!(new.updated(&Limits::default()), new);
        }
        assert!(!limits(r#"{"pids":5,"cpu_millis":500,"memory_bytes":7}"#).unwrap().has_more());
        assert!(limits(r#"{"pids":5,"cpu_shares":500}"#).unwrap().has_more());
    }
}
