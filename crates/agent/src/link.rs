//! The connection to the node: received bytes to frames, frames to bytes, messages before data.
//!
//! Data frames are made only when everything before them was taken by the socket: what a slow node does not read stays
//! in the rings, where it is counted, and a message waits behind one batch of data at most.

use std::os::unix::net::UnixStream;

use hostler_linux::epoll::{Event, Interest};
use hostler_linux::streams::{self, Read, Written};
use hostler_wire::Decoder;

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

/// A connection.
pub(crate) struct Link {
    socket: UnixStream,
    pub(crate) serial: u32,
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
    pub(crate) fn new(socket: UnixStream, shared: &mut Shared) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let serial = shared.next_serial();
        shared.epoll.add(&socket, token(TokenKind::Link, serial), Interest::Read)?;
        Ok(Self {
            socket,
            serial,
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

    /// Ends it for the peer too, whoever else may hold a copy of the descriptor for a moment.
    pub(crate) fn close(self, shared: &Shared) {
        shared.epoll.remove(&self.socket);
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.readable |= event.readable;
        self.hung_up |= event.hung_up;
        self.blocked &= !event.writable;
    }

    /// Whether a read may bring something that may also be answered.
    pub(crate) fn wants_read(&self, shared: &Shared) -> bool {
        self.readable && shared.outbox.len() + self.current.len() - self.written < OUTBOX_MAX
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
                self.readable = length == buffer.len() || self.hung_up;
                self.bulk = length >= SMALL_READ;
                self.decoder.push(&buffer[..length]);
                Health::Alive
            }
            Read::Empty => {
                self.readable = false;
                Health::Alive
            }
            Read::End => Health::Dead,
        }
    }

    /// Writes what the socket takes: messages first, then what `more` makes.
    pub(crate) fn flush(&mut self, shared: &mut Shared, mut more: impl FnMut(&mut Vec<u8>) -> bool) -> Health {
        while !self.blocked {
            if self.written == self.current.len() {
                self.current.clear();
                self.written = 0;
                if !shared.outbox.is_empty() {
                    std::mem::swap(&mut self.current, &mut shared.outbox);
                } else if !more(&mut self.current) {
                    break;
                }
            }
            match streams::write(&self.socket, &self.current[self.written..]) {
                Written::Bytes(length) => self.written += length,
                Written::Full => {
                    self.blocked = true;
                    self.watched = true;
                    let token = token(TokenKind::Link, self.serial);
                    // Watched for room only while there is none: each read of the peer would wake us otherwise.
                    if shared.epoll.modify(&self.socket, token, Interest::ReadWrite).is_err() {
                        return Health::Dead;
                    }
                    return Health::Alive;
                }
                Written::Closed => return Health::Dead,
            }
        }
        if !self.blocked && self.watched {
            self.watched = false;
            let token = token(TokenKind::Link, self.serial);
            if shared.epoll.modify(&self.socket, token, Interest::Read).is_err() {
                return Health::Dead;
            }
        }
        Health::Alive
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
