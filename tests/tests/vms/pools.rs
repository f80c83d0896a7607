//! Guests that wait for a run: taken, replaced, drained; copies of a snapshot; what the death of each process does to them.

use std::collections::BTreeSet;

use hostler_api::pools::MachinePoolView;
use hostler_tests::{Host, PATIENCE, signal, until, until_gone};

/// `[pool.small]` with these numbers.
fn pool(words: &str) -> String {
    format!("[pool.small]\nruntime = \"microvm\"\nmemory = \"96M\"\n{words}\n")
}

/// A machine of the shape of that pool.
const SHAPE: &[&str] = &["--memory", "96M"];

fn stand(host: &Host) -> MachinePoolView {
    let list = host.block_on(host.api().pools()).expect("pools");
    list.machines.into_iter().find(|pool| pool.name == "small").expect("the pool of the configuration")
}

/// Waits until so many are idle, and nothing else is going on. Their makers.
fn until_idle(host: &Host, count: u32) -> BTreeSet<u32> {
    until(&format!("{count} guests that wait"), PATIENCE * 2, || {
        let pool = stand(host);
        assert_eq!(pool.last_failure.filter(|_| pool.failures > 1), None, "the pool cannot be filled");
        (pool.idle == count && pool.making == 0 && pool.leaving == 0).then_some(())
    });
    host.vmms().into_iter().collect()
}

#[test]
fn one_that_waits_is_taken_once_and_replaced() {
    let Some(host) = Host::start_with(&pool("idle = 1\nmax = 2")) else { return };
    let waiting = until_idle(&host, 1);
    assert_eq!(waiting.len(), 1);
    let vmm = host.detach("first", SHAPE, "echo $(hostname) $$; exec sleep 600");
    assert!(waiting.contains(&vmm), "{vmm} was not among those that waited: {waiting:?}");
    assert_eq!(host.exec("first", "hostname").ok(), "first", "it is told whose it is when it is taken");
    let both = until_idle(&host, 1);
    assert_eq!(both.len(), 2, "{both:?}");
    host.detach("second", SHAPE, "exec sleep 600");
    until("a full pool", PATIENCE, || (stand(&host).occupied == 2).then_some(()));
    // Nobody waits for a machine that may never come, and another shape is not this pool's affair.
    let refused = host.run(SHAPE, &["true"]);
    assert!(refused.code != 0 && refused.err().contains("pool small"), "{refused:?}");
    assert!(refused.err().contains("try again in"), "{}", refused.err());
    host.run(&["--memory", "112M"], &["true"]).code(0);
    // What was accepted before it was known that there is no room waits for it.
    host.run(&[SHAPE, &["-d", "--name", "queued", "--queue", "q"]].concat(), &["true"]).ok();
    host.cli(&["kill", "first"]).ok();
    assert_eq!(host.exit_of("queued").status.shell_code(), 0);
    assert_eq!(host.exit_of("first").status.shell_code(), 137);
    let next = until_idle(&host, 1);
    assert!(!next.contains(&vmm), "a guest serves one run");
    let done = host.sh(SHAPE, "echo out; echo err >&2; exit 5").code(5);
    assert_eq!((done.out(), done.err()), ("out\n".to_owned(), "err\n".to_owned()));
    host.cli(&["pool", "drain", "small"]).ok();
    host.finish();
}

#[test]
fn drained_filled_and_of_another_size() {
    let Some(host) = Host::start_with(&pool("idle = 1\nmax = 3")) else { return };
    let first = until_idle(&host, 1);
    assert!(host.cli(&["pool", "drain", "small"]).ok().contains("drained"));
    until_idle(&host, 0);
    first.iter().for_each(|vmm| until_gone(*vmm));
    host.run(SHAPE, &["true"]).code(0);
    assert_eq!(stand(&host).idle, 0, "nothing is made ahead");
    host.cli(&["pool", "fill", "small"]).ok();
    until_idle(&host, 1);
    host.cli(&["pool", "resize", "small", "--idle", "2"]).ok();
    until_idle(&host, 2);
    host.cli(&["pool", "resize", "small", "--idle", "0"]).ok();
    until_idle(&host, 0);
    let listed = host.cli(&["pool", "ls"]).ok();
    assert!(listed.contains("small"), "{listed}");
    let unknown = host.cli(&["pool", "drain", "large"]);
    assert!(unknown.code != 0 && unknown.err().contains("large"), "{unknown:?}");
    host.finish();
}

#[test]
fn copies_of_one_memory_are_machines_of_their_own() {
    let Some(host) = Host::start_with(&pool("idle = 2\nmax = 4\nsnapshot = true")) else { return };
    until_idle(&host, 2);
    assert_eq!(stand(&host).snapshot_ready, Some(true));
    let ask = "head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid; hostname";
    let mut seen = BTreeSet::new();
    for name in ["a", "b", "c"] {
        let told = host.sh(&[SHAPE, &["--name", name]].concat(), ask).code(0).out();
        let lines: Vec<String> = told.lines().map(str::to_owned).collect();
        assert_eq!((lines.len(), lines[3].as_str()), (4, name), "{told}");
        seen.extend(lines);
    }
    assert_eq!(seen.len(), 12, "something is the same in two of them: {seen:?}");
    // Its clock is not that of the moment of the snapshot.
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let theirs_s: u64 = host.sh(SHAPE, "date +%s").ok().parse().expect("seconds");
    assert!((now_s..=now_s + 30).contains(&theirs_s), "{theirs_s} when it is {now_s}");
    // What one writes the others do not see.
    host.detach("writes", SHAPE, "echo secret > /tmp/x; echo ready; exec sleep 600");
    until("its file", PATIENCE, || host.log_of("writes").contains("ready").then_some(()));
    host.sh(SHAPE, "test ! -e /tmp/x").code(0);
    host.cli(&["pool", "drain", "small"]).ok();
    host.finish();
}

#[test]
fn those_that_wait_outlive_the_daemon_and_not_their_makers() {
    let Some(mut host) = Host::start_with(&pool("idle = 1\nmax = 3\nsnapshot = true")) else { return };
    until_idle(&host, 1);
    let taken = host.detach("taken", SHAPE, "while read line; do echo $line; done; exec sleep 600");
    let before = until_idle(&host, 1);
    host.kill_and_start();
    let after = until_idle(&host, 1);
    assert_eq!(after, before, "the same machines, one with a run and one without");
    assert_eq!(host.exec("taken", "echo still here").ok(), "still here");
    // Its maker dies: another one takes its place, and who asks does not get a dead one.
    let waiting = *after.iter().find(|vmm| **vmm != taken).expect("one that waits");
    signal(waiting, 9);
    until_gone(waiting);
    host.run(SHAPE, &["true"]).code(0);
    let next = until_idle(&host, 1);
    assert!(!next.contains(&waiting) && next.contains(&taken), "{next:?}");
    // And of a machine with a run it is that run's end.
    signal(taken, 9);
    assert!(host.exit_of("taken").status.shell_code() != 0);
    until_idle(&host, 1);
    // Nothing is drained here: who takes the node down takes those that wait with it.
    host.finish_with_pools();
}
