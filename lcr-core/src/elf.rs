//! An ELF file as the dynamic linker will see it, and whether it contradicts itself.
//!
//! The dynamic linker believes what it maps. It reads the dynamic section, the thread-local
//! template and what to protect by *address*, a reader of files reads them by *offset*,
//! and nothing but the linker's good manners makes the two one thing. Where they differ,
//! what was verified is not what runs; and where an address leads nowhere, the process
//! dies inside the dynamic linker, of a file that merely was damaged. So the file must
//! agree with itself before anybody maps it:
//!
//! - [`agree`]: the program headers with each other. Segments that are loaded ascend and
//!   do not overlap, and every other one lies in one of them, at the same distance of
//!   address and offset. This needs nothing but the headers.
//! - [`linkable`]: what the dynamic linker follows with the program headers. Tables lie in
//!   readable segments, relocations write to writable ones, functions stand in executable
//!   ones, and who has thread-locals has a segment of them. Section headers, where a file
//!   has them, say where everything is once more; nobody needs them to load it, but who
//!   contradicts them is damaged.
//!
//! What no header contradicts cannot be found here: bytes of code that were altered, or
//! a table whose content is wrong, but in its place. And in a file whose section headers
//! were cut off (`strip` keeps them), sizes that nothing else tells: less initialised
//! data, fewer zeros or smaller thread-locals than there were, a missing unwinding table.

use std::io;

pub(crate) const PROGRAM_HEADER: usize = 56;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_TLS: u32 = 7;
const PT_PHDR: u32 = 6;
const PT_RELRO: u32 = 0x6474_e552;
/// What lies in a segment that is loaded, by type, with its name, and whether there may
/// be only one: of two, some readers take the first and others the last.
const WITHIN: &[(u32, &str, bool)] = &[
    (PT_DYNAMIC, "PT_DYNAMIC", true),
    (3, "PT_INTERP", true),
    (4, "PT_NOTE", false),
    (PT_PHDR, "PT_PHDR", true),
    (PT_TLS, "PT_TLS", true),
    (0x6474_e550, "PT_GNU_EH_FRAME", true),
    (PT_RELRO, "PT_GNU_RELRO", true),
    (0x6474_e553, "PT_GNU_PROPERTY", false),
];
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
/// The smallest page of any machine, and the largest.
const PAGE: u64 = 4096;
const LARGEST_PAGE: u64 = 64 << 10;
/// No thread-local template is aligned to more, or larger.
const TLS_ALIGN: u64 = 1 << 20;
const TLS_SIZE: u64 = 1 << 30;

/// Where a file contradicts itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lie {
    /// What a linker would have written.
    pub(crate) wanted: &'static str,
    /// What stands there.
    pub(crate) found: String,
}

fn lie<T>(wanted: &'static str, found: String) -> Result<T, Lie> {
    Err(Lie { wanted, found })
}

/// A program header.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    flags: u32,
    pub(crate) offset: u64,
    address: u64,
    /// In the file.
    pub(crate) size: u64,
    in_memory: u64,
    pub(crate) align: u64,
}

impl Segment {
    /// The program headers in a table of them.
    pub(crate) fn all(table: &[u8]) -> Vec<Segment> {
        let segment = |bytes: &[u8]| Segment {
            kind: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            address: u64_at(bytes, 16),
            size: u64_at(bytes, 32),
            in_memory: u64_at(bytes, 40),
            align: u64_at(bytes, 48),
        };
        table.chunks_exact(PROGRAM_HEADER).map(segment).collect()
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.kind == PT_LOAD
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.kind == PT_DYNAMIC
    }

    /// Do these bytes of memory lie in it?
    fn holds(&self, address: u64, size: u64) -> bool {
        let end = address.checked_sub(self.address).and_then(|within| within.checked_add(size));
        end.is_some_and(|end| end <= self.in_memory)
    }

    /// Where in the file these bytes of memory come from.
    fn place(&self, address: u64, size: u64) -> Option<u64> {
        let within = address.checked_sub(self.address)?;
        (within.checked_add(size)? <= self.size).then(|| self.offset.checked_add(within))?
    }

