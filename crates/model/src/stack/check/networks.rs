//! The networks of a stack: every value parsed, every mistake told. One with a mistake is as if it were not described.

use std::str::FromStr;

use super::{Checked, Mistakes};
use crate::ids::NetworkName;
use crate::limits;
use crate::network::NetworkSpec;
use crate::network::new::check_name;
use crate::stack::Stack;
use crate::stack::network::{NetworkTable, resolver};

pub(super) fn check(stack: &Stack, checked: &mut Checked) {
    for (name, table) in &stack.network {
        let path = format!("network.{name}");
        let mut mistakes = Mistakes::default();
        let parsed = name.parse::<NetworkName>().map_err(|error| error.to_string());
        let parsed = parsed.and_then(|name| check_name(&name).map(|()| name));
        match &parsed {
            Err(what) => mistakes.add(&path, what),
            Ok(_) if checked.networks.len() >= limits::STACK_NETWORKS_MAX => {
                let most = limits::STACK_NETWORKS_MAX;
                mistakes.add(&path, format!("is one too many: a stack has at most {most} networks"));
            }
            Ok(_) => {}
        }
        let spec = spec_of(table, &path, &mut mistakes);
        if let (true, Ok(name)) = (mistakes.0.is_empty(), parsed) {
            checked.networks.insert(name, spec);
        }
        checked.mistakes.append(&mut mistakes.0);
    }
}

fn spec_of(table: &NetworkTable, path: &str, mistakes: &mut Mistakes) -> NetworkSpec {
    let before = mistakes.0.len();
    let mut tell = |field: &str, what: String| mistakes.add(&format!("{path}.{field}"), what);
    let no_address = |text: &str| format!("{text:?} is no IPv4 address");
    let mut spec = NetworkSpec {
        subnet: parsed(table.subnet.as_deref(), |_, error| format!("{error}"), |what| tell("subnet", what)),
        gateway: parsed(table.gateway.as_deref(), |text, _| no_address(text), |what| tell("gateway", what)),
        ipv6: table.ipv6,
        subnet6: parsed(table.subnet6.as_deref(), |_, error| format!("{error}"), |what| tell("subnet6", what)),
        internal: table.internal,
        mtu: table.mtu,
        dns: Vec::new(),
        cni: table.cni.clone(),
    };
    for text in table.dns.as_slice() {
        match resolver(text) {
            Ok(address) => spec.dns.push(address),
            Err(what) => tell("dns", what),
        }
    }
    if spec.cni.as_ref().is_some_and(|list| !list.trim_start().starts_with('{')) {
        tell("cni", "is resolved by who reads the stack's file: send what the file says, a JSON object".to_owned());
    }
    // What could not be read is not judged as if it were absent.
    if mistakes.0.len() == before
        && let Err(problem) = spec.check()
    {
        let (field, what) = problem.detail.split_once(' ').unwrap_or(("", &problem.detail));
        mistakes.add(&format!("{path}.{field}"), what);
    }
    spec
}

fn parsed<T: FromStr>(
    text: Option<&str>,
    words: impl Fn(&str, T::Err) -> String,
    tell: impl FnOnce(String),
) -> Option<T> {
    let text = text?;
    text.parse().map_err(|error| tell(words(text, error))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Checked {
        crate::stack::check(&serde_json::from_str(json).expect(json))
    }

    #[test]
    fn networks_are_described() {
        let good = checked(
            r#"{"network":{"plain":{},"all":{"subnet":"10.1.2.0/24","gateway":"10.1.2.9","ipv6":true,
                "subnet6":"fd00:1::/64","internal":true,"mtu":9000,"dns":"9.9.9.9"},
                "made":{"cni":" {\"name\":\"x\"}","dns":["::1"]}}}"#,
        );
        assert_eq!(good.mistakes, []);
        let names: Vec<_> = good.networks.keys().map(NetworkName::as_str).collect();
        assert_eq!(names, ["all", "made", "plain"]);
        let all = &good.networks["all"];
        assert_eq!((all.mtu, all.dns.len(), all.gateway), (Some(9_000), 1, "10.1.2.9".parse().ok()));
        assert_eq!(good.networks["plain"], NetworkSpec::default());
    }

    #[test]
    fn every_mistake_has_its_path() {
        for (table, field, words) in [
            (r#"{"subnet":"10.1.2.3/24"}"#, ".subnet", "10.1.2.0/24"),
            (r#"{"subnet":"127.0.0.0/24"}"#, ".subnet", "unicast"),
            (r#"{"subnet":"x","gateway":"10.1.2.1"}"#, ".subnet", "range"),
            (r#"{"gateway":"here"}"#, ".gateway", "IPv4"),
            (r#"{"gateway":"10.1.2.1"}"#, ".gateway", "needs a subnet"),
            (r#"{"subnet6":"fd00::/8"}"#, ".subnet6", "/48"),
            (r#"{"mtu":12}"#, ".mtu", "1280"),
            (r#"{"dns":["9.9.9.9","nine"]}"#, ".dns", "nine"),
            (r#"{"cni":"blue.conflist"}"#, ".cni", "resolved"),
            (r#"{"cni":"{}","mtu":1500}"#, ".cni", "excludes"),
        ] {
            let checked = checked(&format!(r#"{{"network":{{"n":{table},"other":{{}}}}}}"#));
            assert_eq!(checked.mistakes.len(), 1, "{table}: {:?}", checked.mistakes);
            let mistake = &checked.mistakes[0];
            assert_eq!(mistake.path, format!("network.n{field}"), "{table}");
            assert!(mistake.what.contains(words) && mistake.unit.is_none(), "{table}: {mistake}");
            assert_eq!(checked.networks.len(), 1, "the other one stays");
        }
        for name in ["a b", "host", "none"] {
            let mistakes = checked(&format!(r#"{{"network":{{"{name}":{{}}}}}}"#)).mistakes;
            assert_eq!(mistakes.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), [format!("network.{name}")]);
        }
        let many: Vec<_> = (0..=limits::STACK_NETWORKS_MAX).map(|number| format!(r#""n{number:02}":{{}}"#)).collect();
        let many = checked(&format!(r#"{{"network":{{{}}}}}"#, many.join(",")));
        assert_eq!((many.networks.len(), many.mistakes.len()), (limits::STACK_NETWORKS_MAX, 1));
    }
}
