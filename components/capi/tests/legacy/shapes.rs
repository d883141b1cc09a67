//! The shapes that components and programs have.

use crate::world::{Link, World, each_link, said, sample};

#[test]
fn a_component_that_is_compiled_in() {
    each_link(|world, link| {
        let host = world.host(link, &["plain.c"], &[]);
        assert_eq!(
            world.says(&host, &["r:plain:0", "c:0:0", "c:0:1", "x:0"]),
            "plain 0 constructed with 0xc0de\n0: plain\nplain 0 func1\nplain 0 func2\n\
             plain 0 destroyed with 0xc0de\nrelease 0\n"
        );
    });
}

#[test]
fn a_component_that_is_found() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        world.library("plain.lcrso", "plain.c", &[]);
        assert_eq!(
            world.says(&host, &["m", "r:plain:0", "m", "c:0:0", "c:0:1", "x:0", "m"]),
            "mapped 0\nplain 0 constructed with 0xc0de\n0: plain\nmapped 1\nplain 0 func1\nplain 0 func2\n\
             plain 0 destroyed with 0xc0de\nrelease 0\nmapped 0\n"
        );
    });
}

#[test]
fn compiled_in_and_found_together() {
    each_link(|world, link| {
        let host = world.host(link, &["versions.c"], &[]);
        world.library("plain.lcrso", "plain.c", &[]);
        // What is compiled in comes first.
        world.library("versions.lcrso", "plain.c", &["-DNAME=\"versions\""]);
        assert_eq!(
            world.says(&host, &["r:versions:0", "c:0:0", "r:plain:0", "c:1:0", "x:0", "x:1"]),
            "0: versions\nversions 0\nplain 0 constructed with 0xc0df\n1: plain\nplain 0 func1\nrelease 0\n\
             plain 0 destroyed with 0xc0df\nrelease 0\n"
        );
    });
}

#[test]
fn several_components_in_one_object() {
    each_link(|world, link| {
        let asked =
            ["r:right:0", "r:left:0", "r:middle:0", "c:0:0", "c:1:0", "c:2:0", "x:0", "x:1", "x:2", "m"];
        let answer =
            "0: right\n1: left\n2: middle\nright\nleft\nmiddle\nrelease 0\nrelease 0\nrelease 0\nmapped 0\n";
        let host = world.host(link, &["several.c"], &[]);
        assert_eq!(world.says(&host, &asked), answer);
        let host = world.host(link, &[], &[]);
        world.library("several.lcrso", "several.c", &[]);
        assert_eq!(world.says(&host, &asked), answer);
    });
}

#[test]
fn one_interface_in_several_versions() {
    each_link(|world, link| {
        let asked = ["r:versions:1", "r:versions:0", "r:versions:5", "c:0:0", "c:1:0", "c:2:0"];
        let answer = "0: versions\n1: versions\n2: versions\nversions 1\nversions 0\nversions 5\n";
        let host = world.host(link, &["versions.c"], &[]);
        assert_eq!(world.says(&host, &asked), answer);
        let host = world.host(link, &[], &[]);
        world.library("versions.lcrso", "versions.c", &[]);
        assert_eq!(world.says(&host, &asked), answer);
    });
}

#[test]
fn one_interface_in_a_file_for_each_version() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        world.library("a.lcrso", "plain.c", &["-DVERSION=1"]);
        world.library("b.lcrso", "plain.c", &["-DVERSION=0"]);
        assert_eq!(
            world.says(&host, &["r:plain:0", "r:plain:1", "c:0:0", "c:1:0", "x:0", "x:1", "m"]),
            "plain 0 constructed with 0xc0de\n0: plain\nplain 1 constructed with 0xc0df\n1: plain\nplain 0 func1\n\
             plain 1 func1\nplain 0 destroyed with 0xc0de\nrelease 0\nplain 1 destroyed with 0xc0df\nrelease 0\n\
             mapped 0\n"
        );
    });
}

#[test]
fn a_component_that_sets_its_table_late() {
    each_link(|world, link| {
        let host = world.host(link, &["late.c"], &[]);
        assert_eq!(world.says(&host, &["r:late:0", "c:0:0"]), "0: late\nlate\n");
        let host = world.host(link, &[], &[]);
        world.library("late.lcrso", "late.c", &[]);
        assert_eq!(world.says(&host, &["r:late:0", "c:0:0"]), "0: late\nlate\n");
    });
}

#[test]
fn a_component_that_calls_the_factory() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        world.library("references.lcrso", "references.c", &[]);
        let asked = ["r:references:0", "c:0:0", "x:0", "m"];
        assert_eq!(world.says(&host, &asked), "0: references\nno plain\nrelease 0\nmapped 0\n");
        world.library("plain.lcrso", "plain.c", &[]);
        assert_eq!(
            world.says(&host, &asked),
            "0: references\nplain 0 constructed with (nil)\nplain 0 func1\nplain 0 destroyed with (nil)\n\
             released 0\nrelease 0\nmapped 0\n"
        );
        assert_eq!(
            world.says(&host, &["r:holds:0", "m", "x:0", "m"]),
            "plain 0 constructed with 0x2\n0: holds\nmapped 2\nplain 0 destroyed with 0x2\nrelease 0\nmapped 0\n"
        );
    });
}

