//! Reading metadata: from files made by hand, each with one thing about it.

mod builder;
// Its files are for this machine.
#[cfg(target_arch = "x86_64")]
mod corpus;
mod hostile;
mod refusals;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use builder::{Elf, PT_INTERP, PT_NOTE, Segment, aligned_note, lcr_note, note};
use lcr_core::metadata::{
    Component, Contract, ContractNote, CoreNote, FileKind, Interface, LibraryNote, Metadata, Method, Problem,
};
use serde_json::json;

pub(crate) const ENGLISH: &str = r#"{"lcr":1,"kind":"component","component":"english","package":"english-component","package_version":"0.1.0","rustc":"1.95.0","interfaces":[{"name":"greeter","version":2,"replaces":[0,1],"requires":["clock"],"per_reference":false,"state":true,"contract":{"name":"Greeter","methods":[{"name":"greet","signature":"fn(&str) -> String","hash":"0123456789abcdef","default":false},{"name":"languages","signature":"fn() -> Vec<String>","hash":"ffffffffffffffff","default":true}]}},{"name":"raw","version":-1,"replaces":[],"requires":[],"per_reference":true,"state":false,"contract":null}]}"#;
pub(crate) const GREETER: &str = r#"{"lcr":1,"kind":"contract","contract":"Greeter","package":"greeter-api","package_version":"0.1.0","rustc":"1.95.0","methods":[{"name":"greet","signature":"fn(&str) -> String","hash":"0123456789ABCDEF","default":false}]}"#;
pub(crate) const LIBRARY: &str = r#"{"lcr":1,"kind":"library","package":"english-lib","package_version":"0.2.0","rustc":"1.95.0","own_allocator":true,"stay":false}"#;
pub(crate) const CORE: &str =
    r#"{"lcr":1,"kind":"core","package_version":"0.1.0","rustc":"1.95.0","dlopen":false}"#;

pub(crate) fn parse(elf: &Elf) -> Metadata {
    Metadata::parse(&elf.build(), Path::new("made.so")).unwrap()
}

/// A file of this test's own with this content.
pub(crate) fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    path
}

fn named(name: &str) -> String {
    ENGLISH.replace("\"english\"", &format!("{name:?}"))
}

fn names(metadata: &Metadata) -> Vec<&str> {
    metadata.components.iter().map(|c| c.name.as_str()).collect()
}

#[test]
fn everything_a_note_says_is_read() {
    let greet = Method {
        name: "greet".into(),
        signature: "fn(&str) -> String".into(),
        hash: 0x0123_4567_89ab_cdef,
        has_default: false,
    };
    let languages = Method {
        name: "languages".into(),
        signature: "fn() -> Vec<String>".into(),
        hash: u64::MAX,
        has_default: true,
    };
    let expected = Metadata {
        kind: FileKind::Library,
        components: vec![Component {
            name: "english".into(),
            package: "english-component".into(),
            package_version: "0.1.0".into(),
            rustc: "1.95.0".into(),
            interfaces: vec![
                Interface {
                    name: "greeter".into(),
                    version: 2,
                    replaces: vec![0, 1],
                    requires: vec!["clock".into()],
                    per_reference: false,
                    state: true,
                    contract: Some(Contract {
                        name: "Greeter".into(),
                        methods: vec![greet.clone(), languages],
                    }),
                },
                Interface {
                    name: "raw".into(),
                    version: -1,
                    replaces: vec![],
                    requires: vec![],
                    per_reference: true,
                    state: false,
                    contract: None,
                },
            ],
        }],
        contracts: vec![ContractNote {
            name: "Greeter".into(),
            package: "greeter-api".into(),
            package_version: "0.1.0".into(),
            rustc: "1.95.0".into(),
            methods: vec![greet],
        }],
        library: Some(LibraryNote {
            package: "english-lib".into(),
            package_version: "0.2.0".into(),
            rustc: "1.95.0".into(),
            own_allocator: true,
            stay: false,
        }),
        core: Some(CoreNote { package_version: "0.1.0".into(), rustc: "1.95.0".into(), dlopen: false }),
    };
    assert_eq!(parse(&Elf::with_json(&[ENGLISH, GREETER, LIBRARY, CORE])), expected);
}

