//! The little that loading must know of an ELF file: whether it is for this
//! machine, and what its dynamic section asks for. Read by the program headers,
//! as the dynamic linker does; section headers may be missing or lie. Read by offset,
//! which the dynamic linker does not: so the two must agree ([`elf`](crate::elf)).

use std::fs::File;

use super::verify::read_at;
use crate::elf::{self, Lie, PROGRAM_HEADER, Segment};

/// What the dynamic section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// The RUNPATH, RPATH or needed name that holds `$ORIGIN`.
    pub(super) origin: Option<String>,
    /// Linked with `-z nodelete`: it is never unmapped.
    pub(super) nodelete: bool,
}

const HEADER: usize = 64;
const NEEDED: u64 = 1;
const STRTAB: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
const FLAGS_1: u64 = 0x6fff_fffb;
const NODELETE: u64 = 8;
/// No dynamic section is larger: a lying header must not make us allocate.
const DYNAMIC_MAX: u64 = 1 << 20;
const NAME_MAX: u64 = 64 << 10;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "riscv64")]
const MACHINE: u16 = 243;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const MACHINE: u16 = 0;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

impl Dynamic {
    /// Reads an opened file; on failure, what is wrong with it.
    pub(super) fn read(file: &File) -> Result<Dynamic, String> {
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size < HEADER as u64 {
            return Err(format!("it has {size} bytes, an ELF header has {HEADER}"));
        }
        let header = read_at(file, 0, HEADER).map_err(|error| error.to_string())?;
        if header[..4] != *b"\x7fELF" {
            return Err("it does not begin with an ELF header".into());
        }
        if header[4] != 2 {
            return Err("it is a 32-bit object".into());
        }
        if header[5] != if cfg!(target_endian = "little") { 1 } else { 2 } {
            return Err("it has the other byte order".into());
        }
        if MACHINE != 0 && u16_at(&header, 18) != MACHINE {
            return Err(format!("it is for ELF machine {}, this one is {MACHINE}", u16_at(&header, 18)));
        }
        if u16_at(&header, 16) != 3 {
            return Err(format!("its ELF type is {}, a shared object's is 3", u16_at(&header, 16)));
        }
        let count = usize::from(u16_at(&header, 56));
        if usize::from(u16_at(&header, 54)) != PROGRAM_HEADER {
            return Err("its program headers have an unknown size".into());
        }
        let table = read_at(file, u64_at(&header, 32), count * PROGRAM_HEADER)
            .map_err(|_| "its program headers lie beyond its end".to_owned())?;
        let segments = Segment::all(&table);
        // The dynamic linker would map what is missing all the same, and the process would
        // die of a SIGBUS when it gets there.
        for segment in segments.iter().filter(|segment| segment.is_loaded()) {
            let end = segment.offset.checked_add(segment.size);
            if end.is_none_or(|end| end > size) {
                return Err(format!("it is truncated: it has {size} bytes, and a segment ends beyond them"));
            }
        }
        elf::agree(&segments, u64_at(&header, 32)).map_err(damaged)?;
        let Some(dynamic) = segments.iter().find(|segment| segment.is_dynamic()) else {
            return Err("it has no dynamic section".into());
        };
        let length = dynamic.size;
        if length > DYNAMIC_MAX {
            return Err(format!("its dynamic section has {length} bytes"));
        }
        let bytes = read_at(file, dynamic.offset, length as usize)
            .map_err(|_| "its dynamic section lies beyond its end".to_owned())?;
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(16)
            .map(|entry| (u64_at(entry, 0), u64_at(entry, 8)))
            .take_while(|entry| entry.0 != 0)
            .collect();
        // The dynamic linker reads on until there is an end.
        if entries.len() * 16 + 16 > bytes.len() {
            return Err("its dynamic section has no end".into());
        }
        elf::linkable(&header, &segments, &entries, &|offset, size| read_at(file, offset, size))
            .map_err(damaged)?;
        let value = |tag| entries.iter().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let nodelete = value(FLAGS_1).is_some_and(|flags| flags & NODELETE != 0);
        let mut origin = None;
        let texts = entries.iter().filter(|entry| [NEEDED, RPATH, RUNPATH].contains(&entry.0));
        for &(_, offset) in texts {
            let strings = value(STRTAB).and_then(|address| elf::in_file(&segments, address));
            let at = strings.and_then(|strings| strings.checked_add(offset)).filter(|&at| at < size);
            let at = at.ok_or("its dynamic strings lie beyond its end")?;
            let bytes =
                read_at(file, at, (size - at).min(NAME_MAX) as usize).map_err(|error| error.to_string())?;
            let end = bytes.iter().position(|&byte| byte == 0).ok_or("a dynamic string has no end")?;
            let text = String::from_utf8_lossy(&bytes[..end]);
            if text.contains("$ORIGIN") || text.contains("${ORIGIN}") {
                origin = Some(text.into_owned());
            }
        }
        Ok(Dynamic { origin, nodelete })
    }
}

fn damaged(Lie { wanted, found }: Lie) -> String {
    format!("its headers are damaged: wanted {wanted}, found {found}; copy or build it again")
}
