//! The first process of a room. It furnishes the room, and then only reaps orphans: its end is the end of every process
//! in it. The main program is not this process, for the kernel keeps signals from a first process; and it is not its child
//! but the agent's, which so sees its end, signals it, and knows its number.
//!
//! It is a copy of the agent, whose memory it shares as long as neither writes to it.

use std::os::fd::OwnedFd;

use hostler_model::container::{Network, Userns};
use hostler_model::workload::StartFailureKind;

use super::{Room, capabilities, mounts, namespaces, own};
use crate::process;
use crate::spawn::child::{Failure, check, exit, report_failure};

/// Never returns. `done` is told when the room can be used, and closed when it cannot.
pub(super) fn run(room: &Room, done: OwnedFd) -> ! {
    match furnish(room) {
        Ok(()) => {}
        Err(failure) => {
            report_failure(&failure);
            exit();
        }
    }
    let _ = rustix::io::write(&done, &[1]);
    drop(done);
    // The agent's socket too, which it reads until nobody has it any more.
    crate::streams::close_from(0);
    let _ = own::hide_arguments();
    process::set_name(c"hostler-init");
    own::reap_forever()
}

fn furnish(room: &Room) -> Result<(), Failure> {
    let kind = StartFailureKind::Isolation;
    own::die_with_parent();
    // It may have died before we asked; it has our socket, or nobody has.
    if !own::is_connected(crate::spawn::child::CONTROL) {
        exit();
    }
    // SAFETY: closes numbers that are the program's streams; nothing in this process uses them.
    unsafe { libc::syscall(libc::SYS_close_range, 0, 2, 0) };
    std::env::set_current_dir("/")
        .map_err(|error| Failure { kind, message: format!("cannot enter the root directory: {error}") })?;
    mounts::furnish(&room.confinement)?;
    let isolation = &room.confinement.isolation;
    namespaces::set_hostname(&room.confinement.hostname)?;
    if *isolation.network() == Network::None {
        namespaces::raise_loopback()?;
    }
    // Whom the agent lets into the room enters by this process, so that it must be allowed to look at it. Root is. Another
    // agent's user owns the user namespace, and its processes cannot look at us: we have capabilities there that they lack.
    let visible = libc::c_ulong::from(isolation.userns() == Userns::Auto);
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, visible, 0, 0, 0) }, kind, "set who may look at the process")?;
    if isolation.userns() == Userns::Host {
        capabilities::bound(&[])?;
        capabilities::apply(&[])?;
    }
    // Changes of rights clear it.
    own::die_with_parent();
    Ok(())
}
