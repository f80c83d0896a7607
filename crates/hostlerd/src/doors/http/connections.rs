//! The connections of the socket: who is at the other end, how many there may be, and how long one may take to say
//! what it wants.
//!
//! ```text
//!   accept ──► room for it? ──► serve ──► (upgrade) ──► closed: the place is free again
//!                 │ the node's is taken: the next waits in the kernel's queue
//!                 └ the caller's is taken: closed without a word
//! ```
//! A connection keeps its place for as long as its socket lives, also as a WebSocket. One caller cannot take the
//! places of the others; the node's owner, who could stop it anyhow, has all there are.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hostler_model::limits;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Peer;

/// After the system refused a connection for want of descriptors or memory.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Who has how many connections, the owner left out. Together they have half of all: the other half is his.
#[derive(Default)]
struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    by_caller: HashMap<u32, usize>,
    all: usize,
    /// The log was told that there is no room, and none has become free since.
    told: bool,
}

/// One of the places of a caller.
struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.by_caller.get(&uid).copied().unwrap_or(0);
        if count >= limits::HTTP_CONNECTIONS_PER_CALLER_MAX || taken.all >= limits::HTTP_CONNECTIONS_MAX / 2 {
            if !std::mem::replace(&mut taken.told, true) {
                tracing::warn!(uid, "a caller has all the connections he may have; further ones are closed");
            }
            return None;
        }
        taken.by_caller.insert(uid, count + 1);
        taken.all += 1;
        Some(Place { places: Arc::clone(self), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        taken.told = false;
        if let Some(count) = taken.by_caller.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.by_caller.remove(&self.uid);
            }
        }
    }
}

/// A socket with its place.
struct Placed {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
}

impl Placed {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut UnixStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Placed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, into)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

/// Serves `router` until `down`, then lets short answers finish. `owner` is the user the node belongs to.
pub(super) async fn serve(listener: UnixListener, router: Router, owner: u32, down: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let places = Arc::new(Places::default());
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(limits::HTTP_HEADER_MAX_MS));
    tokio::pin!(down);
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            () = &mut down => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // He was gone before we looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::error!(%error, "accepting a connection");
                tokio::time::sleep(AFTER_REFUSAL).await;
                continue;
            }
        };
        let peer = Peer(stream.peer_cred().ok().map(|credentials| (credentials.uid(), credentials.gid())));
        let place = match peer.0 {
            Some((uid, _)) if uid == 0 || uid == owner => None,
            Some((uid, _)) => match places.take(uid) {
                Some(place) => Some(place),
                None => continue,
            },
            // Every request of it will be refused.
            None => None,
        };
        let routes = TowerToHyperService::new(router.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            routes.call(request)
        });
        let placed = TokioIo::new(Placed { stream, _permit: permit, _place: place });
        let connection = graceful.watch(builder.serve_connection_with_upgrades(placed, service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_places_and_gives_them_back() {
        let places = Arc::new(Places::default());
        let mut taken: Vec<_> = (0..limits::HTTP_CONNECTIONS_PER_CALLER_MAX).map(|_| places.take(7)).collect();
        assert!(taken.iter().all(Option::is_some) && places.take(7).is_none());
        assert!(places.take(8).is_some(), "others have their own");
        taken.pop();
        assert!(places.take(7).is_some());
        drop(taken);
        let all: Vec<_> =
            (100..200).flat_map(|uid| (0..100).map(move |_| uid)).map_while(|uid| places.take(uid)).collect();
        assert_eq!(all.len(), limits::HTTP_CONNECTIONS_MAX / 2, "the rest is the owner's");
        drop(all);
        let taken = places.0.lock().unwrap();
        assert!(taken.by_caller.is_empty() && taken.all == 0);
    }
}
