//! C programs load Rust libraries: by their notes, as Rust programs do.

use lcr_tests::{Profile, build, build_with};

use crate::world::{each_link, said};

#[test]
fn a_raw_table_of_a_rust_library() {
    let built = build(&["lcr-sample-a-library", "lcr-sample-b-library"], Profile::Dev);
    each_link(|world, link| {
        let host = world.host(link, &["plain.c"], &[]);
        // What is found in one directory: a Rust library, and C libraries beside it.
        std::fs::copy(built.library("test_a"), world.path().join("a.lcrso")).unwrap();
        std::fs::copy(built.library("test_b"), world.path().join("b.lcrso")).unwrap();
        world.library("versions.lcrso", "versions.c", &[]);
        let asked = [
            "r:A_iface1:0",
            "r:B_iface1:1",
            "r:versions:1",
            "r:plain:0",
            "c:0:0",
            "c:1:2",
            "c:2:0",
            "c:3:0",
            "x:0",
            "x:1",
            "x:2",
            "x:3",
            "m",
        ];
        assert_eq!(
            world.says(&host, &asked),
            "A - version 0 constructor context 0xc0de\n0: A_iface1\nB - version 1 constructor context 0xc0df\n\
             1: B_iface1\n2: versions\nplain 0 constructed with 0xc0e1\n3: plain\nA - version 0 func1\n\
             B - version 1 func3\nversions 1\nplain 0 func1\nA - version 0 destructor context 0xc0de\nrelease 0\n\
             B - version 1 destructor context 0xc0df\nrelease 0\nrelease 0\nplain 0 destroyed with 0xc0e1\n\
             release 0\nmapped 0\n"
        );
    });
}

#[test]
fn a_typed_interface_is_refused_by_name() {
    let built = build_with(&["lcr-sample-counter-two"], Profile::Dev, &["--examples"]);
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        std::fs::copy(built.library("counter_two"), world.path().join("counter.lcrso")).unwrap();
        let said = said(&mut world.command(&host, &["r:counter:2", "m"]));
        let file = world.path().join("counter.lcrso").display().to_string();
        assert_eq!(
            said,
            format!(
                "-1: `counter` version 2 ({file}) is a typed interface of contract `Counter`, and has no table of C \
                 functions: only Rust code can reference it, with `reference::<dyn Counter>`\nmapped 0\n"
            )
        );
    });
}