    fn described(&self) -> String {
        format!("{:#x} bytes at address {:#x}, offset {:#x}", self.in_memory, self.address, self.offset)
    }
}

/// The file offset of an address, in whatever is loaded.
pub(crate) fn in_file(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.is_loaded()).find_map(|segment| segment.place(address, 1))
}

/// Refuses program headers that contradict each other. `table` is where they stand.
pub(crate) fn agree(segments: &[Segment], table: u64) -> Result<(), Lie> {
    const ASCENDING: &str = "loaded segments that ascend and do not overlap";
    let loaded: Vec<&Segment> = segments.iter().filter(|segment| segment.is_loaded()).collect();
    let mut end = 0;
    for (number, segment) in loaded.iter().enumerate() {
        let found = |what: &str| format!("loaded segment {number} with {what}: {}", segment.described());
        let Some(last) = segment.address.checked_add(segment.in_memory) else {
            return lie(ASCENDING, found("an end beyond all addresses"));
        };
        if segment.in_memory < segment.size {
            let found = found(&format!("{:#x} bytes in the file", segment.size));
            return lie("segments at least as large in memory as in the file", found);
        }
        if !segment.align.is_power_of_two() && segment.align != 0 {
            return lie(
                "alignments that are powers of two",
                found(&format!("alignment {:#x}", segment.align)),
            );
        }
        let distance = segment.address.wrapping_sub(segment.offset);
        if !distance.is_multiple_of(segment.align.max(1)) {
            return lie(
                "addresses and offsets that agree within the alignment",
                found(&format!("alignment {:#x}", segment.align)),
            );
        }
        if segment.address < end {
            return lie(ASCENDING, found(&format!("the one before ending at {end:#x}")));
        }
        end = last;
        let overlaps = |other: &&&Segment| {
            segment.offset < other.offset.saturating_add(other.size)
                && other.offset < segment.offset.saturating_add(segment.size)
        };
        if let Some(other) = loaded[..number].iter().find(overlaps) {
            let other = format!("bytes of the file that another has: {}", other.described());
            return lie(ASCENDING, found(&other));
        }
    }
    for &(kind, name, only_one) in WITHIN {
        let mut count = 0;
        for segment in segments.iter().filter(|segment| segment.kind == kind) {
            count += 1;
            if only_one && count > 1 {
                return lie("one segment of each kind", format!("two {name}"));
            }
            within(segment, name, &loaded)?;
            if kind == PT_PHDR && segment.offset != table {
                return lie("PT_PHDR at the program headers", format!("{name} with {}", segment.described()));
            }
        }
    }
    Ok(())
}

/// Refuses a segment that is not part of one that is loaded.
fn within(segment: &Segment, name: &str, loaded: &[&Segment]) -> Result<(), Lie> {
    let found = || format!("{name} with {}", segment.described());
    // A template of zeros alone, or what a file with debugging information alone has left.
    if segment.size > 0 {
        // What is protected are addresses: BOLT gives the zeros at its end a size in the file.
        let size = if segment.kind == PT_RELRO { 1 } else { segment.size };
        let holder = loaded.iter().find(|holder| holder.place(segment.address, size).is_some());
        let same = holder.and_then(|holder| holder.place(segment.address, size));
        if same != Some(segment.offset) {
            return lie("each segment in a loaded one, at the same distance of address and offset", found());
        }
        // Zeros behind a thread-local template take no addresses; a linker rounds up
        // what shall be protected.
        let holder = holder.map_or(0, |holder| {
            // `agree` has seen that this end is an address; the next page may be none.
            let end = holder.address + holder.in_memory;
            end.checked_next_multiple_of(LARGEST_PAGE.max(holder.align)).unwrap_or(u64::MAX)
        });
        let end = segment.address.checked_add(segment.in_memory);
        if segment.kind != PT_TLS && end.is_none_or(|end| end > holder) {
            return lie("each segment to end where the loaded one does that it is part of", found());
        }
    }
    if segment.kind == PT_TLS {
        let sound = segment.in_memory >= segment.size
            && segment.in_memory <= TLS_SIZE
            && (segment.align == 0 || segment.align.is_power_of_two())
            && segment.align <= TLS_ALIGN;
        if !sound {
            let found =
                format!("{}, {:#x} in the file, alignment {:#x}", found(), segment.size, segment.align);
            return lie("thread-locals of at most 1 GiB, aligned to a power of two up to 1 MiB", found);
        }
    }
    Ok(())
}

