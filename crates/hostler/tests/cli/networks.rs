//! Networks and pools: what is sent, and what is shown.

use crate::fake::{FakeNode, Reply, hostler, outcome, problem, workload};

const BLUE: &str = r#"{"id":"0a0b0c","namespace":"default","name":"blue","created_at_ms":1,
    "spec":{"ipv6":true,"internal":true},"interface":"h010203n0a0b0c",
    "bridge":{"subnet":"10.1.2.0/24","gateway":"10.1.2.1","subnet6":"fd00:1::/64","gateway6":"fd00:1::1"},
    "runs":[{"run":"00ff1234abcd-1","names":["db"],"network":"blue","setup":"01020304",
        "namespace_path":"/run/netns/h01020301020304","interface":"eth0","ip":"10.1.2.2"}],
    "pool":{"target":2,"max":8,"idle":1,"occupied":1,"making":1,"leaving":0,"waiting":0}}"#;
const LAN: &str = r#"{"id":"0a0b0d","namespace":"default","name":"lan","created_at_ms":1,"spec":{"cni":"{}"},
    "problem":"plugin bridge is not there","runs":[],
    "pool":{"target":0,"max":8,"idle":0,"occupied":0,"making":0,"leaving":0,"waiting":3}}"#;

#[test]
fn a_network_is_made_as_it_was_typed() {
    let node = FakeNode::start(|_| Reply::Json(201, BLUE.to_owned()));
    let typed = "network create blue --subnet 10.1.2.0/24 --gateway 10.1.2.9 --ipv6 --subnet6 fd00:1::/64 --internal \
                 --mtu 9000 --dns 9.9.9.9 --dns ::1";
    let arguments: Vec<_> = typed.split_whitespace().collect();
    let (exit, out, error) = outcome(&mut node.hostler(&arguments));
    assert_eq!((exit, out.as_str()), (Some(0), "blue\n"), "{error}");
    let request = &node.requests()[0];
    assert!(request.is("POST", "/v1/networks"), "{request:?}");
    let body: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
    let expected = serde_json::json!({"name": "blue", "spec": {"subnet": "10.1.2.0/24", "gateway": "10.1.2.9",
        "ipv6": true, "subnet6": "fd00:1::/64", "internal": true, "mtu": 9_000, "dns": ["9.9.9.9", "::1"]}});
    assert_eq!(body, expected);

    let file = node.root.path().join("lan.conflist");
    std::fs::write(&file, r#"{"name":"lan"}"#).expect("write");
    let path = file.to_str().expect("text");
    let (exit, ..) = outcome(&mut node.hostler(&["--namespace", "u5", "network", "create", "lan", "--cni", path]));
    assert_eq!(exit, Some(0));
    let request = &node.requests()[1];
    assert_eq!(request.target, "/v1/networks?namespace=u5");
    assert!(request.body.contains(r#""cni":"{\"name\":\"lan\"}""#), "the file's text is sent: {}", request.body);
}

#[test]
fn what_cannot_be_is_said_before_anybody_is_asked() {
    let root = tempfile::TempDir::new().expect("a directory");
    let run = |more: &str| format!("run --rootfs / {more} -- true");
    for (line, words) in [
        ("network create host".to_owned(), "host means something else"),
        ("network create blue --mtu 5".to_owned(), "1280"),
        ("network create blue --cni /absent".to_owned(), "/absent"),
        (run("-p 80:80"), "--publish needs a network of the node"),
        (run("-p 80:80 --network host"), "--publish needs a network of the node: with host"),
        (run("-p 80:80 --network none"), "--publish needs a network of the node, not none"),
        (run("--dns 9.9.9.9 --network /run/netns/x"), "--dns needs a network of the node"),
        (run("-p 80:80 -p 80:81 --network blue"), "--publish tcp port 80 is published twice"),
    ] {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let (exit, _, error) = outcome(&mut hostler(root.path(), &arguments));
        assert_eq!(exit, Some(2), "{line}: {error}");
        assert!(error.contains(words), "{line}: {error}");
        let advises = error.contains("--network NAME") && error.contains("network create NAME");
        assert_eq!(advises, words.contains("of the node"), "{line}: {error}");
    }
}

#[test]
fn a_container_is_attached_as_it_was_typed() {
    let node = FakeNode::start(|_| Reply::Json(201, workload("running", r#""state":"running""#)));
    let typed = "run -d --rootfs / --network blue,ip=10.1.2.7,alias=db -p 8080:80 -p [2001:db8::1]:53:53/udp --dns 9.9.9.9 -- x";
    let arguments: Vec<_> = typed.split_whitespace().collect();
    outcome(&mut node.hostler(&arguments));
    let requests = node.requests();
    let post = requests.iter().find(|request| request.is("POST", "/v1/workloads")).expect("posted");
    let body: serde_json::Value = serde_json::from_str(&post.body).expect("JSON");
    let named = &body["container"]["network"]["named"];
    assert_eq!((&named["name"], &named["ip"]), (&"blue".into(), &"10.1.2.7".into()), "{body}");
    assert_eq!(named["aliases"], serde_json::json!(["db"]));
    assert_eq!(named["dns"], serde_json::json!(["9.9.9.9"]));
    assert_eq!(named["publish"][0], serde_json::json!({"host_port": 8_080, "port": 80, "protocol": "tcp"}));
    assert_eq!(named["publish"][1]["host"], "2001:db8::1");
}

#[test]
fn networks_are_listed_shown_and_removed() {
    let node = FakeNode::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/v1/networks") => Reply::Json(200, format!(r#"{{"networks":[{BLUE},{LAN}]}}"#)),
        (_, "/v1/networks/lan") => {
            problem("conflict", 409, "network lan is used by web; end that first with: hostler stop web")
        }
        _ => Reply::Json(200, BLUE.to_owned()),
    });
    let (exit, out, error) = outcome(&mut node.hostler(&["network", "ls"]));
    assert_eq!(exit, Some(0), "{error}");
    let lines: Vec<_> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "NAME SUBNETS KIND RUNS IDLE",
            "blue 10.1.2.0/24, fd00:1::/64 bridge, internal 1 1",
            "lan - cni 0 0",
            "lan: plugin bridge is not there",
        ]
    );
    let (_, out, _) = outcome(&mut node.hostler(&["--json", "network", "ls"]));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json[0]["runs"][0]["ip"], "10.1.2.2");
    let (_, out, _) = outcome(&mut node.hostler(&["network", "inspect", "blue"]));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&json[0]["name"], &json[0]["pool"]["max"]), (&"blue".into(), &8.into()));
    let (exit, out, error) = outcome(&mut node.hostler(&["network", "rm", "blue", "lan"]));
    assert_eq!((exit, out.as_str()), (Some(1), "blue\n"));
    assert!(error.contains("hostler stop web") && !error.contains("hint"), "{error}");
}

