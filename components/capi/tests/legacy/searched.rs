//! Where components are searched, and by whom.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::world::{Link, Tool, World, include, link_line, must, said, tool};

#[test]
fn the_built_in_directory_is_set_when_liblcr_is_built() {
    let Some(world) = World::new() else { return };
    // liblcr's own crate once more, with everything below it as it was built.
    let liblcr = crate::world::liblcr();
    let deps = liblcr.directory().join("deps");
    let messages = lcr_tests::stdout(
        lcr_tests::cargo()
            .args(["build", "--locked", "-p", "lcr-capi", "--message-format=json", "--target-dir"])
            .arg(liblcr.directory().parent().unwrap())
            .args(if lcr_tests::is_ci() { &["--release"][..] } else { &[] }),
    );
    let rlib = |name: &str| -> PathBuf {
        let found = messages
            .split('"')
            .find(|word| word.contains(&format!("/lib{name}-")) && word.ends_with(".rlib"));
        PathBuf::from(found.unwrap_or_else(|| panic!("no {name} in {messages}")))
    };
    let built_in = world.directory("built-in");
    let place = world.directory("place");
    let source = include().parent().unwrap().join("src/lib.rs");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-name=lcr", "--crate-type=cdylib", "-Cpanic=unwind", "--out-dir"]);
    rustc.arg(&place).arg("-L").arg(&deps).arg(source).env("LCRSODIR", &built_in);
    for name in ["lcr_core", "lcr_control"] {
        rustc.arg("--extern").arg(format!("{name}={}", rlib(name).display()));
    }
    rustc.args(["-Clink-arg=-Wl,-soname,liblcr.so", "-Clink-arg=-Wl,-z,start-stop-visibility=hidden"]);
    must(&mut rustc);

    let host = world.host(Link::Shared, &[], &[]);
    world.library("built-in/plain.lcrso", "plain.c", &[]);
    // The directory that the process is in, then the built-in one.
    let with = |command: &mut Command| said(command.env("LD_LIBRARY_PATH", &place));
    let said = with(&mut world.command(&host, &["r:plain:0", "s"]));
    assert!(said.starts_with("plain 0 constructed with 0xc0de\n0: plain\n"), "{said}");
    let (here, built_in, place) = (world.path().display(), built_in.display(), place.display());
    assert!(said.contains(&format!("place {here}\nplace {built_in}\nplace {place}\n")), "{said}");
}

#[test]
fn a_program_with_more_rights_than_its_caller_does_not_let_it_choose() {
    if tool() == Some(Tool::Valgrind) {
        // What valgrind runs has valgrind's rights.
        return;
    }
    let Some(world) = World::new() else { return };
    let host = world.host(Link::Static, &[], &[]);
    if chown(&host, Some(65534), Some(65534)).is_err() {
        eprintln!("SKIPPED: only root can make a program that runs with another user's rights");
        return;
    }
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let mut command = world.command(&host, &["a", "s", "r:plain:0"]);
    let output = lcr_tests::run(command.env("LCR_PATH", world.path()).env("LD_LIBRARY_PATH", world.path()));
    let said = String::from_utf8_lossy(&output.stdout);
    if said.starts_with("secure 0\n") {
        // Past the harness: it is the machine's way, and nothing that could be installed.
        let line = "SKIPPED: the target directory's file system, or this process, heeds no set-user-id\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    assert!(said.starts_with("secure 1\nplace /usr/libexec/lcrso\n"), "{said}");
    let here = world.path().display().to_string();
    assert!(!said.contains(&here) && said.contains("\n-1: no component offers `plain`"), "{said}");
}

#[test]
fn a_static_program_says_why_it_loads_nothing_and_has_what_is_compiled_in() {
    if matches!(tool(), Some(Tool::Address | Tool::Valgrind)) {
        // There is no such thing as a static program with that sanitizer; and valgrind, which
        // cannot take the place of a static malloc, complains of glibc's own.
        return;
    }
    let Some(world) = World::new() else { return };
    world.library("versions.lcrso", "versions.c", &[]);
    for flag in ["-static-pie", "-static"] {
        let archive = link_line(Link::Static).into_iter().find(|word| word.ends_with("liblcr.a")).unwrap();
        let path = world.path().join("static");
        let mut gcc = world.gcc();
        gcc.args([flag, "-o"]).arg(&path).args(["host.c", "plain.c"].map(crate::world::sample));
        // The linker warns of what Rust's standard library could do.
        must(gcc.args([&*archive, "-Wl,-S", "-lgcc_eh", "-lpthread", "-ldl", "-lm"]));
        let said = world.says(&path, &["r:plain:0", "c:0:0", "x:0", "r:versions:0"]);
        assert_eq!(
            said,
            "plain 0 constructed with 0xc0de\n0: plain\nplain 0 func1\nplain 0 destroyed with 0xc0de\nrelease 0\n\
             -1: no compiled-in component offers `versions` version 0, and this program cannot load one: it is fully \
             static (`crt-static`, or `-static`, `-static-pie` in C), and a second C library beside its own would \
             crash it; compile the component in, or link the program dynamically\n",
            "{flag}"
        );
    }
}

#[test]
fn a_program_that_does_not_export_the_calls_is_told_how_to() {
    let Some(world) = World::new() else { return };
    world.library("plain.lcrso", "plain.c", &[]);
    let path = world.path().join("program");
    let line = link_line(Link::Static).into_iter().filter(|word| word != "-rdynamic");
    must(world.gcc().arg("-o").arg(&path).arg(crate::world::sample("host.c")).args(line));
    let said = world.says(&path, &["r:plain:0"]);
    assert!(
        said.contains("undefined symbol: lcr_component_register; C components find it in the program, which must export it"),
        "{said}"
    );
}
