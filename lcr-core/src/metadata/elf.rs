//! As much of ELF as leads to the notes.
//!
//! The header says where the program headers are, each of those where a segment
//! is, and a segment of notes is a list of records: three sizes, an owner, a
//! content. Numbers are compared with the file's length before they are used.
//!
//! Two things stand in real files that the ELF specification does not tell. An
//! address sanitizer aligns each note to 32 bytes and puts zeros behind it; and
//! some linkers place sections aligned to 4 and to 8 into one segment. So zeros
//! between notes are passed over word by word. Nothing is lost by it: a note
//! without an owner, which begins with a zero too, is reserved, and has no types.

use std::collections::BTreeSet;
use std::io;

use super::FileKind;
use super::read::{MAX_NOTES, Problem, Source};
use crate::elf::{self, Lie, PROGRAM_HEADER as PHDR, Segment, u16_at, u32_at, u64_at};
use crate::note::{OWNER, TYPE_JSON};

const EHDR: usize = 64;
/// What Linux takes when it starts a program.
const MAX_PHDRS: usize = 65536 / PHDR;
/// A dynamic section is a few dozen entries of 16 bytes.
const MAX_DYNAMIC: u64 = 1 << 20;
/// What is read at once. The headers and the notes are at a file's beginning,
/// within a page as a rule.
const HEAD: usize = 4096;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const DT_NULL: u64 = 0;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// The machines that have a name in messages, by `e_machine`.
const MACHINES: &[(&str, u16)] = &[
    ("x86", 3),
    ("arm", 40),
    ("powerpc64", 21),
    ("s390x", 22),
    ("x86_64", 62),
    ("aarch64", 183),
    ("riscv64", 243),
    ("loongarch64", 258),
];

/// The notes of a file.
pub(super) struct Elf {
    pub(super) kind: FileKind,
    /// The notes of ours, in the order of the file's program headers.
    pub(super) notes: Vec<NoteAt>,
    segments: Vec<Vec<u8>>,
}

/// Where a note of ours is.
pub(super) struct NoteAt {
    /// In the file.
    pub(super) offset: u64,
    segment: usize,
    desc: std::ops::Range<usize>,
}

impl Elf {
    /// A note's content, without padding.
    pub(super) fn desc(&self, note: &NoteAt) -> &[u8] {
        &self.segments[note.segment][note.desc.clone()]
    }
}

/// A file with its first page at hand.
struct Reader<'s, S: ?Sized> {
    source: &'s S,
    head: Vec<u8>,
}

/// Without `ask_kind` every file that could be a library counts as one: whether it is
/// a program that needs no interpreter stands far behind the first page.
pub(super) fn read<S: Source + ?Sized>(source: &S, ask_kind: bool) -> Result<Elf, Problem> {
    let reader = Reader::new(source)?;
    let header = reader.header()?;
    let segments = reader.segments(&header)?;
    let (kind, dynamic) = reader.kind(u16_at(&header, 16), &segments, ask_kind)?;

    let total = segments.iter().filter(|s| s.kind == PT_NOTE).fold(0u64, |sum, s| sum.saturating_add(s.size));
    if total > MAX_NOTES {
        return Err(Problem::TooLarge { found: total });
    }
    let mut elf = Elf { kind, notes: Vec::new(), segments: Vec::new() };
    let mut seen = BTreeSet::new();
    for segment in segments.iter().filter(|s| s.kind == PT_NOTE) {
        let bytes = reader.take("a note segment", segment.offset, segment.size)?;
        let index = elf.segments.len();
        for note in Notes::new(&bytes, segment) {
            let (at, desc) = note?;
            let offset = segment.offset + at as u64;
            // Segments may overlap; a note that two of them hold is one note.
            if seen.insert(offset) {
                elf.notes.push(NoteAt { offset, segment: index, desc });
            }
        }
        elf.segments.push(bytes);
    }
    // What was read by offset is what the dynamic linker will see by address.
    elf::agree(&segments, u64_at(&header, 32))?;
    if kind == FileKind::Library && !dynamic.is_empty() {
        let read = |offset, size| {
            let mut bytes = vec![0; size];
            let count = source.read_at(&mut bytes, offset)?;
            if count < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
        };
        elf::linkable(&header, &segments, &dynamic, &read)?;
    }
    Ok(elf)
}