#[test]
fn a_component_in_cplusplus() {
    each_link(|world, link| {
        world.library("cplusplus.lcrso", "cplusplus.cpp", &["-std=c++17", "-lstdc++"]);
        let host = world.host(link, &[], &[]);
        assert_eq!(
            world.says(&host, &["r:cplusplus:0", "c:0:0", "x:0"]),
            "0: cplusplus\nhello from C++\ngoodbye from C++\nrelease 0\n"
        );
    });
}

#[test]
fn a_component_that_is_itself_linked_with_liblcr() {
    each_link(|world, link| {
        let directory = crate::world::liblcr().directory().display().to_string();
        let (search, rpath) = (format!("-L{directory}"), format!("-Wl,-rpath,{directory}"));
        world.library("plain.lcrso", "plain.c", &[&search, "-Wl,--no-as-needed", "-llcr", &rpath]);
        let host = world.host(link, &[], &[]);
        assert_eq!(
            world.says(&host, &["r:plain:0", "c:0:0", "x:0"]),
            "plain 0 constructed with 0xc0de\n0: plain\nplain 0 func1\nplain 0 destroyed with 0xc0de\nrelease 0\n"
        );
    });
}

#[test]
fn a_component_without_functions() {
    each_link(|world, link| {
        world.library("no_table.lcrso", "no_table.c", &[]);
        let host = world.host(link, &[], &[]);
        assert_eq!(
            world.says(&host, &["r:no_table:0", "x:0"]),
            "no_table constructed with 0xc0de\n0: no_table\nrelease 0\n"
        );
    });
}

#[test]
fn a_component_with_relative_relocations_packed() {
    each_link(|world, link| {
        world.library(
            "plain.lcrso",
            "plain.c",
            &["-fuse-ld=bfd", "-Wl,-z,pack-relative-relocs", "-Wl,-O2,-s"],
        );
        let host = world.host(link, &[], &[]);
        assert!(world.says(&host, &["r:plain:0", "c:0:0"]).ends_with("plain 0 func1\n"));
    });
}

#[test]
fn a_component_whose_descriptor_is_filled_in_when_it_is_loaded() {
    if !crate::world::can_probe() {
        return;
    }
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let file = world.library("run_time.lcrso", "run_time.c", &[]);
        world.library("other.lcrso", "plain.c", &[]);
        assert_eq!(
            world.says(&host, &["r:run_time:3", "c:0:0", "x:0", "m"]),
            "0: run_time\nrun_time\nrelease 0\nmapped 0\n"
        );
        let said = world.says(&host, &["r:run_time:4"]);
        assert!(said.contains(&format!("there is version 3 ({})", file.display())), "{said}");
    });
}

#[test]
fn the_readmes_program_and_its_section_of_constructors() {
    each_link(|world, link| {
        for linker in ["bfd", "gold"] {
            let flag = format!("-fuse-ld={linker}");
            let sources = [sample("readme.c"), sample("ctors.c")];
            let program = world.program("readme", link, &sources, &[&flag]);
            assert_eq!(world.says(&program, &[]), "iface1 func1\niface1 func2\niface1 func3\n", "{linker}");
            world.library("ctors.lcrso", "ctors.c", &[&flag]);
            let program = world.program("readme", link, &sources[..1], &[&flag]);
            assert_eq!(world.says(&program, &[]), "iface1 func1\niface1 func2\niface1 func3\n", "{linker}");
            std::fs::remove_file(world.path().join("ctors.lcrso")).unwrap();
        }
    });
}

#[test]
fn an_archive_gives_all_calls_of_components_to_a_program_that_uses_one() {
    let Some(world) = World::new() else { return };
    let source = world.path().join("one.c");
    for (used, call) in [
        ("lcr_ifact_release", "lcr_ifact_release (0)"),
        ("lcr_component_register", "(lcr_component_register (0), 0)"),
        ("lcr_ifact_reference", "lcr_ifact_reference (0, 0, 0, 0, 0)"),
    ] {
        let text = format!("#include <lcr.h>\nint main (void) {{ return {call}; }}\n");
        std::fs::write(&source, text).unwrap();
        for flag in ["-Wl,--gc-sections", "-Wl,--as-needed"] {
            let program = world.program("one", Link::Static, std::slice::from_ref(&source), &[flag]);
            let Some(nm) = lcr_tests::program("nm", "install binutils") else { return };
            let symbols = said(std::process::Command::new(nm).args(["-D", "--defined-only"]).arg(program));
            for wanted in [
                "lcr_ifact_reference",
                "lcr_ifact_release",
                "lcr_component_register",
                "lcr_component_describe",
            ] {
                assert!(symbols.contains(&format!(" T {wanted}\n")), "{used} {flag}: {symbols}");
            }
        }
    }
}
