//! Networks on a whole node, each test on a machine of its own: a network namespace, where the node may make bridges and rules
//! as it likes. After each test no link, namespace, rule, lease or record of plugins may be left: see `hostler_tests::leaks`.
//!
//! - `names`: workloads find and reach each other; what they read in `/etc/hosts` and `/etc/resolv.conf`; forwarding
//! - `ports`: published ports, from the machine, over a wire, over the daemon's death; collisions
//! - `apart`: what must not be reached: other networks, other callers' networks, the machine; two nodes on one machine
//! - `pools`: filled, taken, cleaned, reused, exhausted; queues; addresses that run out
//! - `plugins`: CNI networks with real plugins, and with plugins that hang, fail, lie and die half-way
//! - `deaths`: the daemon dies at each step of making, taking, giving back and removing
//! - `guests`: virtual machines in them
//! - `reconciling`: what was removed or added by hand while the daemon was down
//! - `refusals`: what is refused, and how

mod apart;
mod deaths;
mod guests;
mod names;
mod plugins;
mod pools;
mod ports;
mod reconciling;
mod refusals;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_model::network::{PoolView, RunNetwork};
use hostler_tests::container::{Oci, Place};
use hostler_tests::{Machine, PATIENCE, Setup, machine, until};

/// The machine's programs, for a workload that needs them.
const PROGRAMS: [&str; 6] = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];

/// How long a connection is waited for that should not come about.
const MOMENT: Duration = Duration::from_millis(300);

/// A place for containers on a machine of its own.
struct Yard {
    place: Place,
    machine: Machine,
}

impl Yard {
    fn new(oci: Oci) -> Option<Self> {
        Self::with(oci, Setup::new())
    }

    fn with(oci: Oci, setup: Setup) -> Option<Self> {
        Some(Self::on(oci, &Machine::new()?, setup))
    }

    fn on(oci: Oci, machine: &Machine, setup: Setup) -> Self {
        Self { place: oci.start_with(setup.on(machine)), machine: machine.clone() }
    }

    /// Makes a network.
    fn network(&self, arguments: &[&str]) {
        self.cli(&[&["network", "create"], arguments].concat()).ok();
    }

    /// A workload that sleeps in this network.
    fn sleeper(&self, name: &str, options: &[&str]) -> RunNetwork {
        self.detach(name, options, "exec sleep 600");
        self.seat(name)
    }

    /// A workload that tells its name to whoever asks for `/name` at port 80, once it does.
    fn web(&self, name: &str, options: &[&str]) -> RunNetwork {
        let script = "mkdir /tmp/$HOSTNAME; echo $HOSTNAME >/tmp/$HOSTNAME/name; exec httpd -f -p 80 -h /tmp/$HOSTNAME";
        self.detach(name, &[options, &["--hostname", name, "-e", &format!("HOSTNAME={name}")]].concat(), script);
        let seat = self.seat(name);
        until_listening(&seat, 80);
        seat
    }

    /// Ends a workload and takes it away: `rm -f` would not wait for its end.
    fn end(&self, name: &str) {
        self.cli(&["stop", "-t", "0s", name]).ok();
        self.cli(&["rm", name]).ok();
    }

    /// Its place in its network.
    fn seat(&self, name: &str) -> RunNetwork {
        self.inspect(name).network.unwrap_or_else(|| panic!("{name} is in no network"))
    }

    /// What the web server of this name says, asked by a workload that has the machine's programs: those of busybox are linked
    /// so that they cannot look names up the usual way.
    fn fetch(&self, from: &str, host: &str) -> String {
        let script = format!(
            "exec 3<>/dev/tcp/{host}/80 && printf 'GET /name HTTP/1.0\\r\\n\\r\\n' >&3 && while read -r line; do l=$line; done <&3; \
             echo $l"
        );
        let asked = self.cli(&["exec", from, "--", "/usr/bin/bash", "-c", &script]);
        if asked.code == 0 { asked.out().trim().to_owned() } else { format!("nothing: {}", asked.err()) }
    }

    /// Addresses of a name, as a workload is told.
    fn resolve(&self, from: &str, name: &str) -> Vec<IpAddr> {
        let told = self.exec(from, &format!("nslookup {name}"));
        addresses(&told.out(), name)
    }

    /// Waits until a name has as many addresses.
    fn until_resolved(&self, from: &str, name: &str, count: usize) -> Vec<IpAddr> {
        let what = format!("{count} addresses of {name}");
        until(&what, PATIENCE, || Some(self.resolve(from, name)).filter(|found| found.len() == count))
    }

    /// The pool of a network of the owner's.
    fn pool(&self, network: &str) -> PoolView {
        let pools = self.cli(&["--json", "pool", "ls"]).json();
        let of = pools["networks"].as_array().expect("a list").iter().find(|pool| pool["name"] == network);
        serde_json::from_value(of.expect("it has a pool")["pool"].clone()).expect("a pool")
    }

