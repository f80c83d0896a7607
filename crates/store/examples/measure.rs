//! What the store costs on this disk: `cargo run --release -p hostler-store --example measure [DIRECTORY]`.
//!
//! Prints the disk's own floor (append + `fdatasync`), batches/s one by one and with 64 in flight, the CPU time of a
//! batch, and how long a store of 100,000 events and 2,000 workloads takes to open after a kill.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use hostler_model::event::Event;
use hostler_model::ids::{NodeTag, StoreId, WorkloadId};
use hostler_model::record::{Batch, Record, Urgency};
use hostler_model::workload::Workload;
use hostler_store::{NewStore, Options, Store};
use serde_json::json;

type Failure = Box<dyn Error>;

const IDENTITY: NewStore = NewStore { store: StoreId::from_bytes([7; 8]), tag: NodeTag::from_bytes([1; 3]), now_ms: 1 };

/// A workload of usual size: about 700 bytes of JSON.
fn workload(number: u32) -> Result<Arc<Workload>, Failure> {
    let [a, b, c, d] = number.wrapping_mul(2_654_435_761).to_be_bytes();
    let id = WorkloadId::from_bytes([a, b, c, d, 0, 1]);
    let value = json!({
        "id": id, "namespace": "default", "name": format!("job-{number}"), "generation": 1,
        "spec": {"command": ["/usr/bin/convert", "--input", "/srv/in/0001.png", "--output", "/srv/out/0001.webp"],
            "env": ["LANG=C.UTF-8", "HOME=/var/lib/jobs"], "workdir": "/srv", "labels": {"batch": "nightly"}},
        "identity": {"uid": 1000, "gid": 1000, "groups": [1000, 44], "user": "jobs", "home": "/var/lib/jobs"},
        "limits": {}, "desired": "run", "created_at_ms": 1_700_000_000_000_u64, "runs": 1,
        "run": {"id": format!("{id}-1"), "state": "running", "created_at_ms": 1_700_000_000_000_u64, "pid": 4242},
    });
    Ok(Arc::new(serde_json::from_value(value)?))
}

fn event(workload: &Workload, time_ms: u64) -> Result<Event, Failure> {
    Ok(serde_json::from_value(json!({
        "time_ms": time_ms, "type": "run.started", "pid": 4242,
        "subject": {"workload": workload.id, "namespace": workload.namespace, "name": workload.name,
            "run": format!("{}-1", workload.id), "phase": "running", "generation": 1, "runs": 1},
    }))?)
}

fn batch(number: u32, events: usize) -> Result<Batch, Failure> {
    let workload = workload(number)?;
    let events = (0..events).map(|_| event(&workload, number.into())).collect::<Result<_, _>>()?;
    Ok(Batch { records: vec![Record::Workload(workload)], events, urgency: Urgency::Prompt })
}

fn submit(store: &Store, batch: Batch, answers: &Sender<bool>) {
    let answers = answers.clone();
    let done = Box::new(move |result: Result<_, _>| answers.send(result.is_ok()).expect("somebody waits"));
    store.submit(batch, 1, done).expect("fewer in flight than the queue holds");
}

fn wait(answers: &Receiver<bool>) -> Result<(), Failure> {
    if answers.recv()? { Ok(()) } else { Err("a commit failed".into()) }
}

/// CPU time of this process so far, from /proc in clock ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}

fn run(store: &Store, batches: Vec<Batch>, in_flight: usize, what: &str) -> Result<(), Failure> {
    let (sender, answers) = channel();
    let (count, mut latencies, mut sent) = (batches.len(), Vec::new(), std::collections::VecDeque::new());
    let (started, cpu) = (Instant::now(), cpu_time());
    for batch in batches {
        if sent.len() == in_flight {
            wait(&answers)?;
            latencies.extend(sent.pop_front().map(|at: Instant| at.elapsed()));
        }
        sent.push_back(Instant::now());
        submit(store, batch, &sender);
    }
    while let Some(at) = sent.pop_front() {
        wait(&answers)?;
        latencies.push(at.elapsed());
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time() - cpu);
    latencies.sort_unstable();
    println!(
        "{what}: {:.0} batches/s, p50 {:.2?}, p99 {:.2?}, CPU {:.0} µs a batch",
        count as f64 / elapsed.as_secs_f64(),
        latencies[count / 2],
        latencies[count * 99 / 100],
        cpu.as_secs_f64() * 1e6 / count as f64
    );
    Ok(())
}

fn floor(directory: &Path) -> Result<(), Failure> {
    let mut file = File::create(directory.join("floor"))?;
    let started = Instant::now();
    for _ in 0..500 {
        file.write_all(&[1; 1_000])?;
        file.sync_data()?;
    }
    println!("floor, append 1,000 bytes + fdatasync: {:.0}/s", 500.0 / started.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), Failure> {
    let place = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(place)?;
    let path = directory.path().join("store.redb");
    floor(directory.path())?;
    let (store, _) = Store::open(&path, Options::default(), IDENTITY)?;
    run(&store, (0..500).map(|number| batch(number, 1)).collect::<Result<_, _>>()?, 1, "serial")?;
    floor(directory.path())?;
    run(&store, (0..20_000).map(|number| batch(number % 2_000, 1)).collect::<Result<_, _>>()?, 64, "64 in flight")?;
    run(&store, (0..20_000).map(|number| batch(number % 2_000, 2)).collect::<Result<_, _>>()?, 64, "64, 2 events")?;
    run(&store, (0..400).map(|number| batch(number, 200)).collect::<Result<_, _>>()?, 8, "200 events each")?;
    let held = store.reader().last_sequence() + 1 - store.reader().oldest_sequence()?;
    let size = fs::metadata(&path)?.len();
    println!("{held} events, {} MiB", size >> 20);
    // What a killed daemon leaves: the file as it stands, still marked as in use.
    let killed = directory.path().join("killed.redb");
    fs::copy(&path, &killed)?;
    run(&store, (0..500).map(|number| batch(number, 1)).collect::<Result<_, _>>()?, 1, "serial, full store")?;
    run(&store, (0..20_000).map(|number| batch(number % 2_000, 1)).collect::<Result<_, _>>()?, 64, "64, full store")?;
    store.close();
    for (name, file) in [("killed", &killed), ("closed", &path)] {
        let started = Instant::now();
        let (store, loaded) = Store::open(file, Options::default(), IDENTITY)?;
        let elapsed = started.elapsed();
        let events = store.reader().last_sequence() + 1 - store.reader().oldest_sequence()?;
        println!("open, {name}: {elapsed:.1?} ({} workloads, {events} events)", loaded.workloads.len());
        store.close();
    }
    Ok(())
}
