//! What all parts of the room share: one short lock over everything known, and for each network a queue of jobs.
//!
//! Nothing blocks under the lock but the lease book's line. Jobs of one network are carried out a few at a time, in order;
//! while it is being made or changed, nothing else of it is.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hostler_linux::{clock, procfs};
use hostler_model::ids::{Namespace, NetworkId, NetworkName, RunId, SetupId};
use hostler_model::limits;
use hostler_model::network::{NetworkRecord, Publish};
use tokio::sync::{Notify, oneshot};

use crate::book::Book;
use crate::book::leases::{Entry, Lease, User};
use crate::dns::Resolver;
use crate::pool::Pool;
use crate::rules::Port;
use crate::setup::{Kind, Plan};
use crate::{Ask, NetworkError, PoolSize, SetUp, Settings, bridge};

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) handle: tokio::runtime::Handle,
    /// Something changed that somebody may wait for.
    pub(crate) changed: Notify,
    /// Held while the table of nftables is changed: what is written is what is known then.
    pub(crate) rules: Mutex<()>,
    /// Threads that work for CNI networks; changed under the lock of the state.
    cni_working: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) nets: BTreeMap<NetworkId, Net>,
    pub(crate) by_name: HashMap<(Namespace, NetworkName), NetworkId>,
    /// Open from adoption on, on a node that can have networks.
    pub(crate) book: Option<Book>,
    pub(crate) runs: HashMap<RunId, Place>,
    /// Runs that want what another one has.
    pub(crate) knocking: HashSet<RunId>,
    /// Ports of this machine that are kept for runs.
    pub(crate) ports: HashMap<RunId, Vec<OwnedFd>>,
    /// Ports of runs that are over, as long as the rules may have them.
    pub(crate) unpublished: HashMap<RunId, Vec<Port>>,
    /// Set-ups that are on their way out.
    pub(crate) leaving: Vec<(NetworkId, SetupId)>,
    pub(crate) sweeping: bool,
    pub(crate) filling: bool,
    pub(crate) closed: bool,
}

/// A run and its place.
pub(crate) struct Place {
    pub(crate) network: NetworkId,
    pub(crate) ask: Ask,
    pub(crate) setup: Option<SetupId>,
    /// Told once.
    pub(crate) answer: Option<oneshot::Sender<Result<SetUp, NetworkError>>>,
    /// Its ports are in the rules, or about to be.
    pub(crate) published: Vec<Publish>,
    /// What was found missing when the daemon came up.
    pub(crate) problem: Option<String>,
}

/// Where a network stands on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Being made, or made anew.
    Making,
    /// There; the number of its bridge.
    Ready(u32),
    /// Why it is not.
    Broken(String),
}

pub(crate) struct Net {
    pub(crate) record: Arc<NetworkRecord>,
    pub(crate) list: Option<Arc<crate::cni::List>>,
    pub(crate) stage: Stage,
    pub(crate) pool: Pool,
    pub(crate) queue: VecDeque<Job>,
    pub(crate) working: usize,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) zone_pending: bool,
    /// It goes when nothing is in it any more.
    pub(crate) removed: bool,
    /// It is going.
    pub(crate) unmaking: bool,
    pub(crate) failures: u32,
    pub(crate) waking: bool,
}

/// What is done for a network on a thread that may block.
#[derive(Debug)]
pub(crate) enum Job {
    /// Make the network what it should be.
    Ensure,
    /// Take it away.
    Unmake,
    /// Make a set-up for a run that waits for it.
    Make(SetupId),
    /// Make one for the pool.
    Fill(SetupId),
    /// Publish ports and limit rates: the last step before the run is told.
    Finish(RunId),
    /// Somebody has left it.
    Return(Returned),
    /// CNI plugins undo it.
    Undo { setup: SetupId, attempt: u32 },
}

/// A set-up that its run has left.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) setup: SetupId,
    /// Who has left it; nobody, of one that was idle when the daemon came up.
    pub(crate) run: Option<RunId>,
    /// It had published ports.
    pub(crate) published: bool,
    pub(crate) since_ms: u64,
}

impl Job {
    /// Nothing else of the network is done beside it.
    fn alone(&self) -> bool {
        matches!(self, Self::Ensure | Self::Unmake)
    }
}

impl Net {
    pub(crate) fn name(&self) -> &NetworkName {
        &self.record.name
    }

    pub(crate) fn is_cni(&self) -> bool {
        self.record.spec.cni.is_some()
    }

