//! ELF files made by hand: as little as a reader of notes can be shown.

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_DYNAMIC: u32 = 2;
pub(crate) const PT_INTERP: u32 = 3;
pub(crate) const PT_NOTE: u32 = 4;

/// A file before it is written; every field can lie.
#[derive(Clone)]
pub(crate) struct Elf {
    pub(crate) class: u8,
    pub(crate) byte_order: u8,
    pub(crate) file_type: u16,
    pub(crate) machine: u16,
    pub(crate) header_size: u16,
    /// The number of program headers, where it is not that of the segments.
    pub(crate) header_count: Option<u16>,
    pub(crate) segments: Vec<Segment>,
}

#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) align: u64,
    pub(crate) bytes: Vec<u8>,
    /// What the program header says, where it is not the truth.
    pub(crate) offset: Option<u64>,
    pub(crate) size: Option<u64>,
    /// Where the offset is else.
    pub(crate) address: Option<u64>,
    /// The size in the file else.
    pub(crate) in_memory: Option<u64>,
}

impl Segment {
    pub(crate) fn new(kind: u32, align: u64, bytes: impl Into<Vec<u8>>) -> Segment {
        Segment { kind, align, bytes: bytes.into(), offset: None, size: None, address: None, in_memory: None }
    }

    /// A dynamic section with what no shared object is without: a string table and a
    /// symbol table, at address 0 and empty; and `more`.
    pub(crate) fn dynamic(more: &[u64]) -> Segment {
        let words = [&[5, 0, 10, 1, 6, 0], more, &[0, 0]].concat();
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        Segment::new(PT_DYNAMIC, 8, bytes)
    }

    pub(crate) fn notes(notes: &[Vec<u8>]) -> Segment {
        Segment::new(PT_NOTE, 4, notes.concat())
    }
}

impl Elf {
    /// A shared object for this machine.
    pub(crate) fn library() -> Elf {
        let machine = match std::env::consts::ARCH {
            "x86_64" => 62,
            "aarch64" => 183,
            "riscv64" => 243,
            "loongarch64" => 258,
            other => panic!("which number has {other}?"),
        };
        Elf {
            class: 2,
            byte_order: 1,
            file_type: 3,
            machine,
            header_size: 56,
            header_count: None,
            segments: vec![Segment::new(PT_LOAD, 4096, "")],
        }
    }

    pub(crate) fn with(mut self, segment: Segment) -> Elf {
        self.segments.push(segment);
        self
    }

    /// A library with a note for each of these JSON texts.
    pub(crate) fn with_json(texts: &[&str]) -> Elf {
        let notes: Vec<_> = texts.iter().map(|t| lcr_note(t)).collect();
        Elf::library().with(Segment::notes(&notes))
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', self.class, self.byte_order, 1, 0];
        file.extend([0; 8]);
        file.extend(self.file_type.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        file.extend(64u16.to_le_bytes());
        file.extend(self.header_size.to_le_bytes());
        file.extend(self.header_count.unwrap_or(self.segments.len() as u16).to_le_bytes());
        file.extend([0; 6]);
        assert_eq!(file.len(), 64);

        let mut at = 64 + 56 * self.segments.len() as u64;
        let end = at + self.segments.iter().map(|s| s.bytes.len() as u64).sum::<u64>();
        let only_one = self.segments.iter().filter(|s| s.kind == PT_LOAD).count() == 1;
        let mut contents: Vec<u8> = Vec::new();
        for segment in &self.segments {
            let size = segment.bytes.len() as u64;
            // The only loaded segment is the whole file, unless it says something else.
            let is_whole = segment.kind == PT_LOAD && only_one && size == 0;
            let (offset, size_said) = if is_whole { (0, end) } else { (at, size) };
            let (offset, size_said) = (segment.offset.unwrap_or(offset), segment.size.unwrap_or(size_said));
            file.extend(segment.kind.to_le_bytes());
            file.extend(4u32.to_le_bytes());
            let address = segment.address.unwrap_or(offset);
            let in_memory = segment.in_memory.unwrap_or(size_said);
            for word in [offset, address, address, size_said, in_memory] {
                file.extend(word.to_le_bytes());
            }
            file.extend(segment.align.to_le_bytes());
            contents.extend(&segment.bytes);
            at += size;
        }
        file.extend(contents);
        file
    }

    /// Where the content of segment `index` begins in the file.
    pub(crate) fn offset_of(&self, index: usize) -> usize {
        64 + 56 * self.segments.len() + self.segments[..index].iter().map(|s| s.bytes.len()).sum::<usize>()
    }
}

/// A note in a segment aligned to 4.
pub(crate) fn note(owner: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    aligned_note(owner, kind, content, 4)
}

pub(crate) fn aligned_note(owner: &[u8], kind: u32, content: &[u8], align: usize) -> Vec<u8> {
    let mut note = Vec::new();
    note.extend((owner.len() as u32).to_le_bytes());
    note.extend((content.len() as u32).to_le_bytes());
    note.extend(kind.to_le_bytes());
    note.extend(owner);
    note.resize(note.len().next_multiple_of(align), 0);
    note.extend(content);
    note.resize(note.len().next_multiple_of(align), 0);
    note
}

pub(crate) fn lcr_note(json: &str) -> Vec<u8> {
    note(b"LCR\0", 1, json.as_bytes())
}
