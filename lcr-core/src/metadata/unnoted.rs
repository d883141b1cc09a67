//! C libraries: what they will register, read from their data without running it.
//!
//! A component library in C has no note. But it *calls* `lcr_component_register`, so
//! that name stands among its undefined symbols; and what it registers is, as a rule,
//! initialised data: a `struct lcr_comp` that points to an array of `struct lcr_iface`,
//! each of which points to its name. In a shared object every such pointer is a
//! relocation. So the relocations say where descriptors may be, and the bytes there
//! say version, replaced versions and dependencies.
//!
//! What is found so is a *hint*: it decides which file is loaded first, and nothing
//! else. What counts is what the library registers once it is loaded; where that
//! differs, the next file is tried. A component that fills its descriptor in when it
//! is loaded is not seen here; [`holds`] says whether the wanted name stands in the
//! file at all, and only such a file is worth a closer look, in a child process. A
//! name that is put together at run time stands nowhere: name the file, or let the
//! name stand in it.

use std::fs::File;
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt;

use super::{Content, Interface};
use crate::elf::{u16_at, u32_at, u64_at};
use crate::table::{MAGIC, Table};

/// What the file of a C library says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unnoted {
    /// It calls `lcr_component_register`.
    pub(crate) registers: bool,
    /// It exports `lcr_comp_get`, from before components registered themselves, and
    /// does not register itself.
    pub(crate) is_older: bool,
    /// Why it must stay mapped: something that nobody could take back.
    pub(crate) stays: Option<&'static str>,
    /// The interfaces that its data describe.
    pub(crate) interfaces: Vec<Interface>,
    /// It calls `lcr_component_describe`.
    describes: bool,
    /// What its data say of tables.
    tables: Vec<SizedTable>,
}

/// What a file's data say of an interface's table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SizedTable {
    name: String,
    version: i32,
    functions: usize,
    state: bool,
}

/// What a file says of an interface's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing.
    Nothing,
    /// Something that its data do not show.
    Unknown,
    /// How many functions it has, and whether state is handed over.
    Table { functions: usize, state: bool },
}

/// What a library may leave behind that still leads into it when it is unmapped: threads,
/// keys' destructors, handlers, timers, and memory of its own that the C library reads later.
/// Rust libraries record the first of these; C libraries do not. One that asks for functions
/// by name may have any of them.
const LEAVES_BEHIND: &[&str] = &[
    "pthread_create",
    "thrd_create",
    "pthread_key_create",
    "tss_create",
    "signal",
    "bsd_signal",
    "sysv_signal",
    "__sysv_signal",
    "sigaction",
    "sigset",
    "sigaltstack",
    "timer_create",
    "clone",
    "on_exit",
    "aio_read",
    "aio_write",
    "aio_fsync",
    "lio_listio",
    "aio_read64",
    "aio_write64",
    "aio_fsync64",
    "lio_listio64",
    "mq_notify",
    "getaddrinfo_a",
    "openlog",
    "putenv",
    "environ",
    "__environ",
    "_environ",
    "setbuf",
    "setbuffer",
    "setvbuf",
    "fopencookie",
    "register_printf_function",
    "register_printf_specifier",
    "register_printf_modifier",
    "register_printf_type",
    "dlsym",
    "dlvsym",
];

/// The same of C++'s library.
fn of_cplusplus(name: &[u8]) -> Option<&'static str> {
    match name {
        b"_ZSt13set_terminatePFvvE" => Some("std::set_terminate"),
        b"_ZSt15set_new_handlerPFvvE" => Some("std::set_new_handler"),
        _ if name.starts_with(b"_ZNSt6thread15_M_start_thread") => Some("std::thread"),
        _ => None,
    }
}
/// Symbols that exist once in a process: the dynamic linker never unmaps their holder.
const UNIQUE: &str = "STB_GNU_UNIQUE symbols";

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: u64 = 24;
const RELOCATION: u64 = 24;
const IFACE: u64 = 72;
/// No reasonable component has more: limits on what a hostile file can cost.
const MOST_SYMBOLS: u64 = 1 << 16;
const MOST_POINTERS: usize = 1 << 18;
const MOST_IFACES: u64 = 1 << 10;
const MOST_BYTES: u64 = 64 << 20;
const LONGEST_NAME: u64 = 4096;
/// Read at once; a component is hardly larger.
const HEAD: u64 = 32 << 10;

