//! On a machine of their own: each test makes a network namespace that stands for the machine.

mod guests;
mod handle;
mod setups;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use hostler_linux::netns;
use hostler_linux::process::effective_uid;
use hostler_model::ids::{NetworkId, NodeTag};
use hostler_model::network::{Bridge, NetworkRecord, NetworkSpec};

/// A tag that no other test of this process has, nor one of another process with another number.
pub(crate) fn tag() -> NodeTag {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let pid = std::process::id().to_be_bytes();
    NodeTag::from_bytes([pid[2], pid[3], NEXT.fetch_add(1, Ordering::Relaxed)])
}

/// Does something on a machine of its own; `None` where that cannot be had.
pub(crate) fn on_a_machine<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if effective_uid() != 0 {
        println!("skipped: network namespaces need root");
        return None;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let path: PathBuf = dir.path().join("machine");
    let _after = Kept(path.clone());
    let done = netns::create(&path, || {
        crate::netlink::Netlink::open().and_then(|mut netlink| netlink.one(crate::netlink::raise("lo"))).expect("lo");
        work()
    });
    Some(done.expect("a network namespace"))
}

/// What a test has made goes with it, also when it fails.
struct Kept(PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        let pid = std::process::id().to_be_bytes();
        let own = format!("h{:02x}{:02x}", pid[2], pid[3]);
        for entry in std::fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten() {
            if std::thread::panicking() && entry.file_name().to_string_lossy().starts_with(&own) {
                let _ = netns::release(&entry.path());
            }
        }
        netns::release(&self.0).expect("released");
    }
}

pub(crate) fn record(spec: NetworkSpec, subnet: &str, subnet6: Option<&str>) -> (NetworkRecord, Bridge) {
    let subnet6 = subnet6.map(|text| text.parse().expect("a range"));
    let bridge = Bridge::new(&spec, subnet.parse().expect("a range"), subnet6);
    let record = NetworkRecord {
        id: NetworkId::from_bytes([1, 2, 3]),
        namespace: hostler_model::Namespace::owner(),
        name: "blue".parse().expect("a name"),
        spec,
        bridge: Some(bridge.clone()),
        created_at_ms: 0,
    };
    (record, bridge)
}
