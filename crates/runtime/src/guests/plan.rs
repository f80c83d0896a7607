//! One machine, from what is asked to what its sandbox is told.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hostler_image::block::{self, BlockLimits};
use hostler_image::{initramfs, layer};
use hostler_model::ByteString;
use hostler_model::guest::{Furnish, GuestChannel, GuestIdentity, GuestNic, GuestRoot, GuestWrites, VmBoot};
use hostler_model::launch::{Launch, NetworkFiles, Program};
use hostler_model::limits::{self};
use hostler_model::spec::Limits;
use hostler_model::vm::{DiskRate, Vm};
use hostler_network::{GuestPlace, SetUp};

use super::volumes::{format_of, name_of};
use super::{GuestError, Guests};
use crate::microvm::{
    AnyVmm, Bucket, Channel, ChannelAddress, Drive, Machine, Nic, Place, RateLimit, Start, Vmm as _, VmmCommand,
};

/// By which the guest finds its disks.
const ROOT: &str = "root";
const LAYER: &str = "layer";
/// What its network card is called.
const CARD: &str = "eth0";

/// What the guest is given beside its root.
struct Parts {
    drives: Vec<Drive>,
    furnish: Furnish,
    /// Something outlives the guest.
    keeps_disks: bool,
}

/// A machine that can be made, and how it is driven afterwards.
pub(crate) struct Planned {
    pub(crate) boot: VmBoot,
    pub(crate) driver: Driver,
}

/// What is needed to drive a machine by the program that makes it.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    pub(crate) vmm: AnyVmm,
    pub(crate) place: Place,
    pub(crate) machine: Machine,
}

/// For whom a machine is made.
pub(crate) struct Wanted<'a> {
    /// What it is.
    pub(crate) asked: &'a Vm,
    /// Its name: that of its directory, and of its cgroup if it gets one.
    pub(crate) name: &'a str,
    pub(crate) has_cgroup: bool,
    /// Beside what its memory comes to.
    pub(crate) limits: Limits,
    pub(crate) start: Start<'a>,
    /// Its place in a network.
    pub(crate) set_up: Option<&'a SetUp>,
}

impl Guests {
    /// Everything that this run's machine needs, made; `set_up` is its place in a network. Blocks, for as long as it takes to
    /// make an image of a directory.
    pub(crate) fn plan(
        &self,
        launch: &Launch,
        asked: &Vm,
        start: Start<'_>,
        set_up: Option<&SetUp>,
    ) -> Result<Planned, GuestError> {
        self.plan_machine(&Wanted {
            asked,
            name: &launch.run.to_string(),
            has_cgroup: launch.cgroup.is_some(),
            limits: launch.limits.clone(),
            start,
            set_up,
        })
    }

    /// The same for a machine that nobody has asked for yet.
    pub(crate) fn plan_machine(&self, wanted: &Wanted<'_>) -> Result<Planned, GuestError> {
        let Wanted { asked, name, .. } = wanted;
        let vmm = self.vmm(asked.vmm)?;
        let (kernel, initrd) = self.kernel(asked)?;
        let directory = self.settings.machines.join(name);
        let parts = self.parts(asked, &directory)?;
        let rate = asked.disk_rate.map(rate_of);
        let drives = parts.drives.into_iter().map(|drive| Drive { rate, ..drive }).collect();
        let machine = Machine {
            kernel,
            initrd,
            kernel_arguments: asked.kernel_args.clone().unwrap_or_default(),
            vcpus: asked.vcpus,
            memory_bytes: asked.memory_bytes,
            drives,
            nics: wanted.set_up.and_then(|set_up| set_up.guest.as_deref()).map(card_of).into_iter().collect(),
            network_namespace: wanted.set_up.map(|set_up| set_up.path.clone()),
            shares: Vec::new(),
            channel: if asked.no_agent { Channel::None } else { Channel::Agent },
        };
        let id = name.parse().map_err(|error| GuestError::Unsuited(format!("{name:?}: {error}")))?;
        let place = Place { directory: directory.clone(), id };
        let command = vmm.command(&place, &machine, &wanted.start)?;
        self.make_directory(&directory)?;
        if let Some(bytes) = asked.disk_bytes {
            layer::create(&self.settings.cache, &directory.join("layer.img"), bytes)?;
        }
        // What is listened to is FIFOs of a VMM that has them.
        let _watch = vmm.prepare(&place, &machine, &wanted.start)?;
        let is_booted = !matches!(wanted.start, Start::Restore(_));
        let boot = VmBoot {
            directory: directory.as_os_str().into(),
            vmm: vmm.name().to_owned(),
            channel: channel_of(&command),
            network_namespace: command.network_namespace.as_ref().map(|path| path.as_os_str().into()),
            program: program_of(command, &directory),
            cgroup: wanted.has_cgroup.then(|| (*name).to_owned()),
            limits: limits_of(&wanted.limits, asked),
            boot_max_ms: asked.boot_max_ms,
            attempts: if is_booted { limits::VM_BOOT_ATTEMPTS } else { 1 },
            furnish: (!asked.no_agent && is_booted).then_some(parts.furnish),
            keeps_disks: parts.keeps_disks,
        };
        Ok(Planned { boot, driver: Driver { vmm, place, machine } })
    }