#[cfg(target_arch = "x86_64")]
const MACHINE: (u16, u32, u32) = (62, 8, 1);
#[cfg(target_arch = "aarch64")]
const MACHINE: (u16, u32, u32) = (183, 1027, 257);
#[cfg(target_arch = "riscv64")]
const MACHINE: (u16, u32, u32) = (243, 3, 2);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const MACHINE: (u16, u32, u32) = (0, 0, 0);

impl Unnoted {
    /// Reads a shared object. One that cannot be made sense of says nothing: it is the
    /// dynamic linker that refuses it, by name.
    pub(crate) fn read(content: Content<'_>) -> Unnoted {
        Image::read(content).and_then(|image| image.unnoted()).unwrap_or_default()
    }

    /// What it says of the table of this interface.
    pub(crate) fn table_of(&self, name: &str, version: i32) -> Said {
        let of_it = self.tables.iter().find(|table| table.name == name && table.version == version);
        match of_it {
            Some(&SizedTable { functions, state, .. }) => Said::Table { functions, state },
            None if self.describes => Said::Unknown,
            None => Said::Nothing,
        }
    }
}

/// Does `name`, with the NUL behind it, stand in the first 64 MiB of the file?
pub(crate) fn holds(file: &File, name: &str) -> bool {
    let wanted = [name.as_bytes(), &[0]].concat();
    let mut buffer = vec![0; (256 << 10) + wanted.len()];
    let (mut kept, mut at) = (0, 0_u64);
    while at < MOST_BYTES {
        let Ok(count @ 1..) = file.read_at(&mut buffer[kept..], at) else { return false };
        let filled = kept + count;
        if find(&buffer[..filled], &wanted) {
            return true;
        }
        at += count as u64;
        // What may be its beginning.
        kept = (wanted.len() - 1).min(filled);
        buffer.copy_within(filled - kept..filled, 0);
    }
    false
}

fn find(bytes: &[u8], wanted: &[u8]) -> bool {
    // SAFETY: both slices are readable for their lengths.
    let at =
        unsafe { libc::memmem(bytes.as_ptr().cast(), bytes.len(), wanted.as_ptr().cast(), wanted.len()) };
    !at.is_null()
}

/// A part of a file that is mapped, and the zeros behind it.
struct Segment {
    address: u64,
    /// Where it stands in the file.
    offset: u64,
    in_file: u64,
    in_memory: u64,
}

/// Interfaces, and where their descriptors are.
type Described = Vec<(u64, Interface)>;

/// A shared object, seen by addresses.
struct Image<'f> {
    file: &'f File,
    head: Vec<u8>,
    loaded: Vec<Segment>,
    dynamic: Vec<(u64, u64)>,
}

impl<'f> Image<'f> {
    fn read(content: Content<'f>) -> Option<Self> {
        let Content { file, len, whole } = content;
        let head = match whole {
            Some(bytes) => bytes,
            None => {
                let mut head = vec![0; len.min(HEAD) as usize];
                let count = file.read_at(&mut head, 0).ok()?;
                head.truncate(count);
                head
            }
        };
        let header = head.get(..HEADER)?;
        let is_ours = header[..4] == *b"\x7fELF"
            && header[4] == 2
            && header[5] == 1
            && u16_at(header, 16) == 3
            && u16_at(header, 18) == MACHINE.0
            && usize::from(u16_at(header, 54)) == PROGRAM_HEADER;
        if !is_ours {
            return None;
        }
        let start = usize::try_from(u64_at(header, 32)).ok()?;
        let size = usize::from(u16_at(header, 56)) * PROGRAM_HEADER;
        let headers = head.get(start..start.checked_add(size)?)?.to_vec();
        let mut image = Image { file, head, loaded: Vec::new(), dynamic: Vec::new() };
        let mut dynamic = None;
        for header in headers.chunks_exact(PROGRAM_HEADER) {
            match u32_at(header, 0) {
                1 => image.loaded.push(Segment {
                    address: u64_at(header, 16),
                    offset: u64_at(header, 8),
                    in_file: u64_at(header, 32),
                    in_memory: u64_at(header, 40),
                }),
                2 => dynamic = Some((u64_at(header, 8), u64_at(header, 32))),
                _ => {}
            }
        }
        // None is at the end of all addresses: what is added to one stays a number.
        image.loaded.retain(|segment| {
            segment.address.checked_add(segment.in_memory).is_some_and(|end| end < u64::MAX - (1 << 32))
        });
        let (at, size) = dynamic?;
        let entries = image.in_file(at, size.min(1 << 16))?;
        let entries = entries.chunks_exact(16).map(|entry| (u64_at(entry, 0), u64_at(entry, 8)));
        image.dynamic = entries.take_while(|(tag, _)| *tag != 0).collect();
        Some(image)
    }

