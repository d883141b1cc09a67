//! What the original promised and did not do: one test for each, by number.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::world::{Link, World, each_link};

#[test]
fn promise_1_dependencies_are_constructed_first_and_a_missing_one_refuses() {
    each_link(|world, link| {
        let host = world.host(link, &["dependent.c"], &[]);
        let said = world.says(&host, &["r:dependent:0"]);
        assert!(
            said.starts_with(
                "-1: `dependent` cannot be constructed, dependent → plain: no component offers any version of `plain`"
            ),
            "{said}"
        );
        world.library("plain.lcrso", "plain.c", &[]);
        world.library("versions.lcrso", "versions.c", &[]);
        assert_eq!(
            world.says(&host, &["r:dependent:0", "m", "c:0:0", "x:0", "m"]),
            "plain 0 constructed with (nil)\ndependent constructed\n0: dependent\nmapped 2\ndependent\n\
             dependent destroyed\nplain 0 destroyed with (nil)\nrelease 0\nmapped 0\n"
        );
        // Found missing before anything is constructed.
        let said = world.says(&host, &["r:orphan:0", "m"]);
        assert!(said.starts_with("-1: `orphan` cannot be constructed, orphan → absent:"), "{said}");
        assert!(said.ends_with("mapped 0\n"), "{said}");
        let said = world.says(&host, &["r:circle:0"]);
        assert!(
            said.starts_with("-1: the dependencies of `circle` form a circle: circle → circle"),
            "{said}"
        );
    });
}

#[test]
fn promise_2_a_version_that_replaces_another_answers_for_it() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        world.library("versions.lcrso", "versions.c", &[]);
        assert_eq!(world.says(&host, &["r:versions:2", "c:0:0"]), "0: versions\nversions 5\n");
        let said = world.says(&host, &["r:versions:4"]);
        assert!(
            said.starts_with("-1: no component offers `versions` version 4; there is version 0 ("),
            "{said}"
        );
        let host = world.host(link, &["versions.c"], &[]);
        assert_eq!(world.says(&host, &["r:versions:3", "c:0:0"]), "0: versions\nversions 5\n");
    });
}

#[test]
fn promise_3_a_failing_constructor_is_a_failing_reference() {
    each_link(|world, link| {
        world.library("plain.lcrso", "plain.c", &[]);
        world.library("failing.lcrso", "failing.c", &[]);
        let host = world.host(link, &[], &[]);
        let said = world.says(&host, &["r:failing:0", "m"]);
        // What was constructed for it is released, its own destructor does not run, and
        // nothing stays loaded.
        assert_eq!(
            said,
            format!(
                "plain 0 constructed with (nil)\nplain 0 destroyed with (nil)\n-1: the constructor of `failing` \
                 version 0 ({}) failed: it returned -7\nmapped 0\n",
                world.path().join("failing.lcrso").display()
            )
        );
    });
}

#[test]
fn a_constructor_that_references_its_own_interface_is_told_what_to_fill_in() {
    each_link(|world, link| {
        let host = world.host(link, &["itself.c"], &[]);
        assert_eq!(
            world.says(&host, &["r:itself:0"]),
            "`itself` was referenced while it was being constructed on the same path: itself → itself; name what a \
             constructor needs in its interface's dependencies (`requires` and `Context::require` in Rust, \
             `dependencies` in C)\n\
             -1: the constructor of `itself` version 0 (C component of `itself`, compiled in) failed: it returned 9\n"
        );
    });
}

