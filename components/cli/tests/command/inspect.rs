//! `lcr inspect`.

use std::fs;

use serde_json::json;

use crate::builder::{Elf, PT_LOAD, Segment};
use crate::world::{LIBRARY, World, component, library, program};

#[test]
fn a_library_is_described_for_people() {
    let world = World::new();
    world.english();
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "libenglish.so"]).all(),
        snapbox::str![[r#"
libenglish.so: library lcr-sample-greeter-english-library 0.1.0, rustc [RUSTC], 1 component

  Component english  lcr-sample-greeter-english 0.1.0, rustc [RUSTC]
    INTERFACE  VERSION  REPLACES  REQUIRES  CONTRACT  KIND
    greeter    2        0, 1      clock     Greeter   singleton

    Greeter, as greeter 2 has it
      greet      fn(&str) -> String
      languages  fn() -> Vec<String>  has a default

  Knows the contracts  Clock (lcr-sample-greeter-api 0.1.0), Greeter (lcr-sample-greeter-api 0.1.0)
--- exit code 0

"#]]
    );
}

#[test]
fn a_library_is_described_for_programs() {
    let world = World::new();
    world.english();
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "--json", "libenglish.so"]).all(),
        snapbox::str![[r#"
[
  {
    "components": [
      {
        "interfaces": [
          {
            "contract": {
              "methods": [
                {
                  "name": "greet",
                  "signature": "fn(&str) -> String"
                },
                {
                  "name": "languages",
                  "signature": "fn() -> Vec<String>"
                }
              ],
              "name": "Greeter"
            },
            "name": "greeter",
            "per_reference": false,
            "replaces": [
              0,
              1
            ],
            "requires": [
              "clock"
            ],
            "state": false,
            "version": 2
          }
        ],
        "name": "english",
        "package": "lcr-sample-greeter-english",
        "package_version": "0.1.0",
        "rustc": "[RUSTC]"
      }
    ],
    "file": "libenglish.so",
    "kind": "library"
  }
]
--- exit code 0

"#]]
    );
}

#[test]
fn a_program_tells_what_is_compiled_in() {
    let world = World::new();
    world.program("greeter");
    let done = world.lcr(&["inspect", "--json", "greeter"]);
    let file = &done.json()[0];
    assert_eq!(file["kind"], "executable");
    let names: Vec<_> = file["components"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["clock", "english"]);
}

#[test]
fn broken_files_are_told_apart_and_the_others_are_still_printed() {
    let world = World::new();
    let whole = Elf::library().with(Segment::new(PT_LOAD, 4096, [0; 5000])).build();
    world.file("truncated.so", &whole[..4096]);
    world.file("text.so", "INPUT(libm.so.6)\n");
    world.file("empty.so", "");
    world.file("narrow.so", Elf { class: 1, ..Elf::library() }.build());
    world.file("note.so", library(&[r#"{"lcr":1,"kind":"component"}"#]));
    fs::create_dir(world.path().join("directory")).unwrap();
    world.file("made.so", library(&[LIBRARY, &component("made", &[("thing", 3, &[])])]));
    let broken = ["truncated.so", "text.so", "empty.so", "narrow.so", "note.so", "directory", "missing.so"];
    for name in broken {
        let done = world.lcr(&["inspect", name]);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{name}");
        assert!(
            done.err.starts_with(&format!("lcr: {name}: ")) && done.err.lines().count() == 1,
            "{}",
            done.err
        );
    }
    let done = world.lcr(&[&["inspect"], &broken[..], &["made.so"]].concat());
    snapbox::assert_data_eq!(
        done.all(),
        snapbox::str![[r#"
made.so: library made 0.1.0, rustc 1.89.0, 1 component

  Component made  made 0.1.0, rustc 1.89.0
    INTERFACE  VERSION  REPLACES  REQUIRES  CONTRACT   KIND
    thing      3        -         -         raw table  per reference
--- standard error
lcr: 7 of 8 files could not be read
  truncated.so: truncated: wanted 5000 bytes at offset 176 for a loaded segment, but the file has 4096 bytes; copy or build it again
  text.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found 49 4e 50 55; name a library or an executable
  empty.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found an empty file; name a library or an executable
  narrow.so: wanted a 64-bit ELF file, found a 32-bit one; build it for a 64-bit target
  note.so: the LCR note at offset 232: wanted a string under `component`, found nothing; build the file again with one version of lcr
  directory: wanted a file, found a directory; name a library or an executable
  missing.so: cannot open it: No such file or directory (os error 2); check the name and that this user may read it
--- exit code 1

"#]]
    );
    let done = world.lcr(&[&["inspect", "--json"], &broken[..], &["made.so"]].concat());
    assert_eq!(done.code, Some(1));
    assert_eq!(done.json().as_array().unwrap().len(), 1);
    assert_eq!(done.json()[0]["components"][0]["name"], "made");
}

#[test]
fn a_sound_file_without_components_is_no_failure() {
    let world = World::new();
    world.file("libc-like.so", library(&[]));
    snapbox::assert_data_eq!(
        world.lcr(&["inspect", "libc-like.so"]).all(),
        snapbox::str![[r#"
libc-like.so: library, 0 components
  It says nothing of itself: it is no lcr library, or one in C, which has no notes.
  `lcr inspect --probe` loads it in a child process, which runs its constructors, and looks inside.
--- exit code 0

"#]]
    );
    let done = world.lcr(&["inspect", "--json", "libc-like.so"]);
    assert_eq!(done.code, Some(0));
    assert_eq!(done.json(), json!([{ "file": "libc-like.so", "kind": "library", "components": [] }]));
    world.file("true-like", program(&[]));
    assert!(!world.lcr(&["inspect", "true-like"]).out.contains("--probe"), "a program is not loaded");
}

#[test]
fn a_hostile_name_does_not_reach_the_terminal() {
    let world = World::new();
    world.file("made.so", library(&[LIBRARY, &component("made", &[("a\u{1b}[2Jb", 0, &["c\u{202e}d"])])]));
    let done = world.lcr(&["inspect", "made.so"]);
    assert!(!done.out.contains(['\u{1b}', '\u{202e}']) && done.out.contains("a\\u{1b}[2Jb"), "{}", done.out);
    assert_eq!(
        world.lcr(&["inspect", "--json", "made.so"]).json()[0]["components"][0]["interfaces"][0]["name"],
        "a\u{1b}[2Jb"
    );
}

#[test]
fn a_table_fits_the_terminal() {
    let world = World::new();
    world.english();
    for columns in [60, 80, 132] {
        let done =
            world.run(world.command(&["inspect", "libenglish.so"]).env("COLUMNS", columns.to_string()));
        for line in done.out.lines().filter(|line| line.starts_with("    ")) {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
    }
}