/// The tags of a dynamic section that lead to something.
mod tag {
    pub(super) const PLTRELSZ: u64 = 2;
    pub(super) const HASH: u64 = 4;
    pub(super) const STRTAB: u64 = 5;
    pub(super) const SYMTAB: u64 = 6;
    pub(super) const RELA: u64 = 7;
    pub(super) const RELASZ: u64 = 8;
    pub(super) const RELAENT: u64 = 9;
    pub(super) const STRSZ: u64 = 10;
    pub(super) const SYMENT: u64 = 11;
    pub(super) const INIT: u64 = 12;
    pub(super) const FINI: u64 = 13;
    pub(super) const PLTREL: u64 = 20;
    pub(super) const TEXTREL: u64 = 22;
    pub(super) const JMPREL: u64 = 23;
    pub(super) const INIT_ARRAY: u64 = 25;
    pub(super) const FINI_ARRAY: u64 = 26;
    pub(super) const INIT_ARRAYSZ: u64 = 27;
    pub(super) const FINI_ARRAYSZ: u64 = 28;
    pub(super) const FLAGS: u64 = 30;
    pub(super) const RELRSZ: u64 = 35;
    pub(super) const RELR: u64 = 36;
    pub(super) const RELRENT: u64 = 37;
    pub(super) const GNU_HASH: u64 = 0x6fff_fef5;
    pub(super) const VERSYM: u64 = 0x6fff_fff0;
    pub(super) const VERDEF: u64 = 0x6fff_fffc;
    pub(super) const VERNEED: u64 = 0x6fff_fffe;
}

const SECTION: usize = 64;
const SYMBOL: u64 = 24;
const RELOCATION: u64 = 24;
/// More symbols do not fall into one bucket.
const LONGEST_CHAIN: usize = 1 << 12;
/// Read at once.
const CHUNK: u64 = 256 << 10;

/// A machine's relocations: `RELATIVE`, and those of thread-locals.
struct Relocations {
    relative: u32,
    local: &'static [u32],
}

#[cfg(target_arch = "x86_64")]
const RELOCATIONS: Relocations = Relocations { relative: 8, local: &[16, 17, 18, 36] };
#[cfg(target_arch = "aarch64")]
const RELOCATIONS: Relocations = Relocations { relative: 1027, local: &[1028, 1029, 1030, 1031] };
#[cfg(target_arch = "riscv64")]
const RELOCATIONS: Relocations = Relocations { relative: 3, local: &[7, 9, 11, 12] };
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const RELOCATIONS: Relocations = Relocations { relative: u32::MAX, local: &[] };

/// Reads exactly so many bytes at an offset of the file.
pub(crate) type Read<'r> = &'r dyn Fn(u64, usize) -> io::Result<Vec<u8>>;

/// Refuses a shared object that the dynamic linker would follow into nowhere. The program
/// headers [`agree`]; `header` is the ELF header, and `dynamic` is what stands before the end of the dynamic section.
pub(crate) fn linkable(
    header: &[u8],
    segments: &[Segment],
    dynamic: &[(u64, u64)],
    read: Read<'_>,
) -> Result<(), Lie> {
    let image = Image {
        loaded: segments.iter().filter(|segment| segment.is_loaded()).collect(),
        local: segments.iter().find(|segment| segment.kind == PT_TLS),
        dynamic,
        read,
    };
    image.pages()?;
    if let Some(segment) = segments.iter().find(|segment| segment.is_dynamic())
        && segment.flags & WRITE != 0
        && !image.loaded.iter().any(|l| l.flags & WRITE != 0 && l.holds(segment.address, segment.in_memory))
    {
        return lie("PT_DYNAMIC to be as writable as its segment", segment.described());
    }
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_RELRO) {
        image.protected(segment)?;
    }
    image.sections(header, segments)?;
    image.tables()?;
    image.symbols()?;
    image.relocations()
}

