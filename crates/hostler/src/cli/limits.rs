//! The limits of a workload as a whole, under docker's names.

use clap::Args;
use hostler_model::resources::{BlockDevice, DeviceRate, DeviceWeight, Limits};
use hostler_model::units::{parse_cpu_millis, parse_size_bytes};

/// Each of them, as clap knows it.
pub(super) const NAMES: [&str; 16] = [
    "memory",
    "cpus",
    "pids",
    "memory_reservation",
    "memory_swap",
    "cpu_shares",
    "cpu_quota",
    "cpu_period",
    "cpuset_cpus",
    "cpuset_mems",
    "blkio_weight",
    "blkio_weight_device",
    "device_read_bps",
    "device_write_bps",
    "device_read_iops",
    "device_write_iops",
];

/// Limits of a workload as a whole.
#[derive(Debug, Clone, Args)]
pub struct LimitArguments {
    /// Memory, such as 64M or 1.5G
    #[arg(long, short, value_name = "SIZE", value_parser = parse_size_bytes)]
    pub memory: Option<u64>,
    /// CPU, in cores: 0.5 or 2
    #[arg(long, value_name = "CORES", value_parser = parse_cpu_millis)]
    pub cpus: Option<u32>,
    /// Processes and threads at one time
    #[arg(long, value_name = "COUNT", visible_alias = "pids-limit")]
    pub pids: Option<u32>,
    /// Memory that is left to it when the machine is short of it
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bytes, help_heading = "Limits")]
    pub memory_reservation: Option<u64>,
    /// Memory and swap together, -1 for any amount of swap; without this there is none
    #[arg(long, value_name = "SIZE", value_parser = memory_swap, requires = "memory", allow_hyphen_values = true,
        help_heading = "Limits")]
    pub memory_swap: Option<u64>,
    /// Weight among those who want CPU time at the same moment; 1024 is the usual one
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", help_heading = "Limits")]
    pub cpu_quota: Option<u64>,
    /// The period of the quota, microseconds; 100000 when absent
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", help_heading = "Limits")]
    pub cpu_period: Option<u64>,
    /// CPUs that it may use, such as 0-3,6
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it may use
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_mems: Option<String>,
    /// Weight among those who want block I/O at the same moment, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    pub blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = device_weight, help_heading = "Limits")]
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Bytes read from a device in each second, such as /dev/sda:10M; 0 lifts the limit
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = device_bytes, help_heading = "Limits")]
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes written to a device in each second
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = device_bytes, help_heading = "Limits")]
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads from a device in each second
    #[arg(long, value_name = "DEVICE:COUNT", value_parser = device_operations, help_heading = "Limits")]
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes to a device in each second
    #[arg(long, value_name = "DEVICE:COUNT", value_parser = device_operations, help_heading = "Limits")]
    pub device_write_iops: Vec<DeviceRate>,
}

/// Stands for any amount of swap.
const ANY_SWAP: u64 = u64::MAX;

fn memory_swap(text: &str) -> Result<u64, String> {
    if text == "-1" {
        return Ok(ANY_SWAP);
    }
    parse_size_bytes(text).map_err(|error| error.to_string())
}

fn split(text: &str) -> Result<(BlockDevice, &str), String> {
    let (device, value) =
        text.rsplit_once(':').ok_or_else(|| "write DEVICE:VALUE, such as /dev/sda:1M or 8:0:1M".to_owned())?;
    Ok((device.parse()?, value))
}

fn device_bytes(text: &str) -> Result<DeviceRate, String> {
    let (device, size) = split(text)?;
    let per_second = parse_size_bytes(size).map_err(|error| error.to_string())?;
    Ok(DeviceRate { device, per_second })
}

fn device_operations(text: &str) -> Result<DeviceRate, String> {
    let (device, count) = split(text)?;
    let per_second = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
    Ok(DeviceRate { device, per_second })
}

fn device_weight(text: &str) -> Result<DeviceWeight, String> {
    let (device, weight) = split(text)?;
    let weight = weight.parse().map_err(|_| format!("{weight:?} is not a weight from 10 to 1000"))?;
    Ok(DeviceWeight { device, weight })
}

impl LimitArguments {
    /// As the interface takes them.
    pub fn limits(&self) -> Result<Limits, String> {
        let memory_swap_bytes = match (self.memory, self.memory_swap) {
            (_, None) => None,
            (_, Some(ANY_SWAP)) => Some(ANY_SWAP),
            (memory, Some(both)) => Some(
                both.checked_sub(memory.unwrap_or(0))
                    .ok_or("--memory-swap is memory and swap together: it must not be below --memory")?,
            ),
        };
        Ok(Limits {
            memory_bytes: self.memory,
            memory_reservation_bytes: self.memory_reservation,
            memory_swap_bytes,
            cpu_millis: self.cpus,
            cpu_shares: self.cpu_shares,
            cpu_quota_us: self.cpu_quota,
            cpu_period_us: self.cpu_period,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids,
            blkio_weight: self.blkio_weight,
            blkio_weight_device: self.blkio_weight_device.clone(),
            device_read_bps: self.device_read_bps.clone(),
            device_write_bps: self.device_write_bps.clone(),
            device_read_iops: self.device_read_iops.clone(),
            device_write_iops: self.device_write_iops.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_what_they_may() {
        for (text, device, per_second) in [("/dev/sda:1M", "/dev/sda", 1 << 20), ("8:16:512", "8:16", 512)] {
            let rate = device_bytes(text).expect(text);
            assert_eq!((rate.device.as_str(), rate.per_second), (device, per_second));
        }
        for bad in ["/dev/sda", "8:0", "sda:1M", "/dev/sda:x", ":5"] {
            assert!(device_bytes(bad).is_err() && device_operations(bad).is_err(), "{bad}");
        }
        assert_eq!(device_weight("8:0:500").map(|weight| weight.weight), Ok(500));
        assert!(device_weight("8:0:70000").is_err() && memory_swap("-2").is_err());
    }
}