    fn kernel(&self, asked: &Vm) -> Result<(PathBuf, Option<PathBuf>), GuestError> {
        let given = asked.initrd.as_ref().map(|initrd| initrd.as_path().to_owned());
        if let (Some(kernel), Some(_)) = (&asked.kernel, &given) {
            return Ok((kernel.as_path().to_owned(), given));
        }
        if let (Some(kernel), true) = (&asked.kernel, asked.no_agent) {
            return Ok((kernel.as_path().to_owned(), None));
        }
        let own = self.kernels.current()?.ok_or(GuestError::NoKernel)?;
        let initrd = match given {
            Some(given) => given,
            // With a kernel of somebody else the modules in it are of no use, and it has to do without.
            None => initramfs::ensure(&self.settings.cache, &own, &self.agent)?,
        };
        let kernel = asked.kernel.as_ref().map_or(own.image, |kernel| kernel.as_path().to_owned());
        Ok((kernel, Some(initrd)))
    }

    fn parts(&self, asked: &Vm, directory: &Path) -> Result<Parts, GuestError> {
        let mut parts = Parts { drives: Vec::new(), furnish: Furnish::default(), keeps_disks: false };
        if let Some(rootfs) = &asked.rootfs {
            self.root(asked, rootfs, directory, &mut parts)?;
        }
        for (number, volume) in asked.volumes.iter().enumerate() {
            let mounted = self.volume(volume, format!("volume{number}"))?;
            parts.keeps_disks |= !mounted.drive.read_only;
            parts.drives.push(mounted.drive);
            parts.furnish.mounts.push(mounted.mount);
        }
        Ok(parts)
    }

    fn root(&self, asked: &Vm, rootfs: &ByteString, directory: &Path, parts: &mut Parts) -> Result<(), GuestError> {
        let source = rootfs.as_path();
        let (path, format) = if source.is_dir() {
            let image = block::ensure(&self.settings.cache, source, BlockLimits::default())?;
            (image.path.clone(), name_of(image.format))
        } else {
            (source.to_owned(), format_of(source)?)
        };
        let drive = |id: &str, path: PathBuf, read_only: bool| Drive {
            id: id.to_owned(),
            path,
            read_only,
            is_root: id == ROOT && asked.no_agent,
            rate: None,
        };
        // A guest without our agent mounts what it gets, and writes to it as it likes.
        let writable = asked.no_agent && !asked.read_only && format == "ext4";
        parts.keeps_disks |= writable;
        parts.drives.push(drive(ROOT, path, !writable));
        let writes = match (asked.read_only, asked.disk_bytes) {
            (true, _) => GuestWrites::Nowhere,
            (false, None) => GuestWrites::Memory,
            (false, Some(_)) => {
                parts.drives.push(drive(LAYER, directory.join("layer.img"), false));
                GuestWrites::Disk(LAYER.to_owned())
            }
        };
        parts.furnish.root = Some(GuestRoot { disk: ROOT.to_owned(), format: format.to_owned(), writes });
        Ok(())
    }

    fn make_directory(&self, directory: &Path) -> Result<(), GuestError> {
        let make = |path: &Path, recursive| fs::DirBuilder::new().mode(0o700).recursive(recursive).create(path);
        let failed = |path: &Path| GuestError::io(format!("cannot make {}", path.display()));
        make(&self.settings.machines, true).map_err(failed(&self.settings.machines))?;
        make(directory, false).map_err(failed(directory))
    }

    /// Takes back what was made of the machine with this name, which will not be.
    pub(crate) fn forget(&self, name: &str) {
        let _ = fs::remove_dir_all(self.settings.machines.join(name));
    }
}

/// Its rate is limited in its network, for whichever program makes it.
fn card_of(place: &GuestPlace) -> Nic {
    Nic { id: CARD.to_owned(), tap: place.tap.clone(), mac: place.mac, rate_rx: None, rate_tx: None }
}

/// What the guest is told of its place in a network.
pub(crate) fn tell_of_network(identity: &mut GuestIdentity, set_up: SetUp) {
    identity.files = Some(Box::new(NetworkFiles { hosts: set_up.hosts, resolv: set_up.resolv }));
    identity.nics = set_up
        .guest
        .map(|place| GuestNic {
            mac: place.mac,
            addresses: place.addresses,
            gateways: place.gateways,
            mtu: Some(place.mtu),
        })
        .into_iter()
        .collect();
}

fn rate_of(rate: DiskRate) -> RateLimit {
    // A tenth of a second's worth at one time: short waits, and the rate is kept.
    let bucket = |a_second: u64| Bucket { size: (a_second / 10).max(1), one_time_burst: None, refill_ms: 100 };
    RateLimit { bandwidth: rate.bytes.map(bucket), ops: rate.operations.map(bucket) }
}

/// Of the machine as a whole: what was asked for the run, and no more memory than the guest has and its maker needs.
fn limits_of(limits: &Limits, asked: &Vm) -> Limits {
    let memory_bytes = Some(asked.memory_bytes.saturating_add(limits::VM_OVERHEAD));
    // Processes are those in the guest, and these are threads of its maker.
    Limits { memory_bytes, pids: None, ..limits.clone() }
}

fn channel_of(command: &VmmCommand) -> GuestChannel {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    match &command.channel {
        None => GuestChannel::None,
        Some(ChannelAddress::Stream(socket)) => GuestChannel::Stream { socket: name(socket) },
        Some(ChannelAddress::FirecrackerVsock { socket, port }) => {
            GuestChannel::Vsock { socket: name(socket), port: *port }
        }
    }
}

fn program_of(command: VmmCommand, directory: &Path) -> Program {
    let program = ByteString::from(command.program.as_os_str());
    let arguments = command.arguments.iter().map(|argument| ByteString::from(argument.as_os_str()));
    Program {
        command: [program].into_iter().chain(arguments).collect(),
        env: Vec::new(),
        workdir: directory.as_os_str().into(),
        identity: None,
        rlimits: Vec::new(),
        no_new_privileges: true,
        confinement: None,
    }
}
