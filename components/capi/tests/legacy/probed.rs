//! Libraries that do not say what they offer are looked into by a child process: whatever
//! they do, they do it to that.

use std::fs;
use std::time::{Duration, Instant};

use crate::world::{BOTH, Link, Tool, World, can_probe, each_link, tool};

/// A library that puts its descriptor together at run time, after `first`.
fn library(world: &World, file: &str, first: &str) {
    let source = world.path().join("source.c");
    let text = format!(
        "#define _GNU_SOURCE\n#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
         #include <sys/types.h>\n#include <corosync/lcr/lcr_comp.h>\nstatic struct lcr_iface iface[1];\n\
         static struct lcr_comp comp;\n\
         __attribute__ ((constructor)) static void load (void)\n{{\n\tvolatile int yes = 1;\n\t(void)yes;\n\t{first}\n\tiface[0].name = \"wanted\";\n\
         \tcomp.ifaces = iface;\n\tcomp.iface_count = 1;\n\tlcr_component_register (&comp);\n}}\n"
    );
    fs::write(&source, text).unwrap();
    world.library_of(file, &source, &[]);
}

#[test]
fn a_crash_an_abort_and_an_exit_are_sentences() {
    if !can_probe() {
        return;
    }
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        for (first, sentence) in [
            ("*(volatile int *)8 = 1;", "when it was loaded by a child process, it was ended by signal 11"),
            ("if (yes) abort ();", "when it was loaded by a child process, it was ended by signal 6"),
            (
                "if (yes) _exit (7);",
                "when it was loaded by a child process, it ended the process with exit code 7",
            ),
            (
                "if (yes) exit (0);",
                "when it was loaded by a child process, it ended the process with exit code 0",
            ),
            ("if (yes) raise (SIGKILL);", "when it was loaded by a child process, it was ended by signal 9"),
            // What it says itself is no report.
            ("puts (\"{}\"); fflush (stdout); if (yes) _exit (0);", "it ended the process with exit code 0"),
        ] {
            if tool() == Some(Tool::Address) && sentence.ends_with("signal 11") {
                // The sanitizer ends the process in its own way.
                continue;
            }
            library(world, "bad.lcrso", first);
            let said = world.says(&host, &["r:wanted:0", "m"]);
            assert!(said.contains(sentence) && said.ends_with("mapped 0\n"), "{first}: {said}");
        }
    });
}

#[test]
fn a_library_that_never_ends_is_given_up() {
    if !can_probe() {
        return;
    }
    let Some(world) = World::new() else { return };
    let host = world.host(Link::Shared, &[], &[]);
    library(&world, "hangs.lcrso", "while (yes) pause ();");
    // The next one is asked.
    world.library("second/wanted.lcrso", "plain.c", &["-DNAME=\"wanted\""]);
    let path = world.path().join("second");
    let said =
        crate::world::said(world.command(&host, &["r:wanted:0", "c:0:0", "m"]).env("LD_LIBRARY_PATH", &path));
    assert!(said.ends_with("0: wanted\nwanted 0 func1\nmapped 1\n"), "{said}");
}

#[test]
fn a_file_without_the_wanted_name_is_not_run_at_all() {
    if !can_probe() {
        return;
    }
    each_link(|world, link| {
        let host = world.host(link, &[], &[]);
        let witness = world.path().join("witness");
        let first = format!("fclose (fopen (\"{}\", \"w\"));", witness.display());
        library(world, "bad.lcrso", &first);
        let said = world.says(&host, &["r:another:0"]);
        assert!(said.starts_with("-1: ") && !witness.exists(), "{said}");
        // Its file must not be longer than nothing: a child may not write.
        let said = world.says(&host, &["r:wanted:0"]);
        assert!(said.starts_with("0: wanted") && witness.exists(), "{said}");
    });
}

#[test]
fn no_child_is_left_behind_and_main_does_not_run_in_one() {
    if !can_probe() {
        return;
    }
    for link in BOTH {
        let Some(world) = World::new() else { return };
        let host = world.host(link, &[], &[]);
        // A process that outlives the look, were it not ended: its name is looked for.
        let mark = format!("lcr-left-{}-{link:?}", std::process::id());
        let sleep = lcr_tests::program("sleep", "install coreutils").unwrap();
        let link_to = world.path().join(&mark);
        std::os::unix::fs::symlink(sleep, &link_to).unwrap();
        let first = format!(
            "if (getenv (\"LCR_PROBE_CHILD\") && fork () == 0) {{ execl (\"{0}\", \"{mark}\", \"1000\", NULL); _exit (1); }}",
            link_to.display()
        );
        library(&world, "forks.lcrso", &first);
        assert_eq!(world.says(&host, &["r:wanted:0", "x:0"]), "0: wanted\nrelease 0\n");
        // Who is killed is there for a moment more.
        let is_left = || {
            let mut processes = fs::read_dir("/proc").unwrap();
            processes.any(|entry| {
                let line = entry.and_then(|entry| fs::read(entry.path().join("cmdline")));
                line.is_ok_and(|line| line.starts_with(mark.as_bytes()))
            })
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_left() {
            assert!(Instant::now() < deadline, "{mark} runs on");
        }
    }
}
