//! A disk in memory that loses what was not synced, tears writes at sector borders, and fails on command.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Operation {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

impl Operation {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                if content.len() < offset + data.len() {
                    content.resize(offset + data.len(), 0);
                }
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::SetLength(length) => content.resize(*length, 0),
        }
    }
}

/// When the disk fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// Writes, length changes and syncs that still work.
    pub(super) after: u64,
    /// It works again afterwards, or not.
    pub(super) once: bool,
    /// What it answers.
    pub(super) kind: io::ErrorKind,
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Operation>,
    fault: Option<Fault>,
    syncs: u64,
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Some(fault) if fault.after == 0 => {
                let kind = fault.kind;
                if fault.once {
                    self.fault = None;
                }
                Err(kind.into())
            }
            Some(fault) => {
                fault.after -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, operation: Operation) -> io::Result<()> {
        self.step()?;
        operation.apply(&mut self.current);
        self.pending.push(operation);
        Ok(())
    }
}

/// Cloning gives another handle of the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

/// xorshift64: the crash must be the same each time for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

impl Disk {
    pub(super) fn of(content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { durable: content.clone(), current: content, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic in here")
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    pub(super) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// What a process that is killed leaves behind: everything written.
    pub(super) fn content(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// What a power failure leaves behind: everything synced, and any part of the rest, sector by sector.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed | 1);
        let mut content = state.durable.clone();
        // Length changes are the file system's own journal's: they survive in order, up to some point.
        let lengths_until = random.below(state.pending.len() + 1);
        // Sometimes nothing, sometimes all, mostly something between.
        let odds = random.below(5);
        for (index, operation) in state.pending.iter().enumerate() {
            match operation {
                Operation::SetLength(_) if index < lengths_until => operation.apply(&mut content),
                Operation::SetLength(_) => {}
                Operation::Write { offset, data } => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        let at = offset + number * SECTOR;
                        if at + sector.len() <= content.len() && random.below(4) < odds {
                            content[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        Self::of(content)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let to = from.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(state.current.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.state().change(Operation::SetLength(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.state();
        state.step()?;
        state.syncs += 1;
        for operation in state.pending.drain(..) {
            operation.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().change(Operation::Write { offset: offset as usize, data: data.to_vec() })
    }
}
