//! The beginning of a connection on a line that nobody opens or closes: a guest's port. What an earlier connection left in
//! it, on either side, is passed over.
//!
//! Who begins sends a *call*: [`MARK`], and eight bytes that he never used before. The other side, whenever it is not in a
//! connection, passes over everything up to a mark, and sends the same call back; the caller passes over everything up to
//! his own. Then frames follow on both sides.

/// What no frame begins with: as the length of one, its first four bytes are too large by far.
pub const MARK: [u8; 16] = *b"\xffhostler line\r\n\x00";
/// Length of a call, bytes.
pub const CALL: usize = MARK.len() + size_of::<u64>();

/// The call with this number.
#[must_use]
pub fn call(number: u64) -> [u8; CALL] {
    let mut bytes = [0; CALL];
    bytes[..MARK.len()].copy_from_slice(&MARK);
    bytes[MARK.len()..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Looks for a call in what is received.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// The last bytes, as far as they may be the beginning of one.
    held: Vec<u8>,
}

impl Listener {
    /// Takes what was received; the number of the first call in it, and what follows that.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
        for (index, byte) in bytes.iter().enumerate() {
            self.held.push(*byte);
            while !self.may_begin() {
                self.held.remove(0);
            }
            if self.held.len() == CALL {
                let number = self.held[MARK.len()..].try_into().expect("a call ends with eight bytes");
                self.held.clear();
                return Some((u64::from_le_bytes(number), &bytes[index + 1..]));
            }
        }
        None
    }

    fn may_begin(&self) -> bool {
        let length = self.held.len().min(MARK.len());
        self.held[..length] == MARK[..length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_call_is_found_behind_anything(
            before in prop::collection::vec(any::<u8>(), 0..100), half in 0..MARK.len(), number: u64,
            after in prop::collection::vec(any::<u8>(), 0..20), split in 1usize..40,
        ) {
            let line = [&before[..], &MARK[..half], &call(number)[..], &after[..]].concat();
            let mut listener = Listener::default();
            let mut rest = Vec::new();
            let mut found = None;
            for part in line.chunks(split) {
                match found {
                    Some(_) => rest.extend_from_slice(part),
                    None => if let Some((heard, left)) = listener.push(part) {
                        found = Some(heard);
                        rest.extend_from_slice(left);
                    },
                }
            }
            prop_assert_eq!(found, Some(number));
            prop_assert_eq!(rest, after);
        }
    }

    #[test]
    fn a_mark_is_no_frame() {
        let mut decoder = crate::Decoder::default();
        decoder.push(&call(7));
        assert!(decoder.next_frame().is_err());
    }
}