impl From<Lie> for Problem {
    fn from(Lie { wanted, found }: Lie) -> Self {
        Problem::Header { wanted, found }
    }
}

impl<'s, S: Source + ?Sized> Reader<'s, S> {
    fn new(source: &'s S) -> Result<Self, Problem> {
        let mut reader = Reader { source, head: Vec::new() };
        let size = source.len().min(HEAD as u64);
        reader.head = reader.take("the first page", 0, size)?;
        Ok(reader)
    }

    /// `size` bytes at `offset`, which are to hold `what`.
    fn take(&self, what: &'static str, offset: u64, size: u64) -> Result<Vec<u8>, Problem> {
        self.check(what, offset, size)?;
        let truncated = |has| Problem::Truncated { what, offset, wanted: size, has };
        // `check` has compared both with the file's length.
        let Ok(length) = usize::try_from(size) else { return Err(truncated(self.source.len())) };
        if let Ok(start) = usize::try_from(offset)
            && let Some(bytes) = self.head.get(start..start.saturating_add(length))
        {
            return Ok(bytes.to_vec());
        }
        let mut bytes = vec![0; length];
        let count = self
            .source
            .read_at(&mut bytes, offset)
            .map_err(|error| Problem::Io { doing: "read it", error })?;
        // Someone may cut the file off while it is read.
        if count < length { Err(truncated(offset + count as u64)) } else { Ok(bytes) }
    }

    /// Refuses a range that does not lie in the file.
    fn check(&self, what: &'static str, offset: u64, size: u64) -> Result<(), Problem> {
        let has = self.source.len();
        match offset.checked_add(size) {
            Some(end) if end <= has => Ok(()),
            _ => Err(Problem::Truncated { what, offset, wanted: size, has }),
        }
    }

    /// The ELF header, of a file that this machine could load.
    fn header(&self) -> Result<Vec<u8>, Problem> {
        if !self.head.starts_with(b"\x7fELF") {
            return Err(Problem::NotElf { found: hex(&self.head) });
        }
        let header = self.take("the ELF header", 0, EHDR as u64)?;
        match header[4] {
            2 => {}
            1 => return Err(Problem::Class { found: "a 32-bit one".into() }),
            other => return Err(Problem::Class { found: format!("class {other}, which is none") }),
        }
        match header[5] {
            1 => {}
            2 => return Err(Problem::ByteOrder { found: "a big-endian one".into() }),
            other => return Err(Problem::ByteOrder { found: format!("byte order {other}, which is none") }),
        }
        let machine = u16_at(&header, 18);
        let own = MACHINES.iter().find(|m| m.0 == std::env::consts::ARCH);
        if let Some(&(wanted, number)) = own
            && machine != number
        {
            let found = match MACHINES.iter().find(|m| m.1 == machine) {
                Some((name, _)) => format!("one for {name}"),
                None => format!("one for machine {machine}"),
            };
            return Err(Problem::Machine { wanted: wanted.into(), found });
        }
        match u16_at(&header, 16) {
            ET_EXEC | ET_DYN => Ok(header),
            1 => Err(Problem::Type { found: "a relocatable object".into() }),
            4 => Err(Problem::Type { found: "a core dump".into() }),
            other => Err(Problem::Type { found: format!("file type {other}") }),
        }
    }

    fn segments(&self, header: &[u8]) -> Result<Vec<Segment>, Problem> {
        let offset = u64_at(header, 32);
        let (size, count) = (usize::from(u16_at(header, 54)), usize::from(u16_at(header, 56)));
        if count == 0 || count > MAX_PHDRS {
            let found = count.to_string();
            return Err(Problem::Header { wanted: "1 to 1170 program headers", found });
        }
        if size != PHDR {
            let found = format!("{size} bytes");
            return Err(Problem::Header { wanted: "program headers of 56 bytes", found });
        }
        let bytes = self.take("the program headers", offset, (size * count) as u64)?;
        let segments = Segment::all(&bytes);
        // A half-copied file is often whole as far as its notes go, and would
        // kill its user with a bus error once it is loaded.
        for segment in segments.iter().filter(|s| s.is_loaded()) {
            self.check("a loaded segment", segment.offset, segment.size)?;
        }
        Ok(segments)
    }