#[test]
fn pools_are_listed_with_what_keeps_them_empty() {
    let body = r#"{"process":{"target":4,"idle":3,"occupied":7},"networks":[
        {"namespace":"default","name":"blue","pool":{"target":2,"max":8,"idle":2,"occupied":1,"making":0,"leaving":1,"waiting":0}},
        {"namespace":"default","name":"lan","pool":{"target":2,"max":8,"idle":0,"occupied":0,"making":1,"leaving":0,"waiting":3,
            "failures":2,"last_failure":"plugin bridge is not there","retry_in_ms":2000}}]}"#;
    let node = FakeNode::start(move |_| Reply::Json(200, body.to_owned()));
    let (exit, out, error) = outcome(&mut node.hostler(&["pool", "ls"]));
    assert_eq!(exit, Some(0), "{error}");
    let lines: Vec<_> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "POOL IDLE OCCUPIED MAKING LEAVING WAITING MAX",
            "process 3/4 7 - - - -",
            "network blue 2/2 1 0 1 0 8",
            "network lan 0/2 0 1 0 3 8",
            "network lan: 2 failures in a row, tried again in 2s: plugin bridge is not there",
        ]
    );
    let (_, out, _) = outcome(&mut node.hostler(&["--json", "pool", "ls"]));
    assert!(out.contains(r#""last_failure""#), "{out}");
}

#[test]
fn ps_shows_ports_where_there_are_some() {
    let published = r#""spec":{"command":["sh"],"container":{"rootfs":"/","network":{"named":{"name":"blue",
        "publish":[{"host_port":8080,"port":80,"protocol":"tcp"},{"host":"127.0.0.1","host_port":53,"port":53,"protocol":"udp"}]}}}}"#;
    for (run, ports) in [(r#""state":"running""#, true), (r#""state":"lost","reason":"agent""#, false)] {
        let view =
            workload(if ports { "running" } else { "lost" }, run).replace(r#""spec":{"command":["sh"]}"#, published);
        let node = FakeNode::start(move |_| Reply::Json(200, format!(r#"{{"workloads":[{view}]}}"#)));
        let (exit, out, error) = outcome(&mut node.hostler(&["ps", "-a"]));
        assert_eq!(exit, Some(0), "{error}");
        let shown = out.contains("PORTS") && out.contains("8080:80, 127.0.0.1:53:53/udp");
        assert_eq!(shown, ports, "{out}");
    }
}
