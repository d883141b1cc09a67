//! Every refusal, with the whole message that a person reads.

use std::path::Path;
use std::process::Command;

use lcr_core::metadata::{Metadata, Problem};

use crate::builder::{Elf, PT_DYNAMIC, PT_LOAD, PT_NOTE, Segment, lcr_note, note};
use crate::{ENGLISH, LIBRARY, file};

/// The message for these bytes.
fn refused(bytes: &[u8]) -> String {
    Metadata::parse(bytes, Path::new("bad.so")).expect_err("this file is bad").to_string()
}

fn refused_json(json: &str) -> String {
    refused(&Elf::with_json(&[json]).build())
}

#[test]
fn what_is_no_elf_file() {
    assert_eq!(
        refused(b"#!/bin/sh\n"),
        "bad.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found 23 21 2f 62; name a library \
         or an executable"
    );
    assert_eq!(
        refused(b"\x7fE"),
        "bad.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found 7f 45; name a library or an \
         executable"
    );
    assert_eq!(
        refused(b""),
        "bad.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found an empty file; name a library \
         or an executable"
    );
    assert!(Metadata::parse(b"GROUP (", Path::new("libm.so")).unwrap_err().is_not_elf());
    assert!(!Metadata::parse(b"\x7fELF", Path::new("cut.so")).unwrap_err().is_not_elf());
}

#[test]
fn files_of_other_machines() {
    let elf = Elf::library();
    assert_eq!(
        refused(&Elf { class: 1, ..elf.clone() }.build()),
        "bad.so: wanted a 64-bit ELF file, found a 32-bit one; build it for a 64-bit target"
    );
    assert_eq!(
        refused(&Elf { class: 9, ..elf.clone() }.build()),
        "bad.so: wanted a 64-bit ELF file, found class 9, which is none; build it for a 64-bit target"
    );
    assert_eq!(
        refused(&Elf { byte_order: 2, ..elf.clone() }.build()),
        "bad.so: wanted a little-endian ELF file, found a big-endian one; build it for a little-endian target"
    );
    assert_eq!(
        refused(&Elf { byte_order: 0, ..elf.clone() }.build()),
        "bad.so: wanted a little-endian ELF file, found byte order 0, which is none; build it for a \
         little-endian target"
    );
    let own = std::env::consts::ARCH;
    assert_eq!(
        refused(&Elf { machine: 21, ..elf.clone() }.build()),
        format!("bad.so: wanted an ELF file for {own}, found one for powerpc64; build it for this machine")
    );
    assert_eq!(
        refused(&Elf { machine: 4711, ..elf }.build()),
        format!(
            "bad.so: wanted an ELF file for {own}, found one for machine 4711; build it for this machine"
        )
    );
}

#[test]
fn what_is_neither_program_nor_library() {
    let refused = |file_type| refused(&Elf { file_type, ..Elf::library() }.build());
    let message = |found| {
        format!(
            "bad.so: wanted a shared object or an executable, found {found}; name the file that the linker made"
        )
    };
    assert_eq!(refused(1), message("a relocatable object"));
    assert_eq!(refused(4), message("a core dump"));
    assert_eq!(refused(0xfe00), message("file type 65024"));
}

#[test]
fn truncated_files() {
    let elf = Elf::with_json(&[ENGLISH]);
    let whole = elf.build();
    assert_eq!(
        refused(&whole[..63]),
        "bad.so: truncated: wanted 64 bytes at offset 0 for the ELF header, but the file has 63 bytes; \
         copy or build it again"
    );
    assert_eq!(
        refused(&whole[..100]),
        "bad.so: truncated: wanted 112 bytes at offset 64 for the program headers, but the file has 100 \
         bytes; copy or build it again"
    );
    assert_eq!(
        refused(&whole[..whole.len() - 1]),
        format!(
            "bad.so: truncated: wanted {} bytes at offset 0 for a loaded segment, but the file has {} \
             bytes; copy or build it again",
            whole.len(),
            whole.len() - 1
        )
    );
    let notes = Segment { size: Some(100), ..Segment::notes(&[]) };
    assert_eq!(
        refused(&Elf::library().with(notes).build()),
        "bad.so: truncated: wanted 100 bytes at offset 176 for a note segment, but the file has 176 bytes; \
         copy or build it again"
    );
    let load = Segment { size: Some(1 << 40), ..Segment::new(PT_LOAD, 4096, "") };
    assert_eq!(
        refused(&Elf::library().with(load).build()),
        "bad.so: truncated: wanted 1099511627776 bytes at offset 176 for a loaded segment, but the file \
         has 176 bytes; copy or build it again"
    );
    let dynamic = Segment { offset: Some(u64::MAX), ..Segment::new(PT_DYNAMIC, 8, [0; 16]) };
    assert_eq!(
        refused(&Elf::library().with(dynamic).build()),
        "bad.so: truncated: wanted 16 bytes at offset 18446744073709551615 for the dynamic section, but \
         the file has 192 bytes; copy or build it again"
    );
}

