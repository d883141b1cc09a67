//! Notes in files that a real compiler and a real linker made, with what a
//! release build does to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lcr_core::metadata::{FileKind, Metadata};

/// A crate with three notes, two of them in a module that nothing else uses.
/// It takes this crate's sources for `note` and `text`, and needs no other.
const SOURCE: &str = r##"
#![allow(dead_code)]
#[path = "SRC/note.rs"]
mod note;
#[path = "SRC/text.rs"]
mod text;

macro_rules! note {
    ($json:expr) => {
        const _: () = {
            use crate::{note::{Note, pad4}, text::{self, Piece}};
            const PIECES: &[Piece] = $json;
            #[used]
            #[unsafe(link_section = ".note.lcr")]
            static NOTE: Note<{ pad4(text::len(PIECES)) }> = Note::new(PIECES);
        };
    };
}

const HEAD: &[text::Piece] = &[text::Piece::Str("{\"lcr\":"), text::Piece::Int(1), text::Piece::Str(",")];

mod unused {
    note!(&[Piece::List(crate::HEAD), Piece::Str("\"kind\":\"component\",\"component\":\"b\",\
        \"package\":\"p\",\"package_version\":\"0.1.0\",\"rustc\":\"1\",\"interfaces\":[]}")]);
    note!(&[Piece::List(crate::HEAD), Piece::Str("\"kind\":\"component\",\"component\":\"a\",\
        \"package\":\"pp\",\"package_version\":\"0.1.0\",\"rustc\":\"1\",\"interfaces\":[]}")]);
}
note!(&[Piece::List(crate::HEAD), Piece::Str("\"kind\":\"contract\",\"contract\":\"C\",\"package\":\"p\",\
    \"package_version\":\"0.1.0\",\"rustc\":\"1\",\"methods\":[{\"name\":\"m\",\"signature\":\"fn()\",\"hash\":\""),
    Piece::Hex(0xfeed), Piece::Str("\",\"default\":false}]}")]);

#[cfg(aborts)]
mod aborts {
    extern "C" fn abort() {
        std::process::abort();
    }
    #[used]
    #[unsafe(link_section = ".init_array")]
    static ABORT: extern "C" fn() = abort;
}

pub fn main() {}
"##;

/// Compiles the crate with these options, and says where the file is.
fn compile(name: &str, options: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join(format!("{name}.rs"));
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    fs::write(&source, SOURCE.replace("SRC", sources)).unwrap();
    let file = directory.join(format!("{name}.out"));
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc)
        .args(["--edition=2024", "-o"])
        .arg(&file)
        .args(options)
        .arg(&source)
        .output()
        .expect("rustc is needed here");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    file
}

fn assert_complete(metadata: &Metadata, kind: FileKind) {
    assert_eq!(metadata.kind, kind);
    let names: Vec<_> = metadata.components.iter().map(|c| (&c.name[..], &c.package[..])).collect();
    assert_eq!(names, [("a", "pp"), ("b", "p")]);
    let [contract] = &metadata.contracts[..] else { panic!("one contract: {:?}", metadata.contracts) };
    assert_eq!((&contract.name[..], contract.methods[0].hash), ("C", 0xfeed));
}

const RELEASE: &[&str] =
    &["-Copt-level=z", "-Clto=fat", "-Ccodegen-units=1", "-Cpanic=abort", "-Cstrip=symbols"];

#[test]
fn notes_survive_a_debug_build() {
    assert_complete(&Metadata::read(compile("debug", &["--crate-type=bin"])).unwrap(), FileKind::Executable);
}

#[test]
fn notes_survive_fat_lto_and_strip() {
    let program = compile("program", &[RELEASE, &["--crate-type=bin"]].concat());
    assert_complete(&Metadata::read(program).unwrap(), FileKind::Executable);
    let library = compile("library", &[RELEASE, &["--crate-type=cdylib"]].concat());
    assert_complete(&Metadata::read(&library).unwrap(), FileKind::Library);

    // Without its section headers, which strip can remove too.
    let mut bytes = fs::read(&library).unwrap();
    let sections = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    bytes.truncate(sections.try_into().unwrap());
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    assert_complete(&Metadata::parse(&bytes, &library).unwrap(), FileKind::Library);
}

#[test]
fn a_static_program_is_a_program() {
    // Position-independent, without a dynamic linker: DF_1_PIE alone says it.
    for model in ["-Crelocation-model=pie", "-Crelocation-model=static"] {
        let options = ["--crate-type=bin", "-Ctarget-feature=+crt-static", model];
        let program = compile(&format!("static{}", model.len()), &options);
        assert_complete(&Metadata::read(program).unwrap(), FileKind::Executable);
    }
}

#[test]
fn a_library_that_would_kill_its_loader_is_read() {
    let library = compile("aborts", &["--crate-type=cdylib", "--cfg=aborts"]);
    let loader = Command::new("true").env("LD_PRELOAD", &library).status().unwrap();
    assert!(!loader.success(), "it kills nobody, so this test shows nothing");
    assert_complete(&Metadata::read(library).unwrap(), FileKind::Library);
}
