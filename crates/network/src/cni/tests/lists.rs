//! Which lists are taken, and why the others are not.

use hostler_model::limits;
use serde_json::json;

use crate::cni::list::{List, Version};

fn refusal(text: &str) -> String {
    List::parse(text).expect_err(text).to_string()
}

#[test]
fn what_is_refused_is_told() {
    let many: Vec<_> = (0..=limits::CNI_PLUGINS_MAX).map(|_| json!({ "type": "a" })).collect();
    let many = json!({ "cniVersion": "1.0.0", "name": "n", "plugins": many }).to_string();
    let long = format!(r#"{{"cniVersion":"1.0.0","name":"{}","type":"a"}}"#, "n".repeat(256));
    let large = " ".repeat(limits::CNI_LIST_MAX + 1);
    let cases = [
        ("", "is no JSON: EOF"),
        ("{", "is no JSON: EOF"),
        ("[]", "is no JSON object"),
        ("null", "is no JSON object"),
        ("{}", "has no cniVersion"),
        (r#"{"cniVersion":1}"#, "has a cniVersion that is no text"),
        (r#"{"cniVersion":"0.2.0"}"#, "has cniVersion \"0.2.0\"; spoken are 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (r#"{"cniVersion":"2.0.0","cniVersions":["3.0.0"]}"#, "has cniVersion \"2.0.0\", \"3.0.0\"; spoken are"),
        (r#"{"cniVersion":"1.0.0","cniVersions":"1.0.0"}"#, "has cniVersions that are no array"),
        (r#"{"cniVersion":"1.0.0"}"#, "has no name"),
        (r#"{"cniVersion":"1.0.0","name":""}"#, "has the name \"\": it must begin with a letter or digit"),
        (r#"{"cniVersion":"1.0.0","name":"../n"}"#, "has the name \"../n\""),
        (r#"{"cniVersion":"1.0.0","name":"a b"}"#, "has the name \"a b\""),
        (r#"{"cniVersion":"1.0.0","name":7}"#, "has the name 7"),
        (&long, "has the name"),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, "has neither plugins nor a type"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#, "has plugins that are no array"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "has no plugins"),
        (&many, "has 17 plugins, more than 16"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[7]}"#, "has plugins[0], which is no object"),
        (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},{}]}"#, "has no plugins[1].type"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"a/b"}"#, "has plugins[0].type \"a/b\", which is no plain name"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":".."}"#, "has plugins[0].type \"..\""),
        (r#"{"cniVersion":"1.0.0","name":"n","type":""}"#, "has plugins[0].type \"\""),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"a\u0000"}"#, "has plugins[0].type \"a\\u0000\""),
        (
            r#"{"cniVersion":"1.0.0","name":"n","type":"a","ipam":{"type":"../x"}}"#,
            "has plugins[0].ipam.type \"../x\", which is no plain name",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"n","type":"a","capabilities":{"mac":"yes"}}"#,
            "has plugins[0].capabilities.mac, which is neither true nor false",
        ),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"a","capabilities":[]}"#, "has plugins[0].capabilities, which"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"a","disableCheck":"no"}"#, "has a disableCheck that is"),
        (&large, "has more than 262144 bytes"),
    ];
    for (text, why) in cases {
        let told = refusal(text);
        assert!(told.starts_with(&format!("the CNI configuration list {why}")), "{text}: {told}");
        assert!(told.len() < 400, "{told}");
    }
}

#[test]
fn no_part_of_a_list_is_a_list_and_none_brings_us_down() {
    let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a","capabilities":{"mac":true}}]}"#;
    assert!(List::parse(text).is_ok());
    for end in 0..text.len() {
        assert!(refusal(&text[..end]).contains("is no JSON"), "{end}");
    }
    assert!(refusal(&"[".repeat(100_000)).contains("is no JSON"), "deep");
}

#[test]
fn what_is_taken() {
    let text = r#"{"cniVersion":"0.3.1","name":"one-1.a_b","type":"bridge","x":{"y":[1,2]},"capabilities":{"mac":true,"ips":false}}"#;
    let list = List::parse(text).expect("a single plugin");
    assert_eq!((list.name.as_str(), list.version, list.plugins.len()), ("one-1.a_b", Version::V0_3_1, 1));
    assert_eq!(list.plugins[0].config["x"], json!({ "y": [1, 2] }));
    assert!(list.has_capability("mac") && !list.has_capability("ips") && !list.has_capability("dns"));
    assert!(!list.can_check(), "there is none in 0.3.1");

    let versions = [
        (json!({ "cniVersion": "1.1.0" }), Version::V1_1_0, true),
        (json!({ "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0"] }), Version::V1_0_0, true),
        (json!({ "cniVersions": ["0.4.0", "9.0.0"] }), Version::V0_4_0, true),
        (json!({ "cniVersion": "1.0.0", "disableCheck": true }), Version::V1_0_0, false),
        (json!({ "cniVersion": "1.0.0", "disableCheck": "True" }), Version::V1_0_0, false),
    ];
    for (mut list, version, can_check) in versions {
        list["name"] = json!("n");
        list["plugins"] = json!([{ "type": "a" }, { "type": "b", "capabilities": { "portMappings": true } }]);
        let list = List::parse(&list.to_string()).expect("a list");
        assert_eq!((list.version, list.can_check()), (version, can_check));
        assert!(list.has_capability("portMappings"));
    }
}