#[test]
fn headers_that_no_linker_wrote() {
    let count = |n| refused(&Elf { header_count: Some(n), ..Elf::library() }.build());
    let message = |found| {
        format!(
            "bad.so: wanted 1 to 1170 program headers, found {found}: the ELF header is damaged; copy or \
             build the file again"
        )
    };
    assert_eq!(count(0), message("0"));
    assert_eq!(count(1171), message("1171"));
    // The number that sends a reader to the section headers.
    assert_eq!(count(0xffff), message("65535"));
    assert_eq!(
        refused(&Elf { header_size: 32, ..Elf::library() }.build()),
        "bad.so: wanted program headers of 56 bytes, found 32 bytes: the ELF header is damaged; copy or \
         build the file again"
    );
    let dynamic = Segment { size: Some(1 << 30), ..Segment::new(PT_DYNAMIC, 8, "") };
    assert_eq!(
        refused(&Elf::library().with(dynamic).build()),
        "bad.so: wanted a dynamic section of at most 1048576 bytes, found 1073741824 bytes: the ELF header \
         is damaged; copy or build the file again"
    );
}

/// The one field of each that makes the dynamic linker read something else than was
/// verified, or crash.
#[test]
fn headers_that_contradict_each_other() {
    const PT_TLS: u32 = 7;
    const PT_RELRO: u32 = 0x6474_e552;
    let message = |wanted, found| {
        format!(
            "bad.so: wanted {wanted}, found {found}: the ELF header is damaged; copy or build the file again"
        )
    };
    let refused = |elf: Elf| refused(&elf.build());

    let distance = "each segment in a loaded one, at the same distance of address and offset";
    let sound = Elf::library().with(Segment::dynamic(&[]));
    Metadata::parse(&sound.build(), Path::new("sound.so")).unwrap();
    let mut elf = sound.clone();
    elf.segments[1].address = Some(120);
    let found = "PT_DYNAMIC with 0x40 bytes at address 0x78, offset 0xb0";
    assert_eq!(refused(elf), message(distance, found));

    let mut elf = sound.clone();
    elf.segments[0].kind = 0x6fff_ffff;
    let found = "PT_DYNAMIC with 0x40 bytes at address 0xb0, offset 0xb0";
    assert_eq!(refused(elf), message(distance, found));

    let end = "each segment to end where the loaded one does that it is part of";
    let relro = Segment { in_memory: Some(0x20000), ..Segment::new(PT_RELRO, 1, [0; 8]) };
    let found = "PT_GNU_RELRO with 0x20000 bytes at address 0x128, offset 0x128";
    assert_eq!(refused(sound.clone().with(relro)), message(end, found));

    // A relocation for the module's own number, and no thread-locals.
    let kind = match std::env::consts::ARCH {
        "x86_64" => 16,
        "aarch64" => 1028,
        "riscv64" => 7,
        _ => return,
    };
    let words = [0_u64, kind, 0];
    let relocation = Segment::new(0, 8, words.map(u64::to_le_bytes).concat());
    let at = 64 + 56 * 3 + 16 * 7;
    let dynamic = Segment::dynamic(&[7, at, 8, 24, 22, 0]);
    let found = "a relocation of one at address 0x0, and no PT_TLS";
    assert_eq!(
        refused(Elf::library().with(dynamic).with(relocation.clone())),
        message("a PT_TLS that holds the thread-locals", found)
    );
    let dynamic = Segment::dynamic(&[7, at + 56, 8, 24, 22, 0]);
    let locals = Segment::new(PT_TLS, 8, [0; 8]);
    let sound = Elf::library().with(dynamic).with(relocation).with(locals);
    Metadata::parse(&sound.build(), Path::new("sound.so")).unwrap();

    let two = Elf::library().with(Segment::dynamic(&[])).with(Segment::dynamic(&[]));
    assert_eq!(refused(two), message("one segment of each kind", "two PT_DYNAMIC"));
}