#[test]
fn promise_4_a_library_is_unloaded_after_the_last_release_and_no_other_is_opened() {
    each_link(|world, link| {
        world.library("plain.lcrso", "plain.c", &[]);
        // Would end the process, were it opened.
        let bomb = world.path().join("bomb.c");
        fs::write(
            &bomb,
            "#include <stdlib.h>\n#include <corosync/lcr/lcr_comp.h>\nstatic struct lcr_iface i[] = { { .name = \"bomb\" } };\n\
             static struct lcr_comp c = { i, 1 };\n\
             __attribute__ ((constructor)) static void load (void) { lcr_component_register (&c); abort (); }\n",
        )
        .unwrap();
        world.library_of("a-bomb.lcrso", &bomb, &[]);
        let host = world.host(link, &[], &[]);
        let mut asked = vec!["r:plain:0", "r:plain:0", "m", "x:0", "m", "x:1", "m"];
        let answer = world.says(&host, &asked);
        assert!(answer.ends_with("mapped 1\nplain 0 destroyed with 0xc0de\nrelease 0\nmapped 1\nplain 0 destroyed with 0xc0df\nrelease 0\nmapped 0\n"), "{answer}");
        // Again and again.
        asked = ["r:plain:0", "x:0"].repeat(30);
        let releases: Vec<String> = (0..30).map(|n| format!("x:{n}")).collect();
        for (n, release) in releases.iter().enumerate() {
            asked[2 * n + 1] = release;
        }
        asked.push("m");
        assert!(world.says(&host, &asked).ends_with("mapped 0\n"));
    });
}

#[test]
fn promise_5_a_second_release_and_a_wrong_handle_are_errors() {
    each_link(|world, link| {
        let host = world.host(link, &["quiet.c"], &[]);
        let asked = [
            "r:quiet:0",
            "x:0",
            "x:0",
            "r:quiet:0",
            "x:0",
            "x:1",
            "z:0",
            "z:ffffffffffffffff",
            "z:100000005",
        ];
        let said = world.says(&host, &asked);
        let again =
            "release -1: 0x100000000 is no handle of a reference: it was released already, or never given\n";
        assert_eq!(
            said,
            format!(
                "0: quiet\nrelease 0\n{again}1: quiet\n{again}release 0\nrelease -1\nrelease -1\nrelease -1\n"
            )
        );
    });
}

#[test]
fn promise_6_threads() {
    each_link(|world, link| {
        let compiled_in = world.host(link, &["quiet.c"], &[]);
        // Valgrind runs one thread at a time, fifty times slower.
        let is_slow = crate::world::tool() == Some(crate::world::Tool::Valgrind);
        let many = ["h:2:20000:quiet", "h:4:20000:quiet", "h:16:5000:quiet"];
        let asked = if is_slow { ["h:2:500:quiet", "h:4:500:quiet", "h:16:100:quiet"] } else { many };
        let answer = "2 threads, 0 failures\n4 threads, 0 failures\n16 threads, 0 failures\n";
        assert_eq!(world.says(&compiled_in, &asked), answer);
        // Loaded and unloaded meanwhile.
        world.library("quiet.lcrso", "quiet.c", &[]);
        let host = world.host(link, &[], &[]);
        let many = ["h:2:200:quiet", "h:4:100:quiet", "h:16:30:quiet", "m"];
        let asked = if is_slow { ["h:2:5:quiet", "h:4:5:quiet", "h:16:2:quiet", "m"] } else { many };
        assert_eq!(world.says(&host, &asked), format!("{answer}mapped 0\n"));
    });
}

#[test]
fn promise_7_registering_nothing_or_twice() {
    if !crate::world::can_probe() {
        return;
    }
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let silent = world.library("a-silent.lcrso", "silent.c", &[]);
        let said = world.says(&host, &["r:quiet:0", "m"]);
        assert!(
            said.starts_with("-1: no component offers `quiet` version 0;")
                && said.contains(&format!(
                    "passed over: {}: it registers no component when it is loaded",
                    silent.display()
                ))
                && said.ends_with("mapped 0\n"),
            "{said}"
        );
        // The next one that says so is asked.
        world.library("quiet.lcrso", "quiet.c", &[]);
        assert_eq!(world.says(&host, &["r:quiet:0", "c:0:0", "x:0", "m"]), "0: quiet\nrelease 0\nmapped 0\n");

        world.library("twice.lcrso", "twice.c", &[]);
        let output =
            lcr_tests::run(&mut world.command(&host, &["r:twice:0", "c:0:0", "x:0", "r:quiet:0", "m"]));
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "0: twice\ntwice\nrelease 0\n1: quiet\nmapped 1\n"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "lcr: a component without a name for each of its interfaces was not registered: fill the descriptor in \
             before lcr_component_register is called\n"
        );
        let host = world.host(link, &["twice.c"], &[]);
        let output = lcr_tests::run(&mut world.command(&host, &["r:twice:0", "c:0:0", "x:0"]));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0: twice\ntwice\nrelease 0\n");
    });
}

