//! All `unsafe` and all raw system calls of Hostler, behind safe functions.
//!
//! - [`cgroup`]: control groups, v1 and v2
//! - [`confine`]: what a confined process may see and do
//! - [`procfs`]: what `/proc` says about processes and the machine
//! - [`look`]: who single processes are, for people who ask
//! - [`usage`]: what many processes use together
//! - [`clock`]: the boot clock and the wall clock
//! - [`pidfd`]: a hold on one process
//! - [`spawn`]: fork, confinement and exec of a program, with every failure named
//! - [`process`]: what a parent does: wait, kill, subreaper, leftovers
//! - [`epoll`], [`timer`], [`signals`]: what an event loop waits for
//! - [`streams`]: pipes, terminals, descriptors
//! - [`daemon`]: what the daemon needs beside that
//! - [`failpoint`]: where a test lets the daemon die
//! - [`device`]: device nodes; [`files`]: copies with holes, extended attributes, names that change places
//! - [`net`]: unix sockets, at any depth of directories, and who is at their other end
//! - [`netns`]: network namespaces that are kept by a file; [`netlink`]: sockets to the kernel's network configuration
//! - [`tap`]: links for virtual machines; [`tool`]: programs that do one thing and end
//! - [`guest`]: what the first process of a guest does to it; [`interface`]: its interfaces
//! - [`memory`]: making the allocator give back what it does not need
//!
//! Not here: decisions, protocols, retries.

pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod daemon;
pub mod device;
pub mod epoll;
pub mod failpoint;
pub mod files;
pub mod guest;
pub mod inotify;
pub mod interface;
pub mod look;
pub mod memory;
pub mod net;
pub mod netlink;
pub mod netns;
pub mod pidfd;
pub mod process;
pub mod procfs;
pub mod signals;
pub mod spawn;
pub mod streams;
pub mod tap;
pub mod timer;
pub mod tool;
pub mod usage;
