//! What can be limited here, found out by making the node's group and looking whether the kernel lets us write.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hostler_model::resources::Limits;

use super::parent::make_directory;
use super::{Availability, Controller, MoreAvailability, Parent, Place, Version, device, explain, files, v1, v2};

impl Parent {
    /// What can be limited here.
    #[must_use]
    pub fn available(&self) -> Availability {
        self.make_above();
        let is_v2 = self.inner().version == Version::V2;
        let cpu = if is_v2 { "cpu.max" } else { "cpu.cfs_quota_us" };
        let memory = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        Availability {
            memory: self.probe(Controller::Memory, &[memory]),
            cpu: self.probe(Controller::Cpu, &[cpu]),
            pids: self.probe(Controller::Pids, &["pids.max"]),
        }
    }

    /// What else can be limited here.
    #[must_use]
    pub fn available_more(&self) -> MoreAvailability {
        self.make_above();
        let is_v2 = self.inner().version == Version::V2;
        let swap = if is_v2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        let rates = if is_v2 { "io.max" } else { "blkio.throttle.read_bps_device" };
        let weights: &[&str] =
            if is_v2 { &["io.bfq.weight", "io.weight"] } else { &["blkio.bfq.weight", "blkio.weight"] };
        let root = |place: &Place| place.directory.ancestors().nth(1).unwrap_or(Path::new("/")).join("io.cost.qos");
        let cost_model = self.inner().places.first().map(root).unwrap_or_default();
        MoreAvailability {
            swap: self.probe(Controller::Memory, &[swap]),
            cpuset: self.probe(Controller::Cpuset, &["cpuset.cpus"]),
            blkio_weight: self
                .probe(Controller::Blkio, weights)
                .and_then(|()| device::weights_are_heeded(Path::new("/sys/block"), &cost_model)),
            device_rates: self.probe(Controller::Blkio, &[rates]),
        }
    }

    /// The first limit that this machine cannot give, and why not: no controller, no such device, no such CPU.
    pub fn judge(&self, limits: &Limits) -> Result<(), (&'static str, String)> {
        let available = self.available();
        let first = [
            ("memory", limits.has_memory(), available.memory),
            ("cpu", limits.has_cpu(), available.cpu),
            ("pids", limits.pids.is_some(), available.pids),
        ];
        refuse(first)?;
        if limits.memory_swap_bytes.is_none()
            && !limits.has_cpuset()
            && !limits.has_blkio_weight()
            && !limits.has_device_rates()
        {
            return Ok(());
        }
        let more = self.available_more();
        refuse([
            ("memory swap", limits.memory_swap_bytes.is_some(), more.swap),
            ("cpuset", limits.has_cpuset(), more.cpuset),
            ("blkio weight", limits.has_blkio_weight(), more.blkio_weight),
            ("device rates", limits.has_device_rates(), more.device_rates),
        ])?;
        let lists = [
            ("cpuset cpus", &limits.cpuset_cpus, ["cpuset.effective_cpus", "cpuset.cpus.effective"]),
            ("cpuset mems", &limits.cpuset_mems, ["cpuset.effective_mems", "cpuset.mems.effective"]),
        ];
        for (limit, list, names) in lists {
            let Some(list) = list else { continue };
            let place = super::place(&self.inner().places, Controller::Cpuset);
            let allowed = place.and_then(|place| names.iter().find_map(|name| files::read(&place.join(name)).ok()));
            if let Some(allowed) = allowed
                && !numbers_in(list).is_subset(&numbers_in(&allowed))
            {
                return Err((limit, format!("{list} is not within {}, which is what this node has", allowed.trim())));
            }
        }
        let rates = limits.device_rates();
        let rated = rates.iter().flat_map(|(limit, rates)| rates.iter().map(move |rate| (*limit, &rate.device)));
        let weighed = limits.blkio_weight_device.iter().map(|weight| ("blkio_weight_device", &weight.device));
        for (limit, device) in rated.chain(weighed) {
            device::numbers(device).map_err(|why| (limit, why))?;
        }
        Ok(())
    }

    fn make_above(&self) {
        for group in &self.inner().above {
            // A failure shows when the group below cannot be made.
            let _ = fs::create_dir(group);
        }
    }

    /// Whether one of these files can be written in the node's group.
    fn probe(&self, controller: Controller, files: &[&str]) -> Result<(), String> {
        if let Some((_, why)) = self.inner().obstacles.iter().find(|(held, _)| *held == controller) {
            return Err(why.clone());
        }
        let version = self.inner().version;
        let Some(place) = self.inner().places.iter().find(|place| place.holds(controller)) else {
            let name = controller.v1_name();
            return Err(match version {
                Version::None => {
                    "no cgroup hierarchy with controllers is mounted; mount cgroup2 at /sys/fs/cgroup".into()
                }
                _ => format!("no mounted hierarchy has the {name} controller; mount it, or enable it in the kernel"),
            });
        };
        make_directory(&place.directory).map_err(|error| explain("make", &place.directory, &error))?;
        if version == Version::V2 {
            let chain = self.chain();
            v2::hand_down(&chain);
            v2::handed_down(&chain, controller)?;
            // A controller may lack a part: swap accounting, a scheduler with weights.
            let needed = matches!(controller, Controller::Blkio) || files == ["memory.swap.max"];
            if !needed {
                return Ok(());
            }
        }
        if version == Version::V1 && controller == Controller::Cpuset {
            v1::fill_cpuset(&place.directory).map_err(|error| explain("fill", &place.directory, &error))?;
        }
        let writable = |file: &&str| rustix::fs::access(place.directory.join(file), rustix::fs::Access::WRITE_OK);
        let mut outcome = Ok(());
        for file in files {
            match writable(file) {
                Ok(()) => return Ok(()),
                Err(error) => outcome = Err(explain("write", &place.directory.join(file), &error.into())),
            }
        }
        outcome
    }
}

fn refuse<const N: usize>(asked: [(&'static str, bool, Result<(), String>); N]) -> Result<(), (&'static str, String)> {
    let refused = asked.into_iter().find_map(|(limit, asked, state)| Some((limit, state.err().filter(|_| asked)?)));
    refused.map_or(Ok(()), Err)
}

/// The numbers of a list of CPUs or memory nodes; of a stepped range all of it.
fn numbers_in(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let part = part.split(':').next()?;
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}
