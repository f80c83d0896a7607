//! MicroVMs: what a virtual machine is made of, and how the programs that make one are told.
//!
//! ```text
//!   Machine ──lacks()──► prepare() ──command()──► the host agent spawns the VMM ──start()──► the guest's CPUs run
//!      │ refused            │ FIFOs, RAM file        in the VM's directory                  │        ▲
//!      ▼                    ▼                                                         pause()│        │resume()
//!   (nothing was made)    Watch: logs and metrics, until it is dropped                      ▼        │
//!                                                                      snapshot() ◄─────── paused ───┘
//!                                                                          │ of a template: the VMM ends
//!                                                                          ▼
//!                                              SnapshotFiles ──start(Restore)──► a guest that runs, elsewhere
//! ```
//! Every VM has a directory of its own, [`Place`]; the VMM's working directory is that one, and all its sockets and FIFOs
//! have short names in it, so a snapshot that was taken in one directory is restored in another, and no address is longer
//! than the 107 bytes that it holds.
//!
//! - [`id`]: names of VMs; [`machine`]: a VM, as data, and what is refused of it
//! - [`vmm`]: the trait, what a VMM lacks, the command that is to be executed, errors
//! - [`firecracker`]: the VMM for production, jailed; [`qemu`]: the one that runs anywhere, without isolation under TCG
//! - [`kvm`]: whether QEMU may use KVM here: proven by a boot
//! - `socket`: waiting for a VMM's socket
//!
//! A guest "runs" here when its processors do. It is *ready* only when the agent in it has answered its hello.
//!
//! Not here: spawning and killing the VMM (the host agent does), what is said on the channel to the guest, networks,
//! images, limits of the host, and when a boot that hangs is tried again.

pub mod firecracker;
pub mod id;
pub mod kvm;
pub mod machine;
pub mod qemu;
mod socket;
pub mod vmm;

pub use firecracker::{Firecracker, Jail};
pub use id::{IdError, VmId};
pub use kvm::Accelerator;
pub use machine::{Bucket, Channel, Drive, Machine, MachineError, Nic, RateLimit, Share};
pub use qemu::Qemu;
pub use vmm::{
    AfterSnapshot, AnyVmm, ChannelAddress, Deadlines, Lack, Place, PlacedFile, SnapshotFiles, Start, Vmm, VmmCommand,
    VmmError, VmmMetrics, Watch,
};
