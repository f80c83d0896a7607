//! What a guest's kernel, and the program that makes the guest, say: read all the while, so that nothing that floods it can
//! hold up the guest, and of which the last part is kept.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use hostler_linux::epoll::Epoll;
use hostler_linux::streams::{self, Read};
use hostler_model::limits::VM_CONSOLE_KEPT;

/// Reads in one round; a guest that floods its console is read again in the next.
const READS: usize = 64;

/// How Linux begins to say why it cannot go on.
pub(super) const PANIC: &str = "Kernel panic - not syncing";
/// Between two lines of a message.
const BETWEEN: &str = " / ";

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

    /// Its last lines, at most so many bytes, fit for a message. Of a kernel that gave up, first of all why: what it prints
    /// after that is longer than a message.
    pub(super) fn tail(&self, most: usize) -> Option<String> {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
        let all: Vec<String> = text.lines().map(printable).filter(|line| !line.is_empty()).collect();
        let is_why = |line: &String| line.contains(PANIC) && line.len() + BETWEEN.len() <= most;
        let panic = all.iter().rposition(is_why);
        let told = match panic.filter(|at| *at < last_of(&all, most)) {
            Some(at) => {
                let room = most.saturating_sub(all[at].len() + BETWEEN.len());
                [&all[at..=at], &all[at + 1 + last_of(&all[at + 1..], room)..]].concat()
            }
            None => all[last_of(&all, most)..].to_vec(),
        };
        (!told.is_empty()).then(|| told.join(BETWEEN))
    }
}

/// Where the last of these lines begin that come to no more than so many bytes.
fn last_of(lines: &[String], most: usize) -> usize {
    let mut length = 0;
    let fits = |line: &&String| {
        length += line.len() + BETWEEN.len();
        length <= most
    };
    lines.len() - lines.iter().rev().take_while(fits).count()
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
    #[test]
    fn why_a_kernel_gave_up_is_told_first() {
        let mut console = Console::default();
        let trace: String = (0..50).map(|number| format!("[ 1.2] RAX: {number:016}\r\n")).collect();
        console.kept.extend(b"before\r\n[ 1.1] Kernel panic - not syncing: no init\r\n");
        console.kept.extend(trace.as_bytes());
        let told = console.tail(120).expect("words");
        assert!(told.starts_with("[ 1.1] Kernel panic - not syncing: no init / [ 1.2] RAX: 0"), "{told}");
        assert!(told.ends_with("49") && told.len() <= 120, "{told}");
        // One that is longer than all that may be told.
        assert!(console.tail(40).expect("words").ends_with("49"));
        // One that is among the last lines is told once.
        console.kept.clear();
        console.kept.extend(b"a\nKernel panic - not syncing: b\nc\n");
        assert_eq!(console.tail(200).as_deref(), Some("a / Kernel panic - not syncing: b / c"));
    }
}
