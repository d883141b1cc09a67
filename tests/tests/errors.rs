//! What a person reads when a reference fails: one message of each kind, word for
//! word. `$D` stands for the test's directory.

#[path = "programs/finding.rs"]
mod libraries;
mod programs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lcr_core::{Factory, ReferenceError, Version};
use lcr_tests::Scratch;
use libraries::{Thing, library};

fn searching(place: &Path) -> Factory {
    Factory::builder().without_environment().components([]).path(place).build()
}

/// Refused for `kind`, with this message.
#[track_caller]
fn refused<T: std::fmt::Debug>(
    got: Result<T, ReferenceError>,
    directory: &Scratch,
    kind: &str,
    message: &str,
) {
    let error = got.unwrap_err();
    let said = error.to_string().replace(&*directory.path().to_string_lossy(), "$D");
    assert_eq!(said, message);
    assert_eq!(error.kind(), kind);
    assert_eq!(format!("{error:?}"), error.to_string(), "a `main` that returns it prints it with `{{:?}}`");
}

#[test]
fn nothing_was_searched() {
    let factory = Factory::builder().without_environment().components([]).build();
    refused(
        factory.reference::<dyn Thing>("me", 1),
        &Scratch::new(),
        "not-found",
        "no component offers `me` version 1; nothing was searched: set LCR_PATH to the directories that hold \
         libraries, or link the component in",
    );
}

#[test]
fn not_found_says_what_there_is_and_what_was_passed_over() {
    let directory = Scratch::new();
    directory.copy_as(&library("one"), "b.so");
    directory.copy_as(&library("other"), "c.so");
    fs::write(directory.path().join("a.so"), "#!/bin/sh\n").unwrap();
    refused(
        searching(directory.path()).reference::<dyn Thing>("me", 7..),
        &directory,
        "not-found",
        "no component offers `me` version 7 or higher; there is version 1 ($D/b.so), version 1 ($D/c.so); \
         searched: the program, $D; passed over: $D/a.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, \
         found 23 21 2f 62; name a library or an executable",
    );
    refused(
        searching(&directory.path().join("missing")).reference::<dyn Thing>("you", Version::any()),
        &directory,
        "not-found",
        "no component offers any version of `you`; searched: the program, $D/missing; \
         passed over: $D/missing: No such file or directory (os error 2)",
    );
}

#[test]
fn duplicate() {
    let directory = Scratch::new();
    directory.copy_as(&library("twice"), "lib.so");
    let error = searching(directory.path()).reference::<dyn Thing>("twice", 1).unwrap_err();
    // In which order is the linker's affair.
    let ReferenceError::Duplicate { version: 1, first, second, .. } = &error else { panic!("{error}") };
    let message = format!(
        "`twice` version 1 is offered twice: by {first} and by {second}; drop one of them, or give it another version"
    )
    .replace(&*directory.path().to_string_lossy(), "$D");
    assert!(message.contains("component `one` of $D/lib.so"), "{message}");
    refused::<()>(Err(error), &directory, "duplicate", &message);
}

#[test]
fn contract() {
    #[lcr_core::contract]
    trait Other: Send + Sync {
        fn name(&self) -> String;
    }
    let directory = Scratch::new();
    directory.copy_as(&library("one"), "lib.so");
    refused(
        searching(directory.path()).reference::<dyn Other>("me", 1),
        &directory,
        "contract",
        "`me` version 1 ($D/lib.so) does not fit: the contract is `Thing`, and `Other` was wanted",
    );
}

#[test]
fn typed() {
    let directory = Scratch::new();
    directory.copy_as(&library("one"), "lib.so");
    refused(
        // SAFETY: it is refused.
        unsafe { searching(directory.path()).reference_raw::<usize>("me", 1, std::ptr::null_mut()) },
        &directory,
        "typed",
        "`me` version 1 ($D/lib.so) is a typed interface of contract `Thing`, and has no table of C functions: only Rust \
         code can reference it, with `reference::<dyn Thing>`",
    );
}

#[test]
fn dependency() {
    let directory = Scratch::new();
    directory.copy_as(&library("one"), "lib.so");
    refused(
        searching(directory.path()).reference::<dyn Thing>("lacks", 0),
        &directory,
        "dependency",
        "`lacks` cannot be constructed, lacks → nowhere: no component offers any version of `nowhere`; \
         searched: the program, $D",
    );
}

/// With `circle.b` in another library than `circle.a`.
#[test]
fn cycle() {
    let directory = Scratch::new();
    directory.copy(&programs::DEV.file("liblibclocks.so"));
    directory.copy(&programs::DEV.file("liblibgreeters.so"));
    refused(
        searching(directory.path()).reference::<dyn Thing>("circle.b", 0),
        &directory,
        "cycle",
        "the dependencies of `circle.b` form a circle: circle.b → circle.c → circle.a → circle.b",
    );
}

