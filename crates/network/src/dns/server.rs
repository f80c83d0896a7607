//! The tasks of one network's resolver.
//!
//! Each address has a task for its datagrams and one for its connections, and those own the tasks of the questions that
//! they forward: when they are stopped, all is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostler_model::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::machine::Machine;
use super::message::{Code, Question, Transport, Unusable};
use super::sockets::{DnsError, open};
use super::upstream::{Asking, framed};
use super::zone::{Upstreams, Verdict, Zone};

/// Where resolvers listen.
const PORT: u16 = 53;
/// After a datagram or a connection that could not be taken: for want of memory or descriptors, mostly.
const TAKE_AGAIN: Duration = Duration::from_millis(100);

/// What may differ from one resolver to another; tests need ports of their own.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Any free one when 0.
    pub(super) port: u16,
    pub(super) asking: Asking,
    pub(super) idle_max: Duration,
    pub(super) machine: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: PORT,
            asking: Asking { port: PORT, wait_max: Duration::from_millis(limits::DNS_UPSTREAM_MAX_MS) },
            idle_max: Duration::from_millis(limits::DNS_IDLE_MAX_MS),
            machine: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// A running resolver. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    #[cfg(test)]
    addresses: Vec<SocketAddr>,
}

impl Resolver {
    /// Listens at port 53 of these addresses, to be asked through the interface only when one is named.
    ///
    /// Sleeps for at most [`limits::DNS_LISTEN_MAX_MS`] while an address is there but not usable yet.
    ///
    /// # Errors
    /// [`DnsError`] when one of the addresses cannot be listened at; then none is.
    pub(crate) fn start(
        handle: &Handle,
        listen: &[IpAddr],
        interface: Option<&str>,
        zone: Zone,
    ) -> Result<Self, DnsError> {
        Self::start_with(handle, listen, interface, zone, Settings::default())
    }

    /// The same at another port; at any free one when it is 0.
    #[cfg(test)]
    pub(crate) fn start_on(
        handle: &Handle,
        port: u16,
        listen: &[IpAddr],
        interface: Option<&str>,
        zone: Zone,
    ) -> Result<Self, DnsError> {
        Self::start_with(handle, listen, interface, zone, Settings { port, ..Settings::default() })
    }

    pub(super) fn start_with(
        handle: &Handle,
        listen: &[IpAddr],
        interface: Option<&str>,
        zone: Zone,
        settings: Settings,
    ) -> Result<Self, DnsError> {
        let _inside = handle.enter();
        let deadline = Instant::now() + Duration::from_millis(limits::DNS_LISTEN_MAX_MS);
        let mut sockets = Vec::new();
        for address in listen {
            sockets.push(open(SocketAddr::new(*address, settings.port), interface, deadline)?);
        }
        let shared = Arc::new(Shared {
            zone: watch::Sender::new(Arc::new(zone)),
            forwarded: Arc::new(Semaphore::new(limits::DNS_FORWARDED_MAX)),
            connections: Arc::new(Semaphore::new(limits::DNS_CONNECTIONS_MAX)),
            machine: Machine::new(settings.machine),
            listen: listen.to_vec(),
            asking: settings.asking,
            idle_max: settings.idle_max,
        });
        let mut tasks = Vec::new();
        #[cfg(test)]
        let addresses = sockets.iter().map(|(address, ..)| *address).collect();
        for (_, datagrams, connections) in sockets {
            tasks.push(handle.spawn(serve_datagrams(Arc::clone(&shared), datagrams)));
            tasks.push(handle.spawn(serve_connections(Arc::clone(&shared), connections)));
        }
        Ok(Self {
            shared,
            tasks,
            #[cfg(test)]
            addresses,
        })
    }

    /// Replaces all that it knows: each question is answered from what was before, or from what is now.
    pub(crate) fn set(&self, zone: Zone) {
        self.shared.zone.send_replace(Arc::new(zone));
    }

    /// Where it listens.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What its tasks hold: gone when all of them are.
    #[cfg(test)]
    pub(super) fn held(&self) -> std::sync::Weak<dyn std::any::Any + Send + Sync> {
        let shared: Arc<dyn std::any::Any + Send + Sync> = Arc::<Shared>::clone(&self.shared);
        Arc::downgrade(&shared)
    }

    /// Makes the next question look at the machine's list.
    #[cfg(test)]
    pub(super) fn forget_the_look(&self) {
        self.shared.machine.forget_the_look();
    }

