//! Shared objects put together byte by byte, where each address is a place in the file.

use std::io::Write;

use super::*;

/// What stands in front of the data: the file's header and three program headers.
const START: usize = HEADER + 3 * PROGRAM_HEADER;

struct Object {
    bytes: Vec<u8>,
    /// Where, kind, symbol, addend.
    relocations: Vec<(u64, u32, u32, u64)>,
    /// Name, where (0: undefined), and binding.
    symbols: Vec<(&'static str, u64, u8)>,
    /// Words whose relocation is packed (RELR).
    packed: Vec<u64>,
}

impl Object {
    fn new() -> Self {
        Object { bytes: vec![0; START], relocations: Vec::new(), symbols: Vec::new(), packed: Vec::new() }
    }

    /// One that registers components.
    fn component() -> Self {
        let mut object = Object::new();
        object.symbols.push(("lcr_component_register", 0, 1));
        object
    }

    fn put(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn text(&mut self, text: &str) -> u64 {
        self.put(&[text.as_bytes(), &[0]].concat())
    }

    fn set(&mut self, at: u64, bytes: &[u8]) {
        self.bytes[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Has the word at `at` point to `target`.
    fn point(&mut self, at: u64, target: u64) {
        self.relocations.push((at, MACHINE.1, 0, target));
    }

    /// Descriptors of interfaces in a row: name, version, replaces, requires.
    fn ifaces(&mut self, all: &[(&str, i32, &[i32], &[&str])]) -> u64 {
        let start = self.put(&vec![0; all.len() * IFACE as usize]);
        for (at, (name, version, replaces, requires)) in (start..).step_by(IFACE as usize).zip(all) {
            let name = self.text(name);
            self.point(at, name);
            self.set(at + 8, &version.to_le_bytes());
            if !replaces.is_empty() {
                let list: Vec<u8> = replaces.iter().flat_map(|version| version.to_le_bytes()).collect();
                let list = self.put(&list);
                self.point(at + 16, list);
                self.set(at + 24, &(replaces.len() as u32).to_le_bytes());
            }
            if !requires.is_empty() {
                let list = self.put(&vec![0; requires.len() * 8]);
                for (word, name) in (list..).step_by(8).zip(*requires) {
                    let name = self.text(name);
                    self.point(word, name);
                }
                self.point(at + 32, list);
                self.set(at + 40, &(requires.len() as u64).to_le_bytes());
            }
        }
        start
    }

    /// A component with these interfaces; where they are.
    fn comp(&mut self, all: &[(&str, i32, &[i32], &[&str])]) -> u64 {
        let ifaces = self.ifaces(all);
        let comp = self.put(&[0; 16]);
        self.point(comp, ifaces);
        self.set(comp + 8, &(all.len() as u64).to_le_bytes());
        ifaces
    }

    /// A description of a table.
    fn table(&mut self, iface: u64, bytes: u64, restore: bool) {
        let at = self.put(&[0; size_of::<Table>()]);
        self.set(at, &MAGIC);
        self.point(at + 8, iface);
        self.set(at + 24, &bytes.to_le_bytes());
        if restore {
            self.point(at + 48, iface);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut symbols = vec![0; SYMBOL as usize];
        for (name, place, binding) in self.symbols.clone() {
            let mut symbol = [0; SYMBOL as usize];
            symbol[..4].copy_from_slice(&(strings.len() as u32).to_le_bytes());
            symbol[4] = binding << 4;
            symbol[6] = u8::from(place != 0);
            symbol[8..16].copy_from_slice(&place.to_le_bytes());
            symbols.extend_from_slice(&symbol);
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let symbols = self.put(&symbols);
        let strings_len = strings.len() as u64;
        let strings = self.put(&strings);
        let mut table = Vec::new();
        for (at, kind, symbol, addend) in &self.relocations {
            let info = u64::from(*kind) | u64::from(*symbol) << 32;
            table.extend([*at, info, *addend].iter().flat_map(|word| word.to_le_bytes()));
        }
        let relocations_len = table.len() as u64;
        let relocations = self.put(&table);
        let packed: Vec<u8> = self.packed.iter().flat_map(|word| word.to_le_bytes()).collect();
        let packed_len = packed.len() as u64;
        let packed = self.put(&packed);
        let dynamic = [
            (5, strings),
            (6, symbols),
            (10, strings_len),
            (7, relocations),
            (8, relocations_len),
            (36, packed),
            (35, packed_len),
            (0, 0),
        ];
        let dynamic: Vec<u8> =
            dynamic.iter().flat_map(|(tag, value)| [*tag, *value]).flat_map(u64::to_le_bytes).collect();
        let dynamic_len = dynamic.len() as u64;
        let dynamic = self.put(&dynamic);
        let whole = self.bytes.len() as u64;
        let header = [
            (0, b"\x7fELF\x02\x01\x01".to_vec()),
            (16, vec![3, 0]),
            (18, MACHINE.0.to_le_bytes().to_vec()),
            (32, (HEADER as u64).to_le_bytes().to_vec()),
            (54, vec![PROGRAM_HEADER as u8, 0, 2, 0]),
        ];
        for (at, bytes) in header {
            self.set(at, &bytes);
        }
        // Zeros behind what is in the file, too.
        for (at, kind, place, in_file, in_memory) in
            [(0, 1_u32, 0, whole, whole + 4096), (1, 2, dynamic, dynamic_len, dynamic_len)]
        {
            let at = (HEADER + at * PROGRAM_HEADER) as u64;
            self.set(at, &kind.to_le_bytes());
            for (offset, word) in [(8, place), (16, place), (32, in_file), (40, in_memory)] {
                self.set(at + offset, &word.to_le_bytes());
            }
        }
        self.bytes
    }
}

fn file(bytes: &[u8]) -> File {
    let made = rustix::fs::memfd_create("lcr-unnoted", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(made.unwrap());
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Unnoted {
    Unnoted::read(Content::of(&file(bytes), bytes.len() as u64))
}

fn shown(unnoted: &Unnoted) -> Vec<(&str, i32, &[i32], Vec<&str>)> {
    let all = unnoted.interfaces.iter();
    all.map(|i| (&*i.name, i.version, &*i.replaces, i.requires.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn what_a_component_registers_stands_in_its_data() {
    let mut object = Object::component();
    object.comp(&[("plain", 3, &[0, -1], &["clock", "log"]), ("other", 0, &[], &[])]);
    let bytes = object.finish();
    let unnoted = read(&bytes);
    assert!(unnoted.registers && !unnoted.is_older && unnoted.stays.is_none());
    assert_eq!(
        shown(&unnoted),
        [("plain", 3, &[0, -1][..], vec!["clock", "log"]), ("other", 0, &[], vec![])]
    );
    // Read in parts, where it is longer than what is read at once.
    let mut long = bytes;
    long.resize(3 * HEAD as usize, 0);
    assert_eq!(read(&long), unnoted);
}

#[test]
fn pointers_may_be_packed_or_symbols() {
    let mut object = Object::component();
    let ifaces = object.ifaces(&[("plain", 1, &[], &[])]);
    let comp = object.put(&[0; 16]);
    object.set(comp, &ifaces.to_le_bytes());
    object.set(comp + 8, &1_u64.to_le_bytes());
    object.packed = vec![comp];
    assert_eq!(shown(&read(&object.finish())), [("plain", 1, &[][..], vec![])]);

    let mut object = Object::component();
    let ifaces = object.ifaces(&[("plain", 1, &[], &[])]);
    object.symbols.push(("ifaces", ifaces, 1));
    let comp = object.put(&[0; 16]);
    object.relocations.push((comp, MACHINE.2, 2, 0));
    object.set(comp + 8, &1_u64.to_le_bytes());
    assert_eq!(shown(&read(&object.finish())), [("plain", 1, &[][..], vec![])]);
}

#[test]
fn a_library_that_does_not_register_has_no_interfaces() {
    let mut object = Object::new();
    object.comp(&[("plain", 0, &[], &[])]);
    assert_eq!(read(&object.finish()), Unnoted::default());
}

#[test]
fn what_it_calls_tells_whether_it_is_older_and_whether_it_must_stay() {
    let stays = |symbol| {
        let mut object = Object::component();
        object.symbols.push(symbol);
        read(&object.finish())
    };
    assert_eq!(stays(("pthread_create", 0, 1)).stays, Some("pthread_create"));
    let thread = "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE";
    assert_eq!(stays((thread, 0, 1)).stays, Some("std::thread"));
    assert_eq!(stays(("pthread_create", 64, 1)).stays, None, "its own");
    assert_eq!(stays(("anything", 64, 10)).stays, Some(UNIQUE));
    assert!(!stays(("lcr_comp_get", 64, 1)).is_older, "it registers itself too");
    let mut object = Object::new();
    object.symbols.push(("lcr_comp_get", 64, 1));
    assert!(read(&object.finish()).is_older);
}

#[test]
fn a_description_of_a_table_is_found_by_the_interface_that_it_names() {
    let mut object = Object::component();
    object.symbols.push(("lcr_component_describe", 0, 2));
    let ifaces = object.comp(&[("one", 0, &[], &[]), ("two", 0, &[], &[]), ("odd", 0, &[], &[])]);
    object.table(ifaces, 24, true);
    object.table(ifaces + IFACE, 16, false);
    object.table(ifaces + 2 * IFACE, 12, false);
    let unnoted = read(&object.finish());
    assert_eq!(unnoted.table_of("one", 0), Said::Table { functions: 3, state: true });
    assert_eq!(unnoted.table_of("two", 0), Said::Table { functions: 2, state: false });
    assert_eq!(unnoted.table_of("odd", 0), Said::Unknown);
    assert_eq!(unnoted.table_of("one", 1), Said::Unknown);
    // Who does not call that says nothing, whatever looks like it.
    let mut object = Object::component();
    let ifaces = object.comp(&[("one", 0, &[], &[])]);
    object.table(ifaces, 24, true);
    assert_eq!(read(&object.finish()).table_of("one", 0), Said::Nothing);
}

#[test]
fn a_list_of_dependencies_is_no_component() {
    // `requires` points to a word that points to a text, and a count follows, as in a
    // component.
    let mut object = Object::component();
    object.comp(&[("plain", 0, &[], &["one"])]);
    assert_eq!(shown(&read(&object.finish())), [("plain", 0, &[][..], vec!["one"])]);
}

#[test]
fn a_count_that_cannot_be_true_is_not_believed() {
    for count in [0, 2, MOST_IFACES + 1, u64::MAX] {
        let mut object = Object::component();
        let ifaces = object.ifaces(&[("plain", 0, &[], &[])]);
        let comp = object.put(&[0; 16]);
        object.point(comp, ifaces);
        object.set(comp + 8, &count.to_le_bytes());
        assert_eq!(shown(&read(&object.finish())), [], "{count}");
    }
}

#[test]
fn a_name_must_be_text() {
    let mut object = Object::component();
    object.comp(&[("plain", 0, &[], &[])]);
    let mut bytes = object.finish();
    let at = bytes.windows(6).position(|text| text == b"plain\0").unwrap();
    bytes[at] = 0xff;
    assert_eq!(shown(&read(&bytes)), []);
    bytes[at] = 0;
    assert_eq!(shown(&read(&bytes)), [], "an empty name");
}

fn whole() -> Vec<u8> {
    let mut object = Object::component();
    object.symbols.push(("lcr_component_describe", 0, 2));
    let others = object.put(&[0; 24]);
    object.packed = vec![others, 0b101];
    let ifaces = object.comp(&[("plain", 0, &[1, 2], &["one", "two"])]);
    object.table(ifaces, 16, true);
    object.finish()
}

#[test]
fn a_file_that_is_cut_off_says_less() {
    let whole = whole();
    let full = read(&whole);
    assert_eq!(shown(&full).len(), 1);
    for len in 0..whole.len() {
        assert_ne!(read(&whole[..len]), full, "cut at {len}");
    }
}

#[test]
fn no_byte_makes_the_reader_panic() {
    let whole = whole();
    for at in 0..whole.len() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
    // Nor a word, at the end of all addresses.
    for at in (0..whole.len() - 8).step_by(8) {
        for word in [u64::MAX, u64::MAX - 40, 1 << 63] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let _ = read(&bytes);
        }
    }
}

#[test]
fn other_files_say_nothing() {
    assert_eq!(read(b""), Unnoted::default());
    assert_eq!(read(b"#!/bin/sh\n"), Unnoted::default());
    for (at, byte) in [(4, 1), (5, 2), (16, 2), (18, 0), (54, 32)] {
        let mut bytes = whole();
        bytes[at] = byte;
        assert_eq!(read(&bytes), Unnoted::default(), "{at}");
    }
}

#[test]
fn a_name_is_found_wherever_it_stands() {
    const PART: usize = 256 << 10;
    for at in [0, 1, PART - 3, PART, PART + 1, 2 * PART - 1] {
        let mut bytes = vec![b'x'; 2 * PART + 64];
        bytes[at..at + 6].copy_from_slice(b"plain\0");
        assert!(holds(&file(&bytes), "plain"), "{at}");
        assert!(!holds(&file(&bytes), "plai"), "{at}: it goes on");
    }
    assert!(!holds(&file(b"plain"), "plain"), "it does not end");
}
