//! `lcr tree`.

use crate::world::{LIBRARY, World, component, library, program};

#[test]
fn what_is_required_is_found_among_the_files_or_missing() {
    let world = World::new();
    world.english();
    snapbox::assert_data_eq!(
        world.lcr(&["tree", "libenglish.so"]).all(),
        snapbox::str![[r#"
greeter 2  english in libenglish.so
└── clock  missing: nothing offers it
--- exit code 0

"#]]
    );
    snapbox::assert_data_eq!(
        world.lcr(&["tree", "--json", "libenglish.so"]).all(),
        snapbox::str![[r#"
[
  {
    "component": "english",
    "file": "libenglish.so",
    "interface": "greeter",
    "requires": [
      {
        "component": null,
        "file": null,
        "interface": "clock",
        "requires": [],
        "status": "missing",
        "version": null
      }
    ],
    "status": "ok",
    "version": 2
  }
]
--- exit code 0

"#]]
    );
    world.program("greeter_dynamic");
    snapbox::assert_data_eq!(
        world.lcr(&["tree", "libenglish.so", "greeter_dynamic"]).all(),
        snapbox::str![[r#"
greeter 2  english in libenglish.so
└── clock 0  clock in greeter_dynamic
clock 0  clock in greeter_dynamic
--- exit code 0

"#]]
    );
}

#[test]
fn a_circle_ends_where_it_closes() {
    let world = World::new();
    let notes =
        component("ring", &[("a", 1, &["b", "d"]), ("b", 2, &["c"]), ("c", 3, &["a"]), ("d", 4, &[])]);
    world.file("ring.so", library(&[LIBRARY, &notes]));
    snapbox::assert_data_eq!(
        world.lcr(&["tree", "ring.so"]).all(),
        snapbox::str![[r#"
a 1  ring in ring.so
├── b 2  ring in ring.so
│   └── c 3  ring in ring.so
│       └── a  a circle: it is required by itself
└── d 4  ring in ring.so
b 2  ring in ring.so
└── c 3  ring in ring.so
    └── a 1  ring in ring.so
        ├── b  a circle: it is required by itself
        └── d 4  ring in ring.so
c 3  ring in ring.so
└── a 1  ring in ring.so
    ├── b 2  ring in ring.so
    │   └── c  a circle: it is required by itself
    └── d 4  ring in ring.so
d 4  ring in ring.so
--- exit code 0

"#]]
    );
    let json = world.lcr(&["tree", "ring.so", "--json"]).json();
    let last = &json[0]["requires"][0]["requires"][0]["requires"][0];
    assert_eq!(
        (&last["interface"], &last["status"], &last["version"]),
        (&"a".into(), &"cycle".into(), &1.into())
    );
    assert_eq!(json[0]["status"], "ok");
}

#[test]
fn a_program_answers_first_then_the_highest_version() {
    let world = World::new();
    world.file("lib/1.so", library(&[LIBRARY, &component("one", &[("x", 1, &[]), ("y", 1, &[])])]));
    world.file("lib/2.so", library(&[LIBRARY, &component("two", &[("x", 9, &[]), ("y", 9, &[])])]));
    world.file("user.so", library(&[LIBRARY, &component("user", &[("user", 0, &["x", "y"])])]));
    world.file("program", program(&[&component("own", &[("x", 0, &[])])]));
    let mut tree = world.command(&["tree", "user.so", "program", "--json"]);
    let json = world.run(tree.env("LCR_PATH", world.path().join("lib"))).json();
    let requires = json[0]["requires"].as_array().unwrap();
    assert_eq!((&requires[0]["interface"], &requires[0]["version"]), (&"x".into(), &0.into()));
    assert_eq!((&requires[1]["interface"], &requires[1]["version"]), (&"y".into(), &9.into()));
}

#[test]
fn a_tree_that_explodes_is_refused() {
    let world = World::new();
    let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
    let mut interfaces: Vec<(&str, i32, Vec<&str>)> = Vec::new();
    for pair in names.windows(2) {
        interfaces.push((&pair[0], 0, vec![&pair[1], &pair[1]]));
    }
    let interfaces: Vec<(&str, i32, &[&str])> =
        interfaces.iter().map(|(n, v, r)| (*n, *v, r.as_slice())).collect();
    world.file("bomb.so", library(&[LIBRARY, &component("bomb", &interfaces)]));
    let done = world.lcr(&["tree", "bomb.so"]);
    assert_eq!(
        (done.code, done.err.as_str()),
        (Some(1), "lcr: the tree has more than 65536 nodes: name fewer files\n")
    );
    world.file("program", program(&[]));
    assert_eq!(world.lcr(&["check", "--host", "program", "bomb.so"]).code, Some(1), "and this one ends, too");
}