#[test]
fn loaded_segments_that_no_linker_wrote() {
    let refused = |segment: Segment| refused(&Elf::library().with(segment).build());
    let load = || Segment { address: Some(0x1000_00b0), ..Segment::new(PT_LOAD, 16, [7; 16]) };
    let message = |wanted, found| {
        format!(
            "bad.so: wanted {wanted}, found loaded segment 1 with {found} at address 0x100000b0, offset 0xb0: \
             the ELF header is damaged; copy or build the file again"
        )
    };
    Metadata::parse(&Elf::library().with(load()).build(), Path::new("sound.so")).unwrap();
    assert_eq!(
        refused(Segment { in_memory: Some(8), ..load() }),
        message("segments at least as large in memory as in the file", "0x10 bytes in the file: 0x8 bytes")
    );
    assert_eq!(
        refused(Segment { align: 24, ..load() }),
        message("alignments that are powers of two", "alignment 0x18: 0x10 bytes")
    );
    assert_eq!(
        refused(Segment { align: 1 << 30, ..load() }),
        message("addresses and offsets that agree within the alignment", "alignment 0x40000000: 0x10 bytes")
    );
    assert_eq!(
        refused(Segment { in_memory: Some(u64::MAX), ..load() }),
        message(
            "loaded segments that ascend and do not overlap",
            "an end beyond all addresses: 0xffffffffffffffff bytes"
        )
    );
    let same = || Segment { align: 8, ..load() };
    let same = Elf::library().with(same()).with(same());
    let error = Metadata::parse(&same.build(), Path::new("bad.so")).unwrap_err().to_string();
    assert!(error.contains("loaded segment 2 with the one before ending at 0x100000c0"), "{error}");
}

#[test]
fn too_large_notes() {
    let message = |found: u64| {
        format!(
            "bad.so: its note segments have {found} bytes, and at most 16777216 are read; build it with \
             less metadata"
        )
    };
    let half = Segment { size: Some((8 << 20) + 1), ..Segment::new(PT_NOTE, 4, "") };
    let elf = Elf::library().with(half.clone()).with(half);
    // Said before the file's length is looked at: it would be read otherwise.
    assert_eq!(refused(&elf.build()), message((16 << 20) + 2));
    let all = Segment { size: Some(u64::MAX), ..Segment::new(PT_NOTE, 4, "") };
    assert_eq!(refused(&Elf::library().with(all.clone()).with(all).build()), message(u64::MAX));

    // Exactly the limit is read.
    let mut bytes = lcr_note(ENGLISH);
    bytes.resize(16 << 20, 0);
    let elf = Elf::library().with(Segment::new(PT_NOTE, 4, bytes));
    let metadata = Metadata::parse(&elf.build(), Path::new("large.so")).unwrap();
    assert_eq!(metadata.components.len(), 1);
}

#[test]
fn notes_with_lying_sizes() {
    let lie = |name: u32, content: u32| {
        let mut bytes = lcr_note("{}");
        bytes[0..4].copy_from_slice(&name.to_le_bytes());
        bytes[4..8].copy_from_slice(&content.to_le_bytes());
        refused(&Elf::library().with(Segment::new(PT_NOTE, 4, bytes)).build())
    };
    let message = |name: u32, content: u32| {
        format!(
            "bad.so: the note at offset 176 claims a name of {name} and a content of {content} bytes, but \
             its segment has only 20 bytes from there; copy or build the file again"
        )
    };
    assert_eq!(lie(4, 5), message(4, 5));
    assert_eq!(lie(4, u32::MAX), message(4, u32::MAX));
    assert_eq!(lie(u32::MAX, u32::MAX), message(u32::MAX, u32::MAX));
    assert_eq!(lie(9, 0), message(9, 0));

    let rest = Segment::new(PT_NOTE, 4, [lcr_note(ENGLISH), vec![4, 0, 0, 0, 9, 9]].concat());
    let at = 176 + rest.bytes.len() - 6;
    assert_eq!(
        refused(&Elf::library().with(rest).build()),
        format!(
            "bad.so: the note at offset {at} claims a name of 4 and a content of 0 bytes, but its segment \
             has only 6 bytes from there; copy or build the file again"
        )
    );
    // A note of another owner is not believed either.
    let mut foreign = note(b"GNU\0", 3, &[0; 20]);
    foreign[4] = 21;
    assert_eq!(
        refused(&Elf::library().with(Segment::new(PT_NOTE, 4, foreign)).build()),
        "bad.so: the note at offset 176 claims a name of 4 and a content of 21 bytes, but its segment has \
         only 36 bytes from there; copy or build the file again"
    );
}