struct Image<'i> {
    loaded: Vec<&'i Segment>,
    local: Option<&'i Segment>,
    dynamic: &'i [(u64, u64)],
    read: Read<'i>,
}

impl Image<'_> {
    fn entry(&self, tag: u64) -> Option<u64> {
        // The dynamic linker keeps the last of each.
        self.dynamic.iter().rfind(|entry| entry.0 == tag).map(|entry| entry.1)
    }

    /// Is this memory of a segment with these rights?
    fn has(&self, rights: u32, address: u64, size: u64) -> bool {
        self.loaded.iter().any(|segment| segment.flags & rights == rights && segment.holds(address, size))
    }

    /// Is this memory nothing but zeros when it is mapped?
    fn begins_with_zeros(&self, address: u64, size: u64) -> Result<bool, Lie> {
        let holder = self.loaded.iter().find(|segment| segment.holds(address, size));
        let end = holder.map_or(0, |holder| holder.address.saturating_add(holder.size));
        let in_file = end.saturating_sub(address).min(size);
        let mut is_zero = true;
        self.each("its zeros", address, in_file, 1, |byte| {
            is_zero &= byte == [0];
            Ok(())
        })?;
        Ok(is_zero)
    }

    /// Where in the file a table of the dynamic section stands.
    fn check(&self, what: &'static str, address: u64, size: u64) -> Result<u64, Lie> {
        let mut readable = self.loaded.iter().filter(|segment| segment.flags & READ != 0);
        match readable.find_map(|segment| segment.place(address, size)) {
            Some(place) => Ok(place),
            None => lie(
                "what the dynamic section names in a loaded, readable segment",
                format!("{what}, {size:#x} bytes at address {address:#x}, in none"),
            ),
        }
    }

    /// Its bytes.
    fn bytes(&self, what: &'static str, address: u64, size: u64) -> Result<Vec<u8>, Lie> {
        let place = self.check(what, address, size)?;
        // Whole segments lie in the file: only its changing meanwhile leads here.
        (self.read)(place, size as usize)
            .or_else(|error| lie("a file that can be read", format!("{what}: {error}")))
    }

    /// Each segment has pages of its own: the dynamic linker maps whole ones.
    fn pages(&self) -> Result<(), Lie> {
        for (number, segment) in self.loaded.iter().enumerate() {
            let found = |what: &str| format!("loaded segment {number} {what}: {}", segment.described());
            if segment.flags & WRITE == 0 && segment.size != segment.in_memory {
                let found = found(&format!("with {:#x} bytes in the file", segment.size));
                return lie("what is not writable to have all its bytes in the file", found);
            }
            if !segment.address.wrapping_sub(segment.offset).is_multiple_of(PAGE) {
                return lie("addresses and offsets that agree within a page", found("where they do not"));
            }
            if let Some(next) = self.loaded.get(number + 1) {
                let end = (segment.address + segment.in_memory).checked_next_multiple_of(PAGE);
                if end.is_none_or(|end| end > next.address & !(PAGE - 1)) && segment.in_memory > 0 {
                    return lie("loaded segments on pages of their own", found("reaching into the next one"));
                }
            }
        }
        Ok(())
    }

    /// What becomes read-only ends with a page, and with what stands in the file, but for
    /// the page that a linker fills up.
    fn protected(&self, segment: &Segment) -> Result<(), Lie> {
        let fill = segment.in_memory.checked_sub(segment.size);
        let holder = self.loaded.iter().find(|l| l.flags & WRITE != 0 && l.holds(segment.address, 1));
        let page = holder.map_or(0, |holder| holder.align.max(PAGE));
        let end = segment.address.saturating_add(segment.in_memory);
        if fill.is_none_or(|fill| fill >= page) || !end.is_multiple_of(PAGE) {
            let found = format!("{}, {:#x} of them in the file", segment.described(), segment.size);
            return lie(
                "PT_GNU_RELRO in a writable segment, to its last bytes in the file and the end of their page",
                found,
            );
        }
        Ok(())
    }

    /// What the section headers say of what is loaded.
    fn sections(&self, header: &[u8], segments: &[Segment]) -> Result<(), Lie> {
        const WANTED: &str = "program headers that hold what the section headers say";
        const NOBITS: u32 = 8;
        const ALLOC: u64 = 2;
        const TLS: u64 = 0x400;
        const UNWINDING: &[u8] = b".eh_frame_hdr\0";
        const PT_EH_FRAME: u32 = 0x6474_e550;
        let (table, count) = (u64_at(header, 40), usize::from(u16_at(header, 60)));
        if table == 0 || usize::from(u16_at(header, 58)) != SECTION || count == 0 {
            return Ok(());
        }
        // Who cut them off has cut off nothing that is loaded.
        let Ok(table) = (self.read)(table, count * SECTION) else { return Ok(()) };
        // The first is empty in every table of sections.
        if table[..SECTION].iter().any(|byte| *byte != 0) {
            return Ok(());
        }
        let sections = || table.chunks_exact(SECTION);
        let names = sections().nth(usize::from(u16_at(header, 62))).map(|names| u64_at(names, 24));
        for (number, section) in sections().enumerate() {
            let (kind, flags) = (u32_at(section, 4), u64_at(section, 8));
            let [address, offset, size] = [16, 24, 32].map(|at| u64_at(section, at));
            if flags & ALLOC == 0 || size == 0 {
                continue;
            }
            let found = |what: &str| {
                let is = format!(
                    "section {number} of {size:#x} bytes at address {address:#x}, offset {offset:#x}"
                );
                lie(WANTED, format!("{is}, {what}"))
            };
            if flags & TLS != 0 && !self.local.is_some_and(|local| local.holds(address, size)) {
                return found("not in PT_TLS");
            }
            let is_there = match (kind, flags & TLS) {
                (NOBITS, 0) => self.has(0, address, size),
                (NOBITS, _) => true,
                _ => self.loaded.iter().any(|segment| segment.place(address, size) == Some(offset)),
            };
            if !is_there {
                return found("not in a loaded segment");
            }
            if kind == NOBITS && flags & TLS == 0 && !self.begins_with_zeros(address, size)? {
                return found(
                    "which begins with zeros, and with other bytes of the file by the program headers",
                );
            }
            let name = names.and_then(|names| names.checked_add(u64::from(u32_at(section, 0))));
            let is_unwinding = |at| (self.read)(at, UNWINDING.len()).is_ok_and(|name| name == UNWINDING);
            if size >= 12
                && !segments.iter().any(|segment| segment.kind == PT_EH_FRAME)
                && name.is_some_and(is_unwinding)
            {
                return found("and no PT_GNU_EH_FRAME to find it by");
            }
        }
        Ok(())
    }

    /// Whatever the dynamic section says by address.
    fn tables(&self) -> Result<(), Lie> {
        let sized: &[(u64, u64, &'static str)] = &[
            (tag::STRTAB, tag::STRSZ, "its string table"),
            (tag::RELA, tag::RELASZ, "its relocations"),
            (tag::JMPREL, tag::PLTRELSZ, "its relocations of calls"),
            (tag::RELR, tag::RELRSZ, "its relative relocations"),
            (tag::INIT_ARRAY, tag::INIT_ARRAYSZ, "its constructors"),
            (tag::FINI_ARRAY, tag::FINI_ARRAYSZ, "its destructors"),
        ];
        for &(table, size, what) in sized {
            let (table, size) = (self.entry(table), self.entry(size).unwrap_or(0));
            if let Some(address) = table.filter(|_| size > 0) {
                self.check(what, address, size)?;
            }
        }
        let least: &[(u64, u64, &'static str)] = &[
            (tag::SYMTAB, SYMBOL, "its symbols"),
            (tag::HASH, 8, "its hash table"),
            (tag::GNU_HASH, 16, "its hash table"),
            (tag::VERSYM, 2, "its symbols' versions"),
            (tag::VERDEF, 20, "its versions"),
            (tag::VERNEED, 16, "the versions it needs"),
        ];
        for &(table, size, what) in least {
            if let Some(address) = self.entry(table) {
                self.check(what, address, size)?;
            }
        }
        for (function, what) in [(tag::INIT, "its initialiser"), (tag::FINI, "its finaliser")] {
            if let Some(address) = self.entry(function).filter(|address| *address != 0) {
                self.function(what, address)?;
            }
        }
        let fixed: &[(u64, u64)] = &[
            (tag::SYMENT, SYMBOL),
            (tag::RELAENT, RELOCATION),
            (tag::RELRENT, 8),
            // Relocations of calls have an addend too.
            (tag::PLTREL, tag::RELA),
        ];
        for &(tag, wanted) in fixed {
            if let Some(found) = self.entry(tag).filter(|found| *found != wanted) {
                let found = format!("{found} under tag {tag}, not {wanted}");
                return lie("tables with entries of the one size that there is", found);
            }
        }
        if self.entry(tag::STRTAB).is_none() || self.entry(tag::SYMTAB).is_none() {
            return lie("a string table and a symbol table in the dynamic section", "one without".to_owned());
        }
        Ok(())
    }

    fn function(&self, what: &str, address: u64) -> Result<(), Lie> {
        if self.has(EXECUTE, address, 0) {
            return Ok(());
        }
        lie("functions in executable segments", format!("{what} at address {address:#x}"))
    }

    /// The symbols that it exports: where they should be.
    fn symbols(&self) -> Result<(), Lie> {
        const ABSOLUTE: u16 = 0xff00;
        const FUNCTION: [u8; 2] = [2, 10];
        const LOCAL: u8 = 6;
        let (Some((first, count)), Some(table)) = (self.exported()?, self.entry(tag::SYMTAB)) else {
            return Ok(());
        };
        let beyond = || Lie { wanted: "symbols in a loaded segment", found: format!("{count} of them") };
        let size = (count - first).checked_mul(SYMBOL).ok_or_else(beyond)?;
        let start = first.checked_mul(SYMBOL).and_then(|from| table.checked_add(from)).ok_or_else(beyond)?;
        self.check("its symbols", start, size)?;
        self.each("its symbols", start, size, SYMBOL, |symbol| {
            let (kind, section) = (symbol[4] & 15, u16_at(symbol, 6));
            let (value, size) = (u64_at(symbol, 8), u64_at(symbol, 16));
            if section == 0 || section >= ABSOLUTE {
                return Ok(());
            }
            if FUNCTION.contains(&kind) {
                return self.function("a symbol", value);
            }
            if kind == LOCAL {
                let end = value.checked_add(size);
                return match self.local {
                    Some(local) if end.is_some_and(|end| end <= local.in_memory) => Ok(()),
                    _ => self.unlocal(&format!("a thread-local symbol of {size:#x} bytes at {value:#x}")),
                };
            }
            Ok(())
        })
    }

    /// The numbers of the exported symbols, as far as the GNU hash table goes: from and to.
    fn exported(&self) -> Result<Option<(u64, u64)>, Lie> {
        let Some(table) = self.entry(tag::GNU_HASH) else { return Ok(None) };
        const WHAT: &str = "its hash table";
        let head = self.bytes(WHAT, table, 16)?;
        let [buckets, first, bloom] = [0, 4, 8].map(|at| u64::from(u32_at(&head, at)));
        // The dynamic linker takes them by these as masks and divisors.
        if buckets == 0 || !bloom.is_power_of_two() {
            let found = format!("{buckets} buckets and a filter of {bloom} words");
            return lie("a hash table with buckets, and a filter of a power of two", found);
        }
        let at = (table.saturating_add(16)).saturating_add(bloom * 8);
        self.check(WHAT, table, 16 + bloom * 8 + buckets * 4)?;
        let mut last = 0;
        self.each(WHAT, at, buckets * 4, 4, |bucket| {
            last = last.max(u64::from(u32_at(bucket, 0)));
            Ok(())
        })?;
        if last < first {
            return Ok(None);
        }
        // The last bucket's chain ends with a number that is odd.
        let chains = at.saturating_add(buckets * 4);
        for _ in 0..LONGEST_CHAIN {
            let address = chains.saturating_add((last - first) * 4);
            let hash = u32_at(&self.bytes(WHAT, address, 4)?, 0);
            last += 1;
            if hash & 1 != 0 {
                return Ok(Some((first, last)));
            }
        }
        lie("a hash table whose chains end", format!("one of more than {LONGEST_CHAIN} symbols"))
    }

    fn relocations(&self) -> Result<(), Lie> {
        const TEXTREL: u64 = 4;
        // Relocations of what is not writable: the dynamic linker makes it so meanwhile.
        let anywhere = self.entry(tag::TEXTREL).is_some()
            || self.entry(tag::FLAGS).is_some_and(|flags| flags & TEXTREL != 0);
        let rights = if anywhere { 0 } else { WRITE };
        let functions: Vec<(u64, u64)> =
            [(tag::INIT_ARRAY, tag::INIT_ARRAYSZ), (tag::FINI_ARRAY, tag::FINI_ARRAYSZ)]
                .into_iter()
                .filter_map(|(table, size)| Some((self.entry(table)?, self.entry(size)?)))
                .collect();
        let called = |at: u64| functions.iter().any(|(start, size)| at.wrapping_sub(*start) < *size);
        let writes = |at: u64| match self.has(rights, at, 8) {
            true => Ok(()),
            false => lie("relocations of writable segments", format!("one at address {at:#x}")),
        };
        for (table, size) in [(tag::RELA, tag::RELASZ), (tag::JMPREL, tag::PLTRELSZ)] {
            let (Some(table), Some(size)) = (self.entry(table), self.entry(size)) else { continue };
            self.each("its relocations", table, size, RELOCATION, |entry| {
                let (at, kind, symbol) = (u64_at(entry, 0), u32_at(entry, 8), u32_at(entry, 12));
                if kind == 0 {
                    return Ok(());
                }
                writes(at)?;
                if kind == RELOCATIONS.relative && called(at) {
                    self.function("a constructor or destructor", u64_at(entry, 16))?;
                }
                if RELOCATIONS.local.contains(&kind) && self.local.is_none() && self.defines(symbol)? {
                    return self.unlocal(&format!("a relocation of one at address {at:#x}"));
                }
                Ok(())
            })?;
        }
        if let (Some(table), Some(size)) = (self.entry(tag::RELR), self.entry(tag::RELRSZ)) {
            let mut next = 0_u64;
            self.each("its relative relocations", table, size, 8, |word| {
                let word = u64_at(word, 0);
                // An address, or a map of the 63 words behind the last one.
                if word & 1 == 0 {
                    next = word.wrapping_add(8);
                    return writes(word);
                }
                if word > 1 {
                    writes(next.wrapping_add(u64::from(63 - word.leading_zeros() - 1) * 8))?;
                }
                next = next.wrapping_add(63 * 8);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Is the symbol of a relocation this file's own? 0 is.
    fn defines(&self, symbol: u32) -> Result<bool, Lie> {
        let Some(table) = self.entry(tag::SYMTAB).filter(|_| symbol != 0) else { return Ok(symbol == 0) };
        let at = table.saturating_add(u64::from(symbol) * SYMBOL);
        Ok(u16_at(&self.bytes("its symbols", at, SYMBOL)?, 6) != 0)
    }

    fn unlocal(&self, what: &str) -> Result<(), Lie> {
        let found = match self.local {
            None => format!("{what}, and no PT_TLS"),
            Some(local) => format!("{what}, and PT_TLS with {}", local.described()),
        };
        lie("a PT_TLS that holds the thread-locals", found)
    }

    /// Shows each entry of a table, which is read piece by piece.
    fn each(
        &self,
        what: &'static str,
        table: u64,
        size: u64,
        entry: u64,
        mut show: impl FnMut(&[u8]) -> Result<(), Lie>,
    ) -> Result<(), Lie> {
        let piece = CHUNK / entry * entry;
        let mut done = 0;
        while done < size {
            let bytes = self.bytes(what, table.saturating_add(done), piece.min(size - done))?;
            bytes.chunks_exact(entry as usize).try_for_each(&mut show)?;
            done += piece;
        }
        Ok(())
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The little-endian number that stands at `at`, within the bytes.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// The little-endian number that stands at `at`, within the bytes.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// The little-endian number that stands at `at`, within the bytes.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