    fn in_file(&self, at: u64, size: u64) -> Option<Vec<u8>> {
        if size > MOST_BYTES {
            return None;
        }
        let (start, length) = (usize::try_from(at).ok()?, size as usize);
        if let Some(bytes) = self.head.get(start..start.checked_add(length)?) {
            return Some(bytes.to_vec());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    /// Where an address stands in the file, and how many bytes of its segment follow.
    fn place(&self, address: u64) -> Option<(u64, u64)> {
        self.loaded.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address).filter(|within| *within < segment.in_file)?;
            Some((segment.offset.checked_add(within)?, segment.in_file - within))
        })
    }

    /// The bytes at an address. What is mapped and not in the file (a list of one zero,
    /// say) is zeros.
    fn at(&self, address: u64, size: u64) -> Option<Vec<u8>> {
        let segment = self.loaded.iter().find(|segment| {
            address.checked_sub(segment.address).is_some_and(|within| within < segment.in_memory)
        })?;
        let within = address - segment.address;
        if size > MOST_BYTES || size > segment.in_memory - within {
            return None;
        }
        let mut bytes = match segment.in_file.saturating_sub(within).min(size) {
            0 => Vec::new(),
            there => self.in_file(segment.offset.checked_add(within)?, there)?,
        };
        bytes.resize(size as usize, 0);
        Some(bytes)
    }

    fn word(&self, address: u64) -> Option<u64> {
        let (at, left) = self.place(address)?;
        if left < 8 {
            return None;
        }
        match usize::try_from(at).ok().and_then(|at| self.head.get(at..at.checked_add(8)?)) {
            Some(bytes) => Some(u64_at(bytes, 0)),
            None => Some(u64_at(&self.in_file(at, 8)?, 0)),
        }
    }

    /// A text at an address.
    fn text(&self, address: u64) -> Option<String> {
        let (at, left) = self.place(address)?;
        let bytes = self.in_file(at, left.min(LONGEST_NAME))?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        String::from_utf8(bytes[..end].to_vec()).ok().filter(|text| !text.is_empty())
    }

    fn entry(&self, tag: u64) -> Option<u64> {
        self.dynamic.iter().find(|entry| entry.0 == tag).map(|entry| entry.1)
    }

    fn unnoted(&self) -> Option<Unnoted> {
        const STRTAB: u64 = 5;
        const SYMTAB: u64 = 6;
        const STRSZ: u64 = 10;
        let (strings_at, symbols_at) = (self.entry(STRTAB)?, self.entry(SYMTAB)?);
        let strings = self.at(strings_at, self.entry(STRSZ)?)?;
        // Nearly every library on a system ends here.
        if !find(&strings, b"lcr_comp") {
            return Some(Unnoted::default());
        }
        // Linkers put the strings behind the symbols, and other small tables between
        // them at most: what is read too much is no name that is asked for.
        let count = (strings_at.checked_sub(symbols_at)? / SYMBOL).min(MOST_SYMBOLS);
        let symbols = self.at(symbols_at, count * SYMBOL)?;
        let mut unnoted = Unnoted::default();
        let mut exports_get = false;
        for symbol in symbols.chunks_exact(SYMBOL as usize) {
            let Some(name) = strings.get(u32_at(symbol, 0) as usize..) else { continue };
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let is_undefined = u16_at(symbol, 6) == 0;
            if is_undefined {
                unnoted.registers |= name == b"lcr_component_register";
                unnoted.describes |= name == b"lcr_component_describe";
                let left = LEAVES_BEHIND.iter().find(|call| call.as_bytes() == name).copied();
                unnoted.stays = unnoted.stays.or(left).or_else(|| of_cplusplus(name));
            } else {
                exports_get |= name == b"lcr_comp_get";
                if symbol[4] >> 4 == 10 {
                    unnoted.stays = Some(UNIQUE);
                }
            }
        }
        unnoted.is_older = exports_get && !unnoted.registers;
        if unnoted.registers {
            let pointers = Pointers::read(self, &symbols)?;
            let all = self.described(&pointers);
            if unnoted.describes {
                unnoted.tables = self.sized(&all, &pointers);
            }
            unnoted.interfaces = all.into_iter().map(|(_, interface)| interface).collect();
        }
        Some(unnoted)
    }

    /// The interfaces of all that looks like a component's descriptor, and where they are.
    fn described(&self, pointers: &Pointers) -> Described {
        let mut found: Vec<(u64, u64, u64, Described)> = Vec::new();
        let mut budget = 4 * MOST_IFACES;
        for &(at, ifaces) in &pointers.0 {
            // Whatever else points to something that points to something.
            if pointers.at(ifaces).is_none() || pointers.at(at + 8).is_some() {
                continue;
            }
            let Some(count @ 1..=MOST_IFACES) = self.word(at + 8) else { continue };
            if count > budget {
                break;
            }
            let all = (0..count).map(|i| {
                let at = ifaces.checked_add(i * IFACE)?;
                Some((at, self.iface(at, pointers)?))
            });
            if let Some(interfaces) = all.collect::<Option<Vec<_>>>() {
                budget -= count;
                found.push((at, ifaces, ifaces + count * IFACE, interfaces));
            }
        }
        // A list of dependencies, with its count, may look like a component: it is
        // pointed to from within an interface.
        let within = |at: u64| found.iter().any(|(_, start, end, _)| (*start..*end).contains(&at));
        found.iter().filter(|(at, ..)| !within(*at)).flat_map(|(.., interfaces)| interfaces.clone()).collect()
    }

    /// What is said of these interfaces' tables: each description points to its interface.
    fn sized(&self, interfaces: &[(u64, Interface)], pointers: &Pointers) -> Vec<SizedTable> {
        let described = pointers.0.iter().filter_map(|&(at, target)| {
            let interface = interfaces.iter().find(|(place, _)| *place == target).map(|(_, i)| i)?;
            let start = at.checked_sub(offset_of!(Table, iface) as u64)?;
            let bytes = self.at(start, size_of::<Table>() as u64)?;
            if bytes[..8] != MAGIC {
                return None;
            }
            let length = u64_at(&bytes, offset_of!(Table, bytes));
            // What cannot be true is said when it is loaded.
            let functions =
                usize::try_from(length / 8).ok().filter(|_| length > 0 && length.is_multiple_of(8))?;
            let state = pointers.find(start + offset_of!(Table, restore) as u64).is_some();
            Some(SizedTable { name: interface.name.clone(), version: interface.version, functions, state })
        });
        described.collect()
    }

    fn iface(&self, at: u64, pointers: &Pointers) -> Option<Interface> {
        let bytes = self.at(at, IFACE)?;
        let number = |offset: usize| u32_at(&bytes, offset).cast_signed();
        if [8, 24, 40].iter().any(|number| pointers.at(at + number).is_some()) {
            return None;
        }
        // A word that is no pointer is null.
        let pointer = |offset: u64| match pointers.at(at + offset) {
            Some(target) => Some(Some(target)),
            None if pointers.symbolic(at + offset) => Some(None),
            None => (u64_at(&bytes, offset as usize) == 0).then_some(None),
        };
        let name = self.text(pointer(0)??)?;
        let replaces = match (pointer(16)?, u32_at(&bytes, 24)) {
            (Some(list), count @ 1..=1024) => {
                let list = self.at(list, u64::from(count) * 4)?;
                list.chunks_exact(4).map(|number| u32_at(number, 0).cast_signed()).collect()
            }
            (_, 0) | (None, _) => Vec::new(),
            _ => return None,
        };
        let requires = match (pointer(32)?, u64_at(&bytes, 40)) {
            (Some(list), count @ 1..=1024) => (0..count)
                .map(|i| self.text(pointers.at(list.wrapping_add(i * 8))?))
                .collect::<Option<_>>()?,
            (_, 0) | (None, _) => Vec::new(),
            _ => return None,
        };
        for function in [48, 56, 64] {
            pointer(function)?;
        }
        Some(Interface {
            name,
            version: number(8),
            replaces,
            requires,
            per_reference: false,
            state: false,
            contract: None,
        })
    }
}

