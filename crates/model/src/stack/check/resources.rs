//! The limits of a unit, from their texts.

use std::collections::BTreeMap;

use super::values::Table;
use crate::resources::{BlockDevice, DeviceRate, DeviceWeight, Limits};
use crate::stack::unit;
use crate::stack::written::Written;
use crate::units::{parse_cpu_millis, parse_size_bytes};

/// What the table `limits` says.
pub(super) fn limits_of(written: &unit::Limits, table: &mut Table<'_>) -> Limits {
    let sizes = |text: &Written| parse_size_bytes(text.as_str()).map_err(|error| error.to_string());
    let counts = |count: &u64| Ok(*count);
    let text = |written: &Option<Written>| written.as_ref().map(|text| text.as_str().to_owned());
    Limits {
        memory_bytes: table.parse("memory", written.memory.as_ref(), parse_size_bytes),
        memory_reservation_bytes: table.parse(
            "memory_reservation",
            written.memory_reservation.as_ref(),
            parse_size_bytes,
        ),
        memory_swap_bytes: table.parse("swap", written.swap.as_ref(), parse_size_bytes),
        cpu_millis: table.parse("cpus", written.cpus.as_ref(), parse_cpu_millis),
        cpu_shares: written.cpu_shares,
        cpu_quota_us: written.cpu_quota_us,
        cpu_period_us: written.cpu_period_us,
        cpuset_cpus: text(&written.cpuset_cpus),
        cpuset_mems: text(&written.cpuset_mems),
        pids: written.pids,
        blkio_weight: written.blkio_weight,
        blkio_weight_device: devices("blkio_weight_device", &written.blkio_weight_device, table, |weight| Ok(*weight))
            .map(|(device, weight)| DeviceWeight { device, weight })
            .collect(),
        device_read_bps: rates("device_read_bps", &written.device_read_bps, table, sizes),
        device_write_bps: rates("device_write_bps", &written.device_write_bps, table, sizes),
        device_read_iops: rates("device_read_iops", &written.device_read_iops, table, counts),
        device_write_iops: rates("device_write_iops", &written.device_write_iops, table, counts),
    }
}

fn rates<T>(
    field: &str,
    written: &BTreeMap<String, T>,
    table: &mut Table<'_>,
    value: impl Fn(&T) -> Result<u64, String>,
) -> Vec<DeviceRate> {
    devices(field, written, table, value).map(|(device, per_second)| DeviceRate { device, per_second }).collect()
}

/// Each device with its value; mistakes are told and left out.
fn devices<T, V>(
    field: &str,
    written: &BTreeMap<String, T>,
    table: &mut Table<'_>,
    value: impl Fn(&T) -> Result<V, String>,
) -> std::vec::IntoIter<(BlockDevice, V)> {
    let mut found = Vec::new();
    for (device, text) in written {
        match device.parse::<BlockDevice>().and_then(|device| Ok((device, value(text)?))) {
            Ok(pair) => found.push(pair),
            Err(error) => table.add(field, error),
        }
    }
    found.into_iter()
}