    /// How a set-up of it should be, if it is a bridge network that stands.
    pub(crate) fn plan(&self, settings: &Settings, lease: &Lease) -> Option<Plan> {
        let (Stage::Ready(index), Some(bridge), Some(ip)) = (&self.stage, &self.record.bridge, lease.ip) else {
            return None;
        };
        let tap_owner = lease.user.as_ref().and_then(|user| user.tap_owner);
        Some(Plan {
            tag: settings.tag,
            setup: lease.setup,
            kind: tap_owner.map_or(Kind::Container, |owner| Kind::VirtualMachine { owner }),
            ip,
            ip6: lease.ip6,
            bridge: bridge.clone(),
            bridge_index: *index,
            internal: self.record.spec.internal,
            mtu: bridge::mtu(&self.record),
        })
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings, handle: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            settings,
            handle,
            changed: Notify::new(),
            rules: Mutex::default(),
            cni_working: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    pub(crate) fn now_ms(&self) -> u64 {
        clock::boot_ms()
    }

    /// The pool of a network, as it is configured.
    fn pool_size(&self, record: &NetworkRecord) -> PoolSize {
        let (namespace, name) = (&record.namespace, &record.name);
        let own = (*namespace == Namespace::owner()).then(|| self.settings.pools.get(name.as_str())).flatten();
        let named = || self.settings.pools.get(&format!("{namespace}/{name}"));
        let mut size = own.or_else(named).copied().unwrap_or_default();
        if let Some(bridge) = &record.bridge {
            size.max = size.max.min(bridge.places());
        }
        size
    }

    /// A network becomes known; it is made on the machine as soon as something asks for that.
    pub(crate) fn know(&self, state: &mut State, record: Arc<NetworkRecord>) {
        let size = self.pool_size(&record);
        let list = record.spec.cni.as_deref().map(crate::cni::List::parse).and_then(Result::ok).map(Arc::new);
        let net = Net {
            list,
            stage: Stage::Making,
            pool: Pool::new(size.idle, size.max),
            queue: VecDeque::new(),
            working: 0,
            resolver: None,
            zone_pending: false,
            removed: false,
            unmaking: false,
            failures: 0,
            waking: false,
            record: record.clone(),
        };
        state.by_name.insert((record.namespace.clone(), record.name.clone()), record.id);
        state.nets.insert(record.id, net);
    }

    /// A network that was just decided.
    pub(crate) fn add(self: &Arc<Self>, record: Arc<NetworkRecord>) {
        let id = record.id;
        let mut state = self.state();
        if state.nets.contains_key(&id) {
            return;
        }
        self.know(&mut state, record);
        if !self.settings.privileged {
            if let Some(net) = state.nets.get_mut(&id) {
                net.stage = Stage::Broken(NetworkError::Unprivileged.to_string());
            }
            return;
        }
        self.enqueue(&mut state, id, Job::Ensure);
    }

    /// It is no longer wanted.
    pub(crate) fn remove(self: &Arc<Self>, id: NetworkId) {
        let mut state = self.state();
        let Some(net) = state.nets.get_mut(&id) else { return };
        let key = (net.record.namespace.clone(), net.record.name.clone());
        net.removed = true;
        let name = net.name().clone();
        let (idle, waiting) = net.pool.close();
        if state.by_name.get(&key) == Some(&id) {
            state.by_name.remove(&key);
        }
        for setup in idle {
            self.start_removal(&mut state, id, setup);
        }
        for run in waiting {
            tell(&mut state, run, Err(NetworkError::Removed(name.clone())));
        }
        self.settle(&mut state, id);
    }

    /// What follows when something of a network has changed: who waits is served, the pool is filled, what is removed goes.
    pub(crate) fn settle(self: &Arc<Self>, state: &mut State, id: NetworkId) {
        self.serve(state, id);
        let Some(net) = state.nets.get(&id) else { return };
        if net.removed && net.pool.is_empty() && net.working == 0 && net.queue.is_empty() {
            if self.settings.privileged {
                self.enqueue(state, id, Job::Unmake);
            } else {
                state.nets.remove(&id);
            }
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn enqueue(self: &Arc<Self>, state: &mut State, id: NetworkId, job: Job) {
        let Some(net) = state.nets.get_mut(&id) else { return };
        // What nobody waits for comes behind what somebody does.
        let at = if matches!(job, Job::Fill(_)) {
            None
        } else {
            net.queue.iter().position(|job| matches!(job, Job::Fill(_)))
        };
        net.queue.insert(at.unwrap_or(net.queue.len()), job);
        self.start_jobs(net, id);
    }

    /// Lets as many threads work for the network as may. Those of CNI networks are bounded all together: plugins that hang
    /// leave threads for everybody else.
    fn start_jobs(self: &Arc<Self>, net: &mut Net, id: NetworkId) {
        let has_room = || self.cni_working.load(Ordering::Relaxed) < limits::CNI_WORK_MAX;
        while (!net.is_cni() || has_room() || net.queue.iter().any(Job::alone))
            && let Some(job) = net.next_job()
        {
            // Making the network itself calls none.
            let is_cni = net.is_cni() && !job.alone();
            net.working += 1;
            self.cni_working.fetch_add(usize::from(is_cni), Ordering::Relaxed);
            let shared = Arc::clone(self);
            self.handle.spawn_blocking(move || {
                shared.carry_out(id, job);
                let mut state = shared.state();
                shared.cni_working.fetch_sub(usize::from(is_cni), Ordering::Relaxed);
                if let Some(net) = state.nets.get_mut(&id) {
                    net.working -= 1;
                    shared.start_jobs(net, id);
                }
                if is_cni {
                    // There is room for one of another.
                    state
                        .nets
                        .iter_mut()
                        .filter(|(_, net)| net.is_cni())
                        .for_each(|(id, net)| shared.start_jobs(net, *id));
                }
                shared.settle(&mut state, id);
            });
        }
    }

    /// Carries out a job some time later.
    pub(crate) fn enqueue_later(self: &Arc<Self>, id: NetworkId, job: Job, wait_ms: u64) {
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let mut state = shared.state();
            shared.enqueue(&mut state, id, job);
        });
    }

    /// Tries again what could not be made, when it is time.
    pub(crate) fn wake_later(self: &Arc<Self>, net: &mut Net, id: NetworkId) {
        let now_ms = self.now_ms();
        let Some(at_ms) = net.pool.wake_at_ms().filter(|at_ms| *at_ms > now_ms && !net.waking) else { return };
        net.waking = true;
        let shared = Arc::downgrade(self);
        self.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(at_ms - now_ms)).await;
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.state();
            if let Some(net) = state.nets.get_mut(&id) {
                net.waking = false;
            }
            shared.settle(&mut state, id);
        });
    }

    /// Begins to keep set-ups ready.
    pub(crate) fn fill(self: &Arc<Self>) {
        let mut state = self.state();
        state.filling = true;
        let ids: Vec<_> = state.nets.keys().copied().collect();
        for id in ids {
            self.settle(&mut state, id);
        }
    }

    /// The book, for writing; it is open once the node has adopted what was there.
    pub(crate) fn book<'a>(&self, state: &'a mut State) -> Result<&'a mut Book, NetworkError> {
        if state.book.is_none() {
            let path = self.settings.directory.join("leases");
            let open = || {
                std::fs::create_dir_all(&self.settings.directory)?;
                Book::open(&path, &procfs::boot_id()?)
            };
            state.book = Some(open().map_err(|error| NetworkError::Book(format!("{}: {error}", path.display())))?);
        }
        state.book.as_mut().ok_or_else(|| NetworkError::Book("it is closed".to_owned()))
    }
}

