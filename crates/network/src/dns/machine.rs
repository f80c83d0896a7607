//! The resolvers of the machine: those in its `resolv.conf`.

use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hostler_model::limits;

/// The name servers that a `resolv.conf` lists, in its order, without our own.
///
/// Those with a zone (`fe80::1%eth0`) are left out: they cannot be asked without knowing the link.
pub(crate) fn machine_upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<IpAddr> {
    let mut upstreams = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(Ok(address)) = words.next().map(str::parse)
            && !own.contains(&address)
            && !upstreams.contains(&address)
            && upstreams.len() < limits::NETWORK_DNS_MAX
        {
            upstreams.push(address);
        }
    }
    upstreams
}

/// The text of the file, read again when it is another.
#[derive(Debug)]
pub(super) struct Machine {
    path: Arc<PathBuf>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    looked: Instant,
    version: Option<Version>,
    text: Arc<str>,
}

/// Which file it was: time of change, inode, length.
type Version = (i64, i64, u64, u64);

impl Machine {
    /// Reads the file. One that is not there lists nobody.
    pub(super) fn new(path: PathBuf) -> Self {
        let (version, text) = look(&path, None).unwrap_or_else(|| (None, "".into()));
        let seen = Seen { looked: Instant::now(), version, text };
        Self { path: Arc::new(path), seen: Arc::new(Mutex::new(seen)) }
    }

    /// The resolvers now, or as of at most a look ago.
    pub(super) async fn upstreams(&self, own: &[IpAddr]) -> Vec<IpAddr> {
        if let Some(version) = self.due(Instant::now()) {
            let path = Arc::clone(&self.path);
            let seen = Arc::clone(&self.seen);
            // The file may be anywhere, and slow. Whoever asks meanwhile goes by what was last seen.
            let looked = tokio::task::spawn_blocking(move || {
                if let Some((version, text)) = look(&path, version) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.version = version;
                    seen.text = text;
                }
            });
            if let Err(error) = looked.await {
                tracing::debug!(%error, "looking at the machine's resolvers");
            }
        }
        let text = Arc::clone(&self.lock().text);
        machine_upstreams(&text, own)
    }

    /// Says once for each look that it is time, and what was seen the last time.
    fn due(&self, now: Instant) -> Option<Option<Version>> {
        let mut seen = self.lock();
        let due = now.saturating_duration_since(seen.looked) >= Duration::from_millis(limits::DNS_MACHINE_LOOK_MS);
        due.then(|| {
            seen.looked = now;
            seen.version
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next question look.
    #[cfg(test)]
    pub(super) fn forget_the_look(&self) {
        let mut seen = self.lock();
        seen.looked = seen.looked.checked_sub(Duration::from_secs(60)).expect("a machine that is up for a minute");
    }
}

/// The file, unless it is the one seen before.
fn look(path: &std::path::Path, before: Option<Version>) -> Option<(Option<Version>, Arc<str>)> {
    let nothing = || (None, Arc::from(""));
    let Ok(file) = std::fs::File::open(path) else { return Some(nothing()) };
    let Ok(about) = file.metadata() else { return Some(nothing()) };
    let version = (about.mtime(), about.mtime_nsec(), about.ino(), about.size());
    if before == Some(version) {
        return None;
    }
    let mut text = Vec::new();
    match file.take(limits::DNS_MACHINE_LIST_MAX as u64).read_to_end(&mut text) {
        Ok(_) => Some((Some(version), String::from_utf8_lossy(&text).into())),
        Err(_) => Some(nothing()),
    }
}
