use super::*;
use crate::stack::probe::{Probe, ReadyWhen};

fn stack(json: &str) -> Stack {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn names(checked: &Checked) -> Vec<&str> {
    checked.units.keys().map(UnitName::as_str).collect()
}

fn told(checked: &Checked) -> Vec<String> {
    checked.mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_unit_is_understood() {
    let checked = check(&stack(
        r#"{"service":{"web":{"command":["serve","--port","80"],"env":{"PORT":80,"DEBUG":true},"workdir":"/srv",
            "limits":{"memory":"64M","cpus":0.5,"pids":20},"rlimits":{"nofile":"1024:2048"},
            "restart":{"when":"on-failure:3","backoff_initial":"1s"},"stop":{"signal":"INT","timeout":"3s"},
            "max_time":"1h","labels":{"tier":"front"},"log":{"segment_size":"1M","segments":2},
            "ready":{"http":"http://[::1]:8080/health?x=1","deadline":"5s","interval":"50ms"},
            "liveness":{"tcp":8080,"failures":2},"condition":{"file":"/etc"},"replicas":3,"update":"replace",
            "after":"db","requires":["migrate"]},
            "db":{"command":"exec db"}},"job":{"migrate":{"command":["true"],"requires":"db"}}}"#,
    ));
    assert_eq!(told(&checked), Vec::<String>::new());
    let web = &checked.units["web"];
    assert_eq!(web.spec.env, vec!["DEBUG=true".into(), "PORT=80".into()]);
    assert_eq!((web.spec.limits.memory_bytes, web.spec.limits.cpu_millis), (Some(64 << 20), Some(500)));
    assert_eq!((web.spec.restart.max_attempts, web.spec.restart.backoff_initial_ms), (Some(3), 1_000));
    assert_eq!((web.spec.stop.signal.to_string().as_str(), web.spec.stop.grace_ms), ("INT", 3_000));
    assert_eq!(web.ready.deadline_ms, Some(5_000));
    let ReadyWhen::Probe(ready) = &web.ready.when else { panic!("{:?}", web.ready) };
    assert_eq!(ready.probe, Probe::Http { host: "::1".into(), port: 8080, path: "/health?x=1".into() });
    assert_eq!(web.dependencies().count(), 2);
    let db = &checked.units["db"];
    assert_eq!(db.spec.command, vec!["sh".into(), "-c".into(), "exec db".into()]);
    assert_eq!(db.spec.restart.when, crate::spec::RestartWhen::Always);
    assert_eq!(checked.units["migrate"].ready.when, ReadyWhen::Success);
    assert!(web.differences(web).is_empty());
    assert_eq!(web.differences(db).first(), Some(&"command"));
}