    /// Waits until it stands like this.
    fn until_pool(&self, network: &str, what: &str, accept: impl Fn(&PoolView) -> bool) -> PoolView {
        let mut last = PoolView::default();
        for _ in 0..2_000 {
            last = self.pool(network);
            if accept(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain for the pool of {network} to be {what}: {last:?}")
    }

    /// Waits until nothing is being made or removed, and this many set-ups are idle and taken.
    fn settled(&self, network: &str, idle: u32, occupied: u32) -> PoolView {
        self.until_pool(network, &format!("settled with {idle} idle and {occupied} taken"), |pool| {
            (pool.idle, pool.occupied, pool.making, pool.leaving) == (idle, occupied, 0, 0)
        })
    }

    /// Links and namespaces of the node, without its bridges.
    fn setups(&self) -> (Vec<String>, Vec<String>) {
        let mark = format!("h{}", self.tag().expect("it has run"));
        let ours = |names: Vec<String>| {
            let mut names: Vec<_> = names
                .into_iter()
                .filter(|name| name.strip_prefix(&mark).is_some_and(|rest| !rest.starts_with('n')))
                .collect();
            names.sort();
            names
        };
        (ours(self.machine.links()), ours(machine::namespaces()))
    }

    /// What there is on the machine and in the book is what there should be: so many set-ups, and no more.
    fn assert_setups(&self, count: usize, case: &str) {
        let (links, namespaces) = self.setups();
        let leases = machine::leases(self.root());
        assert_eq!(leases.len(), count, "{case}: {leases:?}");
        assert_eq!(links.len(), count, "{case}: {links:?}");
        assert_eq!(links, namespaces, "{case}");
    }

    fn finish(self) {
        self.place.finish();
    }
}

impl Deref for Yard {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl DerefMut for Yard {
    fn deref_mut(&mut self) -> &mut Place {
        &mut self.place
    }
}

/// The addresses that `nslookup` tells of a name; those of the resolver come first and are not among them.
fn addresses(told: &str, name: &str) -> Vec<IpAddr> {
    let mut of_name = false;
    let mut found = Vec::new();
    for line in told.lines() {
        if let Some(of) = line.strip_prefix("Name:") {
            of_name = of.trim().eq_ignore_ascii_case(name);
        } else if let Some(address) = line.strip_prefix("Address:").filter(|_| of_name) {
            found.extend(address.trim().parse::<IpAddr>());
        }
    }
    found.sort();
    found.dedup();
    found
}

fn netns(seat: &RunNetwork) -> PathBuf {
    PathBuf::from(&seat.namespace_path)
}

fn ip4(seat: &RunNetwork) -> Ipv4Addr {
    seat.ip.expect("it has an IPv4 address")
}

fn ip6(seat: &RunNetwork) -> Ipv6Addr {
    seat.ip6.expect("it has an IPv6 address")
}

/// The address of the machine in a network, as a workload knows it.
fn gateway(seat: &RunNetwork) -> IpAddr {
    let routes = machine::inside(&netns(seat), || {
        std::process::Command::new("ip").args(["-4", "route", "show", "default"]).output().expect("ip")
    });
    let text = String::from_utf8_lossy(&routes.stdout).into_owned();
    text.split(' ').nth(2).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no default route: {text:?}"))
}

fn until_listening(seat: &RunNetwork, port: u16) {
    let (path, address) = (netns(seat), SocketAddr::new(ip4(seat).into(), port));
    until(&format!("a listener at {address}"), PATIENCE, || {
        machine::inside(&path, || TcpStream::connect_timeout(&address, PATIENCE)).ok()
    });
}

/// Somebody who listens in a network, and tells a word to whoever connects.
struct Speaker {
    address: SocketAddr,
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    network: std::fs::File,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Speaker {
    fn new(path: &Path, address: impl Into<SocketAddr>, word: &'static str) -> Self {
        let address = address.into();
        let listener = machine::inside(path, || TcpListener::bind(address).expect("listening"));
        let address = listener.local_addr().expect("an address");
        let network = std::fs::File::open(path).expect("a network");
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_over = over.clone();
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut connection = connection;
                if is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let _ = connection.write_all(word.as_bytes());
            }
        });
        Self { address, over, network, thread: Some(thread) }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut to = self.address;
        if to.ip().is_unspecified() {
            to.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let network = format!("/proc/self/fd/{}", self.network.as_raw_fd());
        let _ = hostler_linux::netns::within(network.as_ref(), || TcpStream::connect_timeout(&to, PATIENCE));
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// What is heard at an address, by somebody in this network.
fn hear(path: &Path, address: impl Into<SocketAddr>) -> Result<String, String> {
    let address = address.into();
    machine::inside(path, || {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        Ok(text)
    })
    .map_err(|error: std::io::Error| format!("{address}: {error}"))
}

/// Nobody is to be heard there.
fn deaf(path: &Path, address: impl Into<SocketAddr>, why: &str) {
    let address = address.into();
    let connected = machine::inside(path, || TcpStream::connect_timeout(&address, MOMENT));
    assert!(connected.is_err(), "{address} can be reached: {why}");
}

/// What a web server says of its name, asked from this network.
fn fetch(path: &Path, address: impl Into<SocketAddr>) -> Result<String, String> {
    let address = address.into();
    machine::inside(path, || {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        Ok(text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
    })
    .map_err(|error: std::io::Error| format!("{address}: {error}"))
}
