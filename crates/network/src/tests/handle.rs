//! The handle, on a machine of its own.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::netns;
use hostler_model::WorkloadId;
use hostler_model::ids::{NodeTag, RunId};
use hostler_model::network::{NetworkRecord, NetworkSpec, NewNetwork, text};

use super::{on_a_machine, tag};
use crate::netlink::Netlink;
use crate::{Ask, NetworkError, Networks, PoolSize, Rights, SetUp, Settings, Take, Taker, names};

const LONGEST: Duration = Duration::from_secs(20);

pub(super) struct Machine {
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    tag: NodeTag,
    pools: BTreeMap<String, PoolSize>,
    next: std::cell::Cell<u32>,
}

impl Machine {
    pub(super) fn new(idle: u32, max: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self {
            runtime: runtime.expect("a runtime"),
            dir: tempfile::tempdir().expect("temp dir"),
            tag: tag(),
            pools: BTreeMap::from([("blue".to_owned(), PoolSize { idle, max })]),
            next: std::cell::Cell::new(0),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            tag: self.tag,
            directory: self.dir.path().join("network"),
            privileged: true,
            pools: self.pools.clone(),
            ranges: "10.77.0.0/16".parse().expect("a range"),
            range6: [1, 2, 3, 4, 5],
            cni_path: vec![self.dir.path().join("plugins")],
            cni_call_max_ms: 5_000,
        }
    }

    pub(super) fn tag(&self) -> NodeTag {
        self.tag
    }

    pub(super) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// A daemon that comes up.
    pub(super) fn daemon(&self, records: &[NetworkRecord], live: &[RunId]) -> Networks {
        let networks = Networks::new(self.settings(), self.runtime.handle().clone());
        let adopted = networks.adopt(records.to_vec(), &live.iter().copied().collect::<HashSet<_>>());
        assert!(adopted.broken.is_empty(), "{adopted:?}");
        networks.fill();
        networks
    }

    pub(super) fn network(&self, networks: &Networks, name: &str, spec: NetworkSpec) -> NetworkRecord {
        let new = NewNetwork { name: name.parse().expect("a name"), spec };
        let record = networks.choose(&hostler_model::Namespace::owner(), new, &[], 0).expect("chosen");
        networks.add(Arc::new(record.clone()));
        self.runtime.block_on(networks.ready(record.id)).expect("made");
        record
    }

    pub(super) fn ask(&self, attachment: &str, workload: &str) -> Ask {
        self.next.set(self.next.get() + 1);
        Ask {
            run: run(self.next.get()),
            namespace: hostler_model::Namespace::owner(),
            attachment: text::attachment(attachment).expect("an attachment"),
            names: vec![workload.to_owned()],
            hostname: workload.to_owned(),
            rights: Rights::Ordinary,
            taker: Taker::Processes,
        }
    }

    pub(super) fn take(&self, networks: &Networks, ask: Ask) -> Result<SetUp, NetworkError> {
        match networks.take(ask)? {
            Take::Ready(setup) => Ok(setup),
            Take::Later(answer) => self.answer(answer),
        }
    }

    fn answer(
        &self,
        answer: tokio::sync::oneshot::Receiver<Result<SetUp, NetworkError>>,
    ) -> Result<SetUp, NetworkError> {
        let answer = async { tokio::time::timeout(LONGEST, answer).await };
        self.runtime.block_on(answer).expect("in time").expect("answered")
    }

    /// The daemon dies, and its sockets with it.
    pub(super) fn crash(self, networks: Networks) -> Self {
        std::mem::forget(networks);
        let Self { runtime, dir, tag, pools, next } = self;
        runtime.shutdown_timeout(LONGEST);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { runtime: runtime.expect("a runtime"), dir, tag, pools, next }
    }

    pub(super) fn quiet(&self, networks: &Networks) {
        assert!(self.runtime.block_on(networks.quiet(LONGEST)), "{:?}", networks.pools());
    }

