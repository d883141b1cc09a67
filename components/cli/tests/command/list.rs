//! `lcr list`.

use std::env;

use crate::world::{LIBRARY, World, component, library, program};

/// Two directories that offer partly the same.
fn world() -> World {
    let world = World::new();
    world.file("first/libclock.so", library(&[LIBRARY, &component("clock", &[("clock", 0, &[])])]));
    world.file(
        "first/libzone.lcrso",
        library(&[LIBRARY, &component("zone", &[("zone", 1, &[]), ("zone", 2, &[])])]),
    );
    world.file(
        "second/libclock.so",
        library(&[LIBRARY, &component("clock", &[("clock", 0, &[]), ("clock", 1, &[])])]),
    );
    world.file("second/libm.so", "INPUT(libm.so.6)\n");
    world.file("second/readme.txt", "not a library");
    world.file("second/deeper/libdeep.so", library(&[LIBRARY, &component("deep", &[("deep", 0, &[])])]));
    world
}

#[test]
fn an_earlier_directory_shadows_a_later_one() {
    let world = world();
    let done = world.lcr(&["list", "first", "second"]);
    snapbox::assert_data_eq!(
        done.all(),
        snapbox::str![[r#"
INTERFACE  VERSION  COMPONENT  FILE                 SHADOWED BY
clock      0        clock      first/libclock.so    -
zone       1        zone       first/libzone.lcrso  -
zone       2        zone       first/libzone.lcrso  -
clock      0        clock      second/libclock.so   first/libclock.so
clock      1        clock      second/libclock.so   -
--- exit code 0

"#]]
    );
    snapbox::assert_data_eq!(
        world.lcr(&["list", "second", "first", "--json"]).all(),
        snapbox::str![[r#"
[
  {
    "component": "clock",
    "duplicate": false,
    "file": "second/libclock.so",
    "interface": "clock",
    "shadowed_by": null,
    "version": 0
  },
  {
    "component": "clock",
    "duplicate": false,
    "file": "second/libclock.so",
    "interface": "clock",
    "shadowed_by": null,
    "version": 1
  },
  {
    "component": "clock",
    "duplicate": false,
    "file": "first/libclock.so",
    "interface": "clock",
    "shadowed_by": "second/libclock.so",
    "version": 0
  },
  {
    "component": "zone",
    "duplicate": false,
    "file": "first/libzone.lcrso",
    "interface": "zone",
    "shadowed_by": null,
    "version": 1
  },
  {
    "component": "zone",
    "duplicate": false,
    "file": "first/libzone.lcrso",
    "interface": "zone",
    "shadowed_by": null,
    "version": 2
  }
]
--- exit code 0

"#]]
    );
}

#[test]
fn without_arguments_the_search_path_is_listed() {
    let world = world();
    let path = env::join_paths([world.path().join("second"), world.path().join("first")]).unwrap();
    let listed = world.run(world.command(&["list", "--json"]).env("LCR_PATH", path));
    let (second, first) = (world.path().join("second"), world.path().join("first"));
    let named = world.lcr(&["list", "--json", second.to_str().unwrap(), first.to_str().unwrap()]);
    assert_eq!((listed.code, listed.json()), (Some(0), named.json()));
}

#[test]
fn what_is_compiled_in_shadows_a_library_wherever_it_is_named() {
    let world = world();
    world.file("program", program(&[&component("clock", &[("clock", 0, &[])])]));
    let done = world.lcr(&["list", "--json", "first", "program"]);
    let all = done.json();
    let by = |file: &str| {
        let all = all.as_array().unwrap();
        all.iter().find(|e| e["interface"] == "clock" && e["file"] == file).unwrap()["shadowed_by"].clone()
    };
    assert_eq!(by("program"), serde_json::Value::Null);
    assert_eq!(by("first/libclock.so"), "program");
}

#[test]
fn a_name_that_stands_twice_in_a_file_is_marked() {
    let world = World::new();
    world.file(
        "twice.so",
        library(&[LIBRARY, &component("a", &[("x", 1, &[])]), &component("b", &[("x", 1, &[])])]),
    );
    snapbox::assert_data_eq!(
        world.lcr(&["list", "twice.so"]).all(),
        snapbox::str![[r#"
INTERFACE  VERSION  COMPONENT  FILE      SHADOWED BY
x          1        a          twice.so  twice in this file: references fail
x          1        b          twice.so  twice in this file: references fail
--- exit code 0

"#]]
    );
}

#[test]
fn a_broken_library_in_a_directory_is_told_and_the_rest_listed() {
    let world = world();
    world.file("first/libbroken.so", &library(&[LIBRARY])[..80]);
    snapbox::assert_data_eq!(
        world.lcr(&["list", "first"]).all(),
        snapbox::str![[r#"
INTERFACE  VERSION  COMPONENT  FILE                 SHADOWED BY
clock      0        clock      first/libclock.so    -
zone       1        zone       first/libzone.lcrso  -
zone       2        zone       first/libzone.lcrso  -
--- standard error
lcr: first/libbroken.so: truncated: wanted 168 bytes at offset 64 for the program headers, but the file has 80 bytes; copy or build it again
--- exit code 1

"#]]
    );
}

#[test]
fn an_empty_directory_and_silent_libraries_are_said_to_be_so() {
    let world = World::new();
    world.file("c/libold.so", library(&[]));
    snapbox::assert_data_eq!(
        world.lcr(&["list", "c"]).all(),
        snapbox::str![[r#"
no interfaces in c
1 library says nothing: `--probe` looks inside
--- exit code 0

"#]]
    );
    assert_eq!(world.lcr(&["list", "c", "--json"]).out, "[]\n");
}
