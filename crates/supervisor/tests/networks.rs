//! Single decisions about networks; the rest is in `sequences`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_model::container::{Container, Network};
use hostler_model::event::EventKind;
use hostler_model::ids::{Namespace, NetworkId, NetworkName, RunId, SandboxId, StackName, WorkloadId};
use hostler_model::network::{Attachment, Bridge, NetworkRecord, NetworkSpec};
use hostler_model::record::Record;
use hostler_model::schedule::Schedule;
use hostler_model::spec::Spec;
use hostler_model::stack::probe::{Readiness, ReadyWhen};
use hostler_model::stack::{UnitKind, UnitPlan, Update};
use hostler_model::vm::Vm;
use hostler_model::workload::Identity;
use hostler_model::{Now, Problem, ProblemKind, limits};
use hostler_supervisor::input::Reply;
use hostler_supervisor::stack::{Retry, Wanted};
use hostler_supervisor::{
    Action, ApplyStack, Create, Fact, Input, Outcome, Records, Request, ScheduleOrder, Settings, State,
};

struct World {
    state: State,
    now: Now,
    next: u8,
}

fn owner() -> Namespace {
    Namespace::owner()
}

fn name(text: &str) -> NetworkName {
    text.parse().expect("a name")
}

/// A network in this range; both numbers make its id.
fn network(text: &str, range: &str, range6: Option<&str>) -> NetworkRecord {
    let spec = NetworkSpec::default();
    let subnet6 = range6.map(|range| range.parse().expect("a range"));
    let mut id = [0; 3];
    text.bytes().enumerate().for_each(|(at, byte)| id[at % 3] ^= byte);
    NetworkRecord {
        id: NetworkId::from_bytes(id),
        namespace: owner(),
        name: name(text),
        bridge: Some(Bridge::new(&spec, range.parse().expect("a range"), subnet6)),
        spec,
        created_at_ms: 5,
    }
}

fn attached(spec: &mut Spec, text: &str) {
    let network = Some(Network::Named(Box::new(Attachment::to(name(text)))));
    spec.container = Some(Box::new(Container { rootfs: Some("/".into()), network, ..Container::default() }));
}

impl World {
    fn new() -> Self {
        let now = Now { boot_ms: 1_000_000, wall_ms: 1_800_000_000_000, entropy: 7 };
        let mut world = Self { state: State::load(Settings::default(), Records::default()), now, next: 0 };
        world.step(Input::Adopted { found: Vec::new(), boot_id: "b".to_owned(), version: "v".to_owned() });
        world
    }

    fn step(&mut self, input: Input) -> Outcome {
        let mut out = Outcome::default();
        self.state.step(input, self.now, &mut out);
        out
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Problem> {
        self.step(Input::Request(1, request)).replies.remove(0).1
    }

    fn make(&mut self, record: NetworkRecord) -> Result<Reply, Problem> {
        self.ask(Request::CreateNetwork(Box::new(record)))
    }

    fn remove(&mut self, text: &str) -> Result<Reply, Problem> {
        self.ask(Request::RemoveNetwork(owner(), name(text)))
    }

    fn create(&mut self, text: &str, change: impl FnOnce(&mut Spec)) -> Result<WorkloadId, Problem> {
        self.next += 1;
        let mut spec = Spec::new(vec!["true".into()]);
        spec.name = Some(text.parse().expect("a name"));
        change(&mut spec);
        spec.check()?;
        let id = WorkloadId::from_bytes([9, 9, 9, 9, 9, self.next]);
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        let spec = Arc::new(spec);
        let create = Create {
            id,
            namespace: owner(),
            spec,
            identity,
            idempotency: None,
            restore: None,
            hook_of: None,
            unplaced: None,
        };
        self.ask(Request::Create(Box::new(create))).map(|_| id)
    }

    /// Its program runs, or, when that is all, has failed to start.
    fn fail(&mut self, id: WorkloadId, number: u32) {
        let failure = hostler_model::workload::StartFailure {
            kind: hostler_model::workload::StartFailureKind::Cancelled,
            message: "undone".to_owned(),
        };
        self.step(Input::Fact(Fact::StartFailed { run: RunId { workload: id, number }, failure }));
    }

    /// A stack with these networks, and a service that is in the one named.
    fn apply(&mut self, stack: &str, networks: Vec<NetworkRecord>, used: Option<&str>) -> Outcome {
        let mut spec = Spec::new(vec!["true".into()]);
        used.into_iter().for_each(|text| attached(&mut spec, text));
        let plan = UnitPlan {
            kind: UnitKind::Service,
            spec,
            after: Vec::new(),
            requires: Vec::new(),
            ready: Readiness { when: ReadyWhen::Started, deadline_ms: None },
            condition: None,
            liveness: None,
            replicas: 1,
            update: Update::Replace,
        };
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), user: None, home: None };
        let units = [("web".parse().expect("a name"), Wanted { plan: Arc::new(plan), identity })].into();
        let asked = ApplyStack {
            namespace: owner(),
            name: stack_name(stack),
            units,
            queues: BTreeMap::new(),
            networks,
            mistakes: Vec::new(),
            retry: Retry::Settled,
        };
        self.step(Input::Request(1, Request::ApplyStack(Box::new(asked))))
    }

    fn down(&mut self, stack: &str) {
        self.ask(Request::DownStack(owner(), stack_name(stack))).expect("down");
        let members = self
            .state
            .workloads()
            .values()
            .filter(|of| of.stack.as_ref().is_some_and(|it| it.stack == stack_name(stack)));
        let live: Vec<_> = members.filter_map(|workload| workload.live_run()).map(|run| run.id).collect();
        for run in live {
            self.fail(run.workload, run.number);
        }
    }

    fn known(&self) -> Vec<&str> {
        self.state.networks().keys().map(|(_, name)| name.as_str()).collect()
    }
}

