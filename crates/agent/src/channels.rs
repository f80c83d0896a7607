//! Channels: who reads the programs' outputs, how far he is, and how much more he may be sent.

use hostler_model::limits::{CHANNELS_MAX, FRAME_DATA_MAX};
use hostler_wire::{AttachTarget, FromAgent, Stream, StreamOffsets, encode_control, encode_data};

use crate::shared::Shared;
use crate::streams::STDIN_WINDOW;
use crate::target::{Owner, Target};

/// Stdin channels of one target that are granted anything: each may fill a buffer.
const STDIN_CHANNELS_MAX: usize = 8;

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// An open channel.
pub(crate) struct Channel {
    pub(crate) id: u32,
    pub(crate) target: AttachTarget,
    /// May send stdin, and so many bytes more.
    pub(crate) stdin_window: Option<u32>,
    next: [u64; 2],
    end_sent: [bool; 2],
    credit: u64,
}

/// What is asked of a new channel.
pub(crate) struct Attach {
    pub(crate) channel: u32,
    pub(crate) target: AttachTarget,
    pub(crate) owner: bool,
    pub(crate) stdin: bool,
    pub(crate) from: Option<StreamOffsets>,
}

/// All open channels of a connection.
#[derive(Default)]
pub(crate) struct Channels {
    list: Vec<Channel>,
    /// Where the next round of sending begins, so that no channel starves.
    turn: usize,
}

impl Channels {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Channel> {
        self.list.iter_mut().find(|channel| channel.id == id)
    }

    pub(crate) fn any_on(&self, target: AttachTarget) -> bool {
        self.list.iter().any(|channel| channel.target == target)
    }

    pub(crate) fn open(&mut self, attach: &Attach, target: &mut Target, shared: &mut Shared) {
        if self.list.len() >= CHANNELS_MAX {
            return shared.send(&FromAgent::ChannelClosed { channel: attach.channel });
        }
        let wanted = attach.from.map(|from| [from.stdout, from.stderr]);
        let next = [0, 1].map(|index| {
            let ring = &target.outputs[index].ring;
            wanted.map_or(ring.start(), |wanted| wanted[index]).clamp(ring.start(), ring.end())
        });
        if attach.owner {
            target.owner = Owner::Attached { channel: attach.channel };
            target.owner_next = next;
        }
        let others = self.list.iter().filter(|open| open.target == attach.target && open.stdin_window.is_some());
        let stdin_window = (attach.stdin && others.count() < STDIN_CHANNELS_MAX).then_some(STDIN_WINDOW);
        if let Some(window) = stdin_window {
            shared.grant(attach.channel, window);
        }
        self.list.push(Channel {
            id: attach.channel,
            target: attach.target,
            stdin_window,
            next,
            end_sent: [false; 2],
            credit: 0,
        });
    }

    pub(crate) fn close(&mut self, id: u32) {
        self.list.retain(|channel| channel.id != id);
    }

    pub(crate) fn clear(&mut self) {
        self.list = Vec::new();
    }

    pub(crate) fn credit(&mut self, id: u32, bytes: u32) {
        // A channel that is closed already may still be granted something.
        if let Some(channel) = self.get_mut(id) {
            channel.credit = channel.credit.saturating_add(u64::from(bytes));
        }
    }

    /// Appends data frames, as many as fit into `budget` bytes; answers whether there were any.
    pub(crate) fn pull(&mut self, targets: &mut [Target], out: &mut Vec<u8>, budget: usize) -> bool {
        let before = out.len();
        let mut idle = 0;
        while idle < self.list.len() && out.len() - before < budget {
            self.turn = (self.turn + 1) % self.list.len();
            let channel = &mut self.list[self.turn];
            let Some(target) = targets.iter_mut().find(|target| target.key == channel.target) else {
                encode_control(out, &FromAgent::ChannelClosed { channel: channel.id });
                self.list.remove(self.turn);
                continue;
            };
            let sent = channel.send(target, out);
            if channel.end_sent == [true; 2] {
                encode_control(out, &FromAgent::ChannelClosed { channel: channel.id });
                if target.owner == (Owner::Attached { channel: channel.id }) {
                    target.owner = Owner::Nobody;
                }
                self.list.remove(self.turn);
                idle = 0;
                continue;
            }
            idle = if sent { 0 } else { idle + 1 };
        }
        out.len() > before
    }
}

impl Channel {
    /// One frame of each stream, as far as credit goes.
    fn send(&mut self, target: &mut Target, out: &mut Vec<u8>) -> bool {
        let mut sent = false;
        for (index, stream) in STREAMS.into_iter().enumerate() {
            if self.end_sent[index] {
                continue;
            }
            let output = &target.outputs[index];
            // Behind the ring: the gap in the offsets tells what was dropped.
            let from = self.next[index].max(output.ring.start());
            let available = output.ring.at(from);
            let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
            let part = &available[..available.len().min(credit).min(FRAME_DATA_MAX)];
            let end = !output.is_open() && from + part.len() as u64 == output.ring.end();
            if part.is_empty() && !end {
                continue;
            }
            encode_data(out, self.id, stream, from, end, part);
            self.credit -= part.len() as u64;
            self.next[index] = from + part.len() as u64;
            self.end_sent[index] = end;
            if target.owner == (Owner::Attached { channel: self.id }) {
                target.owner_next[index] = self.next[index];
            }
            sent = true;
        }
        sent
    }
}
