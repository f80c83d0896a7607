//! Who a guest is: name, clock, randomness, addresses. One that was copied is told the same as one that was booted, before
//! anything of a workload runs in it.

use std::fs;
use std::io;
use std::path::Path;

use hostler_linux::guest as machine;
use hostler_model::guest::GuestIdentity;

use super::Guest;

impl Guest {
    /// Is this guest from now on.
    pub(crate) fn rebind(&self, identity: &GuestIdentity) -> Result<(), String> {
        let at = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        // First of all: whatever takes random numbers from here on gets its own.
        if let Some(seed) = &identity.seed {
            machine::seed_random(seed.as_bytes()).map_err(at("random numbers"))?;
        }
        if identity.wall_ms > 0 {
            machine::set_wall_ms(identity.wall_ms).map_err(at("the clock"))?;
        }
        if !identity.hostname.is_empty() {
            machine::set_hostname(&identity.hostname).map_err(at("the host name"))?;
            put("/etc/hostname", &format!("{}\n", identity.hostname));
        }
        if !identity.machine_id.is_empty() {
            put("/etc/machine-id", &format!("{}\n", identity.machine_id));
        }
        if let Some(files) = &identity.files {
            put("/etc/hosts", &files.hosts);
            put("/etc/resolv.conf", &files.resolv);
        }
        Ok(())
    }
}

/// Writes a file of the guest, whatever was there; one that cannot be written, on a read-only root, is left as it is.
fn put(path: &str, text: &str) {
    let path = Path::new(path);
    // A link would lead elsewhere, and a root that has none of these files need not get them all.
    if path.parent().is_none_or(|parent| !parent.is_dir()) {
        return;
    }
    let _ = fs::remove_file(path);
    let _ = fs::write(path, text);
}