#[test]
fn a_component_without_a_name_is_passed_over_by_file_and_reason() {
    if !crate::world::can_probe() {
        return;
    }
    const LACKS: &str = "a component without a name for each of its interfaces was not registered: fill the descriptor \
                         in before lcr_component_register is called";
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        // It stands in the file, so a child has looked.
        let half = world.library("half.lcrso", "nameless.c", &["-DHALF"]).display().to_string();
        let said = world.says(&host, &["r:half:0"]);
        assert!(said.ends_with(&format!("; passed over: {half}: {LACKS}\n")), "{said}");
        // What is wanted does not: nobody has looked.
        let said = world.says(&host, &["r:wanted:0"]);
        let undescribed = "it registers components, and its data describe none: an interface lacks its name, or is \
                           filled in when it is loaded (`lcr inspect --probe` tells)";
        assert!(said.ends_with(&format!("; passed over: {half}: {undescribed}\n")), "{said}");
        std::fs::remove_file(half).unwrap();
        let nameless = world.library("nameless.lcrso", "nameless.c", &[]).display().to_string();
        let said = world.says(&host, &["r:wanted:0"]);
        assert!(said.ends_with(&format!("; passed over: {nameless}: {undescribed}\n")), "{said}");
        std::fs::remove_file(nameless).unwrap();
        // Loaded for another of its components.
        let twice = world.library("twice.lcrso", "twice.c", &[]).display().to_string();
        let output = lcr_tests::run(&mut world.command(&host, &["r:twice:0", "r:wanted:0"]));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("0: twice\n-1: no component offers `wanted` version 0;"), "{said}");
        assert!(said.ends_with(&format!("; passed over: {twice}: {LACKS}\n")), "{said}");
    });
}

#[test]
fn promise_8_long_paths() {
    each_link(|world, link| {
        let mut deep = world.path().to_owned();
        for _ in 0..12 {
            deep.push("a-directory-with-a-name-of-fifty-characters-or-more");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(deep.as_os_str().len() > 600);
        let library = world.library("plain.lcrso", "plain.c", &[]);
        fs::rename(library, deep.join("plain.lcrso")).unwrap();
        let host = world.host(link, &[], &[]);
        let said = crate::world::said(
            world
                .command(&host, &["r:plain:0", "c:0:0"])
                .env("LD_LIBRARY_PATH", format!("/nowhere::{}", deep.display())),
        );
        assert!(said.ends_with("plain 0 func1\n"), "{said}");
        // In the directory itself.
        let said = crate::world::said(world.command(&host, &["r:plain:0", "c:0:0"]).current_dir(&deep));
        assert!(said.ends_with("plain 0 func1\n"), "{said}");
    });
}

#[test]
fn promise_9_who_wrote_a_file_is_checked_and_the_search_can_be_switched_off() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let library = world.library("plain.lcrso", "plain.c", &[]);
        fs::set_permissions(&library, fs::Permissions::from_mode(0o757)).unwrap();
        let said = world.says(&host, &["r:plain:0", "m"]);
        assert!(
            said.starts_with(&format!(
                "-1: {}: has mode 0757, so that everyone can write it",
                library.display()
            )) && said.ends_with("mapped 0\n"),
            "{said}"
        );
        fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
        let off = world.says(&host, &["l:0", "r:plain:0", "l:1", "r:plain:0"]);
        assert!(
            off.starts_with("legacy 0\n-1: no component offers `plain` version 0; nothing was searched:"),
            "{off}"
        );
        assert!(off.ends_with("0: plain\n"), "{off}");
        let off = crate::world::said(world.command(&host, &["r:plain:0"]).env("LCR_LEGACY_SEARCH", "Off"));
        assert!(off.starts_with("-1: no component offers"), "{off}");
        let named = crate::world::said(
            world.command(&host, &["r:plain:0"]).env("LCR_LEGACY_SEARCH", "0").env("LCR_PATH", world.path()),
        );
        assert!(named.ends_with("0: plain\n"), "{named}");
    });
}