    /// Nothing is left of the node on the machine.
    pub(super) fn down(&self, networks: &Networks) {
        self.runtime.block_on(networks.shutdown(LONGEST));
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).expect("links");
        assert!(links.iter().all(|link| names::owned(self.tag, &link.name).is_none()), "{links:?}");
        let kept = std::fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten();
        let mut kept = kept.map(|entry| entry.file_name().to_string_lossy().into_owned());
        assert!(!kept.any(|name| names::owned(self.tag, &name).is_some()));
        let rules = crate::tool::NFT.run("list", &["list", "tables"], "").expect("listed");
        assert!(!rules.contains(&names::table(self.tag)), "{rules}");
        let book = crate::book::Book::open(&self.dir.path().join("network/leases"), "another boot").expect("the book");
        assert_eq!(book.leases().len(), 0);
    }
}

/// Each run is of a workload of its own.
pub(super) fn run(number: u32) -> RunId {
    RunId { workload: WorkloadId::from_bytes([u8::try_from(number).expect("few"); 6]), number: 1 }
}

fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    netns::within(path, work).expect("entered")
}

/// Somebody who says its name to whoever connects, until it is dropped.
fn speaker(setup: &SetUp, name: &'static str) -> SocketAddr {
    let ip = setup.ip.expect("an address");
    let listener = inside(&setup.path, || TcpListener::bind((ip, 0)).expect("bound"));
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten().take(1) {
            let mut connection = connection;
            let _ = connection.write_all(name.as_bytes());
        }
    });
    address
}

fn hear(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text)
}

/// The addresses of a name, as the resolver of this network tells them.
fn resolve(setup: &SetUp, name: &str) -> Vec<IpAddr> {
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
    let server: IpAddr = setup.resolv.split_whitespace().nth(1).expect("a resolver").parse().expect("an address");
    let question = Question::new(Name::new_unchecked(name), QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false);
    let mut packet = Packet::new_query(7);
    packet.questions.push(question);
    let bytes = packet.build_bytes_vec().expect("built");
    let answer = inside(&setup.path, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        socket.send_to(&bytes, (server, 53)).expect("asked");
        let mut buffer = vec![0; 1_500];
        let length = socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(length);
        buffer
    });
    let packet = Packet::parse(&answer).expect("an answer");
    let addresses = packet.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        _ => None,
    });
    addresses.collect()
}

#[test]
fn filled_taken_named_and_given_back() {
    on_a_machine(|| {
        let machine = Machine::new(2, 4);
        let networks = machine.daemon(&[], &[]);
        machine.network(&networks, "blue", NetworkSpec::default());
        machine.quiet(&networks);
        assert_eq!(networks.pools()[0].2.idle, 2);
        let (one, two) = (machine.ask("blue", "one"), machine.ask("blue,alias=x", "two"));
        let (run, other) = (one.run, two.run);
        let first = match networks.take(one).expect("there is one") {
            Take::Ready(setup) => setup,
            Take::Later(_) => panic!("the pool is filled"),
        };
        let second = machine.take(&networks, two).expect("another");
        let view = networks.of_run(run).expect("its place");
        assert_eq!((view.ip, view.problem), (first.ip, None));
        let address = speaker(&second, "two");
        assert_eq!(inside(&first.path, move || hear(address)).expect("heard"), "two");
        machine.quiet(&networks);
        assert_eq!(resolve(&first, "TWO"), [IpAddr::V4(second.ip.expect("one"))]);
        assert_eq!(resolve(&second, "one"), [IpAddr::V4(first.ip.expect("one"))]);
        assert!(resolve(&second, "three").is_empty());
        networks.release(other);
        machine.quiet(&networks);
        assert!(resolve(&first, "two").is_empty(), "who has left has no name");
        assert!(networks.pools()[0].2.idle >= 2, "{:?}", networks.pools());
        networks.release(run);
        networks.release(run);
        machine.down(&networks);
    });
}

