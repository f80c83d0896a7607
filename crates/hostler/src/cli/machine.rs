//! Arguments of `run` that make a microVM of it.

use std::path::PathBuf;

use clap::Args;
use hostler_model::container::text::SecurityOption;
use hostler_model::limits;
use hostler_model::units::{parse_duration_ms, parse_size_bytes};
use hostler_model::vm::{DiskRate, Vm, Vmm};

use super::{ContainerArguments, LimitArguments};
use crate::failure::Failure;
use crate::parse::absolute;

const HEADING: &str = "MicroVMs";

/// What makes a microVM, and what it has. Flags that containers have too are with theirs.
#[derive(Debug, Clone, Default, Args)]
pub struct MachineArguments {
    /// Run COMMAND in a virtual machine with a kernel of its own; --memory is then its memory (128M when absent), and
    /// --rootfs a directory or an image that becomes its root
    #[arg(long, groups = ["confined", "rooted"], conflicts_with_all = ["oci", "isolate"], help_heading = HEADING)]
    pub vm: bool,
    /// What makes it: firecracker, qemu, or auto (when absent) for the one that works here
    #[arg(long, value_name = "VMM", requires = "vm", help_heading = HEADING)]
    pub vmm: Option<Vmm>,
    /// Its processors; 1 when absent
    #[arg(long, value_name = "COUNT", requires = "vm", help_heading = HEADING)]
    pub vcpus: Option<u8>,
    /// A kernel of yours: a vmlinux or a bzImage
    #[arg(long, value_name = "FILE", requires = "vm", help_heading = HEADING)]
    pub kernel: Option<PathBuf>,
    /// An initial RAM disk of yours
    #[arg(long, value_name = "FILE", requires = "vm", help_heading = HEADING)]
    pub initrd: Option<PathBuf>,
    /// Words for the kernel; no secrets: whoever can look at this machine's processes sees them
    #[arg(long, value_name = "WORDS", requires = "vm", allow_hyphen_values = true, help_heading = HEADING)]
    pub kernel_args: Option<String>,
    /// What it writes to its root goes to a disk of this size, and not to its memory
    #[arg(long, value_name = "SIZE", requires = "rootfs", value_parser = parse_size_bytes, help_heading = HEADING)]
    pub disk: Option<u64>,
    /// What its disks may do in a second: bytes such as 50M, operations such as 1000iops, or both with a comma
    #[arg(long, value_name = "RATE", requires = "vm", value_parser = disk_rate, help_heading = HEADING)]
    pub rate_limit: Option<DiskRate>,
    /// Nothing of Hostler in it: its console is the output, its end is the end
    #[arg(long, requires = "kernel", help_heading = HEADING)]
    pub no_agent: bool,
    /// How long it may take to boot
    #[arg(long, value_name = "TIME", requires = "vm", value_parser = parse_duration_ms, help_heading = HEADING)]
    pub boot_timeout: Option<u64>,
}

fn disk_rate(text: &str) -> Result<DiskRate, String> {
    let mut rate = DiskRate::default();
    for part in text.split(',') {
        let part = part.trim();
        match part.strip_suffix("iops") {
            Some(count) => rate.operations = Some(count.parse().map_err(|_| format!("{part:?} is not COUNTiops"))?),
            None => rate.bytes = Some(parse_size_bytes(part).map_err(|error| error.to_string())?),
        }
    }
    Ok(rate)
}

impl MachineArguments {
    /// The machine that is asked for, if one is.
    pub(crate) fn machine(&self, shared: &ContainerArguments, limits: &LimitArguments) -> Result<Option<Vm>, Failure> {
        if !self.vm {
            return Ok(None);
        }
        refuse_what_is_a_containers(shared)?;
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let default = Vm::default();
        Ok(Some(Vm {
            vmm: self.vmm.unwrap_or_default(),
            kernel: path(&self.kernel)?,
            initrd: path(&self.initrd)?,
            kernel_args: self.kernel_args.clone(),
            rootfs: path(&shared.rootfs)?,
            read_only: shared.read_only,
            disk_bytes: self.disk,
            vcpus: self.vcpus.unwrap_or(default.vcpus),
            memory_bytes: limits.memory.unwrap_or(limits::VM_MEMORY_DEFAULT),
            volumes: shared.volume.clone(),
            network: shared.network()?,
            disk_rate: self.rate_limit,
            hostname: shared.hostname.clone(),
            no_agent: self.no_agent,
            boot_max_ms: self.boot_timeout.unwrap_or(default.boot_max_ms),
        }))
    }
}

/// A guest has its own kernel, which no flag of a container can change.
fn refuse_what_is_a_containers(shared: &ContainerArguments) -> Result<(), Failure> {
    let of_a_container = |option: &SecurityOption| !matches!(option, SecurityOption::NoNewPrivileges(_));
    let asked = [
        ("--tmpfs", !shared.tmpfs.is_empty()),
        ("--cap-add", !shared.cap_add.is_empty()),
        ("--cap-drop", !shared.cap_drop.is_empty()),
        ("--device", !shared.device.is_empty()),
        ("--userns", shared.userns.is_some()),
        ("--privileged", shared.privileged),
        ("--security-opt", shared.security_opt.iter().any(of_a_container)),
        ("--oci-runtime", shared.oci_runtime.is_some()),
        ("--oci-runtime-arg", !shared.oci_runtime_arg.is_empty()),
        ("--no-pivot", shared.no_pivot),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((flag, _)) => Err(Failure::usage(format!("{flag} is for containers, and has no effect with --vm"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_operations_or_both() {
        let rate = |bytes, operations| Ok(DiskRate { bytes, operations });
        assert_eq!(disk_rate("50M"), rate(Some(50 << 20), None));
        assert_eq!(disk_rate("1000iops"), rate(None, Some(1_000)));
        assert_eq!(disk_rate("1M,20iops"), rate(Some(1 << 20), Some(20)));
        assert!(disk_rate("fast").is_err() && disk_rate("xiops").is_err());
    }
}