#[test]
fn broken_json() {
    assert_eq!(
        refused_json(r#"{"lcr":1,"#),
        "bad.so: the LCR note at offset 176 is not JSON: EOF while parsing a value at line 1 column 9; \
         build the file again"
    );
    assert_eq!(
        refused_json(""),
        "bad.so: the LCR note at offset 176 is not JSON: EOF while parsing a value at line 1 column 0; \
         build the file again"
    );
    assert_eq!(
        refused_json("{\"lcr\":1}\0"),
        "bad.so: the LCR note at offset 176 is not JSON: trailing characters at line 1 column 10; build \
         the file again"
    );
    assert_eq!(
        refused_json(&"[".repeat(1 << 20)),
        "bad.so: the LCR note at offset 176 is not JSON: recursion limit exceeded at line 1 column 128; \
         build the file again"
    );
    let latin = Segment::notes(&[note(b"LCR\0", 1, b"{\"lcr\":\"\xe9\"}")]);
    assert_eq!(
        refused(&Elf::library().with(latin).build()),
        "bad.so: the LCR note at offset 176 is not JSON: invalid unicode code point at line 1 column 9; \
         build the file again"
    );
}

#[test]
fn crowded_json() {
    assert_eq!(
        refused_json(&format!("[{}{{}}]", "{},".repeat(1 << 18))),
        "bad.so: the LCR note at offset 176 holds more than 262144 objects; split the component"
    );
    assert_eq!(
        refused_json(&format!("[{}0]", "0,".repeat(1 << 21))),
        "bad.so: the LCR note at offset 176 holds more than 2097152 values; split the component"
    );
}

#[test]
fn another_format() {
    let message = |found| {
        format!(
            "bad.so: the LCR note at offset 176 has format {found}, and this lcr reads format 1; use a newer \
             lcr, or build the file with this one"
        )
    };
    // Nothing else of it is looked at.
    assert_eq!(refused_json(r#"{"lcr":2}"#), message("2"));
    assert_eq!(refused_json(r#"{"lcr":1.5,"kind":7}"#), message("1.5"));
    assert_eq!(refused_json(r#"{"lcr":-1}"#), message("-1"));
    assert_eq!(refused_json(r#"{"lcr":18446744073709551615}"#), message("18446744073709551615"));
}

/// `json` with `from` turned into `to`, which must be there.
fn changed(json: &str, from: &str, to: &str) -> String {
    assert!(json.contains(from), "{from}");
    refused_json(&json.replacen(from, to, 1))
}

#[test]
fn wrong_types_and_missing_keys() {
    let message = |wanted, key, found| {
        format!(
            "bad.so: the LCR note at offset 176: wanted {wanted} under `{key}`, found {found}; build the \
             file again with one version of lcr"
        )
    };
    let cases = [
        ("\"lcr\":1", "\"LCR\":1", "a number", "lcr", "nothing"),
        ("\"lcr\":1", "\"lcr\":\"1\"", "a number", "lcr", "the string \"1\""),
        ("\"kind\":\"component\"", "\"kind\":[]", "a string", "kind", "an array"),
        ("\"component\":\"english\"", "\"component\":null", "a string", "component", "null"),
        ("\"package\":", "\"p\":", "a string", "package", "nothing"),
        (
            "\"package_version\":\"0.1.0\"",
            "\"package_version\":0.1",
            "a string",
            "package_version",
            "the number 0.1",
        ),
        ("\"rustc\":\"1.95.0\"", "\"rustc\":{}", "a string", "rustc", "an object"),
        ("\"interfaces\":[", "\"interfaces\":[7,", "an object", "interfaces[0]", "the number 7"),
        ("\"interfaces\"", "\"i\"", "an array", "interfaces", "nothing"),
        ("\"name\":\"raw\"", "\"name\":true", "a string", "interfaces[1].name", "true"),
        (
            "\"version\":2",
            "\"version\":2147483648",
            "an integer of 32 bits",
            "interfaces[0].version",
            "the number 2147483648",
        ),
        (
            "\"version\":2",
            "\"version\":2.0",
            "an integer of 32 bits",
            "interfaces[0].version",
            "the number 2.0",
        ),
        ("[0,1]", "[0,\"1\"]", "an integer of 32 bits", "interfaces[0].replaces[1]", "the string \"1\""),
        ("[0,1]", "{}", "an array", "interfaces[0].replaces", "an object"),
        ("[\"clock\"]", "[null]", "a string", "interfaces[0].requires[0]", "null"),
        (
            "\"per_reference\":false",
            "\"per_reference\":0",
            "true or false",
            "interfaces[0].per_reference",
            "the number 0",
        ),
        ("\"state\":true", "\"estate\":true", "true or false", "interfaces[0].state", "nothing"),
        (
            "\"contract\":null",
            "\"contract\":7",
            "an object or null",
            "interfaces[1].contract",
            "the number 7",
        ),
        ("\"contract\":null", "\"c\":null", "an object or null", "interfaces[1].contract", "nothing"),
        ("\"methods\":[", "\"methods\":[[],", "an object", "interfaces[0].contract.methods[0]", "an array"),
        (
            "0123456789abcdef",
            "+123456789abcdef",
            "16 hexadecimal digits",
            "interfaces[0].contract.methods[0].hash",
            "the string \"+123456789abcdef\"",
        ),
        (
            "0123456789abcdef",
            "123456789abcdef",
            "16 hexadecimal digits",
            "interfaces[0].contract.methods[0].hash",
            "the string \"123456789abcdef\"",
        ),
        (
            "\"default\":true",
            "\"default\":\"\\u001b[2J\"",
            "true or false",
            "interfaces[0].contract.methods[1].default",
            "the string \"\\u{1b}[2J\"",
        ),
    ];
    for (from, to, wanted, key, found) in cases {
        assert_eq!(changed(ENGLISH, from, to), message(wanted, key, found));
    }
    assert_eq!(changed(LIBRARY, "\"stay\"", "\"s\""), message("true or false", "stay", "nothing"));
    assert_eq!(refused_json("[]"), message("an object", ".", "an array"));
    let long = format!("\"{}\"", "x".repeat(41));
    assert_eq!(changed(LIBRARY, "false", &long), message("true or false", "stay", "a string of 41 bytes"));
}

#[test]
fn two_libraries_in_one_file() {
    let second = LIBRARY.replace("english-lib", "french-lib");
    let elf = Elf::with_json(&[LIBRARY, &second]);
    let at = elf.offset_of(1) + lcr_note(LIBRARY).len();
    assert_eq!(
        refused(&elf.build()),
        format!(
            "bad.so: the LCR note at offset {at} describes the library of package french-lib, and one of \
             package english-lib is described already; call `library!` in one crate only"
        )
    );
}

#[test]
fn files_that_cannot_be_read() {
    let error = Metadata::read("no/such.so").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such.so: cannot open it: No such file or directory (os error 2); check the name and that this \
         user may read it"
    );
    assert_eq!(error.path(), Path::new("no/such.so"));
    assert!(matches!(error.problem(), Problem::Io { doing: "open it", .. }));
    assert_eq!(
        Metadata::read("/").unwrap_err().to_string(),
        "/: wanted a file, found a directory; name a library or an executable"
    );
    assert_eq!(
        Metadata::read("/dev/zero").unwrap_err().to_string(),
        "/dev/zero: wanted a file, found a device; name a library or an executable"
    );
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let pipe = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipe.so");
    let _ = std::fs::remove_file(&pipe);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Metadata::read(&pipe).unwrap_err();
    let message = "wanted a file, found a pipe; name a library or an executable";
    assert_eq!(error.to_string(), format!("{}: {message}", pipe.display()));
}

#[test]
fn the_file_on_disk_is_compared_with_its_own_length() {
    let elf = Elf::with_json(&[ENGLISH]).build();
    let path = file("cut.so", &elf[..elf.len() - 4]);
    let message = Metadata::read(&path).unwrap_err().to_string();
    let found = format!("but the file has {} bytes; copy or build it again", elf.len() - 4);
    assert!(message.starts_with(&format!("{}: truncated: ", path.display())), "{message}");
    assert!(message.ends_with(&found), "{message}");
}