    /// Stops it, and returns when its sockets are closed. Dropping it does not wait for that.
    pub(crate) async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It says that it was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What all tasks of a resolver use.
#[derive(Debug)]
struct Shared {
    zone: watch::Sender<Arc<Zone>>,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    machine: Machine,
    listen: Vec<IpAddr>,
    asking: Asking,
    idle_max: Duration,
}

/// What becomes of a message.
enum Step {
    Drop,
    Answer(Vec<u8>),
    Forward(Question, Upstreams, OwnedSemaphorePermit),
}

impl Shared {
    fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone.borrow())
    }

    fn consider(&self, packet: &[u8], source: IpAddr, transport: Transport) -> Step {
        let zone = self.zone();
        if !zone.serves(source) {
            return Step::Drop;
        }
        let question = match Question::read(packet) {
            Ok(question) => question,
            Err(Unusable::Dropped) => return Step::Drop,
            Err(Unusable::Answered(answer)) => return Step::Answer(answer),
        };
        // Not counted: clients that ask for two types each time would keep step, and always find the same replica first.
        let turn = usize::from_ne_bytes(hostler_linux::daemon::random_bytes());
        match zone.answer(&question, source, turn) {
            Verdict::Known(data) => Step::Answer(question.known(Code::Fine, &data, transport)),
            Verdict::NoSuchName => Step::Answer(question.known(Code::NoSuchName, &[], transport)),
            Verdict::Ask(upstreams) => match Arc::clone(&self.forwarded).try_acquire_owned() {
                Ok(permit) => Step::Forward(question, upstreams, permit),
                Err(_) => Step::Answer(question.reply(Code::Failed, transport)),
            },
        }
    }

    async fn forward(&self, question: &Question, upstreams: Upstreams, transport: Transport) -> Vec<u8> {
        let mut upstreams = match upstreams {
            Upstreams::These(these) => these,
            Upstreams::Machine { own } => self.machine.upstreams(&own).await,
        };
        // An answer of ours to a question of ours would never come.
        upstreams.retain(|upstream| !self.listen.contains(upstream));
        match self.asking.ask(&upstreams, question, transport).await {
            Some(answer) => question.passed_on(answer, transport),
            None => question.reply(Code::Failed, transport),
        }
    }
}

async fn serve_datagrams(shared: Arc<Shared>, socket: UdpSocket) {
    let mut forwards: JoinSet<(Vec<u8>, SocketAddr)> = JoinSet::new();
    // With room for a byte too many, so that a longer question is seen to be one.
    let mut buffer = vec![0; limits::DNS_DATAGRAM_MAX + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(forwarded) = forwards.join_next() => {
                if let Ok((answer, client)) = forwarded {
                    tell(&socket, &answer, client);
                }
                continue;
            }
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "taking a question");
                tokio::time::sleep(TAKE_AGAIN).await;
                continue;
            }
        };
        match shared.consider(&buffer[..length], client.ip(), Transport::Udp) {
            Step::Drop => {}
            Step::Answer(answer) => tell(&socket, &answer, client),
            Step::Forward(question, upstreams, permit) => {
                let shared = Arc::clone(&shared);
                forwards.spawn(async move {
                    let _permit = permit;
                    (shared.forward(&question, upstreams, Transport::Udp).await, client)
                });
            }
        }
    }
}

/// A datagram may get lost anywhere, so it may here, when the system has no room for it.
fn tell(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, client) {
        tracing::debug!(%client, %error, "answering a question");
    }
}

async fn serve_connections(shared: Arc<Shared>, listener: TcpListener) {
    let mut served = JoinSet::new();
    loop {
        // Beyond the bound they wait in the kernel until one ends.
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let (stream, client) = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => break accepted,
                    Err(error) => {
                        tracing::debug!(%error, "taking a connection for questions");
                        tokio::time::sleep(TAKE_AGAIN).await;
                    }
                },
                Some(_) = served.join_next() => {}
            }
        };
        let shared = Arc::clone(&shared);
        served.spawn(async move {
            let _permit = permit;
            if let Err(error) = serve_connection(&shared, stream, client.ip()).await {
                tracing::debug!(%client, %error, "a connection for questions");
            }
        });
    }
}

/// Questions one after the other, until there is none for a while, or one that is none.
async fn serve_connection(shared: &Shared, mut stream: TcpStream, client: IpAddr) -> io::Result<()> {
    if !shared.zone().serves(client) {
        return Ok(());
    }
    loop {
        let Some(packet) = tokio::time::timeout(shared.idle_max, read_framed(&mut stream)).await?? else {
            return Ok(());
        };
        let answer = match shared.consider(&packet, client, Transport::Tcp) {
            Step::Drop => return Ok(()),
            Step::Answer(answer) => answer,
            Step::Forward(question, upstreams, _permit) => shared.forward(&question, upstreams, Transport::Tcp).await,
        };
        tokio::time::timeout(shared.idle_max, stream.write_all(&framed(&answer)?)).await??;
    }
}

/// None at the end, or when it is longer than any question.
async fn read_framed(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > limits::DNS_DATAGRAM_MAX {
        return Ok(None);
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}
