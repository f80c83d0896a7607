//! How the end of a run lies on disk: what the agent writes and the node reads when there is no connection to tell it.
//!
//! One line of JSON, then a line `{"fnv1a":"<16 hex digits>"}` over the first without its line feed, then spaces up to
//! the size that was reserved. It is written in one piece over what was there before: the check tells a record that was
//! torn by a loss of power, the run in it one that an earlier run left.

use hostler_model::rundir::ExitFile;
use serde::{Deserialize, Serialize};

/// The second line of an exit file.
#[derive(Serialize, Deserialize)]
struct Check {
    fnv1a: String,
}

/// FNV-1a, 64 bits: Fowler, Noll, Vo.
fn fnv1a(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// The file as it is written, at least `reserved` bytes.
#[must_use]
pub fn encode(file: &ExitFile, reserved: usize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(file).expect("an exit has string keys and finite numbers");
    let check = Check { fnv1a: fnv1a(&bytes) };
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, &check).expect("writing to memory does not fail");
    bytes.push(b'\n');
    bytes.resize(bytes.len().max(reserved), b' ');
    bytes
}

/// The end that these bytes hold, if they are whole; of which run it is, the caller compares.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<ExitFile> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (record, check) = (lines.next()?, lines.next()?.trim_ascii());
    // Agents of protocol 1 wrote no check; they renamed the file when it was whole.
    if !check.is_empty() {
        let check: Check = serde_json::from_slice(check).ok()?;
        if check.fnv1a != fnv1a(record) {
            return None;
        }
    }
    serde_json::from_slice(record).ok()
}

#[cfg(test)]
mod tests {
    use hostler_model::RunId;
    use hostler_model::ids::WorkloadId;
    use hostler_model::rundir::Outcome;
    use hostler_model::workload::{StartFailure, StartFailureKind};

    use super::*;

    fn file(number: u32, message: &str) -> ExitFile {
        let run = RunId { workload: WorkloadId::from_bytes([1; 6]), number };
        let failure = StartFailure { kind: StartFailureKind::System, message: message.to_owned() };
        ExitFile { run, outcome: Outcome::StartFailed { failure }, execs: Vec::new() }
    }

    #[test]
    fn an_end_is_read_as_it_was_written() {
        let file = file(1, "a \n b");
        assert_eq!(decode(&encode(&file, 2_048)), Some(file.clone()));
        assert_eq!(encode(&file, 2_048).len(), 2_048);
        assert_eq!(decode(&[b' '; 2_048]), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn the_end_of_an_older_agent_is_read() {
        let mut bytes = serde_json::to_vec(&file(3, "old")).unwrap();
        bytes.push(b'\n');
        bytes.resize(2_048, b' ');
        assert_eq!(decode(&bytes), Some(file(3, "old")));
    }

    /// A loss of power leaves some of the file's sectors new and the others old.
    #[test]
    fn a_torn_end_is_none() {
        let (old, new) = (encode(&file(1, &"o".repeat(1_000)), 2_048), encode(&file(2, &"n".repeat(1_100)), 2_048));
        for which in 0..16_u8 {
            let mut torn = old.clone();
            for sector in (0..4).filter(|sector| which & (1 << sector) != 0) {
                torn[sector * 512..(sector + 1) * 512].copy_from_slice(&new[sector * 512..(sector + 1) * 512]);
            }
            let read = decode(&torn);
            assert!(read.is_none_or(|read| torn.starts_with(&encode(&read, 0))), "{which:04b}");
        }
        assert!(decode(&new).is_some());
    }
}
