//! A program on a terminal: `setsid --ctty` makes it the leader of a session whose terminal we hold.

use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Instant;

use hostler_linux::streams::{self, Read, Written};
use hostler_model::spec::TtySize;

use crate::{PATIENCE, TestNode};

/// See the module.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// The CLI of this node on a terminal of this size.
    pub fn hostler(node: &TestNode, size: TtySize, arguments: &[&str]) -> Self {
        let (master, slave) = streams::terminal(size, None).expect("a terminal");
        let duplicate = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let mut command = std::process::Command::new("setsid");
        command.arg("--ctty").arg(crate::binary("hostler")).args(arguments);
        command.env("HOSTLER_ROOT", node.root()).env("TERM", "xterm").current_dir(node.work());
        command.stdin(duplicate()).stdout(duplicate()).stderr(duplicate());
        let child = command.spawn().expect("setsid of util-linux");
        Self { master, child, seen: Vec::new() }
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        assert_eq!(streams::write(&self.master, text.as_bytes()), Written::Bytes(text.len()));
    }

    /// Changes its size.
    pub fn resize(&self, columns: u16, rows: u16) {
        streams::resize(&self.master, TtySize { columns, rows }).expect("resizing");
    }

    /// Waits until this has been shown since the last time that was asked; all that was shown.
    pub fn wait_for(&mut self, words: &str) -> String {
        let began = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&self.seen).into_owned();
            if text.contains(words) {
                self.seen.clear();
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "{words:?} is not shown; there is {text:?}");
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        match streams::read(&self.master, &mut buffer) {
            Read::Bytes(count) => self.seen.extend_from_slice(&buffer[..count]),
            Read::Empty | Read::End => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }

    /// Waits for the program's end: its exit code and what was shown since the last look.
    pub fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().expect("waiting") {
                let mut buffer = [0; 4096];
                while let Read::Bytes(count) = streams::read(&self.master, &mut buffer) {
                    self.seen.extend_from_slice(&buffer[..count]);
                }
                return (status.code(), String::from_utf8_lossy(&self.seen).into_owned());
            }
            let shown = String::from_utf8_lossy(&self.seen);
            assert!(began.elapsed() < PATIENCE, "the program on the terminal does not end; it shows {shown:?}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
