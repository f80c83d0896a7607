//! Who a guest is: name, clock, randomness, addresses. One that was copied is told the same as one that was booted, before
//! anything of a workload runs in it.

use std::fs;
use std::io;
use std::path::Path;

use std::time::{Duration, Instant};

use hostler_linux::{guest as machine, interface};
use hostler_model::guest::{GuestIdentity, GuestNic};

use super::{Guest, LOOK_AGAIN};

/// How long an interface may take to appear.
const NIC_MAX: Duration = Duration::from_secs(5);

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
        self.set_network(&identity.nics).map_err(|error| format!("its network: {error}"))?;
        if let Some(files) = &identity.files {
            put("/etc/hosts", &files.hosts);
            put("/etc/resolv.conf", &files.resolv);
        }
        Ok(())
    }
}

impl Guest {
    /// Its interfaces, in the order of their names, are those that it is told of.
    fn set_network(&self, nics: &[GuestNic]) -> io::Result<()> {
        interface::raise_loopback()?;
        if nics.is_empty() {
            return Ok(());
        }
        self.modules.load(&["virtio_net"])?;
        let began = Instant::now();
        let names = loop {
            let names = interface::names()?;
            if names.len() >= nics.len() {
                break names;
            }
            if began.elapsed() > NIC_MAX {
                let what = format!("there are {} interfaces of {}", names.len(), nics.len());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        for (name, nic) in names.iter().zip(nics) {
            let wanted = interface::Wanted {
                mac: nic.mac,
                addresses: nic.addresses.clone(),
                gateways: nic.gateways.clone(),
                mtu: nic.mtu,
            };
            interface::set(name, &wanted).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
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
