//! The little that loading must know of an ELF file: whether it is for this
//! machine, and what its dynamic section asks for. Read by the program headers,
//! as the dynamic linker does; section headers may be missing or lie.

use std::fs::File;

use super::verify::read_at;

/// What the dynamic section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    /// The RUNPATH, RPATH or needed name that holds `$ORIGIN`.
    pub(super) origin: Option<String>,
    /// Linked with `-z nodelete`: it is never unmapped.
    pub(super) nodelete: bool,
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
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

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
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
        let headers: Vec<&[u8]> = table.chunks_exact(PROGRAM_HEADER).collect();
        // The dynamic linker would map what is missing all the same, and the process would
        // die of a SIGBUS when it gets there.
        for header in headers.iter().filter(|header| u32_at(header, 0) == LOAD) {
            let end = u64_at(header, 8).checked_add(u64_at(header, 32));
            if end.is_none_or(|end| end > size) {
                return Err(format!("it is truncated: it has {size} bytes, and a segment ends beyond them"));
            }
        }
        let Some(dynamic) = headers.iter().find(|header| u32_at(header, 0) == DYNAMIC) else {
            return Err("it has no dynamic section".into());
        };
        let length = u64_at(dynamic, 32);
        if length > DYNAMIC_MAX {
            return Err(format!("its dynamic section has {length} bytes"));
        }
        let entries = read_at(file, u64_at(dynamic, 8), length as usize)
            .map_err(|_| "its dynamic section lies beyond its end".to_owned())?;
        let entries: Vec<(u64, u64)> = entries
            .chunks_exact(16)
            .map(|entry| (u64_at(entry, 0), u64_at(entry, 8)))
            .take_while(|entry| entry.0 != 0)
            .collect();
        let value = |tag| entries.iter().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let nodelete = value(FLAGS_1).is_some_and(|flags| flags & NODELETE != 0);
        let mut origin = None;
        let texts = entries.iter().filter(|entry| [NEEDED, RPATH, RUNPATH].contains(&entry.0));
        for &(_, offset) in texts {
            let strings = value(STRTAB).and_then(|address| in_file(&headers, address));
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

/// Where in the file an address stands.
fn in_file(headers: &[&[u8]], address: u64) -> Option<u64> {
    headers.iter().filter(|header| u32_at(header, 0) == LOAD).find_map(|header| {
        let within = address.checked_sub(u64_at(header, 16))?;
        (within < u64_at(header, 32)).then(|| u64_at(header, 8).checked_add(within))?
    })
}