fn stack_name(text: &str) -> StackName {
    text.parse().expect("a name")
}

/// A refusal of this kind that says all of this.
#[track_caller]
fn refused(answer: Result<impl std::fmt::Debug, Problem>, kind: ProblemKind, words: &[&str]) {
    let problem = answer.expect_err("refused");
    assert_eq!(problem.kind, kind, "{problem}");
    for word in words {
        assert!(problem.detail.contains(word), "{:?} does not say {word:?}", problem.detail);
    }
}

#[test]
fn a_network_has_a_name_an_id_and_a_range_of_its_own() {
    let mut world = World::new();
    let out = world.step(Input::Request(1, Request::CreateNetwork(Box::new(network("blue", "10.1.0.0/16", None)))));
    assert!(matches!(out.early.as_slice(), [Action::AddNetwork(record)] if record.name == name("blue")), "{out:?}");
    assert!(matches!(out.batch.records.as_slice(), [Record::Network(_)]));
    assert!(matches!(&out.batch.events[0].kind, EventKind::NetworkCreated { network } if network.name == name("blue")));
    assert!(matches!(&out.replies[0].1, Ok(Reply::Network(record)) if record.name == name("blue")));

    refused(world.make(network("blue", "10.2.0.0/16", None)), ProblemKind::NameInUse, &["hostler network rm blue"]);
    let words = ["10.1.2.0/24 overlaps 10.1.0.0/16 of network blue"];
    refused(world.make(network("red", "10.1.2.0/24", None)), ProblemKind::Conflict, &words);
    let alice = NetworkRecord { namespace: "alice".parse().expect("a name"), ..network("red", "10.1.2.0/24", None) };
    refused(world.make(alice), ProblemKind::Conflict, &["blue of namespace default"]);
    world.make(network("six", "10.2.0.0/16", Some("fd00:1::/64"))).expect("made");
    let overlap = network("red", "10.3.0.0/16", Some("fd00:1::/80"));
    refused(world.make(overlap), ProblemKind::Conflict, &["fd00:1::/80", "of network six"]);
    let twin = NetworkRecord { id: network("blue", "10.1.0.0/16", None).id, ..network("red", "10.3.0.0/16", None) };
    refused(world.make(twin), ProblemKind::Conflict, &["by chance"]);
    let bare = NetworkRecord { bridge: None, ..network("red", "10.3.0.0/16", None) };
    refused(world.make(bare), ProblemKind::Conflict, &["meanwhile"]);
    assert_eq!(world.known(), ["blue", "six"], "what was refused changed nothing");

    let out = world.step(Input::Request(1, Request::RemoveNetwork(owner(), name("blue"))));
    assert!(matches!(out.actions.as_slice(), [Action::RemoveNetwork(_)]), "{out:?}");
    assert!(matches!(out.batch.records.as_slice(), [Record::NetworkRemoved(..)]));
    assert!(matches!(out.batch.events[0].kind, EventKind::NetworkRemoved { .. }));
    refused(world.remove("blue"), ProblemKind::NotFound, &["hostler network ls"]);
}

