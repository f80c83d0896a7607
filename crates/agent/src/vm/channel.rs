//! The streams of a program in a guest: one channel to the guest's agent for each program. As much is granted as its rings
//! have room for, so that a program in a guest waits for a slow owner as any other does.

use hostler_model::limits::CHANNEL_CREDIT;
use hostler_wire::{ToAgent, encode_credit};

use super::Vm;
use super::input::GuestInput;
use crate::target::Target;

/// Has the streams of a program come to us, and grants the first bytes.
pub(super) fn attach(target: &mut Target, vm: &mut Vm) {
    let Some(open) = &mut target.guest_channel else { return };
    open.attached = true;
    let (channel, stdin) = (open.number, target.input.guest.is_some());
    vm.tell(&ToAgent::Attach { channel, target: target.key, owner: true, stdin, from: None });
    target.grant_guest(&mut vm.outbox);
}

/// What may be on its way from a program in a guest.
#[derive(Debug)]
pub(crate) struct GuestChannelState {
    pub(crate) number: u32,
    /// The guest's agent knows of it.
    attached: bool,
    /// What it may still send, bytes.
    pub(crate) granted: u32,
}

impl Target {
    /// Its streams are in a guest, at the other end of this channel.
    pub(crate) fn open_in_guest(&mut self, number: u32, has_stdin: bool, is_terminal: bool) {
        self.guest_channel = Some(GuestChannelState { number, attached: false, granted: 0 });
        self.outputs.iter_mut().for_each(|output| output.in_guest = true);
        self.input.is_terminal = is_terminal;
        if has_stdin {
            self.input.guest = Some(GuestInput { channel: number, ..GuestInput::default() });
        }
    }

    /// Nothing comes from there any more.
    pub(crate) fn close_in_guest(&mut self) {
        self.guest_channel = None;
        self.outputs.iter_mut().for_each(|output| output.in_guest = false);
        self.input.guest = None;
    }

    /// Grants what there is room for, in parts that are worth a frame.
    pub(crate) fn grant_guest(&mut self, out: &mut Vec<u8>) {
        let room = self.room(0).min(self.room(1)).min(CHANNEL_CREDIT as usize);
        let room = u32::try_from(room).unwrap_or(CHANNEL_CREDIT);
        let Some(open) = self.guest_channel.as_mut().filter(|open| open.attached) else { return };
        let more = room.saturating_sub(open.granted);
        if more > 0 && (open.granted == 0 || more >= room / 4) {
            open.granted += more;
            encode_credit(out, open.number, more);
        }
    }
}