#[test]
fn construct_and_reentered() {
    let directory = Scratch::new();
    directory.copy_as(&programs::DEV.file("liblibclocks.so"), "lib.so");
    let factory = Factory::builder().without_environment().components([]).path(directory.path()).build();
    refused(
        factory.reference::<dyn Thing>("itself", 0),
        &directory,
        "construct",
        "the constructor of `itself` version 0 ($D/lib.so) failed: `itself` was referenced while it was being \
         constructed on the same path: itself → itself; name what a constructor needs in its interface's \
         dependencies (`requires` and `Context::require` in Rust, `dependencies` in C)",
    );
    refused(
        // SAFETY: it fails.
        unsafe { factory.reference_raw::<usize>("A_iface1", 0, std::ptr::null_mut()) },
        &directory,
        "construct",
        "the constructor of `A_iface1` version 0 ($D/lib.so) failed: it returned 1",
    );
}

#[test]
fn load() {
    let directory = Scratch::new();
    let path = directory.copy_as(&library("one"), "lib.so");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    refused(
        searching(directory.path()).reference::<dyn Thing>("me", 1),
        &directory,
        "load",
        "$D/lib.so: has mode 0757, so that everyone can write it; wanted write permission for its owner alone (or \
         its owner's private group); run: chmod o-w $D/lib.so",
    );
}

#[test]
fn unregistered() {
    let directory = Scratch::new();
    directory.copy_as(&library("lies"), "lib.so");
    let factory = searching(directory.path());
    // Its note's contract has no methods: a caller that wants none fits it.
    #[lcr_core::contract]
    trait Thing: Send + Sync {}
    refused(
        factory.reference::<dyn Thing>("lie", 1),
        &directory,
        "load",
        "$D/lib.so: it says that it offers `lie` version 1, and its code does not register that; build the library anew",
    );
    let honest = factory.reference::<dyn libraries::Thing>("honest", 1).unwrap();
    assert_eq!(libraries::Thing::name(&honest), "honest");
}

/// Races and another linkage lead to these; here only their words.
#[test]
fn the_words_of_the_others() {
    let directory = Scratch::new();
    refused::<()>(
        Err(ReferenceError::Changing { path: directory.path().join("lib.so"), tries: 5 }),
        &directory,
        "load",
        "$D/lib.so: changed between being found and being loaded, 5 times in a row; install libraries by renaming \
         them into place",
    );
    refused::<()>(
        Err(ReferenceError::Static { name: "me".into(), version: 1.into() }),
        &directory,
        "static",
        "no compiled-in component offers `me` version 1, and this program cannot load one: it is fully static \
         (`crt-static`, or `-static`, `-static-pie` in C), and a second C library beside its own would crash it; \
         compile the component in, or link the program dynamically",
    );
    refused::<()>(
        Err(ReferenceError::Reentered {
            name: "a".into(),
            stage: "released",
            path: vec!["a".into(), "b".into()],
        }),
        &directory,
        "reentered",
        "`a` was referenced while it was being released on the same path: a → b; name what a constructor needs \
         in its interface's dependencies (`requires` and `Context::require` in Rust, `dependencies` in C)",
    );
    refused::<()>(
        Err(ReferenceError::Waited {
            name: "a".into(),
            stage: "released",
            thread: "\"main\", number 7".into(),
            patience: Duration::from_secs(30),
        }),
        &directory,
        "waited",
        "`a` is still being released by another thread (\"main\", number 7) after 30s: if that one waits for this \
         thread, neither goes on; a constructor may start a thread that references what it constructs, but must \
         not wait for it; if it only takes long, allow more: LCR_CONSTRUCT_WAIT=SECONDS, or \
         Builder::construct_wait in a Rust program",
    );
    refused::<()>(
        Err(ReferenceError::Construct {
            name: "a".into(),
            version: 3,
            origin: "$D/lib.so".into(),
            message: "no disk".into(),
            panicked: true,
        }),
        &directory,
        "construct",
        "the constructor of `a` version 3 ($D/lib.so) panicked: no disk",
    );
    refused::<()>(
        Err(ReferenceError::Host { kind: "not-found".into(), message: "what the host said".into() }),
        &directory,
        "not-found",
        "what the host said",
    );
}

#[test]
fn a_file_whose_notes_cannot_be_read_is_unreadable() {
    let directory = Scratch::new();
    let file = directory.path().join("lib.so");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    let error = lcr_core::metadata::Metadata::read(&file).unwrap_err();
    refused::<()>(
        Err(ReferenceError::from(error)),
        &directory,
        "load",
        "$D/lib.so: not an ELF file: wanted 7f 45 4c 46 at its beginning, found 23 21 2f 62; name a library or an \
         executable",
    );
}