#[test]
fn networks_are_bounded_and_refused_while_nothing_can_be_recorded() {
    let mut world = World::new();
    for number in 0..limits::NETWORKS_MAX {
        let (high, low) = ((number / 256) as u8, (number % 256) as u8);
        let record = network(&format!("n{number}"), &format!("10.{high}.{low}.0/24"), None);
        world.make(NetworkRecord { id: NetworkId::from_bytes([1, high, low]), ..record }).expect("made");
    }
    refused(world.make(network("more", "172.16.0.0/24", None)), ProblemKind::LimitReached, &["hostler network rm"]);
    world.remove("n7").expect("removed");
    world.step(Input::DiskFull(true));
    refused(world.make(network("more", "172.16.0.0/24", None)), ProblemKind::DiskFull, &[]);
    world.step(Input::DiskFull(false));
    world.ask(Request::LameDuck(true)).expect("a lame duck");
    world.make(network("more", "172.16.0.0/24", None)).expect("a network is no work");
    world.ask(Request::StopAll).expect("going down");
    refused(world.make(network("most", "172.16.1.0/24", None)), ProblemKind::Unavailable, &[]);
}

#[test]
fn who_names_a_network_finds_it_for_as_long_as_he_may_run() {
    let mut world = World::new();
    let words = ["no network blue", "hostler network create blue"];
    refused(world.create("web", |spec| attached(spec, "blue")), ProblemKind::UnknownNetwork, &words);
    world.make(network("blue", "10.1.0.0/16", None)).expect("made");
    let ids: Vec<_> = ["web", "db", "api", "log"]
        .iter()
        .map(|text| world.create(text, |spec| attached(spec, "blue")).expect("accepted"))
        .collect();
    let words = ["web, db, api and 1 more", "hostler stop web db api"];
    refused(world.remove("blue"), ProblemKind::Conflict, &words);
    for id in &ids {
        world.fail(*id, 1);
    }
    let plan = |spec: &mut Spec| {
        attached(spec, "blue");
        spec.schedule = Some(Box::new(Schedule { cron: Some("@daily".to_owned()), ..Schedule::default() }));
    };
    let daily = world.create("daily", plan).expect("accepted");
    refused(world.remove("blue"), ProblemKind::Conflict, &["used by daily;"]);
    world.ask(Request::Schedule(daily, ScheduleOrder::Pause)).expect("paused");
    world.remove("blue").expect("everybody rests");
    for request in [
        Request::Start(ids[0]),
        Request::Restart { workload: ids[0], signal: None, grace_ms: None },
        Request::Schedule(daily, ScheduleOrder::Resume),
        Request::Schedule(daily, ScheduleOrder::Fire),
    ] {
        refused(world.ask(request), ProblemKind::UnknownNetwork, &["blue"]);
    }
    world.make(network("blue", "10.2.0.0/16", None)).expect("another one");
    world.ask(Request::Start(ids[0])).expect("it goes where the name leads");
}

#[test]
fn virtual_machines_are_in_networks_as_containers_are() {
    let mut world = World::new();
    let guest = |text: &'static str| {
        move |spec: &mut Spec| {
            let network = Some(Network::Named(Box::new(Attachment::to(name(text)))));
            spec.vm = Some(Box::new(Vm { network, ..Vm::default() }));
        }
    };
    refused(world.create("early", guest("blue")), ProblemKind::UnknownNetwork, &["blue"]);
    world.make(network("blue", "10.0.0.0/24", None)).expect("made");
    let plugins = NetworkSpec { cni: Some("{}".to_owned()), ..NetworkSpec::default() };
    let cni = NetworkRecord { spec: plugins, bridge: None, ..network("cni", "10.0.1.0/24", None) };
    world.make(cni).expect("made");
    refused(world.create("cni", guest("cni")), ProblemKind::NetworkUnavailable, &["cni", "CNI plugins"]);
    world.create("guest", guest("blue")).expect("accepted");
    refused(world.remove("blue"), ProblemKind::Conflict, &["guest"]);
}