/// The pointers that the dynamic linker will write: where, and to where; sorted. To
/// where is 0 for what another object defines.
struct Pointers(Vec<(u64, u64)>);

impl Pointers {
    fn read(image: &Image<'_>, symbols: &[u8]) -> Option<Pointers> {
        const RELA: u64 = 7;
        const RELASZ: u64 = 8;
        const RELRSZ: u64 = 35;
        const RELR: u64 = 36;
        let mut all = Vec::new();
        if let (Some(at), Some(size)) = (image.entry(RELA), image.entry(RELASZ)) {
            let table = image.at(at, size.min(MOST_POINTERS as u64 * RELOCATION))?;
            for relocation in table.chunks_exact(RELOCATION as usize) {
                let (at, addend) = (u64_at(relocation, 0), u64_at(relocation, 16));
                match u32_at(relocation, 8) {
                    kind if kind == MACHINE.1 => all.push((at, addend)),
                    kind if kind == MACHINE.2 => {
                        let symbol = u32_at(relocation, 12) as usize * SYMBOL as usize;
                        let symbol = symbols.get(symbol..symbol + SYMBOL as usize);
                        let value =
                            symbol.filter(|symbol| u16_at(symbol, 6) != 0).map(|symbol| u64_at(symbol, 8));
                        all.push((at, value.map_or(0, |value| value.wrapping_add(addend))));
                    }
                    _ => {}
                }
            }
        }
        if let (Some(at), Some(size)) = (image.entry(RELR), image.entry(RELRSZ)) {
            let table = image.at(at, size.min(MOST_POINTERS as u64))?;
            let push = |all: &mut Vec<(u64, u64)>, at: u64| {
                if let Some(target) = image.word(at)
                    && all.len() < MOST_POINTERS
                {
                    all.push((at, target));
                }
            };
            let mut next = 0_u64;
            for word in table.chunks_exact(8).map(|word| u64_at(word, 0)) {
                // An address, or a map of the 63 words behind the last one.
                if word & 1 == 0 {
                    push(&mut all, word);
                    next = word.wrapping_add(8);
                } else {
                    for bit in (1..64).filter(|bit| word >> bit & 1 == 1) {
                        push(&mut all, next.wrapping_add((bit - 1) * 8));
                    }
                    next = next.wrapping_add(63 * 8);
                }
            }
        }
        all.retain(|(at, _)| *at < u64::MAX - (1 << 32));
        all.sort_unstable();
        all.dedup_by_key(|(at, _)| *at);
        Some(Pointers(all))
    }

    /// Where the pointer at an address points to, within the object.
    fn at(&self, address: u64) -> Option<u64> {
        self.find(address).filter(|target| *target != 0)
    }

    /// Is there one, to another object?
    fn symbolic(&self, address: u64) -> bool {
        self.find(address) == Some(0)
    }

    fn find(&self, address: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&address, |(at, _)| *at).ok()?;
        Some(self.0[at].1)
    }
}

#[cfg(test)]
mod tests;
