//! Putting limits in force: those that are named, all of them or none. What is not named is not written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hostler_model::resources::{DeviceRate, Limits};

use super::{CgroupError, Controller, Group, Version, device, explain, files, v1, v2};

/// Values written so far, with what they were before. A new group needs none of that: it is removed as a whole.
#[derive(Debug, Default)]
pub(super) struct Change {
    undo: Option<Vec<(PathBuf, String)>>,
}

impl Change {
    /// To a group that nobody knows yet.
    pub(super) fn of_new() -> Self {
        Self { undo: None }
    }

    /// To a group with processes in it.
    pub(super) fn of_running() -> Self {
        Self { undo: Some(Vec::new()) }
    }

    /// Writes a file that holds one value.
    pub(super) fn write(&mut self, path: &Path, value: &str) -> io::Result<()> {
        let before = self.undo.is_some().then(|| files::read(path).ok()).flatten();
        files::write(path, value)?;
        if let (Some(undo), Some(before)) = (&mut self.undo, before) {
            undo.push((path.to_path_buf(), before.trim().to_owned()));
        }
        Ok(())
    }

    /// Writes one line of a file of `KEY VALUE` lines; `absent` is what a key has that has no line.
    fn write_keyed(&mut self, path: &Path, key: &str, value: &str, absent: &str) -> io::Result<()> {
        let before = self.undo.is_some().then(|| files::read(path).unwrap_or_default());
        files::write(path, &format!("{key} {value}"))?;
        if let (Some(undo), Some(before)) = (&mut self.undo, before) {
            let line = before.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(' ')));
            undo.push((path.to_path_buf(), line.map_or_else(|| format!("{key} {absent}"), str::to_owned)));
        }
        Ok(())
    }

    /// Writes and, if it is refused, says what was asked and why not.
    pub(super) fn set(&mut self, limit: &'static str, path: &Path, value: &str) -> Result<(), CgroupError> {
        self.write(path, value).map_err(|error| refused(limit, path, &error))
    }

    fn undo(self) {
        for (path, before) in self.undo.unwrap_or_default().into_iter().rev() {
            let _ = files::write(&path, &before);
        }
    }
}

pub(super) fn refused(limit: &'static str, path: &Path, error: &io::Error) -> CgroupError {
    CgroupError::Unavailable { limit, why: explain("write", path, error) }
}

/// The limit that a hierarchy is needed for, if one is asked.
pub(super) fn asked(controller: Controller, limits: &Limits) -> Option<&'static str> {
    let (asked, name) = match controller {
        Controller::Memory => (limits.has_memory(), "memory"),
        Controller::Cpu => (limits.has_cpu(), "cpu"),
        Controller::Pids => (limits.pids.is_some(), "pids"),
        Controller::Cpuset => (limits.has_cpuset(), "cpuset"),
        Controller::Blkio => (limits.has_blkio_weight() || limits.has_device_rates(), "blkio"),
        Controller::Cpuacct | Controller::Freezer | Controller::Hugetlb => (false, ""),
    };
    asked.then_some(name)
}

/// Applies the limits that are named; the others stay as they are. What was changed is changed back when one of them
/// cannot be given. Memory goes first, because it alone is refused for what the group holds already.
pub(super) fn apply(group: &Group, limits: &Limits, mut change: Change) -> Result<(), CgroupError> {
    let order = [Controller::Memory, Controller::Cpu, Controller::Cpuset, Controller::Blkio, Controller::Pids];
    for controller in order {
        if let Some(name) = asked(controller, limits)
            && let Err(error) = apply_one(group, controller, name, limits, &mut change)
        {
            change.undo();
            return Err(error);
        }
    }
    Ok(())
}

fn apply_one(
    group: &Group,
    controller: Controller,
    name: &'static str,
    limits: &Limits,
    change: &mut Change,
) -> Result<(), CgroupError> {
    let place = group.place(controller).ok_or_else(|| CgroupError::Unavailable {
        limit: name,
        why: format!("no usable hierarchy has the {} controller", controller.v1_name()),
    })?;
    // A run may come to a hierarchy late: when a limit is asked for while it runs.
    let late = group.version() == Version::V1 && controller.is_on_demand() && !place.exists();
    if late {
        v1::make(place, controller == Controller::Cpuset)
            .map_err(|error| CgroupError::Unavailable { limit: name, why: explain("make", place, &error) })?;
    }
    let v2 = group.version() == Version::V2;
    let set = match controller {
        Controller::Memory if v2 => v2::set_memory(place, limits, change),
        Controller::Memory => v1::set_memory(place, limits, change),
        Controller::Cpu if v2 => v2::set_cpu(place, limits, change),
        Controller::Cpu => v1::set_cpu(place, limits, change),
        Controller::Cpuset => set_cpuset(place, limits, change),
        Controller::Blkio if v2 => set_io(place, limits, change),
        Controller::Blkio => set_blkio(place, limits, change),
        _ => v1::set_pids(place, limits.pids.unwrap_or(u32::MAX), change),
    };
    if late && set.is_err() {
        let _ = fs::remove_dir(place);
    }
    set?;
    if late { group.move_all_to(place, name) } else { Ok(()) }
}

