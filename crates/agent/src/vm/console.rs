//! What a guest's kernel, and the program that makes the guest, say: read all the while, so that nothing that floods it can
//! hold up the guest, and of which the last part is kept.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use hostler_linux::epoll::Epoll;
use hostler_linux::streams::{self, Read};
use hostler_model::limits::VM_CONSOLE_KEPT;

/// Reads in one round; a guest that floods its console is read again in the next.
const READS: usize = 64;

/// The end of a console.
#[derive(Default)]
pub(super) struct Console {
    fd: Option<OwnedFd>,
    kept: VecDeque<u8>,
}

impl Console {
    /// Another machine speaks from now on.
    pub(super) fn open(&mut self, fd: OwnedFd) {
        self.fd = Some(fd);
        self.kept.clear();
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, epoll: &Epoll) {
        let mut buffer = [0; 4_096];
        let Some(fd) = &self.fd else { return };
        for _ in 0..READS {
            match streams::read(fd, &mut buffer) {
                Read::Bytes(length) => {
                    self.kept.extend(&buffer[..length]);
                    let excess = self.kept.len().saturating_sub(VM_CONSOLE_KEPT);
                    self.kept.drain(..excess);
                }
                Read::Empty => return,
                Read::End => return self.close(epoll),
            }
        }
    }

    /// Reads the rest, and no more.
    pub(super) fn close(&mut self, epoll: &Epoll) {
        let Some(fd) = self.fd.take() else { return };
        epoll.remove(&fd);
        let mut buffer = [0; 4_096];
        for _ in 0..READS {
            let Read::Bytes(length) = streams::read(&fd, &mut buffer) else { return };
            self.kept.extend(&buffer[..length]);
        }
        let excess = self.kept.len().saturating_sub(VM_CONSOLE_KEPT);
        self.kept.drain(..excess);
    }

    /// Its last lines, at most so many bytes, fit for a message.
    pub(super) fn tail(&self, most: usize) -> Option<String> {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
        let mut lines = Vec::new();
        let mut length = 0;
        for line in text.lines().rev().map(printable).filter(|line| !line.is_empty()) {
            length += line.len() + 3;
            if length > most {
                break;
            }
            lines.push(line);
        }
        lines.reverse();
        (!lines.is_empty()).then(|| lines.join(" / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_without_what_controls_a_terminal() {
        let mut console = Console::default();
        console.kept.extend(b"first\r\n\x1b[31msecond\x07\r\n\n  third\n");
        assert_eq!(console.tail(100).as_deref(), Some("first / [31msecond / third"));
        assert_eq!(console.tail(10).as_deref(), Some("third"));
        assert_eq!(Console::default().tail(100), None);
    }
}