#[test]
fn networks_do_not_reach_each_other_but_through_published_ports() {
    on_a_machine(|| {
        let machine = Machine::new(0, 9);
        let networks = machine.daemon(&[], &[]);
        machine.network(&networks, "blue", NetworkSpec::default());
        machine.network(&networks, "red", NetworkSpec::default());
        machine.network(&networks, "inner", NetworkSpec { internal: true, ..NetworkSpec::default() });
        let blue = machine.take(&networks, machine.ask("blue", "a")).expect("blue");
        let red = machine.take(&networks, machine.ask("red", "b")).expect("red");
        let inner = machine.take(&networks, machine.ask("inner", "c")).expect("inner");
        for (from, to) in [(&red, &blue), (&inner, &blue), (&blue, &inner)] {
            let address = speaker(to, "secret");
            let heard = inside(&from.path, move || TcpStream::connect_timeout(&address, Duration::from_millis(300)));
            assert!(heard.is_err(), "{from:?} reaches {to:?}");
        }
        // Published: from the machine itself by any of its addresses, and from another network by that of its gateway.
        let mut ask = machine.ask("blue", "web");
        ask.attachment.publish = vec![text::publish("7080:9000").expect("a port")];
        let run = ask.run;
        let web = machine.take(&networks, ask).expect("published");
        let listener = inside(&web.path, || TcpListener::bind("0.0.0.0:9000").expect("bound"));
        let server = std::thread::spawn(move || {
            for connection in listener.incoming().flatten().take(4) {
                let mut connection = connection;
                let _ = connection.write_all(b"web");
            }
        });
        assert_eq!(hear("127.0.0.1:7080".parse().expect("one")).expect("from here"), "web");
        let gateway = |setup: &SetUp| -> SocketAddr {
            let ip: IpAddr = setup.resolv.split_whitespace().nth(1).expect("one").parse().expect("an address");
            SocketAddr::new(ip, 7080)
        };
        assert_eq!(hear(gateway(&blue)).expect("by an address of the machine"), "web");
        let to = gateway(&red);
        assert_eq!(inside(&red.path, move || hear(to)).expect("from another network"), "web");
        let to = gateway(&web);
        assert_eq!(inside(&web.path, move || hear(to)).expect("from itself"), "web");
        server.join().expect("served");
        // Nobody else gets the port, a program of the machine included.
        let mut again = machine.ask("red", "web2");
        again.attachment.publish = vec![text::publish("127.0.0.1:7080:1").expect("a port")];
        let refused = machine.take(&networks, again).expect_err("published already").to_string();
        assert!(refused.contains("7080") && refused.contains(&run.to_string()), "{refused}");
        assert!(TcpListener::bind("0.0.0.0:7080").is_err());
        let held = TcpListener::bind("127.0.0.1:7081").expect("bound");
        let mut taken = machine.ask("red", "web3");
        taken.attachment.publish = vec![text::publish("7081:1").expect("a port")];
        let refused = machine.take(&networks, taken).expect_err("somebody else's").to_string();
        assert!(refused.contains("7081") && refused.contains("in use"), "{refused}");
        drop(held);
        networks.release(run);
        machine.quiet(&networks);
        assert!(TcpStream::connect_timeout(&"127.0.0.1:7080".parse().expect("one"), LONGEST).is_err());
        drop(TcpListener::bind("0.0.0.0:7080").expect("free again"));
        for run in 1..=3 {
            networks.release(self::run(run));
        }
        machine.down(&networks);
    });
}

