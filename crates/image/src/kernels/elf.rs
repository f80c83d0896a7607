//! The little that is asked of ELF files: what a module says about itself, and whether a program is static. Read with
//! every offset checked: the files come from packages and from people.
//!
//! The layout is that of elf(5), 64-bit, little-endian.

/// The program header that names a dynamic loader.
const PT_INTERP: u32 = 3;
const HEADER: usize = 64;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).map(|value| usize::from(u16::from_le_bytes(value)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).and_then(|value| usize::try_from(u64::from_le_bytes(value)).ok())
}

/// Whether this is a 64-bit little-endian ELF file.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes.starts_with(b"\x7fELF\x02\x01")
}

/// Whether it is a program that needs no dynamic loader; `None` if it is no ELF file or a broken one.
pub(super) fn is_static(bytes: &[u8]) -> Option<bool> {
    if !is_elf(bytes) {
        return None;
    }
    let (table, size, count) = (u64_at(bytes, 0x20)?, u16_at(bytes, 0x36)?, u16_at(bytes, 0x38)?);
    if count == 0 {
        return None;
    }
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(size)?)?;
        if u32_at(bytes, at)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

/// The content of the section of this name; `None` if there is none or the file is broken.
fn section<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !is_elf(bytes) {
        return None;
    }
    let (table, size) = (u64_at(bytes, 0x28)?, u16_at(bytes, 0x3a)?);
    let (count, names_index) = (u16_at(bytes, 0x3c)?, u16_at(bytes, 0x3e)?);
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let content = |header: usize| {
        let (offset, length) = (u64_at(bytes, header.checked_add(0x18)?)?, u64_at(bytes, header.checked_add(0x20)?)?);
        bytes.get(offset..offset.checked_add(length)?)
    };
    let names = content(header(names_index)?)?;
    for index in 0..count {
        let header = header(index)?;
        let own = names.get(u32_at(bytes, header)? as usize..)?;
        if own.split(|byte| *byte == 0).next() == Some(name) {
            return content(header);
        }
    }
    None
}

/// What a kernel module says about itself, `key=value` each, in its order. Empty for anything else.
pub(super) fn module_info(bytes: &[u8]) -> Vec<(String, String)> {
    let section = section(bytes, b".modinfo").unwrap_or_default();
    let entries = section.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A module that says this about itself.
    pub(in crate::kernels) fn module(info: &[&str]) -> Vec<u8> {
        let names = b"\0.modinfo\0.names\0";
        let text: Vec<u8> = info.iter().flat_map(|entry| entry.bytes().chain([0])).collect();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(HEADER, 0);
        let (text_at, names_at) = (file.len(), file.len() + text.len());
        file.extend(&text);
        file.extend(names);
        let table = file.len();
        for (name, at, length) in [(0_u32, 0, 0), (1, text_at, text.len()), (10, names_at, names.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(header);
        }
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        for (at, value) in [(0x3a, 64_u16), (0x3c, 3), (0x3e, 2)] {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        file
    }

    /// A program with these program headers.
    pub(in crate::kernels) fn program(headers: &[u32]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(HEADER, 0);
        file[0x20..0x28].copy_from_slice(&(HEADER as u64).to_le_bytes());
        file[0x36..0x38].copy_from_slice(&56_u16.to_le_bytes());
        file[0x38..0x3a].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        for kind in headers {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn what_a_module_says() {
        let file = module(&["license=GPL", "depends=a,b", "no equals sign", "softdep=pre: c"]);
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [own("license", "GPL"), own("depends", "a,b"), own("softdep", "pre: c")];
        assert_eq!(module_info(&file), expected);
        assert_eq!(module_info(b"no module"), []);
    }

    #[test]
    fn static_programs() {
        for (headers, expected) in [(&[1, 6][..], Some(true)), (&[6, PT_INTERP, 1], Some(false)), (&[], None)] {
            assert_eq!(is_static(&program(headers)), expected, "{headers:?}");
        }
        assert_eq!(is_static(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn broken_files_are_no_trouble() {
        let files = [module(&["depends=a"]), program(&[1, 2])];
        for file in &files {
            for end in 0..file.len() {
                let _ = (module_info(&file[..end]), is_static(&file[..end]));
            }
            for at in 0..file.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut broken = file.clone();
                    broken[at] = value;
                    // Eight bytes of the same make offsets that overflow.
                    broken[at..(at + 8).min(file.len())].fill(value);
                    let _ = (module_info(&broken), is_static(&broken));
                }
            }
        }
    }
}
