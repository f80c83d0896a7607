//! Plugins that hang, flood, lie, die and go missing; crashes of the daemon; damaged records.

use std::process::{Command, Stdio};

use super::{ADD_ALL, DEL_ALL, GOOD, Kit, is_file, list, myself, runs, until};
use crate::cni::record::{Record, State};
use crate::cni::{Call, CniError, Failure, add, check, del};

/// ADD fails in this way at the second plugin, and everything is undone.
fn fails(script: &str, why: &str) {
    let kit = Kit::new();
    kit.plugin("two", &format!("[ $CNI_COMMAND = ADD ] || exit 0\n{script}"));
    let told = add(&list("1.0.0"), &kit.call()).expect_err(script).to_string();
    assert!(told.starts_with(&format!("the CNI plugin two {why}")), "{script}: {told}");
    assert!(told.ends_with(" (ADD)") && told.len() < 5_000, "{told}");
    assert_eq!(kit.calls(), ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"], "{script}");
    assert_eq!(kit.input("three", "DEL")["prevResult"]["cniVersion"], "1.0.0", "what the first one said");
    assert!(!is_file(&kit.cache), "{script}");
}

#[test]
fn what_fails_is_undone_and_told() {
    let full = r#"{"cniVersion":"1.0.0","code":11,"msg":"no address","details":"range\nis full"}"#;
    let cases = [
        (format!("printf '%s' '{full}'; exit 1"), "says: no address (range is full), code 11"),
        (r#"echo '{"code":100,"msg":"short"}'; echo noise >&2; exit 1"#.to_owned(), "says: short, code 100"),
        (r#"echo '{"code":7}'; exit 2"#.to_owned(), "says: nothing but a code, code 7"),
        ("echo 'it is broken' >&2; exit 3".to_owned(), "ended with code 3 and said \"it is broken\""),
        ("echo '{}'; exit 3".to_owned(), "ended with code 3 and said \"{}\""),
        ("exit 4".to_owned(), "ended with code 4 and said nothing"),
        ("kill -9 $$".to_owned(), "ended by signal 9 and said nothing"),
        ("echo half; kill -9 $$".to_owned(), "ended by signal 9 and said \"half\""),
        ("seq 100000 >&2; exit 1".to_owned(), "ended with code 1 and said \"…"),
        ("exit 0".to_owned(), "gives no usable result: it is empty; it answers nothing"),
        ("echo hello".to_owned(), "gives no usable result: it is no JSON"),
        ("echo '[1]'".to_owned(), "gives no usable result: it is no JSON object; it answers \"[1]\""),
        ("head -c 9000 /dev/urandom".to_owned(), "gives no usable result: it is no JSON"),
        (
            r#"echo '{"ips":[{"address":"10.0.0.1/8","interface":4}]}'"#.to_owned(),
            "gives no usable result: 10.0.0.1/8 is at an interface that it does not list",
        ),
        (
            r#"echo '{"cniVersion":"0.2.0"}'"#.to_owned(),
            "gives no usable result: its cniVersion is \"0.2.0\", asked was",
        ),
        ("yes".to_owned(), "answers more than 1048576 bytes"),
        ("exec yes".to_owned(), "answers more than 1048576 bytes"),
    ];
    for (script, why) in cases {
        fails(&script, why);
    }
}

#[test]
fn what_is_said_last_is_kept_and_cannot_steer_a_terminal() {
    let kit = Kit::new();
    kit.plugin(
        "one",
        "[ $CNI_COMMAND = ADD ] || exit 0; seq 100000 >&2; printf 'a\\033[31mb\\nthe end\\n' >&2; exit 1",
    );
    let error = add(&list("1.0.0"), &kit.call()).expect_err("fails");
    let CniError::Plugin { failure: Failure::Ended { said, .. }, .. } = &error else { panic!("{error}") };
    assert!(said.starts_with('…') && said.ends_with("100000 a [31mb the end"), "{said}");
    assert!((1_500..2_100).contains(&said.len()), "{}", said.len());
}

#[test]
fn who_hangs_is_killed_with_all_that_it_started() {
    let mut kit = Kit::new();
    // The others must make it in this time as well.
    kit.deadline_ms = 2_000;
    let orphan = "(sleep 600 & echo $! >$dir/orphan)";
    kit.plugin("two", &format!("[ $CNI_COMMAND = ADD ] || exit 0; echo $$ >$dir/self; {orphan}; sleep 601"));
    let told = add(&list("1.0.0"), &kit.call()).expect_err("hangs").to_string();
    assert_eq!(told, "the CNI plugin two did not answer within 2 s (ADD)");
    assert_eq!(kit.calls(), ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"]);
    assert!(!runs(&kit.text("self")));
    until("the orphan is gone", || !runs(&kit.text("orphan")));

    // The same at DEL and CHECK: the record stays.
    kit.plugin("two", GOOD);
    add(&list("1.0.0"), &kit.call()).expect("added");
    kit.plugin("two", &format!("echo $$ >$dir/self; {orphan}; sleep 601"));
    let told = check(&kit.call()).expect_err("hangs").to_string();
    assert_eq!(told, "the CNI plugin two did not answer within 2 s (CHECK)");
    until("the orphan is gone", || !runs(&kit.text("orphan")));
    kit.calls();
    let told = del(&kit.call()).expect_err("hangs").to_string();
    assert_eq!(told, "the CNI plugin two did not answer within 2 s (DEL)");
    assert_eq!(kit.calls(), DEL_ALL);
    assert!(!runs(&kit.text("self")) && is_file(&kit.cache));
    kit.plugin("two", GOOD);
    del(&kit.call()).expect("undone");
}

#[test]
fn who_holds_the_pipe_open_does_not_hold_us() {
    let kit = Kit::new();
    kit.plugin("two", "[ $CNI_COMMAND = ADD ] || exit 0; sleep 600 & echo $! >$dir/holder; cat $dir/answer");
    let outcome = add(&list("1.0.0"), &kit.call()).expect("added");
    assert_eq!(outcome.mac("eth0"), Some("02:00:00:00:00:01"));
    let holder = kit.text("holder");
    assert!(runs(&holder), "a plugin that succeeds may leave somebody");
    assert!(Command::new("kill").args(["-9", holder.trim()]).status().expect("kill").success());
    del(&kit.call()).expect("undone");
}

#[test]
fn what_a_dead_plugin_left_does_not_work_on() {
    let kit = Kit::new();
    // As if it were its address plugin, which would take an address after DEL has given it back.
    kit.plugin("two", "[ $CNI_COMMAND = ADD ] || exit 0; sleep 600 & echo $! >$dir/left; kill -9 $$");
    add(&list("1.0.0"), &kit.call()).expect_err("dies");
    until("what it left is gone", || !runs(&kit.text("left")));
}

#[test]
fn who_is_missing_is_told_before_anybody_is_called() {
    let kit = Kit::new();
    std::fs::remove_file(kit.path[1].join("three")).expect("remove");
    let told = add(&list("1.0.0"), &kit.call()).expect_err("missing").to_string();
    let path: Vec<_> = kit.path.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(told, format!("the CNI plugin three is missing in {}", path.join(", ")));
    assert_eq!(kit.calls(), [""; 0]);
    assert!(!is_file(&kit.cache));
    // Not executable is as good as missing.
    std::fs::write(kit.path[1].join("three"), "").expect("write");
    assert!(matches!(add(&list("1.0.0"), &kit.call()), Err(CniError::Missing { .. })));
    let told = add(&list("1.0.0"), &Call { path: &[], ..kit.call() }).expect_err("missing").to_string();
    assert!(told.ends_with("one is missing in no directory at all: none is configured"), "{told}");
    // One that cannot be run, and one that goes while the list is worked on.
    kit.plugin("three", GOOD);
    std::fs::write(kit.path[1].join("three"), "#!/no/such/interpreter\n").expect("write");
    let told = add(&list("1.0.0"), &kit.call()).expect_err("cannot be run").to_string();
    assert!(told.starts_with("the CNI plugin three cannot be run: No such file"), "{told}");
    assert!(told.contains("; undoing it failed as well: the CNI plugin three cannot be run"), "{told}");
    assert_eq!(kit.calls(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    kit.plugin("three", GOOD);
    del(&kit.call()).expect("undone");
    kit.plugin("two", "[ $CNI_COMMAND = DEL ] || rm $dir/bin/three; [ $CNI_COMMAND != ADD ] || cat $dir/answer");
    let told = add(&list("1.0.0"), &kit.call()).expect_err("went").to_string();
    assert!(told.starts_with("the CNI plugin three is missing in ") && !told.contains("undoing"), "{told}");
    assert!(!is_file(&kit.cache), "it was never called: nothing of it can be left");
}

#[test]
fn a_del_that_fails_can_be_called_again() {
    let kit = Kit::new();
    add(&list("1.0.0"), &kit.call()).expect("added");
    kit.calls();
    kit.plugin("three", r#"echo '{"code":5,"msg":"busy"}'; exit 1"#);
    kit.plugin("one", "exit 9");
    let told = del(&kit.call()).expect_err("fails").to_string();
    assert_eq!(told, "the CNI plugin three says: busy, code 5 (DEL)", "the first of them");
    assert_eq!(kit.calls(), DEL_ALL, "all are called");
    assert!(is_file(&kit.cache));
    let told = add(&list("1.0.0"), &kit.call()).expect_err("not twice").to_string();
    assert!(told.ends_with("is there already: what it tells of must be undone by DEL first"), "{told}");
    for name in ["one", "three"] {
        kit.plugin(name, GOOD);
    }
    del(&kit.call()).expect("undone");
    assert_eq!(kit.calls(), DEL_ALL);
    assert!(!is_file(&kit.cache));

    // ADD and the DEL that undoes it fail: both are told, and DEL remains possible.
    kit.plugin("two", "echo $CNI_COMMAND failed >&2; exit 1");
    let told = add(&list("1.0.0"), &kit.call()).expect_err("fails").to_string();
    assert_eq!(
        told,
        "the CNI plugin two ended with code 1 and said \"ADD failed\" (ADD); undoing it failed as well: \
         the CNI plugin two ended with code 1 and said \"DEL failed\" (DEL)"
    );
    let told = check(&kit.call()).expect_err("never added").to_string();
    assert!(told.ends_with("tells of an ADD that was interrupted"), "{told}");
    kit.plugin("two", GOOD);
    kit.calls();
    del(&kit.call()).expect("undone");
    assert_eq!(kit.calls(), DEL_ALL);
}

#[test]
fn who_made_nothing_need_not_undo_it() {
    let kit = Kit::new();
    // Takes its configuration neither for ADD nor for DEL; the third, which was never called, is broken altogether.
    kit.plugin("two", r#"echo '{"code":7,"msg":"bad key"}'; exit 1"#);
    kit.plugin("three", "exit 1");
    let told = add(&list("1.0.0"), &kit.call()).expect_err("fails").to_string();
    assert_eq!(told, "the CNI plugin two says: bad key, code 7 (ADD)");
    assert!(!is_file(&kit.cache));
    assert_eq!(kit.calls(), ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"]);
    // The same after a crash; but one that has made something must undo it.
    kit.plugin("one", GOOD);
    let mut record = Record::new(&list("1.0.0"), &kit.call());
    record.answered = 1;
    record.create(&kit.cache).expect("recorded");
    del(&kit.call()).expect("undone");
    record.answered = 2;
    record.create(&kit.cache).expect("recorded");
    let told = del(&kit.call()).expect_err("fails").to_string();
    assert_eq!(told, "the CNI plugin three ended with code 1 and said nothing (DEL)");
    kit.plugin("three", GOOD);
    let told = del(&kit.call()).expect_err("fails").to_string();
    assert_eq!(told, "the CNI plugin two says: bad key, code 7 (DEL)");
}

#[test]
fn a_damaged_record_is_told_and_kept() {
    let kit = Kit::new();
    add(&list("1.0.0"), &kit.call()).expect("added");
    kit.calls();
    let whole = std::fs::read(&kit.cache).expect("read");
    let text = String::from_utf8(whole.clone()).expect("text");
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    damaged.push(text.replace("hostler-cni/1", "hostler-cni/9").into());
    damaged.push(text.replace(&kit.container, "another").into());
    damaged.push(text.replace("1.0.0", "7.0.0").into());
    damaged.push(text.replace("added", "vanished").into());
    damaged.push(vec![b' '; hostler_model::limits::CNI_RECORD_MAX + 1]);
    for bytes in damaged {
        std::fs::write(&kit.cache, &bytes).expect("write");
        for told in [del(&kit.call()), check(&kit.call())] {
            let told = told.expect_err("damaged").to_string();
            assert!(told.starts_with(&format!("the CNI record {} ", kit.cache.display())), "{told}");
        }
        assert_eq!(std::fs::read(&kit.cache).expect("kept"), bytes);
    }
    // Any byte wrong: an error or another record, and never the end of us.
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x15;
        std::fs::write(&kit.cache, &bytes).expect("write");
        let _ = Record::load(&kit.call());
    }
    assert_eq!(kit.calls(), [""; 0], "nobody is called by a damaged record");
    std::fs::write(&kit.cache, &whole).expect("write");
    // What was half written when the daemon was killed.
    std::fs::write(format!("{}.new", kit.cache.display()), "{").expect("write");
    del(&kit.call()).expect("undone");
    assert_eq!(
        std::fs::read_dir(kit.dir.path())
            .expect("read")
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("record"))
            })
            .count(),
        0
    );
}

#[test]
fn without_a_record_nobody_is_called() {
    let kit = Kit::new();
    let nowhere = kit.dir.path().join("no/such/directory/record");
    let told = add(&list("1.0.0"), &Call { cache: &nowhere, ..kit.call() }).expect_err("fails").to_string();
    assert!(told.starts_with("writing the CNI record ") && told.contains("No such file"), "{told}");
    assert_eq!(kit.calls(), [""; 0]);
}

#[test]
fn a_record_that_cannot_be_kept_up_undoes_all() {
    let kit = Kit::new();
    // A directory is where the next record is to be written.
    kit.plugin("two", &format!("[ $CNI_COMMAND != ADD ] || mkdir {}.new; {GOOD}", kit.cache.display()));
    let told = add(&list("1.0.0"), &kit.call()).expect_err("fails").to_string();
    assert!(told.starts_with("writing the CNI record "), "{told}");
    assert_eq!(kit.calls(), ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"]);
}

#[test]
fn killed_at_any_step_everything_can_be_undone() {
    // Before and after the answer of each plugin.
    for (victim, script) in ["one", "two", "three"].into_iter().flat_map(|name| {
        [(name, "kill -9 $PPID; sleep 600"), (name, "cat $dir/answer; kill -9 $PPID; echo $$ >$dir/self")]
    }) {
        let kit = Kit::new();
        kit.plugin(victim, &format!("echo $$ >$dir/self; [ $CNI_COMMAND = ADD ] || exit 0; {script}"));
        let program = myself("cni::tests::trouble::adds_until_it_is_killed");
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).stdout(Stdio::null());
        let mut child = command
            .env("HOSTLER_TEST_CNI_DIR", kit.dir.path())
            .env("HOSTLER_TEST_CNI_ID", &kit.container)
            .spawn()
            .expect("run myself");
        assert_eq!(child.wait().expect("wait").code(), None, "it was killed");
        let came = ADD_ALL.iter().position(|call| call.ends_with(victim)).expect("one of them") + 1;
        assert_eq!(kit.calls(), ADD_ALL[..came]);
        let record = Record::load(&kit.call()).expect("whole").expect("there");
        assert_eq!(record.state, State::Adding);
        let plugin = kit.text("self");
        del(&kit.call()).expect("undone");
        until("the plugin does not work on", || !runs(&plugin));
        assert_eq!(kit.calls(), DEL_ALL);
        assert!(!is_file(&kit.cache));
    }
}

#[test]
#[ignore = "run by another test, to be killed"]
fn adds_until_it_is_killed() {
    let variable = |name: &str| std::env::var(name).expect("set by the other test");
    let dir = std::path::PathBuf::from(variable("HOSTLER_TEST_CNI_DIR"));
    let (path, container) = ([dir.join("bin")], variable("HOSTLER_TEST_CNI_ID"));
    let call = Call {
        container: &container,
        netns: "/proc/self/ns/net".as_ref(),
        interface: "eth0",
        path: &path,
        deadline_ms: 30_000,
        cache: &dir.join("record.json"),
        wishes: crate::cni::Wishes::default(),
    };
    let _ = add(&list("1.0.0"), &call);
}
