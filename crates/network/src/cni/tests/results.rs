//! Answers of all versions, and those that are none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cni::list::Version;
use crate::cni::result::{Dns, read};

const OLD: &str = r#"{"cniVersion":"0.3.1",
    "interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/n"}],
    "ips":[{"version":"4","address":"10.1.0.1/24","interface":0},
           {"version":"4","address":"10.1.0.5/24","gateway":"10.1.0.1","interface":1},
           {"version":"6","address":"fd00::5/64","gateway":"fd00::1","interface":1}],
    "routes":[{"dst":"0.0.0.0/0"},{"dst":"10.2.0.0/16","gw":"10.1.0.9"}],
    "dns":{"nameservers":["10.1.0.1"],"domain":"d","search":["a","b"],"options":["ndots:2"]}}"#;
const NEW: &str = r#"{"cniVersion":"1.1.0","unknown":[1],
    "interfaces":[{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1400,"sandbox":"/n","pciID":"x","socketPath":"/s"}],
    "ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1","interface":0},{"address":"fd00::5/64"}],
    "routes":[{"dst":"::/0","gw":"fd00::1","mtu":1400,"priority":3}]}"#;

#[test]
fn old_and_new() {
    let (four, six) = (Ipv4Addr::new(10, 1, 0, 5), "fd00::5".parse::<Ipv6Addr>().expect("an address"));
    for (text, asked) in
        [(OLD, Version::V0_3_1), (&OLD.replace("0.3.1", "0.4.0"), Version::V0_4_0), (NEW, Version::V1_1_0)]
    {
        let (outcome, value) = read(text.as_bytes(), asked).expect("a result");
        assert_eq!((outcome.first_ip4(), outcome.first_ip6()), (Some(four), Some(six)), "not the machine's own");
        assert_eq!(outcome.mac("eth0"), Some("02:00:00:00:00:02"));
        assert_eq!(outcome.mac("br0"), None);
        assert_eq!(value["cniVersion"], asked.as_str());
    }
    let (old, _) = read(OLD.as_bytes(), Version::V0_3_1).expect("a result");
    assert_eq!((old.ips[1].prefix, old.ips[1].interface), (24, Some(1)));
    assert_eq!(old.ips[2].gateway, Some("fd00::1".parse().expect("an address")));
    assert_eq!(old.routes[1].gateway, Some(IpAddr::from([10, 1, 0, 9])));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let dns = Dns {
        nameservers: texts(&["10.1.0.1"]),
        domain: Some("d".to_owned()),
        search: texts(&["a", "b"]),
        options: texts(&["ndots:2"]),
    };
    assert_eq!(old.dns, dns);
    let (new, value) = read(NEW.as_bytes(), Version::V1_1_0).expect("a result");
    assert_eq!((new.interfaces[0].mtu, new.routes[0].prefix), (Some(1_400), 0));
    assert_eq!(value["unknown"][0], 1, "the next plugin is told all of it");
}

#[test]
fn what_is_left_out() {
    for text in [
        "{}",
        r#"{"cniVersion":"","interfaces":null,"ips":null,"routes":null,"dns":null}"#,
        r#"{"cniVersion":null,"dns":{"nameservers":null,"domain":""}}"#,
    ] {
        let (outcome, value) = read(text.as_bytes(), Version::V1_0_0).expect("a result");
        assert_eq!(value["cniVersion"], "1.0.0");
        assert!(outcome.first_ip4().is_none() && outcome.mac("eth0").is_none() && outcome.dns == Dns::default());
    }
    let (lone, _) = read(br#"{"ips":[{"address":"10.0.0.1/8","gateway":""}]}"#, Version::V1_0_0).expect("a result");
    assert_eq!((lone.first_ip4(), lone.ips[0].gateway), (Some(Ipv4Addr::new(10, 0, 0, 1)), None));
}

#[test]
fn what_is_no_result() {
    let cases = [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("hello", "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{} {}", "it is no JSON: trailing"),
        (r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.1/8"}}"#, "its cniVersion is \"0.2.0\", asked was 1.0.0"),
        (r#"{"cniVersion":3}"#, "its cniVersion is 3"),
        (r#"{"ips":[{}]}"#, "missing field `address`"),
        (r#"{"ips":[{"address":"10.0.0.1"}]}"#, "\"10.0.0.1\" is no address with the length"),
        (r#"{"ips":[{"address":"10.0.0.1/33"}]}"#, "\"10.0.0.1/33\" is no address"),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":0}]}"#, "10.0.0.1/8 is at an interface that it does not list"),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#, "10.0.0.1/8 is at an interface"),
        (r#"{"ips":[{"address":"10.0.0.1/8","gateway":"x"}]}"#, "\"x\" is no address"),
        (r#"{"routes":[{"dst":"all"}]}"#, "\"all\" is no address"),
        (r#"{"interfaces":[{"mac":"x"}]}"#, "missing field `name`"),
    ];
    for (text, why) in cases {
        let told = read(text.as_bytes(), Version::V1_0_0).expect_err(text);
        assert!(told.starts_with(why), "{text}: {told}");
    }
    for end in 0..NEW.len() {
        assert!(read(&NEW.as_bytes()[..end], Version::V1_1_0).is_err());
    }
}
