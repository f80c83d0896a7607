//! Stand-in points: places where a test lets the program die. They exist in builds with debug assertions only; a
//! release has none.
//!
//! `HOSTLER_TEST_FAILPOINT=name` kills the daemon, as `kill -9` would, the first time it gets there; `name:3` the
//! third time.

/// The daemon is at this point.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("HOSTLER_TEST_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(count.parse().ok()?)))
    });
    if let Some((point, left)) = armed
        && point == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        eprintln!("failpoint {name}: the daemon dies here");
        crate::daemon::kill_self();
    }
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
pub fn hit(_: &str) {}
