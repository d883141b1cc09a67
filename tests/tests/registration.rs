//! Registration at link time, in all the ways in which programs are built: what is
//! compiled in is there, and nothing runs before `main`.
//!
//! The programs and libraries of `fixtures/programs`, with the same cases as in the
//! conformance tests; most of the time goes into building them.

mod programs;

use std::process::Command;

use lcr_core::metadata::Metadata;
use lcr_tests::Scratch;
use programs::{Build, DEV, PROVIDERS, RELEASE, TARGET, printed, run};

const LINKED: &[&str] =
    &["all_static", "all_dynamic", "clocks_static", "liblibclocks.so", "liblibgreeters.so"];

/// What big programs are shipped as.
const FAT: Build = Build {
    name: "fat",
    arguments: &[
        "-p",
        "hosts",
        "-p",
        "libclocks",
        "-p",
        "libgreeters",
        "--release",
        "--lib",
        "--bin",
        "all_static",
        "--bin",
        "all_dynamic",
        "--bin",
        "clocks_static",
    ],
    environment: &[
        ("CARGO_PROFILE_RELEASE_LTO", "fat"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
        ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ],
    output: "release",
    files: LINKED,
};

/// And small ones.
const SMALL: Build = Build {
    name: "small",
    arguments: FAT.arguments,
    environment: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "z"), ("CARGO_PROFILE_RELEASE_STRIP", "symbols")],
    output: "release",
    files: LINKED,
};

/// The other backend.
const INVENTORY: Build = Build {
    name: "inventory",
    arguments: &[
        "-p",
        "hosts",
        "-p",
        "libclocks",
        "-p",
        "libgreeters",
        "--no-default-features",
        "--features",
        "hosts/inventory,hosts/dlopen,libclocks/inventory,libgreeters/inventory",
    ],
    environment: &[],
    output: "debug",
    files: &[
        "all_static",
        "all_dynamic",
        "clocks_static",
        "greeters_static",
        "exported",
        "liblibclocks.so",
        "liblibgreeters.so",
    ],
};

/// Without a dynamic linker.
const STATIC: Build = Build {
    name: "static",
    arguments: &["-p", "hosts", "--bin", "all_static", "--bin", "all_dynamic", "--target", TARGET],
    environment: &[("RUSTFLAGS", "-C target-feature=+crt-static")],
    output: "x86_64-unknown-linux-gnu/debug",
    files: &["all_static", "all_dynamic"],
};

/// With what is compiled in and nothing else.
const ALONE: Build = Build {
    name: "alone",
    arguments: &[
        "-p",
        "hosts",
        "-p",
        "libclocks",
        "-p",
        "libgreeters",
        "--no-default-features",
        "--features",
        "hosts/linkme,libclocks/linkme,libgreeters/linkme",
    ],
    environment: &[],
    output: "debug",
    files: &["all_static", "all_dynamic", "liblibclocks.so", "liblibgreeters.so"],
};