#[test]
fn addresses_run_out_and_come_back() {
    on_a_machine(|| {
        let machine = Machine::new(0, 99);
        let networks = machine.daemon(&[], &[]);
        let spec = NetworkSpec { subnet: Some("10.5.0.0/29".parse().expect("a range")), ..NetworkSpec::default() };
        let record = machine.network(&networks, "blue", spec);
        let asks: Vec<_> = (0..5).map(|_| machine.ask("blue", "w")).collect();
        let runs: Vec<_> = asks.iter().map(|ask| ask.run).collect();
        let ips: HashSet<_> = asks.into_iter().map(|ask| machine.take(&networks, ask).expect("free").ip).collect();
        assert_eq!(ips.len(), 5);
        let problem = networks.room(&record.namespace, &record.name).expect_err("full");
        assert_eq!((problem.kind.as_str(), problem.retry_after_s.is_some()), ("try-again", true));
        // One more waits, and has a place when one is given back.
        let Take::Later(mut waits) = networks.take(machine.ask("blue", "late")).expect("it may wait") else {
            panic!("all are taken");
        };
        assert!(waits.try_recv().is_err());
        networks.release(runs[0]);
        let late = machine.runtime.block_on(async { tokio::time::timeout(LONGEST, waits).await });
        late.expect("in time").expect("answered").expect("a place");
        let taken = machine.take(&networks, {
            networks.release(runs[1]);
            machine.ask("blue,ip=10.5.0.4", "w")
        });
        match taken {
            Ok(setup) => assert_eq!(setup.ip, "10.5.0.4".parse().ok()),
            Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
        }
        for number in 1..20 {
            networks.release(run(number));
        }
        machine.down(&networks);
    });
}

#[test]
fn who_is_started_again_finds_his_address_and_ports() {
    on_a_machine(|| {
        let machine = Machine::new(2, 9);
        let networks = machine.daemon(&[], &[]);
        let spec = NetworkSpec { subnet: Some("10.5.0.0/29".parse().expect("a range")), ..NetworkSpec::default() };
        machine.network(&networks, "blue", spec);
        machine.quiet(&networks);
        let mut last = None;
        // 10.5.0.2 is idle in the pool at first, and then that of the run before.
        for round in 0..6 {
            let mut ask = machine.ask("blue,ip=10.5.0.2", "web");
            ask.attachment.publish = vec![text::publish("7070:9000").expect("a port")];
            let run = ask.run;
            // The daemon prepares a run before the end of the one before it is on the disk, and before that is released.
            let early = (round % 2 == 1).then(|| networks.take(ask.clone()).expect("it waits"));
            last.into_iter().for_each(|run| networks.release(run));
            last = Some(run);
            let place = match early {
                None => machine.take(&networks, ask),
                Some(Take::Ready(_)) => panic!("another run has it"),
                Some(Take::Later(answer)) => machine.answer(answer),
            };
            let place = place.unwrap_or_else(|error| panic!("{round}: {error}"));
            assert_eq!(place.ip, "10.5.0.2".parse().ok());
            let listener = inside(&place.path, || TcpListener::bind("0.0.0.0:9000").expect("bound"));
            let server = std::thread::spawn(move || listener.accept().map(|(mut it, _)| it.write_all(b"web")));
            assert_eq!(hear("127.0.0.1:7070".parse().expect("one")).expect("published"), "web", "{round}");
            let _ = server.join().expect("served");
        }
        last.into_iter().for_each(|run| networks.release(run));
        machine.down(&networks);
    });
}

/// Datagrams of one who never stops reach who has the port now.
#[test]
fn datagrams_reach_who_has_the_port_now() {
    on_a_machine(|| {
        let machine = Machine::new(0, 9);
        let networks = machine.daemon(&[], &[]);
        machine.network(&networks, "blue", NetworkSpec::default());
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        let to: SocketAddr = "127.0.0.1:7053".parse().expect("one");
        // Before there is anybody: the kernel remembers that this leads nowhere.
        client.send_to(b"hello", to).expect("sent");
        for name in ["first", "second"] {
            let mut ask = machine.ask("blue", "web");
            ask.attachment.publish = vec![text::publish("7053:53/udp").expect("a port")];
            let run = ask.run;
            let place = machine.take(&networks, ask).expect("a place");
            let server = inside(&place.path, || UdpSocket::bind("0.0.0.0:53").expect("bound"));
            server.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            client.send_to(name.as_bytes(), to).expect("sent");
            let mut heard = [0; 64];
            let (length, peer) = server.recv_from(&mut heard).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(&heard[..length], name.as_bytes());
            server.send_to(b"answer", peer).expect("answered");
            let mut heard = [0; 64];
            let answered = (0..10).any(|_| client.recv(&mut heard).is_ok_and(|length| &heard[..length] == b"answer"));
            assert!(answered, "{name}");
            networks.release(run);
            machine.quiet(&networks);
        }
        machine.down(&networks);
    });
}

