//! Bundles: their own `config.json` counts, and what is asked comes on top of it.

use hostler_tests::container::{self, Oci, Place};
use hostler_tests::{Output, with_each_oci_runtime};
use serde_json::{Value, json};

with_each_oci_runtime! {
    its_own_command_and_ours,
    relative_paths,
    its_own_limits_of_what_it_may,
    nonsense_is_refused,
    hooks_of_the_bundle,
}

fn make(place: &Place, args: &[&str], change: impl FnOnce(&mut Value)) -> String {
    let directory = place.work().join("bundle");
    let _ = std::fs::remove_dir_all(&directory);
    container::bundle(&directory, args, change);
    directory.display().to_string()
}

fn run(place: &Place, bundle: &str, more: &[&str]) -> Output {
    place.cli(&[&["run", "--oci-runtime", place.oci().name, "--oci", bundle], more].concat())
}

fn its_own_command_and_ours(oci: Oci) {
    let place = oci.start();
    let bundle = make(&place, &["sh", "-c", "hostname; echo $FROM $HOSTLER_NAME; pwd; exit 5"], |_| {});
    let done = run(&place, &bundle, &["--name", "own"]).code(5);
    assert_eq!(done.out(), "of-the-bundle\nbundle own\n/\n");
    // What is asked comes on top.
    let more =
        ["--hostname", "asked", "--env", "FROM=me", "--workdir", "/srv", "--", "sh", "-c", "hostname; echo $FROM; pwd"];
    assert_eq!(run(&place, &bundle, &more).ok(), "asked\nme\n/srv");
    assert_eq!(run(&place, &bundle, &["--user", "web", "--", "id", "-u"]).ok(), "33");
    assert!(run(&place, &bundle, &["--read-only", "--", "touch", "/x"]).code(1).err().contains("Read-only"));
    let caps = ["--cap-drop", "KILL", "--", "grep", "CapEff", "/proc/self/status"];
    assert_eq!(run(&place, &bundle, &caps).ok(), "CapEff:\t0000000000000000");
    place.finish();
}

fn relative_paths(oci: Oci) {
    let place = oci.start();
    let bundle = make(&place, &["cat", "/data/file"], |config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/data", "type": "bind", "source": "beside", "options": ["rbind", "ro"] }));
    });
    std::fs::create_dir(place.work().join("bundle/beside")).expect("a directory");
    std::fs::write(place.work().join("bundle/beside/file"), "relative to the bundle\n").expect("a file");
    assert_eq!(run(&place, &bundle, &[]).ok(), "relative to the bundle");
    // And the bundle itself may be named relative to where the command is typed.
    assert_eq!(run(&place, "bundle", &[]).ok(), "relative to the bundle");
    // Its root is where it says, and so are the names of its users.
    let (config, root) = (place.work().join("bundle/config.json"), place.work().join("bundle/other"));
    std::fs::rename(place.work().join("bundle/rootfs"), &root).expect("a move");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text.replace("\"rootfs\"", "\"other\"")).expect("a configuration");
    std::fs::write(root.join("etc/passwd"), "web:x:71:72::/:/bin/sh\n").expect("users");
    assert_eq!(run(&place, &bundle, &["--user", "web", "--", "id", "-u"]).ok(), "71");
    run(&place, &bundle, &["--user", "nosuch", "--", "id"]).refused(125, "bundle/other/etc");
    place.finish();
}

fn its_own_limits_of_what_it_may(oci: Oci) {
    let place = oci.start();
    let script =
        ["sh", "-c", "grep -e CapEff -e NoNewPrivs /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj"];
    let bundle = make(&place, &script, |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 }]);
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["oomScoreAdj"] = json!(321);
    });
    let said = run(&place, &bundle, &[]).ok();
    assert!(said.contains("CapEff:\t0000000000000020\nNoNewPrivs:\t0\n77\n321"), "{said}");
    // Without a word in the bundle privileges cannot be gained.
    let bundle = make(&place, &script, |config| {
        config["process"].as_object_mut().expect("an object").remove("noNewPrivileges");
    });
    assert!(run(&place, &bundle, &[]).ok().contains("NoNewPrivs:\t1"));
    place.finish();
}

fn nonsense_is_refused(oci: Oci) {
    let place = oci.start();
    let directory = place.work().join("bundle");
    let bundle = make(&place, &["true"], |config| config["root"] = json!({}));
    run(&place, &bundle, &[]).refused(125, "names no root.path");
    let cases = [
        ("{", "makes no sense"),
        ("[]", "names no root.path"),
        ("", "makes no sense"),
        (r#"{"root":{"path":"/nowhere/at/all"},"process":{"args":["true"],"cwd":"/"}}"#, oci.name),
        (r#"{"root":{"path":"rootfs"},"process":7,"mounts":{},"linux":[]}"#, oci.name),
    ];
    for (text, words) in cases {
        std::fs::write(directory.join("config.json"), text).expect("write");
        run(&place, &bundle, &[]).refused(125, words);
    }
    std::fs::write(directory.join("config.json"), vec![b' '; 1_200_000]).expect("write");
    run(&place, &bundle, &[]).refused(125, "more than 1048576 bytes");
    std::fs::remove_file(directory.join("config.json")).expect("remove");
    run(&place, &bundle, &[]).refused(125, "has no config.json");
    place.finish();
}

/// Those that run at a start are run as well where the start needs no call.
fn hooks_of_the_bundle(oci: Oci) {
    let place = oci.start();
    let told = place.work().join("told");
    // The program goes on when it is known to have been started: nobody has to tell of one that is over already.
    let go = format!("touch {}", place.work().join("bundle/rootfs/tmp/go").display());
    let hook = |word: &str, after: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {word} >>{}; {after}", told.display())] }]);
    let bundle = make(&place, &["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done"], |config| {
        config["hooks"] = json!({
            "prestart": hook("prestart", "true"), "poststart": hook("poststart", &go), "poststop": hook("poststop", "true"),
        });
    });
    run(&place, &bundle, &[]).code(0);
    let read = || std::fs::read_to_string(&told).unwrap_or_default();
    hostler_tests::until("all hooks", hostler_tests::PATIENCE, || read().contains("poststop").then_some(()));
    assert_eq!(read(), "prestart\npoststart\npoststop\n");
    place.finish();
}
