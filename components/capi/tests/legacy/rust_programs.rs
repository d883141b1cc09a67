//! Rust programs with C components, compiled in by the build-script helper and found.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use lcr_tests::{Profile, build};

use crate::world::{Tool, World, must, tool};

/// The program, linked by this linker, as a file of the test's directory.
fn rust_host(world: &World, linker: &str) -> Option<PathBuf> {
    // It is linked in one place.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = build(&["lcr-capi-host"], Profile::Dev);
    // rust-lld is what rustc links with by itself.
    let is_own = linker == "rust-lld";
    let flags = [String::from("-Clinker-features=-lld"), format!("-Clink-arg=-fuse-ld={linker}")];
    let flags = if is_own { &[][..] } else { &flags };
    if !is_own {
        lcr_tests::program(&format!("ld.{linker}"), "install binutils")?;
    }
    let mut cargo = lcr_tests::cargo();
    cargo.args(["rustc", "--locked", "-p", "lcr-capi-host", "--bin", "rust_host", "--target-dir"]);
    let program = built.program("rust_host");
    let target = program.ancestors().find(|above| above.join(".rustc_info.json").is_file()).unwrap();
    must(cargo.arg(target).arg("--").args(flags));
    let copy = world.path().join(format!("rust-host-{linker}"));
    lcr_tests::copy_program(&program, &copy);
    Some(copy)
}

fn linked_by(linker: &str) {
    if tool() == Some(Tool::Address) {
        // A program without the sanitizer's runtime cannot load what wants it.
        return;
    }
    let Some(world) = World::new() else { return };
    let Some(host) = rust_host(&world, linker) else { return };
    // Is it what it is called?
    if let Some(readelf) = lcr_tests::program("readelf", "install binutils") {
        let comment = lcr_tests::stdout(Command::new(readelf).args(["-p", ".comment"]).arg(&host));
        assert_eq!(comment.contains("LLD"), linker == "rust-lld", "{comment}");
    }
    assert_eq!(
        world.says(&host, &["plain:0", "iface1:0", "asks:0"]),
        "plain 0 constructed with 0xc0de\nplain 0 func1\nplain 0 destroyed with 0xc0de\niface1 func1\n\
         plain 0 constructed with (nil)\nplain 0 constructed with 0xc0de\nplain 0 func1\n\
         plain 0 destroyed with 0xc0de\nplain 0 destroyed with (nil)\n",
        "{linker}"
    );
    // External ones find the calls in the program, whoever links it.
    world.library("components/late.lcrso", "late.c", &[]);
    world.library("components/references.lcrso", "references.c", &[]);
    let asks = |what: &[&str]| {
        let mut command = world.command(&host, what);
        crate::world::said(command.env("LCR_PATH", world.path().join("components")))
    };
    assert_eq!(
        asks(&["late:0", "references:0"]),
        "late\nplain 0 constructed with (nil)\nplain 0 func1\nplain 0 destroyed with (nil)\nreleased 0\n",
        "{linker}"
    );
    // So do those that describe their tables, which are replaced in it.
    world.library("components/needs.lcrso", "needs.c", &[]);
    world.library("components/counter.lcrso", "counter.c", &[]);
    let one = world.library("one.so", "counter.c", &["-DVERSION=1", "-DREPLACES=0,1"]);
    assert_eq!(
        asks(&[&format!("replace={}", one.display())]),
        "counter 1: 2\ncounter 1: 2\n`counter` was not replaced (prepare): 1 reference holds the table of `counter` \
         version 1, which belongs to the component, for Rust code may read it only where nobody writes, so it cannot \
         be changed under its callers; release it first, or replace for later references alone (in C with LCR_LATER, in Rust \
                        without `unpinned`)\n",
        "{linker}"
    );
    assert!(asks(&["versions:0"]).starts_with("no component offers `versions` version 0;"), "{linker}");
}

#[test]
fn linked_by_bfd() {
    linked_by("bfd");
}

#[test]
fn linked_by_gold() {
    linked_by("gold");
}

#[test]
fn linked_by_rust_lld() {
    linked_by("rust-lld");
}
