//! From what is asked of a guest to a machine that can be made here: kernel, disks, volumes, and the command of the program
//! that makes it. Everything that may take long is done here, before a sandbox is taken: an image is made of a directory the
//! first time it is asked for.
//!
//! ```text
//!  VmLaunch{asked} ──► kernel, initial RAM disk ──► root, volumes ──► Machine ──► command ──► VmLaunch{boot}
//!                        │ none: hostler vm setup     │ images, by content
//! ```
//! - [`plan`]: one machine, and its card in a network; [`volumes`]: what it sees of this one
//! - [`found`]: which programs this node has for it
//!
//! Not here: its place in a network, which it is told; taking a sandbox, the agents on both sides, what a run is.

mod found;
mod plan;
mod volumes;

use std::path::PathBuf;
use std::sync::Mutex;

use hostler_image::kernels::Kernels;
use thiserror::Error;

use found::Programs;
pub(crate) use plan::{Driver, Planned, Wanted, tell_of_network};

/// Where things are, for guests.
#[derive(Debug, Clone)]
pub struct GuestSettings {
    /// Kernels, by version.
    pub kernels: PathBuf,
    /// Initial RAM disks, images and formatted layers, which can all be made again.
    pub cache: PathBuf,
    /// A directory for each machine.
    pub machines: PathBuf,
    /// QEMU, when it is not where programs usually are.
    pub qemu: Option<PathBuf>,
    /// Firecracker, likewise.
    pub firecracker: Option<PathBuf>,
}

/// What guests are made with.
pub(crate) struct Guests {
    settings: GuestSettings,
    agent: PathBuf,
    kernels: Kernels,
    programs: Mutex<Programs>,
}

/// Why a guest cannot be made here.
#[derive(Debug, Error)]
pub(crate) enum GuestError {
    #[error("there is no kernel for guests yet; make one ready with: hostler vm setup")]
    NoKernel,
    #[error("{0}")]
    NoProgram(String),
    #[error(transparent)]
    Image(#[from] hostler_image::ImageError),
    #[error(transparent)]
    Vmm(#[from] crate::microvm::VmmError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Unsuited(String),
}

impl GuestError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl Guests {
    pub(crate) fn new(settings: GuestSettings, agent: PathBuf) -> Self {
        let kernels = Kernels::new(&settings.kernels);
        Self { settings, agent, kernels, programs: Mutex::default() }
    }

    /// All of them that are there, by their names.
    pub(crate) fn machines(&self) -> &std::path::Path {
        &self.settings.machines
    }

    /// Where snapshots are that machines are copied from.
    pub(crate) fn templates(&self) -> PathBuf {
        self.settings.machines.with_file_name("templates")
    }

    /// What a snapshot of such a machine depends on, in words: whatever of it changes makes another of it.
    pub(crate) fn fingerprint(&self, asked: &hostler_model::vm::Vm) -> Result<String, GuestError> {
        let vmm = self.vmm(asked.vmm)?;
        let program = crate::microvm::Vmm::program(&vmm);
        let stamp = |path: &std::path::Path| {
            use std::os::unix::fs::MetadataExt as _;
            let found = std::fs::metadata(path).map_err(GuestError::io(path.display().to_string()))?;
            Ok::<_, GuestError>(format!("{}:{}:{}:{}", path.display(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        let kernel = self.kernels.current()?.map(|kernel| kernel.content_sha256).unwrap_or_default();
        let given = [&asked.kernel, &asked.initrd, &asked.rootfs].into_iter().flatten();
        let given: Vec<String> = given.map(|path| stamp(path.as_path())).collect::<Result<_, _>>()?;
        let shape = serde_json::to_string(asked).expect("a machine has string keys");
        Ok([stamp(program)?, stamp(&self.agent)?, kernel, given.join(" "), shape].join("\n"))
    }
}