#[test]
fn promise_10_a_context_for_each_reference() {
    each_link(|world, link| {
        let host = world.host(link, &["plain.c"], &[]);
        assert_eq!(
            world.says(&host, &["r:plain:0", "r:plain:0", "x:1", "x:0"]),
            "plain 0 constructed with 0xc0de\n0: plain\nplain 0 constructed with 0xc0df\n1: plain\n\
             plain 0 destroyed with 0xc0df\nrelease 0\nplain 0 destroyed with 0xc0de\nrelease 0\n"
        );
    });
}

#[test]
fn the_search_begins_where_the_process_was_at_the_first_look_up() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let (one, two) = (world.directory("one"), world.directory("two"));
        world.library("one/plain.lcrso", "plain.c", &[]);
        world.library("two/late.lcrso", "late.c", &[]);
        let (one, two) = (format!("d:{}", one.display()), format!("d:{}", two.display()));
        let said = world.says(&host, &[&one, "r:plain:0", &two, "r:late:0", "r:plain:0"]);
        assert!(
            said.contains(
                "0: plain\nchdir 0\n-1: no component offers `late` version 0; searched: the program, "
            ),
            "{said}"
        );
        assert!(said.ends_with("1: plain\n"), "{said}");
    });
}

#[test]
fn the_current_directory_comes_before_ld_library_path() {
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        world.library("here/plain.lcrso", "plain.c", &["-DNAME=\"here\""]);
        world.library("first/plain.lcrso", "plain.c", &["-DVERSION=1"]);
        world.library("second/plain.lcrso", "versions.c", &[]);
        world.library("second/other.lcrso", "plain.c", &[]);
        // Not a component library's name: the original does not look at it, either.
        world.library("first/plain.so", "plain.c", &[]);
        let path = format!("{0}/first:{0}/second", world.path().display());
        let said = crate::world::said(
            world
                .command(&host, &["r:here:0", "r:plain:1", "r:plain:0", "r:versions:1", "m"])
                .current_dir(world.path().join("here"))
                .env("LD_LIBRARY_PATH", path),
        );
        assert_eq!(
            said,
            "here 0 constructed with 0xc0de\n0: here\nplain 1 constructed with 0xc0df\n1: plain\n\
             plain 0 constructed with 0xc0e0\n2: plain\n3: versions\nmapped 4\n"
        );
    });
}

#[test]
fn a_library_that_must_not_be_deleted_is_used_again() {
    each_link(|world, link| {
        world.library("plain.lcrso", "plain.c", &["-Wl,-z,nodelete"]);
        let host = world.host(link, &[], &[]);
        let said = world.says(
            &host,
            &["r:plain:0", "x:0", "m", "r:plain:0", "c:1:0", "x:1", "m", "r:plain:0", "x:2", "m"],
        );
        assert_eq!(said.matches("mapped 1\n").count(), 3, "{said}");
        assert!(said.contains("plain 0 func1\n"), "{said}");
    });
}

#[test]
fn a_library_that_starts_threads_stays_and_is_used_again() {
    each_link(|world, link| {
        world.library("starts_thread.lcrso", "starts_thread.c", &[]);
        let host = world.host(link, &[], &[]);
        assert_eq!(
            world.says(&host, &["r:starts_thread:0", "x:0", "m", "r:starts_thread:0", "x:1", "m"]),
            "starts_thread first\n0: starts_thread\nrelease 0\nmapped 1\nstarts_thread again\n1: starts_thread\n\
             release 0\nmapped 1\n"
        );
    });
}

