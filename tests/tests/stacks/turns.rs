//! Queues, schedules, hooks, protection, tags and statistics of a stack's units.

use std::path::Path;

use hostler_model::workload::Phase;
use hostler_tests::events::assert_history;
use hostler_tests::{PATIENCE, TestNode, until};

use super::{apply, order, reason, states, touch, unit, until_state, until_view, view, write};

fn apply_and_wait(node: &TestNode, path: &Path) {
    node.cli(&["stack", "apply", path.to_str().expect("a path")]).ok();
}

/// Names of all queues.
fn queues(node: &TestNode) -> Vec<String> {
    let queues = node.block_on(node.api().queues()).expect("queues").queues;
    queues.iter().map(|queue| queue.queue.name.to_string()).collect()
}

#[test]
fn jobs_wait_for_their_turn_in_the_stacks_queue() {
    let mut node = TestNode::new();
    let job = |name: &str, more: &str| {
        format!(
            "[job.{name}]\ncommand = \"echo +{name} >>order; until [ -e go ]; do sleep 0.01; done; echo -{name} >>order\"\n\
             workdir = \".\"\nqueue = \"line\"\n{more}\n"
        )
    };
    let text = [
        "[queue.line]\nparallel = 1\n[queue.wide]\nparallel = 3\n".to_owned(),
        job("a", "priority = 9"),
        job("b", "priority = -1"),
        job("c", "priority = 5"),
        "[service.last]\ncommand = [\"sleep\", \"600\"]\nrequires = [\"a\", \"b\", \"c\"]\n".to_owned(),
    ]
    .concat();
    apply(&node, "s", &text);
    until_view(&node, "s", "one at work", |view| {
        view.units.iter().filter(|unit| unit.members.iter().any(|one| one.phase == Phase::Running)).count() == 1
    });
    assert_eq!(
        states(&view(&node, "s")),
        [("a", "starting"), ("b", "starting"), ("c", "starting"), ("last", "waiting")]
    );
    let tree = node.cli(&["stack", "tree", "s"]).ok();
    assert!(tree.contains("starting, queued"), "{tree}");
    assert_eq!(node.inspect("s.b").workload.phase(), Phase::Queued);
    // The queue belongs to everybody: a job of nobody's stack waits in it, too, and keeps it.
    node.cli(&["run", "-d", "--queue", "line", "--priority=-5", "--name", "guest", "sleep", "600"]).ok();
    node.kill_and_start();
    touch(&node, "go");
    until_state(&node, "s", "last", "ready");
    assert_eq!(order(&node), ["+a", "-a", "+c", "-c", "+b", "-b"]);
    // Another number is a change of the queue and of nothing else.
    let path = write(&node, "s", &text.replace("parallel = 1", "parallel = 2"));
    let path = path.to_str().expect("a path");
    assert_eq!(node.cli(&["stack", "diff", path]).ok().trim(), "~ queue line: parallel 1 → 2");
    node.cli(&["stack", "apply", path]).ok();
    assert_eq!(node.cli(&["stack", "diff", path]).ok(), "");
    assert_eq!(node.inspect("s.a").workload.runs, 1);
    node.cli(&["stack", "down", "s"]).ok();
    assert_eq!(queues(&node), ["line"]);
    node.cli(&["rm", "-f", "guest"]).ok();
    until("the guest to go", PATIENCE, || node.all().is_empty().then_some(()));
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_job_that_waits_is_stopped_with_its_stack() {
    let node = TestNode::new();
    let text = "[queue.q]\n[job.a]\ncommand = [\"sleep\", \"600\"]\nqueue = \"q\"\npriority = 1\n\
                [job.b]\ncommand = [\"sleep\", \"600\"]\nqueue = \"q\"\n";
    apply(&node, "s", text);
    until("a at work", PATIENCE, || (node.inspect("s.a").workload.phase() == Phase::Running).then_some(()));
    assert_eq!(node.inspect("s.b").workload.phase(), Phase::Queued);
    // By hand, as any other.
    node.cli(&["stop", "s.b"]).ok();
    assert_eq!(reason(&until_state(&node, "s", "b", "stopped")), "on request");
    apply(&node, "s", text);
    until("b in its queue again", PATIENCE, || (node.inspect("s.b").workload.phase() == Phase::Queued).then_some(()));
    // One whose queue takes nothing fails with that reason.
    node.cli(&["queue", "drain", "q"]).ok();
    let more = format!("{text}[job.c]\ncommand = \"true\"\nqueue = \"q\"\n");
    apply(&node, "s", &more);
    let c = until_state(&node, "s", "c", "failed");
    assert!(reason(&c).contains("draining"), "{c:?}");
    node.cli(&["stack", "down", "s"]).ok();
    assert!(node.all().is_empty(), "nothing is left");
    assert!(queues(&node).is_empty(), "nor its queue");
    node.finish();
}

#[test]
fn a_job_with_a_schedule_is_ready_once_that_stands() {
    let mut node = TestNode::new();
    let text = "[job.tick]\ncommand = \"echo tick >>order; exit 3\"\nworkdir = \".\"\nschedule.every = \"100ms\"\n\
                [job.nightly]\ncommand = \"true\"\nschedule = { cron = \"15 3 * * *\", time_zone = \"Europe/Zurich\" }\n\
                [service.web]\ncommand = [\"sleep\", \"600\"]\nrequires = [\"tick\", \"nightly\"]\n";
    let path = write(&node, "s", text);
    apply_and_wait(&node, &path);
    // Failures of single runs are nobody else's.
    until("some ticks", PATIENCE, || (order(&node).len() >= 3).then_some(()));
    let shown = view(&node, "s");
    assert_eq!(states(&shown), [("nightly", "ready"), ("tick", "ready"), ("web", "ready")]);
    let tree = node.cli(&["stack", "tree", "s"]).ok();
    assert!(tree.contains("scheduled: 15 3 * * * Europe/Zurich"), "{tree}");
    assert_eq!(node.inspect("s.nightly").workload.phase(), Phase::Scheduled);
    assert!(node.cli(&["schedule", "ls"]).ok().contains("s.nightly"));
    // The plan outlives the daemon, and a repeated apply leaves it alone.
    let next = node.inspect("s.nightly").workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms);
    node.kill_and_start();
    apply_and_wait(&node, &path);
    assert_eq!(node.inspect("s.nightly").workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms), next);
    let before = order(&node).len();
    until("more ticks", PATIENCE, || (order(&node).len() > before + 1).then_some(()));
    // What stopped by hand comes back when the stack is applied.
    node.cli(&["stop", "s.tick"]).ok();
    assert_eq!(reason(&until_state(&node, "s", "tick", "stopped")), "on request");
    apply_and_wait(&node, &path);
    let before = order(&node).len();
    until("ticks again", PATIENCE, || (order(&node).len() > before).then_some(()));
    // Another date is another version.
    let changed = write(&node, "s", &text.replace("15 3", "16 3"));
    assert_eq!(node.cli(&["stack", "diff", changed.to_str().expect("a path")]).ok().trim(), "~ s.nightly: schedule");
    apply_and_wait(&node, &changed);
    until("its name", PATIENCE, || {
        (node.inspect("s.nightly").workload.spec.schedule.as_ref()?.cron.as_deref() == Some("16 3 * * *")).then_some(())
    });
    // A date that cannot be is a mistake with its path.
    let bad = write(&node, "bad", "[job.a]\ncommand = \"true\"\nschedule = \"0 25 * * *\"\n");
    node.cli(&["stack", "apply", bad.to_str().expect("a path")]).refused(1, "job.a.schedule.cron: ");
    node.cli(&["stack", "down", "s"]).ok();
    assert!(node.all().is_empty());
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn units_have_hooks_tags_statistics_and_services_protection() {
    let node = TestNode::new();
    let text = "[job.film]\ncommand = \"exit 0\"\ntags = [\"night\", \"film\"]\nstats_interval = \"100ms\"\n\
                [[job.film.hooks]]\non = \"success\"\naction.command.command = [\"sh\", \"-c\", \"echo hooked >>order\"]\n\
                action.command.env = [\"A=1\"]\n\
                [service.web]\ncommand = \"echo up; exec sleep 600\"\nrestart = \"never\"\nprotected = true\n\
                hooks = [{ on.line.pattern = \"^up$\", action.start.workload = \"other\" }]\n";
    node.cli(&["run", "-d", "--name", "other", "true"]).ok();
    node.cli(&["wait", "other"]).ok();
    // The hook's command runs where its workload does.
    let text = text.replace("[[job", "workdir = \".\"\n[[job");
    let path = write(&node, "s", &text);
    apply_and_wait(&node, &path);
    until("the hook's command", PATIENCE, || (order(&node) == ["hooked"]).then_some(()));
    until("the hook's start", PATIENCE, || (node.inspect("other").workload.runs == 2).then_some(()));
    let film = node.inspect("s.film").workload.spec.clone();
    assert_eq!((film.tags.len(), film.stats_interval_ms), (2, Some(100)));
    // It comes back whatever its policy says.
    let first = node.main_pid("s.web");
    node.cli(&["kill", "-s", "KILL", "s.web"]).ok();
    until("another run", PATIENCE, || {
        let web = node.inspect("s.web").workload;
        (web.runs >= 2 && web.phase() == Phase::Running).then_some(())
    });
    assert_ne!(node.main_pid("s.web"), first);
    until_state(&node, "s", "web", "ready");
    let changed = text.replace("\"night\", ", "").replace("protected = true\n", "");
    let changed = write(&node, "s", &changed);
    let diff = node.cli(&["stack", "diff", changed.to_str().expect("a path")]).ok();
    assert_eq!(diff.lines().collect::<Vec<_>>(), ["~ s.film: tags", "~ s.web: protected"]);
    assert_eq!(unit(&node, "s", "film").state.as_str(), "ready");
    node.cli(&["stack", "down", "s"]).ok();
    node.cli(&["rm", "other"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn after_a_reboot_a_job_waits_for_its_turn_after_what_it_requires_and_plans_go_on() {
    let mut node = TestNode::new();
    let text = "[queue.q]\n[service.db]\ncommand = [\"sleep\", \"600\"]\nworkdir = \".\"\n\
                ready = { exec = \"test ! -e away\", interval = \"20ms\" }\n\
                [job.film]\ncommand = \"echo film >>order\"\nworkdir = \".\"\nqueue = \"q\"\nrequires = \"db\"\n\
                [job.nightly]\ncommand = \"true\"\nschedule = \"15 3 * * *\"\n";
    // Its own queue before it, so that nothing of it starts.
    node.cli(&["queue", "set", "q", "--parallel", "1"]).ok();
    node.cli(&["queue", "pause", "q"]).ok();
    apply(&node, "s", text);
    until("the film in its queue", PATIENCE, || {
        let view = node.block_on(node.api().inspect("s.film")).ok()?;
        (view.workload.phase() == Phase::Queued).then_some(())
    });
    let next = node.inspect("s.nightly").workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms);
    let (agent, pid) = (node.run_file("s.db").agent.pid, node.main_pid("s.db"));
    node.kill();
    // What a reboot does, as far as processes are concerned; the database takes its time afterwards.
    hostler_tests::signal(agent, 9);
    hostler_tests::until_gone(pid);
    touch(&node, "away");
    node.start_with(&[("HOSTLER_TEST_BOOT_ID", "another-boot")]);
    node.cli(&["queue", "resume", "q"]).ok();
    let waiting = until_view(&node, "s", "the database to come", |view| {
        states(view) == [("db", "starting"), ("film", "waiting"), ("nightly", "ready")]
    });
    assert!(!waiting.settled && order(&node).is_empty(), "not before what it requires");
    assert_eq!(node.inspect("s.nightly").workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms), next);
    std::fs::remove_file(node.work().join("away")).expect("remove");
    until_state(&node, "s", "film", "ready");
    assert_eq!(order(&node), ["film"]);
    node.cli(&["stack", "down", "s"]).ok();
    assert!(node.all().is_empty());
    node.finish();
}
