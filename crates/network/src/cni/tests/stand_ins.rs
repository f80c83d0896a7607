//! What plugins are told, in which order, when all goes well.

use std::net::{IpAddr, Ipv4Addr};

use hostler_model::network::{Protocol, Publish};
use serde_json::{Value, json};

use super::{ADD_ALL, DEL_ALL, GOOD, Kit, is_file, list};
use crate::cni::{Call, List, Wishes, add, check, del, found};

#[test]
fn in_order_there_and_in_reverse_back() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let kit = Kit::new();
        for (name, mark) in [("one", 1), ("two", 2), ("three", 3)] {
            let answer = format!(r#"{{"mark":{mark},"ips":[{{"version":"4","address":"10.0.0.{mark}/24"}}]}}"#);
            kit.plugin(name, &format!("[ $CNI_COMMAND != ADD ] || echo '{answer}'"));
        }
        let list = list(version);
        let outcome = add(&list, &kit.call()).expect("added");
        assert_eq!(kit.calls(), ADD_ALL);
        assert_eq!(outcome.first_ip4(), Some(Ipv4Addr::new(10, 0, 0, 3)), "what the last one says");
        for (name, before) in [("one", Value::Null), ("two", json!(1)), ("three", json!(2))] {
            let input = kit.input(name, "ADD");
            assert_eq!((&input["name"], &input["cniVersion"]), (&json!("net"), &json!(version)));
            assert_eq!(input["own"], json!({ "key": [name] }), "kept as it is");
            assert_eq!(input["prevResult"]["mark"], before);
            assert_eq!(input.get("prevResult").is_some(), name != "one");
            assert!(input.get("runtimeConfig").is_none());
        }
        check(&kit.call()).expect("still there");
        let has_check = version != "0.3.1";
        assert_eq!(
            kit.calls(),
            if has_check { ADD_ALL.map(|call| call.replace("ADD", "CHECK")).to_vec() } else { vec![] }
        );
        if has_check {
            assert_eq!(kit.input("one", "CHECK")["prevResult"]["mark"], 3);
        }
        del(&kit.call()).expect("undone");
        assert_eq!(kit.calls(), DEL_ALL);
        for name in ["one", "two", "three"] {
            let input = kit.input(name, "DEL");
            assert_eq!(input["prevResult"]["mark"], if has_check { json!(3) } else { Value::Null });
            assert_eq!(input["prevResult"].is_null(), input.get("prevResult").is_none());
        }
        assert!(!is_file(&kit.cache));
        del(&kit.call()).expect("nothing there is fine");
        assert_eq!(kit.calls(), [""; 0]);
        let told = check(&kit.call()).expect_err("nothing there").to_string();
        assert!(told.ends_with("is not there: nothing was added"), "{told}");
    }
}

