//! This program's own streams while another's are connected to them.
//!
//! Stdin is read by a thread: files and pipes cannot be waited for in one way, and the thread is only there with `-i`.
//! Output is written by the loop itself, never blocking it: signals and stdin must pass while nobody reads stdout.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;

use hostler_api::types::LogStream;
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Read at once from stdin, bytes.
const STDIN_CHUNK: usize = 16 * 1024;
/// Chunks of stdin read ahead.
const STDIN_QUEUE: usize = 4;
/// What a pipe takes without blocking once it is writable, bytes: `PIPE_BUF`.
const PIPE_WRITE: usize = 4_096;

/// Ctrl-P Ctrl-Q: leave a terminal without ending what runs on it.
const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// What came from stdin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Data(Vec<u8>),
    /// Its end.
    Eof,
    /// The keys to leave with.
    Detach,
}

/// Which bytes of stdin mean something to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    None,
    Detach,
}

/// Begins to read stdin.
pub(crate) fn read_stdin(keys: Keys) -> io::Result<mpsc::Receiver<Input>> {
    let mut file = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let (sender, receiver) = mpsc::channel(STDIN_QUEUE);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = vec![0; STDIN_CHUNK];
        let mut filter = DetachFilter::default();
        loop {
            let input = match file.read(&mut buffer) {
                Ok(0) => Input::Eof,
                Ok(count) if keys == Keys::Detach => filter.apply(&buffer[..count]),
                Ok(count) => Input::Data(buffer[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut waiting = [PollFd::new(&file, PollFlags::IN)];
                    rustix::event::poll(&mut waiting, None).ok();
                    continue;
                }
                // A terminal that hung up reads as an error; there is no more stdin either way.
                Err(_) => Input::Eof,
            };
            let last = !matches!(input, Input::Data(_));
            if sender.blocking_send(input).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Holds the first of the keys back until it is known whether the second follows.
#[derive(Debug, Default)]
struct DetachFilter {
    held: bool,
}

impl DetachFilter {
    fn apply(&mut self, bytes: &[u8]) -> Input {
        let mut data = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if self.held {
                if byte == DETACH_KEYS[1] {
                    return Input::Detach;
                }
                data.push(DETACH_KEYS[0]);
            }
            self.held = byte == DETACH_KEYS[0];
            if !self.held {
                data.push(byte);
            }
        }
        Input::Data(data)
    }
}

/// One of stdout and stderr.
struct Sink {
    file: File,
    /// It can be full: a pipe, a terminal or a socket.
    may_block: bool,
}

impl Sink {
    fn new(fd: OwnedFd) -> Self {
        let file = File::from(fd);
        let may_block = file.metadata().is_ok_and(|metadata| {
            let kind = metadata.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_socket()
        });
        Self { file, may_block }
    }

    fn is_writable(&self) -> bool {
        writable_within(&self.file, &Timespec { tv_sec: 0, tv_nsec: 0 })
    }
}

fn writable_within(file: &impl AsFd, time: &Timespec) -> bool {
    let mut waiting = [PollFd::new(file, PollFlags::OUT)];
    // An error or a hang-up counts: the write will say which.
    rustix::event::poll(&mut waiting, Some(time)).is_ok_and(|count| count > 0)
}

/// Stdout and stderr with what is still to be written to them, in order.
pub(crate) struct Output {
    stdout: Sink,
    stderr: Sink,
    queue: VecDeque<(LogStream, Vec<u8>, usize)>,
    waiting: Option<JoinHandle<()>>,
}

impl Output {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            stdout: Sink::new(rustix::stdio::stdout().try_clone_to_owned()?),
            stderr: Sink::new(rustix::stdio::stderr().try_clone_to_owned()?),
            queue: VecDeque::new(),
            waiting: None,
        })
    }

    pub(crate) fn push(&mut self, stream: LogStream, data: &[u8]) {
        if !data.is_empty() {
            self.queue.push_back((stream, data.to_vec(), 0));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Writes everything that is to be written. May be dropped at any time and called again.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                waiting.await.ok();
                self.waiting = None;
            }
            let Some(full) = self.write_ready()? else { return Ok(()) };
            // Half a second at most, so that no thread is left behind for long.
            let time = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
            self.waiting = Some(tokio::task::spawn_blocking(move || {
                writable_within(&full, &time);
            }));
        }
    }

    /// Writes until the queue is empty (`None`) or a stream takes no more for now.
    fn write_ready(&mut self) -> io::Result<Option<OwnedFd>> {
        while let Some((stream, data, done)) = self.queue.front_mut() {
            let sink = match stream {
                LogStream::Stdout => &mut self.stdout,
                LogStream::Stderr => &mut self.stderr,
            };
            if sink.may_block && !sink.is_writable() {
                return sink.file.as_fd().try_clone_to_owned().map(Some);
            }
            let room = if sink.may_block { PIPE_WRITE } else { usize::MAX };
            let end = done.saturating_add(room).min(data.len());
            match sink.file.write(&data[*done..end]) {
                Ok(count) => *done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return sink.file.as_fd().try_clone_to_owned().map(Some);
                }
                Err(error) => return Err(error),
            }
            if *done == data.len() {
                self.queue.pop_front();
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_keys_are_found_and_nothing_else_is_lost() {
        let mut filter = DetachFilter::default();
        assert_eq!(filter.apply(b"ab\x10"), Input::Data(b"ab".to_vec()));
        assert_eq!(filter.apply(b"c\x10\x10d"), Input::Data(b"\x10c\x10\x10d".to_vec()));
        assert_eq!(filter.apply(b"\x11\x10"), Input::Data(b"\x11".to_vec()));
        assert_eq!(filter.apply(b"\x11rest"), Input::Detach);
    }
}