#[test]
fn a_descriptor_is_read_without_moving_it() {
    let path = file("position.so", &Elf::with_json(&[ENGLISH]).build());
    let mut open = File::open(&path).unwrap();
    open.seek(SeekFrom::Start(17)).unwrap();
    let read = Metadata::read_from(&open, &path).unwrap();
    assert_eq!(open.stream_position().unwrap(), 17);
    assert_eq!(read, Metadata::read(&path).unwrap());
    assert_eq!(names(&read), ["english"]);
    // What stands there is the second byte of the file type.
    let mut byte = [0xff];
    open.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn notes_far_behind_the_first_page_are_read() {
    let mut elf = Elf::library().with(Segment::new(0, 4096, vec![0xcc; 100_000]));
    elf = elf.with(Segment::notes(&[lcr_note(ENGLISH)]));
    let path = file("far.so", &elf.build());
    assert_eq!(names(&Metadata::read(path).unwrap()), ["english"]);
}

#[test]
fn a_sound_file_without_notes_of_ours_has_no_components() {
    let empty = Metadata {
        kind: FileKind::Library,
        components: vec![],
        contracts: vec![],
        library: None,
        core: None,
    };
    assert_eq!(parse(&Elf::library()), empty);
    let foreign = Segment::notes(&[note(b"GNU\0", 3, &[7; 20]), note(b"stapsdt\0", 3, &[1; 5])]);
    assert_eq!(parse(&Elf::library().with(foreign)), empty);
}

#[test]
fn the_system_s_own_libraries_and_programs_are_read() {
    let program = Metadata::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(program.kind, FileKind::Executable);
    let mappings = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = mappings.split_whitespace().find(|word| word.contains("libgcc_s")).unwrap();
    let library = Metadata::read(libc).unwrap();
    assert_eq!((library.kind, library.components), (FileKind::Library, vec![]));
}

#[test]
fn no_library_of_this_system_is_said_to_contradict_itself() {
    // Where this program's own libraries are, and where cargo looks for some.
    let mappings = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = mappings.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    let named = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    let directories: BTreeSet<PathBuf> =
        mapped.filter_map(Path::parent).map(Path::to_path_buf).chain(named).collect();
    let mut sound = 0;
    for path in directories.iter().filter_map(|path| fs::read_dir(path).ok()).flatten() {
        let path = path.unwrap().path();
        if !path.is_file() || !path.file_name().unwrap().to_string_lossy().contains(".so") {
            continue;
        }
        match Metadata::read(&path) {
            Ok(_) => sound += 1,
            Err(error) => assert!(!matches!(error.problem(), Problem::Header { .. }), "{error}"),
        }
    }
    assert!(sound > 5, "{sound} in {directories:?}");
}

#[test]
fn notes_of_others_and_of_other_types_are_passed_over() {
    let elf = Elf::library().with(Segment::notes(&[
        note(b"GNU\0", 3, &[7; 20]),
        note(b"LCR\0", 2, b"of a type to come"),
        note(b"LCR", 1, b"an owner without its NUL is another owner"),
        note(b"Go\0\0", 4, b"x"),
        lcr_note(ENGLISH),
        note(b"LCRX\0", 1, b"y"),
    ]));
    assert_eq!(names(&parse(&elf)), ["english"]);
}

#[test]
fn zeros_around_notes_are_padding() {
    // As an address sanitizer places them: each note aligned to 32 bytes.
    let mut bytes = vec![0; 32];
    for name in ["a", "b", "c"] {
        bytes.extend(lcr_note(&named(name)));
        bytes.resize(bytes.len().next_multiple_of(32) + 32, 0);
    }
    for align in [0, 1, 4, 32] {
        let elf = Elf::library().with(Segment::new(PT_NOTE, align, bytes.clone()));
        assert_eq!(names(&parse(&elf)), ["a", "b", "c"], "aligned to {align}");
    }
    // Less than a word at the end is padding too.
    let mut bytes = lcr_note(ENGLISH);
    bytes.extend([0; 3]);
    assert_eq!(names(&parse(&Elf::library().with(Segment::new(PT_NOTE, 4, bytes)))), ["english"]);
}

#[test]
fn a_last_note_may_lack_its_padding() {
    let mut bytes = lcr_note(&named("x"));
    let json = bytes.iter().rposition(|&b| b == b'}').unwrap();
    bytes.truncate(json + 1);
    assert_eq!(names(&parse(&Elf::library().with(Segment::new(PT_NOTE, 4, bytes)))), ["x"]);
}

#[test]
fn segments_aligned_to_eight_are_read_however_the_linker_filled_them() {
    let property = aligned_note(b"GNU\0", 5, &[1; 12], 8);
    let eight = [property.clone(), aligned_note(b"LCR\0", 1, named("a").as_bytes(), 8)].concat();
    let elf = Elf::library().with(Segment::new(PT_NOTE, 8, eight));
    assert_eq!(names(&parse(&elf)), ["a"]);

    // Sections aligned to 4 and to 8 in one segment: ours stand at every word.
    for pad in 0..4 {
        let b = named("b").replace("0.1.0", &format!("0.1.{}", "0".repeat(pad + 1)));
        let mixed = [property.clone(), lcr_note(&b), lcr_note(&named("c"))].concat();
        let elf = Elf::library().with(Segment::new(PT_NOTE, 8, mixed));
        assert_eq!(names(&parse(&elf)), ["b", "c"]);
    }

    // A long owner in front: its content begins at a multiple of 8.
    let long = aligned_note(b"FreeBSD\0", 1, &[9; 4], 8);
    let elf = Elf::library().with(Segment::new(PT_NOTE, 8, [long, lcr_note(ENGLISH)].concat()));
    assert_eq!(names(&parse(&elf)), ["english"]);
}

#[test]
fn a_note_in_two_segments_is_one_note() {
    let mut elf = Elf::with_json(&[ENGLISH]);
    let offset = 64 + 56 * 3;
    let size = elf.segments[1].bytes.len() as u64;
    elf = elf.with(Segment { offset: Some(offset), size: Some(size), ..Segment::new(PT_NOTE, 4, "") });
    assert_eq!(names(&parse(&elf)), ["english"]);
}

#[test]
fn the_linker_s_order_does_not_matter() {
    let old = named("b").replace("0.1.0", "0.0.9");
    let contract = GREETER.replace("\"Greeter\"", "\"Clock\"");
    let texts = [&named("c"), &old, &named("b"), &named("a"), GREETER, &contract, LIBRARY];
    let forth = parse(&Elf::with_json(&texts));
    let mut reversed = texts;
    reversed.reverse();
    assert_eq!(parse(&Elf::with_json(&reversed)), forth);
    assert_eq!(names(&forth), ["a", "b", "b", "c"]);
    assert_eq!(forth.components[1].package_version, "0.0.9");
    assert_eq!(forth.contracts[0].name, "Clock");
    let interfaces: Vec<_> = forth.interfaces().map(|(c, i)| (c.name.as_str(), i.name.as_str())).collect();
    // The interfaces of a component stay as they were declared.
    assert_eq!(interfaces[..3], [("a", "greeter"), ("a", "raw"), ("b", "greeter")]);
}

#[test]
fn unknown_keys_and_kinds_are_ignored() {
    let more = ENGLISH
        .replace("{\"lcr\":1", "{\"colour\":[{}],\"lcr\":1")
        .replace("{\"name\"", "{\"since\":null,\"name\"");
    assert_ne!(more, ENGLISH);
    let kind = r#"{"lcr":1,"kind":"to come"}"#;
    assert_eq!(parse(&Elf::with_json(&[kind, &more])), parse(&Elf::with_json(&[ENGLISH])));
}

#[test]
fn escapes_are_understood_and_the_last_of_equal_keys_counts() {
    let json = ENGLISH.replace("\"english\"", r#""first","component":"d\u00e9j\u00e0 \"vu\"""#);
    assert_eq!(names(&parse(&Elf::with_json(&[&json]))), ["déjà \"vu\""]);
}

#[test]
fn the_kind_says_whether_a_file_is_run_or_loaded() {
    let kind = |elf: Elf| parse(&elf).kind;
    let dynamic = |flags: u64, end: u64| Segment::dynamic(&[14, 1, end, 0, 0x6fff_fffb, flags]);
    assert_eq!(kind(Elf::library()), FileKind::Library);
    assert_eq!(kind(Elf { file_type: 2, ..Elf::library() }), FileKind::Executable);
    assert_eq!(kind(Elf::library().with(Segment::new(PT_INTERP, 1, "/ld.so\0"))), FileKind::Executable);
    // DF_1_NOW alone, then with DF_1_PIE.
    assert_eq!(kind(Elf::library().with(dynamic(1, 30))), FileKind::Library);
    assert_eq!(kind(Elf::library().with(dynamic(0x0800_0001, 30))), FileKind::Executable);
    // What follows DT_NULL is not part of the table.
    assert_eq!(kind(Elf::library().with(dynamic(0x0800_0001, 0))), FileKind::Library);
}

#[test]
fn the_inspect_document_has_the_promised_keys() {
    let document = parse(&Elf::with_json(&[ENGLISH, GREETER])).to_json(Path::new("dir/made.so"));
    assert_eq!(
        document,
        json!({
            "file": "dir/made.so",
            "kind": "library",
            "components": [{
                "name": "english",
                "package": "english-component",
                "package_version": "0.1.0",
                "rustc": "1.95.0",
                "interfaces": [
                    {
                        "name": "greeter",
                        "version": 2,
                        "replaces": [0, 1],
                        "requires": ["clock"],
                        "per_reference": false,
                        "state": true,
                        "contract": {
                            "name": "Greeter",
                            "methods": [
                                { "name": "greet", "signature": "fn(&str) -> String" },
                                { "name": "languages", "signature": "fn() -> Vec<String>" },
                            ],
                        },
                    },
                    {
                        "name": "raw",
                        "version": -1,
                        "replaces": [],
                        "requires": [],
                        "per_reference": true,
                        "state": false,
                        "contract": null,
                    },
                ],
            }],
        })
    );
    let program = parse(&Elf { file_type: 2, ..Elf::library() }).to_json(Path::new("a.out"));
    assert_eq!(program, json!({ "file": "a.out", "kind": "executable", "components": [] }));
}
