//! Workloads that run by themselves: intervals, dates, what is missed, what overlaps, and daemons that die around it.

use std::collections::HashSet;

use hostler_api::stream::EventView;
use hostler_linux::{clock, procfs};
use hostler_model::Spec;
use hostler_model::event::{EventKind, StopReason};
use hostler_model::schedule::{Misfire, Overlap, Schedule, ScheduleState};
use hostler_model::workload::Phase;
use hostler_tests::events::{assert_history, is_of};
use hostler_tests::{PATIENCE, TestNode, until};

/// Each run leaves its id.
const LINE: &str = "echo $HOSTLER_RUN >>effects";

fn effects(node: &TestNode) -> Vec<String> {
    let text = std::fs::read_to_string(node.work().join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn scheduled(node: &TestNode, name: &str, script: &str, schedule: Schedule) -> Spec {
    let mut spec = node.script(script);
    spec.name = Some(name.parse().expect("a name"));
    spec.schedule = Some(schedule.into());
    spec
}

fn each_second(misfire: Misfire, overlap: Overlap) -> Schedule {
    Schedule { cron: Some("* * * * * *".to_owned()), misfire, overlap, ..Schedule::default() }
}

fn plan(node: &TestNode, name: &str) -> ScheduleState {
    *node.inspect(name).workload.schedule.clone().expect("a schedule")
}

/// Dates that were kept, in order.
fn fired(journal: &[EventView], name: &str) -> Vec<Option<u64>> {
    let fired = journal.iter().filter(|view| is_of(view, name)).filter_map(|view| match view.event.kind {
        EventKind::ScheduleFired { due_ms, .. } => Some(due_ms),
        _ => None,
    });
    fired.collect()
}

fn missed(journal: &[EventView], name: &str) -> (u32, u32) {
    let missed = journal.iter().filter(|view| is_of(view, name)).filter_map(|view| match view.event.kind {
        EventKind::ScheduleMissed { count, dropped, .. } => Some((count, dropped)),
        _ => None,
    });
    missed.fold((0, 0), |sum, missed| (sum.0 + missed.0, sum.1 + missed.1))
}

/// Waits until so many runs have ended.
fn until_ends(node: &TestNode, name: &str, count: usize) {
    let mut ends = 0;
    let what = format!("{count} ends of {name}");
    until(&what, PATIENCE, || {
        ends = node.journal().iter().filter(|view| is_of(view, name) && view.event.kind.name() == "run.exited").count();
        (ends >= count).then_some(())
    });
}

/// The dates that were kept: each once.
fn assert_dates(journal: &[EventView], name: &str) -> Vec<u64> {
    let dates: Vec<u64> = fired(journal, name).into_iter().flatten().collect();
    assert!(dates.is_sorted_by(|a, b| a < b), "a date came twice: {dates:?}");
    assert!(dates.iter().all(|date| date % 1_000 == 0), "not a date: {dates:?}");
    dates
}

#[test]
fn every_so_often_after_each_end() {
    let node = TestNode::new();
    let line = ["run", "--name", "tick", "--every", "200ms", "--", "sh", "-c", LINE];
    let id = node.cli(&line).ok();
    assert_eq!(id, node.inspect("tick").workload.id.to_string(), "--every implies -d");
    until_ends(&node, "tick", 3);
    assert_eq!(node.cli(&["wait", "tick"]).code(0).out().trim(), "0", "wait waits for the run, not for ever");
    node.cli(&["schedule", "pause", "tick"]).ok();
    node.ended("tick");
    let journal = node.journal();
    assert_history(&journal);
    // The next one is 200 ms after each end, by the clock that nobody sets.
    let times: Vec<(&str, u64)> = journal
        .iter()
        .filter(|view| is_of(view, "tick"))
        .map(|view| (view.event.kind.name(), view.event.time_ms))
        .filter(|(kind, _)| ["schedule.fired", "run.exited"].contains(kind))
        .collect();
    for pair in times.chunks(2).collect::<Vec<_>>().windows(2) {
        let [(_, ended_ms), (_, fired_ms)] = [pair[0][1], pair[1][0]];
        assert!(fired_ms + 20 >= ended_ms + 200, "too early: {times:?}");
    }
    let runs: HashSet<String> = effects(&node).into_iter().collect();
    assert_eq!(runs.len(), node.inspect("tick").workload.runs as usize);
    node.finish();
}

#[test]
fn at_dates_with_seconds_and_in_a_zone() {
    let node = TestNode::new();
    let line = ["run", "--name", "clock", "--cron", "* * * * * *", "--time-zone", "Australia/Lord_Howe", "--", "true"];
    node.cli(&line).ok();
    until_ends(&node, "clock", 2);
    node.cli(&["run", "--name", "yearly", "--cron", "@yearly", "--time-zone", "Europe/Zurich", "--", "true"]).ok();
    let yearly = node.inspect("yearly");
    assert_eq!((yearly.phase, yearly.workload.runs, yearly.exit_code), (Phase::Scheduled, 0, None));
    let listed = node.cli(&["schedule", "ls"]).ok();
    for words in
        ["NEXT (UTC)", "clock", "* * * * * * Australia/Lord_Howe", "@yearly Europe/Zurich", "T23:00:00Z", "never ran"]
    {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    assert!(node.cli(&["ps"]).ok().contains("scheduled in "), "it is not at rest");
    node.cli(&["stop", "clock"]).ok();
    assert_eq!(node.inspect("clock").phase, Phase::Ended);
    assert!(node.cli(&["schedule", "ls"]).ok().contains("paused"));
    assert!(assert_dates(&node.journal(), "clock").len() >= 2);
    node.finish();
}

#[test]
fn mistakes_are_answered_and_pointed_at() {
    let node = TestNode::new();
    for (arguments, words) in [
        (vec!["--cron", "61 * * * *"], "the minute \"61\""),
        (vec!["--cron", "* * * *"], "has 4 fields"),
        (vec!["--cron", "0 0 31 2 *"], "no such date ever comes"),
        (vec!["--cron", "@daily", "--time-zone", "Mars/Olympus"], "schedule.time_zone \"Mars/Olympus\""),
        (vec!["--every", "1ms"], "schedule.every_ms"),
        (vec!["--every", "5s", "--restart", "always"], "restart.when"),
    ] {
        let line: Vec<&str> = ["run"].into_iter().chain(arguments).chain(["--", "true"]).collect();
        node.cli(&line).refused(125, words);
    }
    let both = node.post(r#"{"command":["true"],"schedule":{"every_ms":1000,"cron":"@daily"}}"#);
    assert_eq!(both.status, 422);
    let neither = node.post(r#"{"command":["true"],"schedule":{"overlap":"queue"}}"#);
    assert!(neither.status == 422 && neither.text().contains("every_ms or cron"), "{}", neither.text());
    node.cli(&["run", "-d", "--name", "plain", "--", "true"]).ok();
    node.cli(&["schedule", "fire", "plain"]).refused(1, "has no schedule");
    assert_eq!(node.all().len(), 1, "nothing was made of the others");
    node.finish();
}

#[test]
fn pause_resume_fire_stop_and_start() {
    let node = TestNode::new();
    node.cli(&["run", "--name", "job", "--cron", "@yearly", "--", "sh", "-c", "test -e go"]).ok();
    node.cli(&["start", "job"]).refused(1, "schedule fire job");
    node.cli(&["schedule", "fire", "job"]).ok();
    assert_eq!(node.cli(&["wait", "job"]).code(1).out().trim(), "1");
    assert_eq!(node.inspect("job").phase, Phase::Scheduled, "a failed run is followed by the next date");
    node.cli(&["schedule", "pause", "job"]).ok();
    assert_eq!(plan(&node, "job").next_fire_ms, None);
    std::fs::write(node.work().join("go"), "").expect("a file");
    node.cli(&["schedule", "fire", "job"]).ok();
    assert_eq!(node.ended("job").exit_code, Some(0));
    assert_eq!(node.inspect("job").phase, Phase::Ended, "still paused");
    node.cli(&["schedule", "resume", "job"]).ok();
    assert_eq!(node.inspect("job").phase, Phase::Scheduled);
    let resumed = node.wait_kind("job", "schedule.resumed");
    let EventKind::ScheduleResumed { next_fire_ms } = resumed.event.kind else { panic!("{resumed:?}") };
    assert_eq!(next_fire_ms, plan(&node, "job").next_fire_ms);
    node.cli(&["stop", "job"]).ok();
    assert!(plan(&node, "job").paused);
    node.cli(&["start", "job"]).ok();
    assert_eq!((node.inspect("job").phase, node.inspect("job").workload.runs), (Phase::Scheduled, 2));
    assert_eq!(fired(&node.journal(), "job"), [None, None]);
    node.cli(&["rm", "job"]).ok();
    node.finish();
}

#[test]
fn a_run_that_is_not_over_meets_the_next_date() {
    let node = TestNode::new();
    for overlap in Overlap::ALL {
        let schedule = each_second(Misfire::Skip, *overlap);
        node.create(&scheduled(&node, overlap.as_str(), "exec sleep 600", schedule));
    }
    let of = |overlap: Overlap, kind: &str, count: usize| {
        until(&format!("{count} {kind} of {overlap:?}"), PATIENCE, || {
            let journal = node.journal();
            let found = journal.iter().filter(|view| is_of(view, overlap.as_str()) && view.event.kind.name() == kind);
            (found.count() >= count).then_some(())
        });
    };
    of(Overlap::Forbid, "schedule.skipped", 2);
    of(Overlap::Queue, "schedule.fired", 3);
    of(Overlap::Replace, "run.exited", 2);
    for overlap in Overlap::ALL {
        node.cli(&["schedule", "pause", overlap.as_str()]).ok();
    }
    assert_eq!(node.inspect("forbid").workload.runs, 1);
    node.cli(&["schedule", "fire", "forbid"]).refused(1, "forbids that runs overlap");
    assert_eq!(node.inspect("queue").workload.runs, 1);
    let journal = node.journal();
    let is_replaced = |view: &EventView| {
        view.event.kind == EventKind::WorkloadStopping { reason: StopReason::Replace } && is_of(view, "replace")
    };
    assert!(journal.iter().filter(|view| is_replaced(view)).count() >= 2);
    assert_dates(&journal, "replace");
    // One that waits starts after the end of the one before it, also when that was killed.
    node.cli(&["schedule", "fire", "queue"]).ok();
    assert_eq!(plan(&node, "queue").waiting, 1);
    node.cli(&["kill", "queue"]).ok();
    until("the one that waited", PATIENCE, || (node.inspect("queue").workload.runs == 2).then_some(()));
    assert_eq!(plan(&node, "queue").waiting, 0);
    for overlap in Overlap::ALL {
        node.cli(&["rm", "-f", overlap.as_str()]).ok();
    }
    node.finish();
}

#[test]
fn dates_that_passed_while_the_daemon_was_down() {
    let mut node = TestNode::new();
    let firsts: Vec<u64> = Misfire::ALL
        .iter()
        .map(|misfire| {
            let schedule = each_second(*misfire, Overlap::Queue);
            let job = node.create(&scheduled(&node, misfire.as_str(), LINE, schedule));
            job.workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms).expect("a date")
        })
        .collect();
    for misfire in Misfire::ALL {
        until_ends(&node, misfire.as_str(), 1);
    }
    node.kill();
    let back_ms = clock::wall_ms() + 3_500;
    until("three dates to pass", PATIENCE, || (clock::wall_ms() >= back_ms).then_some(()));
    node.start();
    for misfire in Misfire::ALL {
        node.wait_kind(misfire.as_str(), "schedule.missed");
        // What waits is given up by a pause, and nothing waits for long here.
        until("nothing that waits", PATIENCE, || (plan(&node, misfire.as_str()).waiting == 0).then_some(()));
        node.cli(&["schedule", "pause", misfire.as_str()]).ok();
        node.ended(misfire.as_str());
    }
    let journal = node.journal();
    assert_history(&journal);
    for (misfire, first_ms) in Misfire::ALL.iter().zip(firsts) {
        let name = misfire.as_str();
        let dates = assert_dates(&journal, name);
        let (missed, dropped) = missed(&journal, name);
        assert!(missed >= 2, "{name}: {missed} missed");
        assert_eq!(plan(&node, name).missed, u64::from(missed));
        let passed = (dates[dates.len() - 1] - first_ms) / 1_000 + 1;
        let (kept, runs) = (dates.len() as u64, u64::from(node.inspect(name).workload.runs));
        if *misfire == Misfire::All {
            assert_eq!(dropped, 0);
            // One may have been given up by the pause.
            assert!(runs == passed || runs + 1 == passed, "{name}: {runs} runs for {passed} dates");
        } else {
            assert_eq!(kept + u64::from(missed), passed, "{name}: {dates:?}");
            assert!(runs == kept || runs + 1 == kept, "{name}: {runs} runs for {kept} dates that were kept");
        }
    }
    let runs: HashSet<String> = effects(&node).into_iter().collect();
    assert_eq!(runs.len(), effects(&node).len(), "a run was executed twice");
    node.finish();
}

#[test]
fn a_restart_of_the_daemon_keeps_the_next_fire_time() {
    let mut node = TestNode::new();
    node.cli(&["run", "--name", "date", "--cron", "0 4 * * *", "--time-zone", "America/New_York", "--", "true"]).ok();
    node.cli(&["run", "--name", "interval", "--every", "1h", "--first-after", "30m", "--", "true"]).ok();
    node.cli(&["run", "--name", "still", "--every", "1h", "--first-after", "30m", "--", "true"]).ok();
    node.cli(&["schedule", "pause", "still"]).ok();
    let names = ["date", "interval", "still"];
    let before = names.map(|name| plan(&node, name));
    assert!(before[0].next_fire_ms.is_some() && before[1].next_fire_boot_ms.is_some() && before[2].paused);
    node.kill_and_start();
    assert_eq!(names.map(|name| plan(&node, name)), before);
    node.down();
    node.start_with(&[("HOSTLER_TEST_BOOT_ID", "another")]);
    let after = names.map(|name| plan(&node, name));
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].next_fire_ms, before[1].next_fire_ms, "the interval goes on by the wall clock");
    assert_eq!(after[2], before[2]);
    node.finish();
}

#[test]
fn a_daemon_killed_around_a_fire_fires_once() {
    let mut node = TestNode::new();
    let job = node.create(&scheduled(&node, "job", LINE, each_second(Misfire::Once, Overlap::Queue)));
    let first_ms = job.workload.schedule.as_ref().and_then(|plan| plan.next_fire_ms).expect("a date");
    node.kill();
    for point in ["decided", "prepared", "committed", "before-execute", "executed", "started", "exited"] {
        for hit in [1, 2] {
            let armed = format!("{point}:{hit}");
            if node.start_or_die(&[("HOSTLER_TEST_FAILPOINT", &armed)]) {
                let fires_ms = clock::wall_ms() + 1_100;
                until("the next date", PATIENCE, || (clock::wall_ms() >= fires_ms).then_some(()));
            }
            node.wait_daemon_end_or_kill();
        }
    }
    node.start();
    node.cli(&["schedule", "pause", "job"]).ok();
    node.ended("job");
    let journal = node.journal();
    assert_history(&journal);
    let dates = assert_dates(&journal, "job");
    assert!(dates.len() >= 5, "{dates:?}");
    let view = node.inspect("job");
    let (missed, _) = missed(&journal, "job");
    assert_eq!(u64::from(missed), view.workload.schedule.as_ref().expect("a plan").missed);
    let passed = (dates[dates.len() - 1] - first_ms) / 1_000 + 1;
    assert_eq!(dates.len() as u64 + u64::from(missed), passed, "a date was lost: {dates:?}");
    let executed = effects(&node);
    let once: HashSet<&String> = executed.iter().collect();
    assert_eq!(once.len(), executed.len(), "a run was executed twice");
    node.finish();
}

#[test]
fn a_lame_duck_misses_its_dates_and_goes_on_afterwards() {
    let node = TestNode::new();
    node.create(&scheduled(&node, "job", "true", each_second(Misfire::Skip, Overlap::Forbid)));
    until_ends(&node, "job", 1);
    node.cli(&["node", "lame-duck"]).ok();
    node.ended("job");
    let runs = node.inspect("job").workload.runs;
    let later_ms = clock::wall_ms() + 2_200;
    until("two dates to pass", PATIENCE, || (clock::wall_ms() >= later_ms).then_some(()));
    assert_eq!(node.inspect("job").workload.runs, runs);
    node.cli(&["node", "lame-duck", "--off"]).ok();
    node.wait_kind("job", "schedule.missed");
    until_ends(&node, "job", runs as usize + 1);
    node.cli(&["stop", "job"]).ok();
    assert_dates(&node.journal(), "job");
    node.finish();
}

#[test]
fn ten_thousand_schedules_wake_nobody_between_fire_times() {
    const SCHEDULES: usize = 10_000;
    const CALLERS: usize = 32;
    let node = TestNode::new();
    let spec = scheduled(&node, "x", "true", Schedule { cron: Some("0 0 1 1 *".to_owned()), ..Schedule::default() });
    node.block_on(async {
        let callers = (0..CALLERS).map(|caller| {
            let (api, mut spec) = (node.api().clone(), spec.clone());
            tokio::spawn(async move {
                for number in (caller..SCHEDULES).step_by(CALLERS) {
                    spec.name = Some(format!("job-{number}").parse().expect("a name"));
                    api.create(&spec, &hostler_api::types::CreateQuery::default(), None).await.expect("accepted");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("a caller");
        }
    });
    assert_eq!(node.info().workloads["scheduled"] as usize, SCHEDULES);
    // Connections that were just used are closed after a while; then nothing happens but the look at the disk.
    const WATCH_MS: u64 = 2_000;
    let mut switches = Vec::new();
    until("a time without wake-ups", PATIENCE, || {
        let (before, began_ms) = (procfs::context_switches(node.pid()).expect("switches"), clock::boot_ms());
        until("the end of the watch", PATIENCE, || (clock::boot_ms() >= began_ms + WATCH_MS).then_some(()));
        switches.push(procfs::context_switches(node.pid()).expect("switches") - before);
        (*switches.last().expect("one") <= 4).then_some(())
    });
    node.cli(&["schedule", "fire", "job-7"]).ok();
    assert_eq!(node.ended("job-7").exit_code, Some(0));
    node.finish();
}