#[test]
fn a_stacks_networks_come_before_its_units_and_go_with_it() {
    let mut world = World::new();
    let blue = || network("blue", "10.1.0.0/16", None);
    let out = world.apply("shop", vec![blue()], Some("blue"));
    assert!(matches!(out.early.as_slice(), [Action::AddNetwork(_), Action::Prepare(_)]), "{:?}", out.early);
    refused(world.remove("blue"), ProblemKind::Conflict, &["used by stack shop;", "hostler stack down shop"]);
    // The same again, by whom ever: it stays what it is.
    let again = NetworkRecord { id: NetworkId::from_bytes([7; 3]), ..blue() };
    world.apply("shop", vec![again.clone()], Some("blue"));
    world.apply("other", vec![again], None);
    assert_eq!(world.state.networks().values().map(|it| it.id).collect::<Vec<_>>(), [blue().id]);
    let mut changed = blue();
    changed.spec.internal = true;
    world.apply("third", vec![changed], None);
    let third = world.state.stacks().find(|(stack, _)| stack.name == stack_name("third")).expect("there").0.clone();
    assert_eq!((third.mistakes.len(), third.networks.len()), (1, 0));
    assert_eq!(third.mistakes[0].path, "network.blue");
    assert!(third.mistakes[0].what.contains("differs"), "{:?}", third.mistakes);
    // Nobody is put into a network that is not what he was promised.
    let mut changed = blue();
    changed.spec.internal = true;
    let out = world.apply("fourth", vec![changed], Some("blue"));
    assert!(out.early.is_empty(), "{:?}", out.early);
    let fourth = world.state.stacks().find(|(stack, _)| stack.name == stack_name("fourth")).expect("there").0.clone();
    assert!(fourth.mistakes.iter().any(|mistake| mistake.unit.is_some()), "{:?}", fourth.mistakes);
    world.down("fourth");
    world.down("shop");
    assert_eq!(world.known(), ["blue"], "another stack describes it");
    world.down("other");
    assert_eq!(world.known(), [""; 0], "the last one took it along");
}

#[test]
fn what_a_stack_describes_no_longer_goes_unless_somebody_is_in_it() {
    let mut world = World::new();
    let both = || vec![network("blue", "10.1.0.0/16", None), network("red", "10.2.0.0/16", None)];
    world.apply("shop", both(), Some("blue"));
    let guest = world.create("guest", |spec| attached(spec, "red")).expect("accepted");
    world.apply("shop", Vec::new(), Some("blue"));
    assert_eq!(world.known(), ["blue", "red"]);
    world.fail(guest, 1);
    world.apply("shop", Vec::new(), Some("blue"));
    assert_eq!(world.known(), ["blue"], "nobody is in the other one");
    world.down("shop");
    assert_eq!(world.known(), [""; 0]);
}

#[test]
fn a_unit_whose_network_is_not_there_says_so() {
    let mut world = World::new();
    world.apply("shop", Vec::new(), Some("blue"));
    let (_, units) = world.state.stacks().next().expect("there");
    let state = format!("{:?}", units.values().next().expect("a unit").current.state);
    assert!(state.contains("hostler network create blue"), "{state}");
}

#[test]
fn a_broken_network_is_told_on_the_run() {
    let mut world = World::new();
    world.make(network("blue", "10.1.0.0/16", None)).expect("made");
    let id = world.create("web", |spec| attached(spec, "blue")).expect("accepted");
    let run = RunId { workload: id, number: 1 };
    world.step(Input::Fact(Fact::Started { run, sandbox: SandboxId::from_bytes([1; 6]), pid: 7, started_at_ms: 9 }));
    let lost = |run| Input::Fact(Fact::NetworkLost { run, problem: "the bridge is gone".to_owned() });
    let out = world.step(lost(run));
    let event = &out.batch.events[0];
    assert_eq!(event.kind.name(), "run.network_lost");
    assert_eq!(event.subject.as_ref().and_then(|subject| subject.run), Some(run));
    assert!(
        world.step(lost(RunId { number: 2, ..run })).batch.events.is_empty(),
        "of a run that is over it is no news"
    );
}