#[test]
fn nothing_of_ours_is_in_their_environment() {
    let kit = Kit::new();
    add(&list("1.0.0"), &kit.call()).expect("added");
    let gone = Call { netns: &kit.dir.path().join("gone"), ..kit.call() };
    del(&gone).expect("undone");
    for (verb, netns) in [("ADD", "/proc/self/ns/net"), ("DEL", "")] {
        let text = kit.text(&format!("one.{verb}.env"));
        // The shell's own.
        let mut found: Vec<_> = text
            .lines()
            .filter(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
            .collect();
        found.sort_unstable();
        let path = kit.path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
        let expected = [
            format!("CNI_COMMAND={verb}"),
            format!("CNI_CONTAINERID={}", kit.container),
            "CNI_IFNAME=eth0".to_owned(),
            format!("CNI_NETNS={netns}"),
            format!("CNI_PATH={path}"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        assert_eq!(found, expected);
    }
}

#[test]
fn a_plain_file_is_no_namespace() {
    let kit = Kit::new();
    add(&list("1.0.0"), &kit.call()).expect("added");
    let plain = kit.dir.path().join("unmounted");
    std::fs::write(&plain, "").expect("write");
    del(&Call { netns: &plain, ..kit.call() }).expect("undone");
    assert!(kit.text("one.DEL.env").lines().any(|line| line == "CNI_NETNS="));
}

#[test]
fn wishes_go_to_those_that_can() {
    let all = ["portMappings", "ips", "mac", "aliases", "dns", "bandwidth"];
    let publish = |host, host_port, protocol| Publish { host, host_port, port: 80, protocol };
    let wishes = Wishes {
        port_mappings: vec![
            publish(None, 8_080, Protocol::Tcp),
            publish(Some(IpAddr::from([127, 0, 0, 1])), 53, Protocol::Udp),
        ],
        ips: vec![IpAddr::from([10, 9, 0, 7]), "fd00::7".parse().expect("an address")],
        mac: Some("02:00:00:00:00:09".to_owned()),
        aliases: vec!["db".to_owned()],
        dns: vec![IpAddr::from([9, 9, 9, 9])],
        rate_bytes_per_s: Some(1_000_000),
    };
    let told = json!({
        "portMappings": [
            { "hostPort": 8_080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 53, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1" },
        ],
        "ips": ["10.9.0.7", "fd00::7"],
        "mac": "02:00:00:00:00:09",
        "aliases": ["db"],
        "dns": { "servers": ["9.9.9.9"] },
        "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000,
        },
    });
    for capability in all {
        let kit = Kit::new();
        let plugins = json!([
            { "type": "one", "capabilities": { capability: true, "unknown": true } },
            { "type": "two", "capabilities": { capability: false } },
            { "type": "three" },
        ]);
        let list = json!({ "cniVersion": "1.0.0", "name": "n", "plugins": plugins }).to_string();
        let list = List::parse(&list).expect("a list");
        add(&list, &Call { wishes: wishes.clone(), ..kit.call() }).expect("added");
        // They are in the record: those of this call do not count.
        check(&kit.call()).expect("there");
        del(&kit.call()).expect("undone");
        for verb in ["ADD", "CHECK", "DEL"] {
            assert_eq!(kit.input("one", verb)["runtimeConfig"], json!({ capability: told[capability] }), "{verb}");
            assert!(kit.input("two", verb).get("runtimeConfig").is_none());
            assert!(kit.input("three", verb).get("runtimeConfig").is_none());
        }
        let kit = Kit::new();
        add(&list, &kit.call()).expect("added");
        assert!(kit.input("one", "ADD").get("runtimeConfig").is_none(), "nothing was wished");
    }
}

#[test]
fn slow_and_fast_rates_have_a_burst_that_the_plugin_takes() {
    for (rate, bits, burst) in [(1_000, 8_000, 524_288), (1 << 37, 1u64 << 40, u64::from(u32::MAX))] {
        let told = Wishes { rate_bytes_per_s: Some(rate), ..Wishes::default() }.told();
        assert_eq!(told["bandwidth"]["ingressRate"], bits);
        assert_eq!(told["bandwidth"]["egressBurst"], burst);
    }
}

#[test]
fn chatter_is_no_trouble() {
    let kit = Kit::new();
    kit.plugin("one", &format!("yes chatter | head -c 3000000 >&2; {GOOD}"));
    // One that does not read: nothing of it is held up.
    let unread = kit.path[1].join("two");
    std::fs::write(
        unread,
        format!("#!/bin/sh\nexec 0<&-\n[ $CNI_COMMAND != ADD ] || cat {}/answer", kit.dir.path().display()),
    )
    .expect("write");
    let plugins =
        json!([{ "type": "one", "blob": "x".repeat(200_000) }, { "type": "two", "blob": "x".repeat(50_000) }]);
    let list = json!({ "cniVersion": "1.0.0", "name": "n", "plugins": plugins }).to_string();
    let list = List::parse(&list).expect("a list");
    let outcome = add(&list, &kit.call()).expect("added");
    assert_eq!(outcome.mac("eth0"), Some("02:00:00:00:00:01"));
    del(&kit.call()).expect("undone");
}

#[test]
fn deep_and_large_answers_come_back_from_the_record() {
    let kit = Kit::new();
    // As deep as JSON is read; within a record it would be deeper.
    let deep = format!("{}1{}", "[".repeat(126), "]".repeat(126));
    std::fs::write(kit.dir.path().join("answer"), format!(r#"{{"deep":{deep},"blob":"{}"}}"#, "\\\"".repeat(250_000)))
        .expect("write");
    add(&list("1.0.0"), &kit.call()).expect("added");
    check(&kit.call()).expect("there");
    assert!(kit.text("one.CHECK.input").contains(&deep));
    assert!(kit.text("one.CHECK.input").len() > 500_000);
    del(&kit.call()).expect("undone");
}

#[test]
fn which_plugins_are_there() {
    let kit = Kit::new();
    std::fs::write(kit.path[1].join("README"), "no program").expect("write");
    std::fs::create_dir(kit.path[1].join("directory")).expect("make a directory");
    std::os::unix::fs::symlink("one", kit.path[1].join("alias")).expect("link");
    assert_eq!(found(&kit.path), ["alias", "one", "three", "two"]);
    assert_eq!(found(&[]), [""; 0]);
}

#[test]
fn what_cannot_be_called_is_not() {
    let kit = Kit::new();
    let list = list("1.0.0");
    let colon = [kit.dir.path().join("a:b"), kit.path[1].clone()];
    let cases = [
        (Call { container: "", ..kit.call() }, "\"\" is no container ID"),
        (Call { container: "-c", ..kit.call() }, "\"-c\" is no container ID"),
        (Call { container: "a/b", ..kit.call() }, "\"a/b\" is no container ID"),
        (Call { interface: "", ..kit.call() }, "\"\" is no name of an interface"),
        (Call { interface: "..", ..kit.call() }, "\"..\" is no name of an interface"),
        (Call { interface: "abcdefghijklmnop", ..kit.call() }, "\"abcdefghijklmnop\" is no name of an interface"),
        (Call { interface: "a b", ..kit.call() }, "\"a b\" is no name of an interface"),
        (Call { path: &colon, ..kit.call() }, "CNI_PATH: "),
    ];
    for (call, why) in cases {
        let told = add(&list, &call).expect_err("refused").to_string();
        assert!(told.starts_with(&format!("CNI plugins cannot be called: {why}")), "{told}");
        assert!(!is_file(&kit.cache));
    }
    assert_eq!(kit.calls(), [""; 0]);
}
