//! A disk in memory with two files, the store and its log; it loses what was not synced, tears writes at sector borders, and
//! fails on command.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::wal::{Backend, Place};

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
struct File {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Operation>,
}

impl File {
    fn of(content: Vec<u8>) -> Self {
        Self { durable: content.clone(), current: content, pending: Vec::new() }
    }
}

/// Which file of the disk.
#[derive(Debug, Clone, Copy)]
enum Name {
    Store,
    Log,
}

#[derive(Debug, Default)]
struct State {
    files: [File; 2],
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

    fn change(&mut self, name: Name, operation: Operation) -> io::Result<()> {
        self.step()?;
        let file = &mut self.files[name as usize];
        operation.apply(&mut file.current);
        file.pending.push(operation);
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
    /// With this store and this log; an empty file is none.
    pub(super) fn of([store, log]: [Vec<u8>; 2]) -> Self {
        Self(Arc::new(Mutex::new(State { files: [File::of(store), File::of(log)], ..State::default() })))
    }

    pub(super) fn store(&self) -> Handle {
        Handle { disk: self.clone(), name: Name::Store }
    }

    fn log(&self) -> Backend {
        Box::new(Handle { disk: self.clone(), name: Name::Log })
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
    pub(super) fn content(&self) -> [Vec<u8>; 2] {
        self.state().files.each_ref().map(|file| file.current.clone())
    }

    /// What a power failure leaves behind: everything synced, and any part of the rest, sector by sector.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed | 1);
        Self::of(state.files.each_ref().map(|file| random.crash(file)))
    }
}

impl Random {
    fn crash(&mut self, file: &File) -> Vec<u8> {
        let mut content = file.durable.clone();
        // Length changes are the file system's own journal's: they survive in order, up to some point.
        let lengths_until = self.below(file.pending.len() + 1);
        // Sometimes nothing, sometimes all, mostly something between.
        let odds = self.below(5);
        for (index, operation) in file.pending.iter().enumerate() {
            match operation {
                Operation::SetLength(_) if index < lengths_until => operation.apply(&mut content),
                Operation::SetLength(_) => {}
                Operation::Write { offset, data } => {
                    for (number, sector) in data.chunks(SECTOR).enumerate() {
                        let at = offset + number * SECTOR;
                        if at + sector.len() <= content.len() && self.below(4) < odds {
                            content[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        content
    }
}

impl Place for Disk {
    fn find(&self) -> io::Result<Option<Backend>> {
        Ok((!self.state().files[Name::Log as usize].current.is_empty()).then(|| self.log()))
    }

    fn set_aside(&self) -> io::Result<()> {
        Ok(())
    }

    fn make(&self, size: u64) -> io::Result<Backend> {
        let log = self.log();
        log.set_len(0)?;
        log.set_len(size)?;
        log.sync_data()?;
        Ok(log)
    }
}

/// One of its files.
#[derive(Debug)]
pub(super) struct Handle {
    disk: Disk,
    name: Name,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.name as usize].current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let to = from.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(state.files[self.name as usize].current.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.state().change(self.name, Operation::SetLength(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.step()?;
        state.syncs += 1;
        let file = &mut state.files[self.name as usize];
        for operation in file.pending.drain(..) {
            operation.apply(&mut file.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.state().change(self.name, Operation::Write { offset: offset as usize, data: data.to_vec() })
    }
}