/// All at once, as an appliance is shipped, where constructors could be lost most
/// easily.
const INVENTORY_STATIC: Build = Build {
    name: "inventory-static",
    arguments: &[
        "-p",
        "hosts",
        "--bin",
        "all_static",
        "--release",
        "--no-default-features",
        "--features",
        "hosts/inventory",
        "--target",
        TARGET,
    ],
    environment: &[
        ("RUSTFLAGS", "-C target-feature=+crt-static"),
        ("CARGO_PROFILE_RELEASE_LTO", "fat"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
        ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
        ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ],
    output: "x86_64-unknown-linux-gnu/release",
    files: &["all_static"],
};

/// The cases that show that everything is there, and what each prints.
fn cases(build: &Build, program: &str) -> String {
    let mut said = String::new();
    for case in [
        &["typed"][..],
        &["raw"],
        &["per_reference"],
        &["singleton"],
        &["versions"],
        &["things", "chain.top"],
        &["handles"],
    ] {
        said += &printed(build.program(program).args(case));
    }
    said
}

/// As a program from `cargo build` with all components compiled in does it, whose
/// output the conformance tests compare word for word.
#[track_caller]
fn all_work(build: &Build, programs: &[&str]) {
    let wanted = cases(&DEV, "all_static");
    for program in programs {
        assert_eq!(cases(build, program), wanted, "{program} of {}", build.name);
        reports_what_its_notes_say(build, program);
    }
}

/// What can be read from the file is what the running program reports.
#[track_caller]
fn reports_what_its_notes_say(build: &Build, program: &str) {
    let file = build.file(program);
    let metadata = Metadata::read(&file).unwrap();
    let mut noted: Vec<String> = metadata
        .interfaces()
        .map(|(component, i)| {
            let (name, package) = (&component.name, &component.package);
            format!("{name} {package} {} {} {:?} {:?}", i.name, i.version, i.replaces, i.requires)
        })
        .collect();
    noted.sort_unstable();
    let reported = printed(build.program(program).arg("list"));
    assert_eq!(reported.lines().collect::<Vec<_>>(), noted, "{program} of {}", build.name);
    let count = if program == "all_dynamic" { 0..=0 } else { 10..=100 };
    assert!(count.contains(&noted.len()), "{program}: {noted:?}");
}

#[test]
fn in_a_dev_and_a_release_build() {
    all_work(&DEV, &PROVIDERS);
    all_work(&RELEASE, &PROVIDERS);
}

#[test]
fn with_fat_lto_and_panic_abort() {
    all_work(&FAT, &["all_static", "all_dynamic", "clocks_static"]);
}

#[test]
fn optimised_for_size_and_stripped() {
    all_work(&SMALL, &["all_static", "all_dynamic", "clocks_static"]);
    let sections = readelf(&SMALL, "all_static");
    assert!(!sections.contains(".symtab"), "it is stripped: {sections}");
}

#[test]
fn with_the_backend_inventory() {
    all_work(&INVENTORY, &PROVIDERS);
}

#[test]
fn with_the_backend_inventory_in_a_fully_static_program_with_fat_lto_and_panic_abort_stripped() {
    is_fully_static(&INVENTORY_STATIC, "all_static");
    assert!(!readelf(&INVENTORY_STATIC, "all_static").contains(".symtab"), "it is stripped");
    all_work(&INVENTORY_STATIC, &["all_static"]);
}

/// The trap: a library's own references to what the program exports too would be
/// answered by the program.
#[test]
fn in_a_program_that_exports_its_symbols() {
    for build in [&DEV, &RELEASE, &INVENTORY] {
        all_work(build, &["exported"]);
        let exports = |program| {
            let symbols = tool("readelf", &["--dyn-syms", "-W"], build, program);
            symbols.lines().filter(|line| line.contains("GLOBAL") && !line.contains("UND")).count()
        };
        let (exported, usual) = (exports("exported"), exports("clocks_static"));
        assert!(exported > usual + 10, "linked with -rdynamic: {exported} symbols, and not {usual}");
    }
}

#[test]
fn nothing_runs_before_main() {
    // What the standard library and the C runtime have there, and nothing more.
    for build in [&DEV, &RELEASE] {
        assert_eq!(constructors(build, "all_static"), constructors(build, "all_dynamic"), "{}", build.name);
    }
    // The measure is a good one: the other backend has a constructor a component.
    assert!(constructors(&INVENTORY, "all_static") > constructors(&INVENTORY, "all_dynamic") + 10);
}

#[test]
fn in_a_fully_static_program_all_that_is_compiled_in_works_and_the_rest_is_an_error_that_says_why() {
    is_fully_static(&STATIC, "all_static");
    all_work(&STATIC, &["all_static"]);
    // With the libraries before its eyes, without them, and without a place.
    let why = |version| {
        format!(
            "static: no compiled-in component offers `chain.top` {version}, and this program cannot load one: it is \
             fully static (`crt-static`, or `-static`, `-static-pie` in C), and a second C library beside its own \
             would crash it; compile the component in, or link the program dynamically\nreleasing\n"
        )
    };
    let empty = Scratch::new();
    for place in [&*DEV.directory(), empty.path()] {
        let mut program = STATIC.program("all_dynamic");
        assert_eq!(printed(program.args(["things", "chain.top"]).env("LCR_PATH", place)), why("version 0"));
    }
    let mut program = STATIC.program("all_dynamic");
    assert_eq!(printed(program.args(["things", "chain.top"]).env_remove("LCR_PATH")), why("version 0"));
    // A version that is not compiled in would have to be loaded, too.
    let mut program = STATIC.program("all_static");
    let raw = printed(program.args(["things", "raw:nowhere"]).env("LCR_PATH", DEV.directory()));
    assert!(raw.starts_with("static: no compiled-in component offers `nowhere` version 0, and"), "{raw}");
}

#[test]
fn without_the_feature_dlopen_all_that_is_compiled_in_works_and_the_rest_is_an_error_that_says_why() {
    all_work(&ALONE, &["all_static"]);
    let mut program = ALONE.program("all_dynamic");
    let said = printed(program.args(["things", "chain.top"]).env("LCR_PATH", DEV.directory()));
    assert_eq!(
        said,
        "not-found: no component offers `chain.top` version 0; nothing was searched: lcr-core was built without its \
         feature `dlopen`, so that this program loads no libraries; link the component in, or switch the feature \
         on\nreleasing\n"
    );
    // That it loads nothing stands in its file.
    for (build, is_alone) in [(&ALONE, true), (&DEV, false)] {
        let core = Metadata::read(build.file("all_dynamic")).unwrap().core;
        assert_eq!(core.is_some_and(|core| !core.dlopen), is_alone, "{}", build.name);
    }
    // Libraries that were built so are libraries like all others.
    for case in [&["typed"][..], &["things", "chain.top"]] {
        let mut program = DEV.program("all_dynamic");
        let loaded = printed(program.args(case).env("LCR_PATH", ALONE.directory()));
        assert_eq!(loaded, printed(DEV.program("all_static").args(case)));
    }
}

#[test]
fn a_panic_of_a_component_that_was_built_to_abort_ends_the_program() {
    use std::os::unix::process::ExitStatusExt;
    let output = run(FAT.program("all_static").arg("panics"));
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the disk is ünreadable"));
}

/// It has no need of a dynamic linker.
#[track_caller]
fn is_fully_static(build: &Build, program: &str) {
    let ldd = Command::new("ldd").arg(build.file(program)).output().expect("ldd");
    let said = String::from_utf8([ldd.stdout, ldd.stderr].concat()).unwrap();
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
}

/// The number of functions that run before `main`.
fn constructors(build: &Build, program: &str) -> usize {
    let sections = readelf(build, program);
    let line = sections.lines().find(|line| line.contains(".init_array")).expect("every program has some");
    // `[ n] name type address offset size …`
    let words: Vec<&str> = line.split(']').nth(1).unwrap().split_ascii_whitespace().collect();
    usize::from_str_radix(words[4], 16).unwrap() / size_of::<usize>()
}

fn readelf(build: &Build, program: &str) -> String {
    tool("readelf", &["-SW"], build, program)
}

fn tool(name: &str, arguments: &[&str], build: &Build, program: &str) -> String {
    let output = Command::new(name).args(arguments).arg(build.file(program)).output();
    String::from_utf8(output.unwrap_or_else(|error| panic!("{name}: {error}")).stdout).unwrap()
}