impl State {
    pub(crate) fn lease(&self, setup: SetupId) -> Option<&Lease> {
        self.book.as_ref()?.leases().get(setup)
    }

    /// Changes a line of the book; where it cannot be written, it is remembered as long as the daemon lives.
    pub(crate) fn change_lease(&mut self, setup: SetupId, change: impl FnOnce(&mut Lease)) {
        let Some(mut lease) = self.lease(setup).cloned() else { return };
        change(&mut lease);
        if let Some(book) = &mut self.book {
            book.write_or_remember(Entry::Lease(lease));
        }
    }

    /// Writes down who has taken it. Without that the next daemon would take it for anybody's.
    pub(crate) fn write_user(&mut self, setup: SetupId, user: User) -> Result<(), NetworkError> {
        let failed = |why: String| NetworkError::Book(why);
        let lease = self.lease(setup).cloned().ok_or_else(|| failed("the lease is gone".to_owned()))?;
        let book = self.book.as_mut().ok_or_else(|| failed("it is closed".to_owned()))?;
        book.write(Entry::Lease(Lease { user: Some(user), ..lease })).map_err(|error| failed(error.to_string()))
    }

    /// What a run's workload is called.
    pub(crate) fn name_of(&self, run: RunId) -> String {
        let names = self.runs.get(&run).map(|place| &place.ask.names);
        names.and_then(|names| names.first().cloned()).unwrap_or_else(|| "another workload".to_owned())
    }

    /// The run that has published a port that this one collides with.
    pub(crate) fn publisher_of(&self, port: &Publish) -> Option<RunId> {
        let has = |place: &Place| place.ask.attachment.publish.iter().any(|known| known.collides(port));
        self.runs.iter().find(|(_, place)| has(place)).map(|(run, _)| *run)
    }

    /// Addresses at which the node's own resolvers answer.
    pub(crate) fn own_addresses(&self) -> Vec<IpAddr> {
        let bridges = self.nets.values().filter_map(|net| net.record.bridge.as_ref());
        bridges
            .flat_map(|bridge| [Some(IpAddr::V4(bridge.gateway)), bridge.gateway6.map(IpAddr::V6)])
            .flatten()
            .collect()
    }
}

impl Net {
    fn next_job(&mut self) -> Option<Job> {
        let first = self.queue.front()?;
        let may = match (first.alone(), &self.stage) {
            (true, _) => self.working == 0,
            // What is to be made waits until there is where; what leaves may always leave.
            (false, Stage::Making) => {
                let at = self.queue.iter().position(Job::alone)?;
                if self.working > 0 {
                    return None;
                }
                return self.queue.remove(at);
            }
            (false, _) => self.working < limits::SETUP_WORK_PARALLEL,
        };
        if may { self.queue.pop_front() } else { None }
    }
}

/// Tells a run, once.
pub(crate) fn tell(state: &mut State, run: RunId, answer: Result<SetUp, NetworkError>) {
    let failed = answer.is_err();
    let Some(place) = state.runs.get_mut(&run) else { return };
    if let Some(sender) = place.answer.take() {
        let _ = sender.send(answer);
    }
    if failed {
        state.runs.remove(&run);
        state.ports.remove(&run);
    }
}
