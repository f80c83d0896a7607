//! Who may ask for what, what comes of a profile with changes, and where what is in force is shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hostler_api::types::WorkloadView;
use hostler_model::workload::RunState;
use hostler_model::{ExitStatus, Isolation};
use hostler_tests::{PATIENCE, Setup, TestNode, is_root, skip, until};

use crate::can_isolate;

/// A directory that is neither the node's nor hidden by a private `/tmp` alone: what is in it is seen when it is named.
fn place() -> tempfile::TempDir {
    let place = tempfile::Builder::new().prefix("ht-").tempdir_in("/var/tmp").expect("a directory");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::write(place.path().join("file"), "outside\n").expect("write");
    std::fs::create_dir(place.path().join("below")).expect("mkdir");
    std::fs::write(place.path().join("below/secret"), "secret\n").expect("write");
    place
}

fn isolation(value: &serde_json::Value) -> Option<Box<Isolation>> {
    Some(serde_json::from_value(value.clone()).expect("isolation"))
}

/// Runs a line that is kept apart like this to its end: what it wrote, and how it ended.
fn run(node: &TestNode, asked: serde_json::Value, line: &str) -> (String, Option<ExitStatus>) {
    let mut spec = node.script(line);
    spec.workdir = None;
    spec.isolation = isolation(&asked);
    let id = node.create(&spec).workload.id.to_string();
    let WorkloadView { workload, .. } = node.ended(&id);
    match workload.run.as_ref().map(|run| run.state.clone()) {
        Some(RunState::Ended { exit }) => (node.log_of(&id), Some(exit.status)),
        Some(RunState::Failed { failure }) => (failure.message, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_are_seen_as_they_are_asked_for() {
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let place = place();
    let path = |name: &str| place.path().join(name).display().to_string();
    let (all, file, below) = (place.path().display().to_string(), path("file"), path("below"));
    let view = format!("cat {file} {below}/secret 2>&1; echo new 2>&1 >{all}/made && echo written; exit 0");
    let table = [
        // Private /var/tmp: nothing of it.
        (serde_json::json!({}), vec!["No such file", "No such file", "nonexistent"]),
        (serde_json::json!({"private_tmp": false}), vec!["outside", "secret", "Read-only"]),
        (serde_json::json!({"read_only": [all]}), vec!["outside", "secret", "Read-only"]),
        (serde_json::json!({"writable": [all], "hidden": [below]}), vec!["outside", "No such file", "written"]),
        (serde_json::json!({"writable": [all], "hidden": [file]}), vec!["secret", "written"]),
        (
            serde_json::json!({"private_tmp": false, "hidden": [all], "read_only": [below]}),
            vec!["No such file", "secret", "Read-only"],
        ),
        (
            serde_json::json!({"volumes": [{"source": below, "target": all, "read_only": true}]}),
            vec!["No such file", "No such file", "Read-only"],
        ),
    ];
    for (asked, words) in table {
        let (shown, status) = run(&node, asked.clone(), &view);
        assert_eq!(status, Some(ExitStatus::Code(0)), "{asked}: {shown}");
        for word in words {
            assert!(
                shown.contains(word) || word == "nonexistent" && shown.contains("annot create"),
                "{asked}: {word:?} in {shown}"
            );
        }
        let _ = std::fs::remove_file(place.path().join("made"));
    }
    // Within a writable one, another may be read-only; and what is written there is written.
    let asked = serde_json::json!({"writable": [all], "read_only": [below]});
    let (shown, _) = run(&node, asked, &format!("exec 2>&1; echo kept >{all}/made; echo lost >{below}/made"));
    assert!(shown.contains("Read-only"), "{shown}");
    assert_eq!(std::fs::read_to_string(path("made")).expect("made"), "kept\n");
    assert!(!Path::new(&path("below/made")).exists());
    // What is not there is said.
    let (failed, status) = run(&node, serde_json::json!({"writable": ["/no/such"]}), "true");
    assert!(status.is_none() && failed.contains("writable path \"/no/such\""), "{failed}");
    let asked = serde_json::json!({"volumes": [{"source": below, "target": "/no/such"}]});
    let (failed, status) = run(&node, asked, "true");
    assert!(status.is_none() && failed.contains("/no/such"), "{failed}");
    // Nothing that was mounted is seen by the machine.
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&all), "{mounts}");
    node.finish();
}

#[test]
fn landlock_permits_what_is_named() {
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    if hostler_linux::confine::landlock::abi() == 0 {
        skip("no landlock");
        node.cli(&["run", "--isolate", "--landlock", "read:/", "--", "true"]).refused(125, "landlock");
        return node.finish();
    }
    let exec =
        ["--landlock", "exec:/usr", "--landlock", "exec:/bin", "--landlock", "read:/lib", "--landlock", "exec:/lib64"];
    let line =
        [&["run", "--name", "l", "--isolate", "--landlock", "write:/tmp"], &exec[..], &["--", "sh", "-c"]].concat();
    let script = "echo x >/tmp/a && cat /tmp/a; echo y >/dev/null && echo dev; cat /etc/hostname; ls /etc; cp /bin/true /tmp/t; /tmp/t";
    let done = node.cli(&[&line[..], &[script]].concat());
    done.code(126);
    let view = node.inspect("l").workload;
    let landlock = view.spec.isolation.as_ref().and_then(|isolation| isolation.landlock.clone()).expect("shown");
    assert_eq!(landlock.abi, Some(hostler_linux::confine::landlock::abi()));
    let log = node.log_of("l");
    assert!(log == "x\ndev", "{log}");
    node.cli(&["run", "--rm", "--isolate", "--landlock", "read:/no/such", "--", "true"]).refused(125, "/no/such");
    node.cli(&["run", "--rm", "--isolate", "--landlock", "see:/", "--", "true"]).refused(2, "--landlock");
    node.finish();
}

#[test]
fn configured_profiles_and_stacks() {
    let config = "[isolation.web]\nprofile = \"strict\"\nhostname = \"web\"\nread_only = [\"/opt\"]\n";
    let node = Setup::new().config(config).start();
    if !can_isolate(&node) {
        return node.finish();
    }
    assert_eq!(node.cli(&["run", "--name", "w", "--isolate=web", "--", "hostname"]).ok(), "web");
    let shown = node.inspect("w").workload.spec.isolation.clone().expect("isolated");
    assert_eq!((shown.profile.as_deref(), shown.hostname.as_deref()), (Some("web"), Some("web")));
    assert!(shown.hidden.contains(&"/home".into()) && shown.read_only.contains(&"/opt".into()), "{shown:?}");
    node.cli(&["run", "--isolate=other", "--", "true"]).refused(125, "default, network-service, strict, web");
    node.cli(&["run", "--writable-path", "/x", "--", "true"]).refused(2, "--isolate");
    let stack = "[job.one]\ncommand = [\"hostname\"]\nisolation = \"web\"\n\
                 [job.two]\ncommand = \"ls /home; touch /x || hostname\"\nrequires = \"one\"\n\
                 isolation = { profile = \"strict\", hostname = \"two\", network = \"host\" }\n";
    let path = node.work().join("s.toml");
    std::fs::write(&path, stack).expect("write");
    let path = path.to_str().expect("text");
    node.cli(&["stack", "apply", path]).ok();
    until("its log", PATIENCE, || (node.log_of("s.one").trim() == "web").then_some(()));
    until("its log", PATIENCE, || node.log_of("s.two").contains("two").then_some(()));
    // What is applied again is the same.
    assert_eq!(node.cli(&["stack", "diff", path]).ok(), "");
    std::fs::write(path, stack.replace("\"web\"", "\"nobody\"")).expect("write");
    assert!(node.cli(&["stack", "apply", path]).err().contains("nobody"));
    node.finish();
    for (config, word) in [
        ("[isolation.strict]\n", "every node"),
        ("[isolation.x]\nprofile = \"y\"\n", "profile"),
        ("[isolation.x]\ncolour = 1\n", "colour"),
        ("[isolation.x]\nhidden = [\"/\"]\n", "hidden"),
    ] {
        let mut node = Setup::new().config(config).make();
        assert!(!node.start_or_die(&[]), "{config}");
        let _ = node.wait_daemon_end();
        assert!(node.daemon_log().contains(word), "{}", node.daemon_log());
        node.finish_dead();
    }
}

#[test]
fn others_may_isolate_themselves_with_what_is_theirs() {
    if !is_root() {
        return skip("needs root, to be somebody else");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let as_ann = |arguments: &[&str]| node.command(arguments).uid(4242).run();
    let seen = as_ann(&["run", "--rm", "--isolate", "--", "sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"]);
    assert_eq!(seen.ok(), "4242\n 4242 4242 1");
    as_ann(&["run", "--isolate=network-service", "--", "true"]).refused(125, "owner only");
    // A directory of root's cannot be brought in; he has no right to look into it.
    let place = place();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let below = place.path().join("below").display().to_string();
    as_ann(&["run", "--rm", "--isolate", "--writable-path", &below, "--", "true"]).refused(125, "ermission denied");
    let body = |isolation: &str| format!(r#"{{"command":["true"],"isolation":{isolation}}}"#);
    let post = |isolation: &str| {
        let file = node.work().join("body.json");
        std::fs::write(&file, body(isolation)).expect("write");
        let line = format!(
            "curl -s --unix-socket {} -H 'content-type: application/json' -d @{} http://x/v1/workloads",
            node.socket().display(),
            file.display()
        );
        let done = std::process::Command::new("setpriv")
            .args(["--reuid=4242", "--regid=4242", "--clear-groups", "sh", "-c", &line])
            .output()
            .expect("setpriv");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    if std::process::Command::new("curl").arg("--version").output().is_ok() {
        for asked in [
            r#"{"network":{"namespace":"/proc/1/ns/net"}}"#,
            r#"{"userns":"host"}"#,
            r#"{"capabilities":["SYS_ADMIN"]}"#,
            r#"{"seccomp":{"file":"/etc/shadow"}}"#,
        ] {
            let answer = post(asked);
            assert!(answer.contains("owner only"), "{asked}: {answer}");
        }
    }
    node.finish();
}

#[test]
fn a_network_service_has_the_network_and_its_low_ports_and_nothing_else() {
    if !is_root() {
        return skip("needs root");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    let devices = std::fs::read_to_string("/proc/net/dev").expect("devices");
    let count = devices.lines().count().to_string();
    let line = ["run", "--rm", "--isolate=network-service", "--", "sh", "-c", "wc -l </proc/net/dev"];
    assert_eq!(node.cli(&line).ok(), count);
    // Any low port that is free: the kernel asks for the right before it looks who has it.
    let bind = "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(1, INADDR_LOOPBACK)) or exit $!+0";
    let ends =
        |profile: &str, user: &str| node.cli(&["run", "--rm", profile, "--user", user, "--", "perl", "-e", bind]).code;
    assert_eq!((ends("--isolate=network-service", "0"), ends("--isolate=network-service", "4242:4242")), (0, 0));
    let network = serde_json::json!({"network": "host"});
    let (_, status) = run(&node, network.clone(), &format!("exec perl -e '{bind}'"));
    assert_eq!(status, Some(ExitStatus::Code(13)), "its own users have no low ports of the machine");
    // Sockets without a file are of the machine's network, and stay its own where landlock can.
    if hostler_linux::confine::landlock::abi() >= 6 {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("hostler-network-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
        let connect =
            format!("perl -e 'socket(S, 1, 1, 0); connect(S, pack(\"S a*\", 1, \"\\0{name}\")) or exit $!+0'");
        assert_eq!(run(&node, network, &connect).1, Some(ExitStatus::Code(1)));
    }
    let inside = "test -z \"$(find /run -mindepth 1 ! -path '*resolv*' ! -type d)\" && ! touch /x && hostname";
    let done = node.cli(&["run", "--name", "svc", "--isolate=network-service", "--", "sh", "-c", inside]);
    assert_eq!(done.ok(), "svc");
    node.finish();
}

#[test]
fn a_network_namespace_and_a_file_of_system_calls() {
    if !is_root() {
        return skip("needs root");
    }
    let node = TestNode::new();
    if !can_isolate(&node) {
        return node.finish();
    }
    // Somebody's network without even a loopback device that is up.
    let mut holder = std::process::Command::new("unshare").args(["-n", "sleep", "600"]).spawn().expect("unshare");
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = std::fs::read_link("/proc/self/ns/net").expect("a link");
    let theirs = until("its network", PATIENCE, || std::fs::read_link(&path).ok().filter(|link| *link != own));
    let (shown, status) = run(&node, serde_json::json!({"network": {"namespace": path}}), "readlink /proc/self/ns/net");
    assert_eq!((Path::new(shown.trim()), status), (theirs.as_path(), Some(ExitStatus::Code(0))));
    holder.kill().expect("its end");
    holder.wait().expect("its end");
    let (failed, status) = run(&node, serde_json::json!({"network": {"namespace": "/etc/hostname"}}), "true");
    assert!(status.is_none() && failed.contains("/etc/hostname"), "{failed}");
    let file = node.work().join("profile.json");
    let asked = serde_json::json!({"seccomp": {"file": file}});
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(&file, profile).expect("write");
    let (shown, status) = run(&node, asked.clone(), "mkdir /tmp/x 2>&1");
    assert!(shown.contains("No space left") && status == Some(ExitStatus::Code(1)), "{shown}");
    for (content, word) in
        [("{}", "defaultAction"), ("[1", "profile"), (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "NOTIFY")]
    {
        std::fs::write(&file, content).expect("write");
        let mut spec = node.spec(&["true"]);
        spec.isolation = isolation(&asked);
        let refused =
            node.block_on(node.api().create(&spec, &Default::default(), None)).expect_err("refused").to_string();
        assert!(refused.contains(word), "{refused}");
    }
    node.finish();
}