/// The same files on both versions.
fn set_cpuset(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    let lists = [
        ("cpuset cpus", "cpuset.cpus", "cpuset.effective_cpus", "cpuset.cpus.effective", &limits.cpuset_cpus),
        ("cpuset mems", "cpuset.mems", "cpuset.effective_mems", "cpuset.mems.effective", &limits.cpuset_mems),
    ];
    for (limit, file, effective, effective_v2, list) in lists {
        let Some(list) = list else { continue };
        let path = directory.join(file);
        change.write(&path, list).map_err(|error| {
            let above = directory.parent().unwrap_or(directory);
            let allowed = files::read(&above.join(effective)).or_else(|_| files::read(&above.join(effective_v2)));
            match (allowed, error.kind()) {
                (Ok(allowed), kind) if kind != io::ErrorKind::NotFound => CgroupError::Unavailable {
                    limit,
                    why: format!("{list} is not within {}, which is what this node may use", allowed.trim()),
                },
                _ => refused(limit, &path, &error),
            }
        })?;
    }
    Ok(())
}

/// The first of these files that is there.
fn present(directory: &Path, names: [&str; 2]) -> PathBuf {
    let first = directory.join(names[0]);
    if first.exists() { first } else { directory.join(names[1]) }
}

fn set_blkio(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    if let Some(weight) = limits.blkio_weight {
        let path = present(directory, ["blkio.bfq.weight", "blkio.weight"]);
        change.set("blkio_weight", &path, &weight.to_string())?;
    }
    for weight in &limits.blkio_weight_device {
        let limit = "blkio_weight_device";
        let path = present(directory, ["blkio.bfq.weight_device", "blkio.weight_device"]);
        let key = device::numbers(&weight.device).map_err(|why| CgroupError::Unavailable { limit, why })?;
        change
            .write_keyed(&path, &key, &weight.weight.to_string(), "0")
            .map_err(|error| device_refused(limit, &weight.device, &path, &error))?;
    }
    let files = [
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device",
        "blkio.throttle.write_iops_device",
    ];
    for ((limit, rates), file) in limits.device_rates().into_iter().zip(files) {
        let path = directory.join(file);
        for DeviceRate { device, per_second } in rates {
            let key = device::numbers(device).map_err(|why| CgroupError::Unavailable { limit, why })?;
            change
                .write_keyed(&path, &key, &per_second.to_string(), "0")
                .map_err(|error| device_refused(limit, device, &path, &error))?;
        }
    }
    Ok(())
}

fn set_io(directory: &Path, limits: &Limits, change: &mut Change) -> Result<(), CgroupError> {
    let path = present(directory, ["io.bfq.weight", "io.weight"]);
    // `io.weight` reaches from 1 to 10,000, BFQ's own file to 1,000 as v1 did; the conversion is the OCI runtimes'.
    let wide = path.ends_with("io.weight");
    let converted = |weight: u16| if wide { 1 + (u32::from(weight) - 10) * 9_999 / 990 } else { u32::from(weight) };
    if let Some(weight) = limits.blkio_weight {
        change
            .write_keyed(&path, "default", &converted(weight).to_string(), "100")
            .map_err(|error| refused("blkio_weight", &path, &error))?;
    }
    for weight in &limits.blkio_weight_device {
        let limit = "blkio_weight_device";
        let key = device::numbers(&weight.device).map_err(|why| CgroupError::Unavailable { limit, why })?;
        change
            .write_keyed(&path, &key, &converted(weight.weight).to_string(), "default")
            .map_err(|error| device_refused(limit, &weight.device, &path, &error))?;
    }
    let path = directory.join("io.max");
    for ((limit, rates), word) in limits.device_rates().into_iter().zip(["rbps", "wbps", "riops", "wiops"]) {
        for DeviceRate { device, per_second } in rates {
            let key = device::numbers(device).map_err(|why| CgroupError::Unavailable { limit, why })?;
            let value = if *per_second == 0 { format!("{word}=max") } else { format!("{word}={per_second}") };
            change
                .write_keyed(&path, &key, &value, &format!("{word}=max"))
                .map_err(|error| device_refused(limit, device, &path, &error))?;
        }
    }
    Ok(())
}

fn device_refused(
    limit: &'static str,
    device: &hostler_model::resources::BlockDevice,
    path: &Path,
    error: &io::Error,
) -> CgroupError {
    match device::refusal(device, error) {
        Some(why) => CgroupError::Unavailable { limit, why },
        None => refused(limit, path, error),
    }
}