/// What each of these leaves behind leads into the library when that is gone.
#[test]
fn a_library_that_leaves_something_behind_stays() {
    let Some(world) = World::new() else { return };
    let host = world.host(Link::Shared, &[], &[]);
    for (number, call) in
        ["on_exit", "__sysv_signal", "aio_read", "openlog", "putenv", "setvbuf", "dlsym"].iter().enumerate()
    {
        let name = format!("leaves{number}");
        let flags = [format!("-DNAME=\"{name}\""), format!("-DCALL={call}")];
        world.library(&format!("{name}.lcrso"), "leaves.c", &[&flags[0], &flags[1]]);
        let said = world.says(&host, &[&format!("r:{name}:0"), "x:0", "m"]);
        assert_eq!(said, format!("0: {name}\nrelease 0\nmapped 1\n"), "{call}");
    }
}

#[test]
fn a_library_from_before_registration_is_refused_by_name() {
    each_link(|world, link| {
        let file = world.library("older.lcrso", "older.c", &[]);
        let host = world.host(link, &[], &[]);
        let said = world.says(&host, &["r:older:0"]);
        assert!(
            said.contains(&format!(
                "passed over: {}: exports `lcr_comp_get`, which nothing calls any more: call \
                 `lcr_component_register(&comp)`",
                file.display()
            )),
            "{said}"
        );
    });
}

/// The original read no list of dependencies, so it did not matter what stood there.
#[test]
fn descriptors_that_count_too_much_are_read_with_care() {
    each_link(|world, link| {
        let host = world.host(link, &["lies.c"], &[]);
        let output = lcr_tests::run(&mut world.command(&host, &["r:ended:0", "c:0:0", "x:0", "r:many:0"]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.starts_with("0: ended\nended\nrelease 0\n-1: no component offers `many` version 0;"),
            "{said}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "lcr: a component was not registered: its `many` says that it has 18446744073709551615 dependencies and \
             replaces 0 versions\nlcr: a component was not registered: it says that it has 18446744073709551615 \
             interfaces; `iface_count` is the number of its `ifaces`\n"
        );
    });
}

#[test]
fn a_reference_while_a_library_is_being_loaded_is_refused() {
    each_link(|world, link| {
        world.library("greedy.lcrso", "greedy.c", &[]);
        world.library("plain.lcrso", "plain.c", &[]);
        let host = world.host(link, &[], &[]);
        assert_eq!(world.says(&host, &["r:greedy:0", "c:0:0"]), "while loading -1\n0: greedy\ngreedy\n");
    });
}

#[test]
fn a_component_with_a_copy_of_the_archive_in_it_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let archive = crate::world::link_line(Link::Static);
    let mut flags: Vec<&str> = archive.iter().map(String::as_str).collect();
    flags.push("-DREPLACES=0");
    let file = world.library("new/own.lcrso", "plain.c", &flags);
    let host = world.host(Link::Shared, &[], &[]);
    let (search, replace) = (format!("s:{}", file.display()), format!("R:plain:any:{}:0", file.display()));
    let said = world.says(&host, &[&search, "r:plain:0", &replace, "r:in-no-file-at-all:0"]);
    let sentence = format!(
        "{}: it holds a copy of liblcr, with which its components register themselves, and not with this program: \
         link a component in C with no library of lcr's, neither liblcr.a nor liblcr.so (one in Rust is made a library \
         by `lcr_core::library!`)",
        file.display()
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[1].ends_with(&format!("; passed over: {sentence}")), "{said}");
    assert!(lines[2].ends_with(&format!("(prepare): it offers no `plain`: {sentence}")), "{said}");
    assert!(!lines[3].contains("passed over"), "{said}");
}
