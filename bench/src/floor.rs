//! The machine without us.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Spawns and waits for `/bin/true` on every core at once; a second's worth of them, per second. `Command` without a
/// `pre_exec` is `posix_spawn`.
pub fn spawn_rate(time: Duration) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let count: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(move || {
                    let mut count = 0;
                    while began.elapsed() < time {
                        let null = Stdio::null;
                        let mut child = Command::new("/bin/true");
                        child.env_clear().stdin(null()).stdout(null()).stderr(null());
                        let status = child.status().expect("/bin/true can be run");
                        assert!(status.success());
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    count as f64 / began.elapsed().as_secs_f64()
}

/// Appends 300 bytes and syncs; each in milliseconds.
pub fn sync_ms(directory: &Path, times: usize) -> anyhow::Result<Vec<f64>> {
    let path = directory.join("floor");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        file.write_all(&[b'x'; 300])?;
        file.sync_data()?;
        samples.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    std::fs::remove_file(&path)?;
    Ok(samples)
}
