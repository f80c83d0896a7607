//! Arguments of the verbs about what virtual machines need.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) const VM_EXAMPLES: &str = "Examples:\n  hostler vm setup\n  hostler vm ls\n\n\
     These need no running node. The kernel is taken out of the distribution's package; nothing is installed.";
pub(super) const SETUP_EXAMPLES: &str = "Examples:\n  hostler vm setup\n  \
     hostler vm setup --package linux-image-6.1.0-48-cloud-amd64.deb\n  \
     hostler vm setup --kernel /boot/vmlinuz-6.12.0 --modules /lib/modules/6.12.0\n  \
     hostler vm setup --force   # anew, although this version is there\n\n\
     Without --package and --kernel it is the newest kernel for virtual machines of Debian, fetched by apt-get.";

/// `hostler vm …`
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Make a kernel ready for virtual machines
    #[command(after_help = SETUP_EXAMPLES)]
    Setup(VmSetup),
    /// List the kernels that are ready; virtual machines boot the first
    #[command(after_help = "Examples:\n  hostler vm ls\n  hostler --json vm ls")]
    Ls(VmList),
}

/// `hostler vm setup`
#[derive(Debug, Args)]
pub struct VmSetup {
    /// Where kernels are kept; the node's own directory when absent
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Take the kernel out of this Debian package
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub package: Option<PathBuf>,
    /// Take this kernel: an ELF vmlinux or a bzImage
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// With --kernel: the directory below which its modules are
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// Make it anew where this version is there already
    #[arg(long)]
    pub force: bool,
}

/// `hostler vm ls`
#[derive(Debug, Args)]
pub struct VmList {
    /// Where kernels are kept; the node's own directory when absent
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}
