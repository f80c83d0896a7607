//! The connection to the node: received bytes to frames, frames to bytes, messages before data.
//!
//! A socket is a connection from its beginning to its end. A *line* to or from a guest is always there, and a connection on it
//! begins with a call ([`hostler_wire::sync`]).
//!
//! Data frames are made only when everything before them was taken by the socket: what a slow node does not read stays
//! in the rings, where it is counted, and a message waits behind one batch of data at most.

use std::os::fd::OwnedFd;

use hostler_linux::epoll::{Epoll, Event, Interest};
use hostler_linux::net;
use hostler_linux::streams::{self, Read, Written};
use hostler_wire::{Decoder, sync};

use crate::shared::{Shared, TokenKind, token};

/// Data frames made at a time, bytes.
pub(crate) const BATCH: usize = 64 * 1024;
/// One read, bytes, when much comes.
const BULK_READ: usize = 64 * 1024;
/// One read otherwise.
const SMALL_READ: usize = 4 * 1024;
/// Answers waiting for a node that does not read them, bytes; then its questions are not read either.
const OUTBOX_MAX: usize = 1024 * 1024;
/// Buffers up to this size are kept while nothing happens, bytes.
const KEEP: usize = 4 * 1024;

/// Whether the connection is of any more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Alive,
    Dead,
}

/// Where a connection on a line has come to.
enum Calling {
    /// We wait for a call.
    Listening(sync::Listener),
    /// We have called, and wait for the same from the other side.
    Called(sync::Listener, u64),
}

/// A connection.
pub(crate) struct Link {
    socket: OwnedFd,
    kind: TokenKind,
    pub(crate) serial: u32,
    /// The connection has not begun yet.
    calling: Option<Calling>,
    /// A guest's port, which gives a page at a time however much there is.
    is_port: bool,
    pub(crate) decoder: Decoder,
    /// The node has said who it is.
    pub(crate) greeted: bool,
    pub(crate) readable: bool,
    hung_up: bool,
    bulk: bool,
    current: Vec<u8>,
    written: usize,
    blocked: bool,
    /// Watched for room to write.
    watched: bool,
}

impl Link {
    /// A connection that has begun.
    pub(crate) fn new(socket: OwnedFd, kind: TokenKind, shared: &mut Shared) -> std::io::Result<Self> {
        streams::set_nonblocking(&socket)?;
        let serial = shared.next_serial();
        shared.epoll.add(&socket, token(kind, serial), Interest::Read)?;
        Ok(Self {
            socket,
            kind,
            serial,
            calling: None,
            is_port: false,
            decoder: Decoder::default(),
            greeted: false,
            readable: true,
            hung_up: false,
            bulk: false,
            current: Vec::new(),
            written: 0,
            blocked: false,
            watched: false,
        })
    }

    /// On a line: waits for a call, and has forgotten whatever was before.
    pub(crate) fn listen(&mut self) {
        let mut listener = sync::Listener::default();
        let mut decoder = std::mem::take(&mut self.decoder);
        self.greeted = false;
        self.is_port = true;
        self.hung_up = false;
        self.bulk = false;
        self.current = Vec::new();
        self.written = 0;
        // The next call may be there already.
        match listener.push(decoder.rest()) {
            None => self.calling = Some(Calling::Listening(listener)),
            Some((number, rest)) => {
                self.current.extend_from_slice(&sync::call(number));
                self.decoder.push(rest);
                self.calling = None;
            }
        }
    }

    /// On a line: calls the other side, after these bytes.
    pub(crate) fn call(&mut self, before: &[u8], number: u64) {
        self.current.extend_from_slice(before);
        self.current.extend_from_slice(&sync::call(number));
        self.calling = Some(Calling::Called(sync::Listener::default(), number));
    }

    /// Whether frames may be sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.calling.is_none()
    }

    /// Ends it for the peer too, whoever else may hold a copy of the descriptor for a moment.
    pub(crate) fn close(self, epoll: &Epoll) {
        epoll.remove(&self.socket);
        net::shut_down(&self.socket);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.readable |= event.readable;
        self.hung_up |= event.hung_up;
        self.blocked &= !event.writable;
    }

    /// Whether a read may bring something that may also be answered, by what waits already.
    pub(crate) fn wants_read(&self, outbox: &[u8]) -> bool {
        self.readable && outbox.len() + self.current.len() - self.written < OUTBOX_MAX
    }

    /// Reads once into the decoder.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> Health {
        let mut small = [0; SMALL_READ];
        let buffer = if self.bulk {
            scratch.resize(BULK_READ, 0);
            &mut scratch[..]
        } else {
            &mut small[..]
        };
        match streams::read(&self.socket, buffer) {
            Read::Bytes(length) => {
                self.readable = length == buffer.len() || self.hung_up || self.is_port;
                self.bulk = length >= SMALL_READ;
                self.take(&buffer[..length]);
                Health::Alive
            }
            Read::Empty => {
                self.readable = false;
                Health::Alive
            }
            Read::End => {
                self.readable = false;
                Health::Dead
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        match &mut self.calling {
            None => return self.decoder.push(bytes),
            Some(Calling::Listening(listener)) => {
                let Some((number, rest)) = listener.push(bytes) else { return };
                self.current.extend_from_slice(&sync::call(number));
                bytes = rest;
            }
            // An answer to an earlier call may still be on its way.
            Some(Calling::Called(listener, number)) => loop {
                let Some((heard, rest)) = listener.push(bytes) else { return };
                bytes = rest;
                if heard == *number {
                    break;
                }
            },
        }
        self.calling = None;
        self.decoder.push(bytes);
    }

    /// Writes what the socket takes: messages first, then what `more` makes.
    pub(crate) fn flush(
        &mut self,
        epoll: &Epoll,
        outbox: &mut Vec<u8>,
        mut more: impl FnMut(&mut Vec<u8>) -> bool,
    ) -> Health {
        while !self.blocked {
            if self.written == self.current.len() {
                self.current.clear();
                self.written = 0;
                if self.calling.is_some() {
                    break;
                }
                if !outbox.is_empty() {
                    std::mem::swap(&mut self.current, outbox);
                } else if !more(&mut self.current) {
                    break;
                }
            }
            match streams::write(&self.socket, &self.current[self.written..]) {
                Written::Bytes(length) => self.written += length,
                Written::Full => {
                    self.blocked = true;
                    self.watched = true;
                    let token = token(self.kind, self.serial);
                    // Watched for room only while there is none: each read of the peer would wake us otherwise.
                    if epoll.modify(&self.socket, token, Interest::ReadWrite).is_err() {
                        return Health::Dead;
                    }
                    return Health::Alive;
                }
                Written::Closed => return Health::Dead,
            }
        }
        if !self.blocked && self.watched {
            self.watched = false;
            let token = token(self.kind, self.serial);
            if epoll.modify(&self.socket, token, Interest::Read).is_err() {
                return Health::Dead;
            }
        }
        Health::Alive
    }

    /// Whether everything is written that was to be.
    pub(crate) fn is_flushed(&self) -> bool {
        self.written == self.current.len()
    }

    /// Gives back memory that a burst took.
    pub(crate) fn shed(&mut self) {
        self.decoder.shrink();
        if self.written == self.current.len() && self.current.capacity() > KEEP {
            self.current = Vec::new();
            self.written = 0;
        }
    }
}