#[test]
fn over_a_crash_of_the_daemon() {
    on_a_machine(|| {
        let machine = Machine::new(1, 8);
        let networks = machine.daemon(&[], &[]);
        let record = machine.network(&networks, "blue", NetworkSpec::default());
        let (live, dead) = (machine.ask("blue", "live"), machine.ask("blue", "dead"));
        let (live_run, dead_run) = (live.run, dead.run);
        let mut live = live;
        live.attachment.publish = vec![text::publish("7090:9000").expect("a port")];
        let place = machine.take(&networks, live).expect("a place");
        machine.take(&networks, dead).expect("a place");
        machine.quiet(&networks);
        let machine = machine.crash(networks);
        let stray = crate::names::outer(machine.tag, hostler_model::ids::SetupId::from_bytes([9; 4]));
        let done = std::process::Command::new("ip").args(["link", "add", &stray, "type", "bridge"]).status();
        assert!(done.is_ok_and(|done| done.success()));
        let networks = Networks::new(machine.settings(), machine.runtime.handle().clone());
        let adopted = networks.adopt(vec![record], &HashSet::from([live_run]));
        assert!(adopted.broken.is_empty(), "{adopted:?}");
        assert_eq!(adopted.removed, [stray]);
        networks.fill();
        machine.quiet(&networks);
        assert_eq!(networks.of_run(live_run).and_then(|place| place.ip), place.ip);
        assert_eq!(networks.of_run(dead_run), None);
        let pool = &networks.pools()[0].2;
        assert_eq!((pool.occupied, pool.idle), (1, 1), "{pool:?}");
        let listener = inside(&place.path, || TcpListener::bind("0.0.0.0:9000").expect("bound"));
        let server = std::thread::spawn(move || listener.accept().map(|(mut it, _)| it.write_all(b"still there")));
        assert_eq!(hear("127.0.0.1:7090".parse().expect("one")).expect("published as before"), "still there");
        let _ = server.join().expect("served");
        assert_eq!(resolve(&place, "live"), [IpAddr::V4(place.ip.expect("one"))]);
        networks.release(live_run);
        machine.down(&networks);
    });
}

#[test]
fn what_is_missing_of_a_live_run_is_said() {
    on_a_machine(|| {
        let machine = Machine::new(0, 8);
        let networks = machine.daemon(&[], &[]);
        let record = machine.network(&networks, "blue", NetworkSpec::default());
        let ask = machine.ask("blue", "live");
        let run = ask.run;
        let place = machine.take(&networks, ask).expect("a place");
        let machine = machine.crash(networks);
        let link = names::outer(machine.tag, place.id);
        Netlink::open().and_then(|mut netlink| netlink.one(crate::netlink::remove(&link))).expect("cut");
        let networks = Networks::new(machine.settings(), machine.runtime.handle().clone());
        let adopted = networks.adopt(vec![record], &HashSet::from([run]));
        assert!(adopted.broken.len() == 1 && adopted.broken[0].1.contains(&link), "{adopted:?}");
        assert!(networks.of_run(run).is_some_and(|place| place.problem.is_some()));
        networks.release(run);
        machine.down(&networks);
    });
}

