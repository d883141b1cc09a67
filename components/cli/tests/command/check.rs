//! `lcr check`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::world::{LIBRARY, World, component, library, program};

#[test]
fn a_library_that_fits_loads() {
    let world = World::new();
    world.english();
    world.program("greeter_dynamic");
    let done = world.lcr(&["check", "--host", "greeter_dynamic", "libenglish.so", "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let file = &done.json()[0];
    assert_eq!(
        (&file["file"], &file["loads"], &file["reasons"]),
        (&"libenglish.so".into(), &true.into(), &json!([]))
    );
    let done = world.lcr(&["check", "--host", "greeter_dynamic", "libenglish.so"]);
    assert!(done.out.starts_with("libenglish.so: loads\n  greeter 2  Greeter\n"), "{}", done.out);
    assert!(done.out.contains("libc.so.6") && done.out.contains("dynamic linker's business"), "{}", done.out);
}

#[test]
fn a_changed_contract_is_named_with_both_sides() {
    let world = World::new();
    world.changed();
    world.program("greeter_dynamic");
    let done = world.lcr(&["check", "--host", "greeter_dynamic", "libchanged.so"]);
    assert_eq!(done.code, Some(1));
    snapbox::assert_data_eq!(
        done.err,
        snapbox::str![[r#"
lcr: libchanged.so would not load into greeter_dynamic
  greeter 2: expected greet: fn(&str) -> String, found greet: fn(Option<String>) -> String

"#]]
    );
    let json = world.lcr(&["check", "--json", "--host", "greeter_dynamic", "libchanged.so"]).json();
    snapbox::assert_data_eq!(
        format!("{:#}", json[0]["reasons"]),
        snapbox::str![[r#"
[
  {
    "cure": "methods may only be appended to a contract: rebuild the older side",
    "expected": "greet: fn(&str) -> String",
    "found": "greet: fn(Option<String>) -> String",
    "interface": "greeter",
    "kind": "method",
    "version": 2
  }
]
"#]]
    );
}

#[test]
fn a_writable_library_is_refused_with_its_chmod() {
    let world = World::new();
    let path = world.english();
    fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
    world.program("greeter_dynamic");
    let json = world.lcr(&["check", "--json", "--host", "greeter_dynamic", "libenglish.so"]).json();
    snapbox::assert_data_eq!(
        format!("{:#}", json[0]["reasons"]),
        snapbox::str![[r#"
[
  {
    "cure": "run: chmod o-w libenglish.so",
    "expected": "write permission for its owner alone (or its owner's private group)",
    "found": "mode 0646, so that everyone can write it",
    "interface": null,
    "kind": "mode",
    "version": null
  }
]
"#]]
    );
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(world.lcr(&["check", "--host", "greeter_dynamic", "libenglish.so"]).code, Some(0));
}

#[test]
fn requirements_are_met_by_the_host_or_by_libraries_that_load() {
    let world = World::new();
    world.file("program", program(&[&component("own", &[("clock", 0, &[])])]));
    world.file("a.so", library(&[LIBRARY, &component("a", &[("a", 0, &["clock", "b"])])]));
    world.file("b.so", library(&[LIBRARY, &component("b", &[("b", 0, &[])])]));
    assert_eq!(world.lcr(&["check", "--host", "program", "a.so", "b.so"]).code, Some(0));
    // Without b, and with a b that does not load itself.
    let alone = world.lcr(&["check", "--host", "program", "a.so"]);
    snapbox::assert_data_eq!(
        alone.all(),
        snapbox::str![[r#"
a.so: does not load
  a 0: missing-requirement
    expected  `b`
    found     nothing that offers it
    do        name the library that offers it too, or compile it into the program
Not verified: the shared objects that they need are the dynamic linker's business.
Owner and mode were judged for the user who runs this command.
--- standard error
lcr: a.so would not load into program
  a 0: expected `b`, found nothing that offers it
--- exit code 1

"#]]
    );
    world.file("b.so", library(&[LIBRARY, &component("b", &[("b", 0, &["nothing"])])]));
    let both = world.lcr(&["check", "--host", "program", "a.so", "b.so"]);
    snapbox::assert_data_eq!(
        both.all(),
        snapbox::str![[r#"
a.so: does not load
  a 0: missing-requirement
    expected  `b`
    found     it only in b.so, which would not load
    do        see the reasons there
b.so: does not load
  b 0: missing-requirement
    expected  `nothing`
    found     nothing that offers it
    do        name the library that offers it too, or compile it into the program
Not verified: the shared objects that they need are the dynamic linker's business.
Owner and mode were judged for the user who runs this command.
--- standard error
lcr: 2 of 2 libraries would not load into program
  a.so: a 0: expected `b`, found it only in b.so, which would not load
  b.so: b 0: expected `nothing`, found nothing that offers it
--- exit code 1

"#]]
    );
}

#[test]
fn circles_doubles_and_shadows_are_told() {
    let world = World::new();
    world.file("program", program(&[&component("own", &[("clock", 0, &[])])]));
    world.file("ring.so", library(&[LIBRARY, &component("ring", &[("a", 0, &["b"]), ("b", 0, &["a"])])]));
    world.file(
        "twice.so",
        library(&[LIBRARY, &component("x", &[("x", 1, &[])]), &component("y", &[("x", 1, &[])])]),
    );
    world.file("clock.so", library(&[LIBRARY, &component("clock", &[("clock", 0, &[])])]));
    let done = world.lcr(&["check", "--host", "program", "ring.so", "twice.so", "clock.so"]);
    snapbox::assert_data_eq!(
        done.all(),
        snapbox::str![[r#"
ring.so: does not load
  a 0: cycle
    expected  requirements without a circle
    found     a → b → a
    do        break the circle: one of them has to do without
  b 0: cycle
    expected  requirements without a circle
    found     b → a → b
    do        break the circle: one of them has to do without
twice.so: does not load
  x 1: duplicate
    expected  each version of an interface once
    found     it twice, in component x and in component y
    do        drop one of them, or give it another version
clock.so: loads
  clock 0  raw table
  clock 0: shadowed by program, which is asked first
Not verified: the shared objects that they need are the dynamic linker's business.
Owner and mode were judged for the user who runs this command.
--- standard error
lcr: 2 of 3 libraries would not load into program
  ring.so: a 0: expected requirements without a circle, found a → b → a
  ring.so: b 0: expected requirements without a circle, found b → a → b
  twice.so: x 1: expected each version of an interface once, found it twice, in component x and in component y
--- exit code 1

"#]]
    );
}

#[test]
fn what_is_no_library_is_told_as_what_it_is() {
    let world = World::new();
    world.file("program", program(&[]));
    world.file("text.so", "hello");
    world.file("c.so", library(&[]));
    world.file("entryless.so", library(&[&component("x", &[("x", 0, &[])])]));
    world.file("newer.so", library(&[r#"{"lcr":2,"kind":"component"}"#]));
    fs::create_dir(world.path().join("directory")).unwrap();
    let files = ["text.so", "c.so", "entryless.so", "newer.so", "program", "directory", "missing.so"];
    let done = world.lcr(&[&["check", "--json", "--host", "program"], &files[..]].concat());
    assert_eq!(done.code, Some(1));
    let kinds: Vec<_> =
        done.json().as_array().unwrap().iter().map(|f| f["reasons"][0]["kind"].clone()).collect();
    assert_eq!(kinds, ["elf", "empty", "entry", "metadata", "executable", "file", "open"]);
    snapbox::assert_data_eq!(
        done.err,
        snapbox::str![[r#"
lcr: 7 of 7 libraries would not load into program
  text.so: expected a shared object for this machine, found it has 5 bytes, an ELF header has 64
  c.so: expected a component, found none
  entryless.so: expected the note of `library!`, found none
  newer.so: expected notes that can be read, found the LCR note at offset 232 has format 2, and this lcr reads format 1; use a newer lcr, or build the file with this one
  program: expected a library, found an executable
  directory: expected a regular file, found a directory
  missing.so: expected a file that can be read, found No such file or directory (os error 2)

"#]]
    );
}

#[test]
fn a_host_that_cannot_be_read_is_said_and_nothing_is_checked() {
    let world = World::new();
    world.file("c.so", library(&[]));
    let done = world.lcr(&["check", "--json", "--host", "nowhere", "c.so"]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.starts_with("lcr: nowhere: cannot open it"), "{}", done.err);
}

#[test]
fn a_fully_static_host_loads_nothing() {
    let world = World::new();
    world.file("static", crate::builder::Elf { file_type: 2, ..crate::builder::Elf::library() }.build());
    world.file("b.so", library(&[LIBRARY, &component("b", &[("b", 0, &[])])]));
    let done = world.lcr(&["check", "--json", "--host", "static", "b.so"]);
    assert_eq!((done.code, &done.json()[0]["reasons"][0]["kind"]), (Some(1), &"static".into()));
}

#[test]
fn a_host_without_the_feature_dlopen_loads_nothing() {
    const CORE: &str = r#"{"lcr":1,"kind":"core","package_version":"0.1.0","rustc":"1.89.0","dlopen":false}"#;
    let world = World::new();
    world.file("alone", program(&[CORE]));
    world.file("b.so", library(&[LIBRARY, &component("b", &[("b", 0, &[])])]));
    let done = world.lcr(&["check", "--host", "alone", "b.so"]);
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(
        done.all().contains("one whose lcr-core was built without its feature `dlopen`"),
        "{}",
        done.all()
    );
    let done = world.lcr(&["inspect", "alone"]);
    assert_eq!(
        done.out,
        "alone: executable, loads no libraries, 0 components\n  Components in C, which have no notes, may be compiled \
         in: they are not seen here.\n"
    );
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let world = World::new();
    world.program("greeter_dynamic");
    let fifo = world.path().join("pipe.so");
    lcr_tests::stdout(std::process::Command::new("mkfifo").arg(&fifo));
    let done = world.lcr(&["check", "--host", "greeter_dynamic", "pipe.so"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("expected a regular file, found a pipe"), "{}", done.err);
}