/// A unit named `u`, and the path and words of its only mistake.
#[test]
fn every_mistake_has_its_path() {
    let cases = [
        (r#"{}"#, "service.u.command", "is missing"),
        (r#"{"command":[""]}"#, "service.u.command", "must name"),
        (r#"{"command":"x","workdir":"tmp"}"#, "service.u.workdir", "absolute"),
        (r#"{"command":"x","max_time":"soon"}"#, "service.u.max_time", "soon"),
        (r#"{"command":"x","limits":{"memory":"5X"}}"#, "service.u.limits.memory", "5X"),
        (r#"{"command":"x","limits":{"pids":0}}"#, "service.u.limits.pids", "at least 1"),
        (r#"{"command":"x","limits":{"cpus":"x"}}"#, "service.u.limits.cpus", "x"),
        (r#"{"command":"x","limits":{"memory":"9"}}"#, "service.u.limits.memory", "at least 1M"),
        (r#"{"command":"x","limits":{"swap":"1M"}}"#, "service.u.limits.swap", "goes on top"),
        (r#"{"command":"x","limits":{"cpuset_cpus":"1-"}}"#, "service.u.limits.cpuset_cpus", "a list"),
        (r#"{"command":"x","limits":{"device_read_bps":{"sda":"1M"}}}"#, "service.u.limits.device_read_bps", "sda"),
        (r#"{"command":"x","limits":{"device_write_bps":{"8:0":"x"}}}"#, "service.u.limits.device_write_bps", "x"),
        (r#"{"command":"x","limits":{"blkio_weight_device":{"8:0":7}}}"#, "service.u.limits.blkio_weight", "from 10"),
        (r#"{"command":"x","restart":"sometimes"}"#, "service.u.restart", "on-failure:N"),
        (
            r#"{"command":"x","restart":{"when":"always","backoff_max":"1ms"}}"#,
            "service.u.restart.backoff_max",
            "at least",
        ),
        (r#"{"command":"x","stop":{"signal":"NOPE"}}"#, "service.u.stop.signal", "NOPE"),
        (r#"{"command":"x","rlimits":{"files":3}}"#, "service.u.rlimits.files", "setrlimit"),
        (r#"{"command":"x","rlimits":{"nofile":"a:b"}}"#, "service.u.rlimits.nofile", "SOFT"),
        (r#"{"command":"x","env":{"A=B":"x"}}"#, "service.u.env", "no name"),
        (r#"{"command":"x","env_file":"x.env"}"#, "service.u.env_file", "resolved"),
        (r#"{"command":"x","ready":{}}"#, "service.u.ready", "exactly one"),
        (r#"{"command":"x","ready":{"delay":"1s","tcp":80}}"#, "service.u.ready", "exactly one"),
        (r#"{"command":"x","ready":{"delay":"2m","deadline":"1s"}}"#, "service.u.ready.deadline", "before the delay"),
        (r#"{"command":"x","ready":{"delay":"1s","interval":"1s"}}"#, "service.u.ready", "no effect"),
        (r#"{"command":"x","ready":{"tcp":"nowhere"}}"#, "service.u.ready.tcp", "HOST:PORT"),
        (r#"{"command":"x","ready":{"tcp":0}}"#, "service.u.ready.tcp", "HOST:PORT"),
        (r#"{"command":"x","ready":{"http":"https://x"}}"#, "service.u.ready.http", "https"),
        (r#"{"command":"x","ready":{"http":"http://x:y/"}}"#, "service.u.ready.http", "URL"),
        (r#"{"command":"x","ready":{"tcp":80,"interval":"1ms"}}"#, "service.u.ready.interval", "at least"),
        (r#"{"command":"x","ready":{"match":""}}"#, "service.u.ready.match", "from 1 to"),
        (r#"{"command":"x","ready":{"match":"up","interval":"1s"}}"#, "service.u.ready", "no effect"),
        (
            r#"{"command":"x","stdout":"/a","stderr":"/b","ready":{"match":"up"}}"#,
            "service.u.ready.match",
            "does not go to the log",
        ),
        (r#"{"command":"x","queue":"q"}"#, "service.u.queue", "for jobs"),
        (r#"{"command":"x","schedule":"@daily"}"#, "service.u.schedule", "for jobs"),
        (r#"{"command":"x","tags":["a","a"]}"#, "service.u.tags", "twice"),
        (r#"{"command":"x","stats_interval":"1ms"}"#, "service.u.stats_interval", "at least"),
        (r#"{"command":"x","stats_interval":"soon"}"#, "service.u.stats_interval", "soon"),
        (
            r#"{"command":"x","hooks":[{"on":"end","action":{"http":{"url":"ftp://x"}}}]}"#,
            "service.u.hooks[0].action.http.url",
            "http://",
        ),
        (
            r#"{"command":"x","hooks":[{"on":"end","attempts":0,"action":{"start":{"workload":"y"}}}]}"#,
            "service.u.hooks[0].attempts",
            "from 1",
        ),
        (
            r#"{"command":"x","container":{"rootfs":"/r","publish":"80:80"}}"#,
            "service.u.container.publish",
            "needs a network of the node",
        ),
        (
            r#"{"command":"x","container":{"rootfs":"/r","network":"n","publish":["80:80","80:81"]}}"#,
            "service.u.container.publish",
            "twice",
        ),
        (
            r#"{"command":"x","replicas":2,"container":{"rootfs":"/r","network":"n","publish":"80:80"}}"#,
            "service.u.replicas",
            "published ports",
        ),
        (r#"{"command":"x","liveness":{}}"#, "service.u.liveness", "exactly one"),
        (r#"{"command":"x","liveness":{"tcp":80,"failures":0}}"#, "service.u.liveness.failures", "at least 1"),
        (r#"{"command":"x","condition":{}}"#, "service.u.condition", "asks for nothing"),
        (r#"{"command":"x","condition":{"file":"x"}}"#, "service.u.condition.file", "absolute"),
        (r#"{"command":"x","replicas":1000}"#, "service.u.replicas", "at most"),
        (r#"{"command":"x","after":"u"}"#, "service.u.after", "itself"),
        (r#"{"command":"x","requires":["v"]}"#, "service.u.requires", "no unit \"v\""),
    ];
    for (unit, path, words) in cases {
        let checked = check(&stack(&format!(r#"{{"service":{{"u":{unit},"other":{{"command":"x"}}}}}}"#)));
        let told = told(&checked);
        assert_eq!(told.len(), 1, "{unit}: {told:?}");
        assert!(told[0].starts_with(&format!("{path}: ")) && told[0].contains(words), "{unit}: {told:?}");
        assert_eq!(names(&checked), ["other"], "{unit}");
        assert_eq!(checked.mistakes[0].unit.as_deref(), Some("u"));
    }
    for (job, path) in [
        (r#"{"command":"x","ready":{"delay":1}}"#, "job.j.ready"),
        (r#"{"command":"x","replicas":2}"#, "job.j.replicas"),
        (r#"{"command":"x","liveness":{"tcp":1}}"#, "job.j.liveness"),
        (r#"{"command":"x","restart":"always"}"#, "job.j.restart"),
        (r#"{"command":"x","protected":true}"#, "job.j.protected"),
        (r#"{"command":"x","queue":"a b"}"#, "job.j.queue"),
        (r#"{"command":"x","priority":3}"#, "job.j.priority"),
        (r#"{"command":"x","queue":"q","priority":3000}"#, "job.j.priority"),
        (r#"{"command":"x","schedule":{}}"#, "job.j.schedule"),
        (r#"{"command":"x","schedule":{"every":"1s","cron":"@daily"}}"#, "job.j.schedule"),
        (r#"{"command":"x","schedule":{"every":"1ms"}}"#, "job.j.schedule.every"),
        (r#"{"command":"x","schedule":{"every":"often"}}"#, "job.j.schedule.every"),
        (r#"{"command":"x","schedule":{"every":"1s","time_zone":"UTC"}}"#, "job.j.schedule.time_zone"),
        (r#"{"command":"x","schedule":{"cron":"@daily","first_after":"1s"}}"#, "job.j.schedule.first_after"),
        (r#"{"command":"x","schedule":{"cron":"@daily","misfire":"never"}}"#, "job.j.schedule.misfire"),
        (r#"{"command":"x","schedule":{"cron":"@daily","overlap":"yes"}}"#, "job.j.schedule.overlap"),
    ] {
        let checked = check(&stack(&format!(r#"{{"job":{{"j":{job}}}}}"#)));
        assert_eq!(checked.mistakes.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), [path], "{job}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let checked = check(&stack(
        r#"{"service":{"a.b":{"command":"x"},"c":{"command":"x","max_time":"?","after":"dbb","limits":{"memory":"?"}},
            "db":{"command":"x"}},"job":{"db":{"command":"x"}}}"#,
    ));
    let paths: Vec<_> = checked.mistakes.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["service.a.b", "service.c.limits.memory", "service.c.max_time", "service.c.after", "job.db"]);
    assert!(told(&checked)[3].contains("did you mean db?"), "{:?}", told(&checked));
    assert_eq!(names(&checked), ["db"]);
}

#[test]
fn circles_are_told_with_their_path_and_take_nobody_else_down() {
    let checked = check(&stack(
        r#"{"service":{"a":{"command":"x","after":"b"},"b":{"command":"x","requires":"c"},"c":{"command":"x","after":"a"},
            "needs":{"command":"x","requires":["a"]},"later":{"command":"x","after":["a","free"]},
            "further":{"command":"x","requires":"needs"},"free":{"command":"x"}}}"#,
    ));
    assert_eq!(names(&checked), ["free", "later"]);
    let told = told(&checked);
    assert!(told.contains(&"service.a.after: goes round in a circle: a → b → c → a".to_owned()), "{told:?}");
    assert!(told.contains(&"service.b.requires: goes round in a circle: b → c → a → b".to_owned()), "{told:?}");
    assert!(told.contains(&"service.needs.requires: a is left out for its mistakes".to_owned()), "{told:?}");
    assert!(told.contains(&"service.further.requires: needs is left out for its mistakes".to_owned()), "{told:?}");
    let later = &checked.units["later"];
    assert_eq!(later.after.iter().map(UnitName::as_str).collect::<Vec<_>>(), ["free"], "order alone does not hold it");
}

#[test]
fn a_long_chain_is_no_circle_and_no_recursion() {
    let unit = |n: usize| format!(r#""u{n}":{{"command":"x","requires":["u{}"]}}"#, n + 1);
    let units: Vec<_> = (0..900).map(unit).chain([r#""u900":{"command":"x"}"#.to_owned()]).collect();
    let checked = check(&stack(&format!(r#"{{"service":{{{}}}}}"#, units.join(","))));
    assert_eq!((checked.units.len(), checked.mistakes.len()), (901, 0));
}

#[test]
fn unknown_keys_are_refused() {
    for bad in [
        r#"{"colour":1}"#,
        r#"{"service":{"a":{"command":"x","colour":1}}}"#,
        r#"{"service":{"a":{"command":"x","ready":{"tpc":1}}}}"#,
        r#"{"service":{"a":{"command":"x","condition":{"not":{"flie":"x"}}}}}"#,
        r#"{"service":{"a":{"command":7}}}"#,
    ] {
        assert!(serde_json::from_str::<Stack>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_stack_survives_json() {
    let text = r#"{"service":{"a":{"command":["x"],"after":"b","condition":{"not":{"arch":"x"}},"restart":"never"}},
        "job":{"b":{"command":"x","labels":{"n":1}}}}"#;
    let one = stack(text);
    let again: Stack = serde_json::from_str(&serde_json::to_string(&one).expect("print")).expect("parse");
    assert_eq!(one, again);
    assert_eq!(check(&one), check(&again));
}

#[test]
fn jobs_have_queues_and_schedules_and_everybody_hooks() {
    let checked = check(&stack(
        r#"{"queue":{"encode":{"parallel":2},"plain":{},"bad name":{},"none":{"parallel":0}},
            "job":{"film":{"command":"x","queue":"encode","priority":5,"tags":["a","b"],"stats_interval":"1s",
            "hooks":[{"on":"success","action":{"start":{"workload":"next"}}}]},
            "nightly":{"command":"x","schedule":"15 3 * * *"},
            "often":{"command":"x","schedule":{"every":"30s","first_after":"1m","misfire":"once","overlap":"queue"}}},
            "service":{"web":{"command":"x","protected":true,"tags":"one"}}}"#,
    ));
    let queues: Vec<_> = checked.queues.iter().map(|(name, parallel)| (name.as_str(), *parallel)).collect();
    assert_eq!(queues, [("encode", 2), ("plain", 1)]);
    let paths: Vec<_> = checked.mistakes.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["queue.bad name", "queue.none.parallel"]);
    assert_eq!(names(&checked), ["film", "nightly", "often", "web"]);
    let film = &checked.units["film"];
    assert_eq!((film.spec.queue.as_ref().map(QueueName::as_str), film.spec.priority), (Some("encode"), 5));
    assert_eq!((film.spec.hooks.len(), film.spec.stats_interval_ms), (1, Some(1_000)));
    assert!(!film.lasts() && checked.units["nightly"].lasts() && checked.units["web"].lasts());
    let often = checked.units["often"].spec.schedule.as_ref().expect("a schedule");
    assert_eq!((often.every_ms, often.first_after_ms), (Some(30_000), Some(60_000)));
    assert_eq!((often.misfire.as_str(), often.overlap.as_str()), ("once", "queue"));
    assert_eq!(
        checked.units["nightly"].differences(film),
        ["queue", "priority", "schedule", "hooks", "tags", "stats_interval"]
    );
    let (web, mut bare) = (&checked.units["web"], checked.units["web"].clone());
    (bare.spec.protected, *bare.spec.tags) = (false, Vec::new());
    assert_eq!(web.differences(&bare), ["protected", "tags"]);
}

#[test]
fn what_cannot_run_twice_is_replaced() {
    use crate::stack::plan::Update;
    let update = |unit: &str| {
        let checked = check(&stack(&format!(r#"{{"service":{{"u":{unit}}}}}"#)));
        checked.units.values().next().expect("a unit").update
    };
    let unit = |rest: &str| format!(r#"{{"command":"x","container":{{"rootfs":"/r","network":"n"}}{rest}}}"#);
    assert_eq!(update(&unit("")), Update::Rolling);
    let published = unit("").replace(r#""network":"n""#, r#""network":"n","publish":"80:80""#);
    assert_eq!(update(&published), Update::Replace);
    assert_eq!(update(&unit("").replace(r#""n""#, r#""n,ip=10.0.0.2""#)), Update::Replace);
    let asked = published.replace(r#""command""#, r#""update":"rolling","command""#);
    assert_eq!(update(&asked), Update::Rolling);
}