/// However many plugins hang: others have their networks, and go on when they are done.
#[test]
fn plugins_that_hang_leave_threads_for_others() {
    on_a_machine(|| {
        let machine = Machine::new(0, 9);
        let plugins = machine.dir.path().join("plugins");
        let flag = machine.dir.path().join("hang");
        std::fs::create_dir(&plugins).expect("a directory");
        std::fs::write(&flag, "").expect("a flag");
        let script = format!(
            "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\nwhile [ -e {} ]; do sleep 0.05; done\nexit 1\n",
            flag.display()
        );
        std::fs::write(plugins.join("slow"), script).expect("a plugin");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(plugins.join("slow"), mode).expect("executable");
        let networks = machine.daemon(&[], &[]);
        let mut waiting = Vec::new();
        for number in 0..12 {
            let name = format!("cni{number}");
            let list = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"slow"}}]}}"#);
            machine.network(&networks, &name, NetworkSpec { cni: Some(list), ..NetworkSpec::default() });
            for _ in 0..3 {
                match networks.take(machine.ask(&name, "w")).expect("it waits") {
                    Take::Later(answer) => waiting.push(answer),
                    Take::Ready(_) => panic!("a plugin hangs"),
                }
            }
        }
        machine.network(&networks, "blue", NetworkSpec::default());
        let ask = machine.ask("blue", "w");
        let run = ask.run;
        machine.take(&networks, ask).expect("a place");
        assert!(waiting.iter_mut().all(|answer| answer.try_recv().is_err()), "plugins hang");
        std::fs::remove_file(&flag).expect("go on");
        for answer in waiting {
            let error = machine.answer(answer).expect_err("it failed").to_string();
            assert!(error.contains("slow"), "{error}");
        }
        networks.release(run);
        machine.down(&networks);
    });
}

/// A network that cannot be used now still keeps those who are in it apart from others.
#[test]
fn rules_stay_when_a_network_breaks() {
    on_a_machine(|| {
        let machine = Machine::new(0, 9);
        let networks = machine.daemon(&[], &[]);
        let inner = machine.network(&networks, "inner", NetworkSpec { internal: true, ..NetworkSpec::default() });
        let ask = machine.ask("inner", "live");
        let run = ask.run;
        machine.take(&networks, ask).expect("a place");
        machine.quiet(&networks);
        let machine = machine.crash(networks);
        // Somebody else answers names now.
        let other = UdpSocket::bind("0.0.0.0:53").expect("a socket");
        let networks = Networks::new(machine.settings(), machine.runtime.handle().clone());
        networks.adopt(vec![inner.clone()], &HashSet::from([run]));
        assert!(networks.view(&inner).problem.is_some_and(|problem| problem.contains("53")));
        let rules = crate::tool::NFT.run("list", &["list", "table", "inet", &names::table(machine.tag)], "");
        let bridge = names::bridge(machine.tag, inner.id);
        assert!(rules.expect("the table is there").matches(&bridge).count() >= 2, "within, and internal");
        drop(other);
        machine.runtime.block_on(async {
            let began = tokio::time::Instant::now();
            while networks.view(&inner).problem.is_some() && began.elapsed() < LONGEST {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(networks.view(&inner).problem, None, "it is tried again by itself");
        networks.release(run);
        machine.down(&networks);
    });
}

#[test]
fn a_pool_that_became_smaller_keeps_no_more() {
    on_a_machine(|| {
        let machine = Machine::new(5, 9);
        let networks = machine.daemon(&[], &[]);
        let record = machine.network(&networks, "blue", NetworkSpec::default());
        let ask = machine.ask("blue", "live");
        let run = ask.run;
        machine.take(&networks, ask).expect("a place");
        machine.quiet(&networks);
        assert_eq!(networks.pools()[0].2.idle, 5);
        let mut machine = machine.crash(networks);
        machine.pools = BTreeMap::from([("blue".to_owned(), PoolSize { idle: 2, max: 3 })]);
        let networks = machine.daemon(&[record], &[run]);
        machine.quiet(&networks);
        let pool = &networks.pools()[0].2;
        assert_eq!((pool.idle, pool.occupied, pool.leaving), (2, 1, 0), "{pool:?}");
        networks.release(run);
        machine.down(&networks);
    });
}
