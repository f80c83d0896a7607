//! A program's stdin on its way to the guest that the program is in: sent as far as the guest's agent grants.

use hostler_model::limits::FRAME_DATA_MAX;
use hostler_wire::{Stream, encode_data};

/// The other end of a stdin that is in a guest.
#[derive(Debug, Default)]
pub(crate) struct GuestInput {
    /// The channel of the program.
    pub(crate) channel: u32,
    /// What may still be sent, bytes.
    pub(crate) credit: u32,
    /// What was sent, bytes.
    pub(crate) offset: u64,
}

impl GuestInput {
    /// Sends the first of these bytes; how many.
    pub(crate) fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let length = bytes.len().min(FRAME_DATA_MAX).min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        if length > 0 {
            encode_data(out, self.channel, Stream::Stdin, self.offset, false, &bytes[..length]);
            self.offset += length as u64;
            self.credit -= u32::try_from(length).unwrap_or(0);
        }
        length
    }

    /// Sends the end.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        encode_data(out, self.channel, Stream::Stdin, self.offset, true, &[]);
    }
}
