//! A bzImage: where the kernel proper is in it, how that is compressed, and its version. The layout is that of the Linux
//! x86 boot protocol, Documentation/arch/x86/boot.rst.
//!
//! A guest that is given the unpacked kernel does not unpack it itself, and boots a third of a second sooner.

use lz4_flex::block::decompress_into;

/// Where the setup header has its marks, bytes from the beginning.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const VERSION: usize = 0x20e;
const PAYLOAD: usize = 0x248;
/// The first version of the protocol that tells of the payload.
const PROTOCOL_MIN: u16 = 0x0208;
/// What is unpacked of one block of the LZ4 legacy format at most, bytes.
const LZ4_BLOCK: usize = 8 * 1024 * 1024;

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// The LZ4 legacy format.
    Lz4,
    /// By a program that unpacks `payload.<suffix>` in place.
    Program {
        /// `gzip`, `xz`, `zstd`.
        name: &'static str,
        /// Its files' suffix.
        suffix: &'static str,
    },
}

/// The parts of a bzImage.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BzImage<'a> {
    /// As `uname -r` says it, if the header tells.
    pub(super) version: Option<&'a str>,
    /// The compressed kernel, if it is compressed in a way that we know.
    pub(super) payload: Option<(Compression, &'a [u8])>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?)).ok()
}

impl<'a> BzImage<'a> {
    /// `None` if it is something else.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(MAGIC..MAGIC + 4)? != b"HdrS" {
            return None;
        }
        Some(Self { version: version(bytes), payload: payload(bytes).and_then(compression) })
    }
}

fn version(bytes: &[u8]) -> Option<&str> {
    let at = match u16_at(bytes, VERSION)? {
        0 => return None,
        at => usize::from(at) + 0x200,
    };
    let text = bytes.get(at..)?.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok()?.split(' ').next().filter(|version| !version.is_empty())
}

fn payload(bytes: &[u8]) -> Option<&[u8]> {
    if u16_at(bytes, PROTOCOL)? < PROTOCOL_MIN {
        return None;
    }
    // Zero means four, for the sake of very old boot loaders.
    let sectors = match *bytes.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let at = ((sectors + 1) * 512).checked_add(u32_at(bytes, PAYLOAD)?)?;
    bytes.get(at..at.checked_add(u32_at(bytes, PAYLOAD + 4)?)?)
}

/// By the first bytes. The kernel's build appends the unpacked size to what does not end with it by itself, 4 bytes.
fn compression(payload: &[u8]) -> Option<(Compression, &[u8])> {
    let program = |name, suffix| Compression::Program { name, suffix };
    let appended = payload.len().checked_sub(4)?;
    match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => Some((Compression::Lz4, &payload[..appended])),
        [0x1f, 0x8b, ..] => Some((program("gzip", "gz"), payload)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some((program("xz", "xz"), &payload[..appended])),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some((program("zstd", "zst"), &payload[..appended])),
        _ => None,
    }
}

/// Unpacks the LZ4 legacy format: a magic number, then blocks, each with its length before it. `Err` says what is wrong.
pub(super) fn unpack_lz4(packed: &[u8], max: u64) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    let mut at = 4;
    while at < packed.len() {
        let length = u32_at(packed, at).ok_or("a block without a length")?;
        let begin = at + 4;
        let end = begin.checked_add(length).ok_or("a block without an end")?;
        let content = packed.get(begin..end).ok_or("a block that is cut off")?;
        let size = decompress_into(content, &mut block).map_err(|error| error.to_string())?;
        if (unpacked.len() + size) as u64 > max {
            return Err(format!("more than {max} bytes"));
        }
        unpacked.extend_from_slice(&block[..size]);
        at = end;
    }
    Ok(unpacked)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A bzImage with this payload and version.
    pub(in crate::kernels) fn bzimage(payload: &[u8], version: &str) -> Vec<u8> {
        let mut file = vec![0; 2 * 512];
        file[SETUP_SECTORS] = 1;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        let text = format!("{version} (builder) #1");
        file[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        file[VERSION..VERSION + 2].copy_from_slice(&0x100_u16.to_le_bytes());
        file[PAYLOAD..PAYLOAD + 4].copy_from_slice(&16_u32.to_le_bytes());
        file[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend([0; 16]);
        file.extend(payload);
        file.extend([0; 32]);
        file
    }

    /// As the kernel's build does it: blocks, then the size.
    pub(in crate::kernels) fn pack_lz4(content: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
        for block in content.chunks(LZ4_BLOCK) {
            let block = lz4_flex::block::compress(block);
            packed.extend((block.len() as u32).to_le_bytes());
            packed.extend(block);
        }
        packed.extend((content.len() as u32).to_le_bytes());
        packed
    }

    #[test]
    fn parts_are_found() {
        let content: Vec<u8> = (0..LZ4_BLOCK + 100_000).map(|at| (at / 1_000) as u8).collect();
        let file = bzimage(&pack_lz4(&content), "6.1.0-x");
        let parsed = BzImage::parse(&file).unwrap();
        assert_eq!(parsed.version, Some("6.1.0-x"));
        let Some((Compression::Lz4, payload)) = parsed.payload else { panic!("{:?}", parsed.version) };
        assert!(unpack_lz4(payload, 1 << 30).unwrap() == content);
        assert!(unpack_lz4(payload, 1_000).unwrap_err().contains("1000 bytes"));
        for (magic, name) in
            [(&b"\x1f\x8b\x08\0\0\0"[..], "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd\0\0", "zstd")]
        {
            let file = bzimage(magic, "x");
            let Some((Compression::Program { name: found, .. }, _)) = BzImage::parse(&file).unwrap().payload else {
                panic!("{name}")
            };
            assert_eq!(found, name);
        }
        assert_eq!(BzImage::parse(&bzimage(b"BZh9....", "x")).unwrap().payload, None);
        assert_eq!(BzImage::parse(b"\x7fELF"), None);
    }

    #[test]
    fn broken_files_are_no_trouble() {
        let file = bzimage(&pack_lz4(&[7; 1_000]), "6.1.0-x");
        for end in 0..file.len() {
            let _ = BzImage::parse(&file[..end]);
        }
        for at in [SETUP_SECTORS, VERSION, VERSION + 1, PAYLOAD, PAYLOAD + 3, PAYLOAD + 4, PAYLOAD + 7] {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = file.clone();
                broken[at] = value;
                let _ = BzImage::parse(&broken);
            }
        }
        let packed = pack_lz4(&[7; 1_000]);
        for end in 4..packed.len() {
            let _ = unpack_lz4(&packed[..end], 1 << 20);
        }
        for at in 4..packed.len() {
            let mut broken = packed.clone();
            broken[at] = 0xff;
            let _ = unpack_lz4(&broken, 1 << 20);
        }
    }
}