    /// What kind of file it is, and the dynamic section, as far as that was read for it.
    fn kind(
        &self,
        file_type: u16,
        segments: &[Segment],
        ask: bool,
    ) -> Result<(FileKind, Vec<(u64, u64)>), Problem> {
        if file_type == ET_EXEC || segments.iter().any(|s| s.kind == PT_INTERP) {
            return Ok((FileKind::Executable, Vec::new()));
        }
        let Some(dynamic) = segments.iter().find(|s| s.is_dynamic()) else {
            return Ok((FileKind::Library, Vec::new()));
        };
        if dynamic.size > MAX_DYNAMIC {
            let found = format!("{} bytes", dynamic.size);
            return Err(Problem::Header { wanted: "a dynamic section of at most 1048576 bytes", found });
        }
        if !ask {
            self.check("the dynamic section", dynamic.offset, dynamic.size)?;
            return Ok((FileKind::Library, Vec::new()));
        }
        let bytes = self.take("the dynamic section", dynamic.offset, dynamic.size)?;
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(16)
            .map(|entry| (u64_at(entry, 0), u64_at(entry, 8)))
            .take_while(|&(tag, _)| tag != DT_NULL)
            .collect();
        let pie = entries.iter().any(|&(tag, value)| tag == DT_FLAGS_1 && value & DF_1_PIE != 0);
        Ok((if pie { FileKind::Executable } else { FileKind::Library }, entries))
    }
}

/// The notes of ours in one segment: where each begins, and its content.
struct Notes<'b> {
    bytes: &'b [u8],
    at: usize,
    offset: u64,
    align: usize,
}

impl<'b> Notes<'b> {
    fn new(bytes: &'b [u8], segment: &Segment) -> Notes<'b> {
        // In a segment aligned to 8 so are the contents of its notes. All other
        // alignments mean 4: that of an address sanitizer is of whole notes.
        let align = if segment.align == 8 { 8 } else { 4 };
        Notes { bytes, at: 0, offset: segment.offset, align }
    }

    /// The note at `at`: its owner, type, content and the end of its content.
    fn note(&self, at: usize) -> Result<(&'b [u8], u32, std::ops::Range<usize>), Problem> {
        let rest = &self.bytes[at..];
        let broken = |name, content| Problem::Note {
            at: self.offset + at as u64,
            name,
            content,
            left: rest.len() as u64,
        };
        let (name, content) = (u32_at(rest, 0), u32_at(rest, 4));
        let fits = || {
            let owner = rest.get(12..12usize.checked_add(name as usize)?)?;
            let start = (12 + name as usize).next_multiple_of(self.align);
            let end = start.checked_add(content as usize)?;
            rest.get(start..end)?;
            Some((owner, u32_at(rest, 8), at + start..at + end))
        };
        fits().ok_or_else(|| broken(name, content))
    }
}

impl Iterator for Notes<'_> {
    type Item = Result<(usize, std::ops::Range<usize>), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Fewer than 4 bytes can only be padding.
            if self.bytes.len() - self.at < 4 {
                return None;
            }
            if u32_at(self.bytes, self.at) == 0 {
                self.at += 4;
                continue;
            }
            let at = self.at;
            let rest = self.bytes.len() - at;
            if rest < 12 {
                let (name, content) = (u32_at(self.bytes, at), 0);
                self.at = self.bytes.len();
                let at = self.offset + at as u64;
                return Some(Err(Problem::Note { at, name, content, left: rest as u64 }));
            }
            match self.note(at) {
                Ok((owner, kind, desc)) => {
                    self.at = desc.end.next_multiple_of(4).min(self.bytes.len());
                    if owner == OWNER && kind == TYPE_JSON {
                        return Some(Ok((at, desc)));
                    }
                }
                Err(problem) => {
                    self.at = self.bytes.len();
                    return Some(Err(problem));
                }
            }
        }
    }
}

/// The first four bytes for a message.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".into();
    }
    let digits: Vec<_> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
    digits.join(" ")
}
