//! The first reference to an interface among 1,000 libraries in a directory: with
//! nothing remembered, and when the directory has not changed since; against opening
//! each library in turn, as the original did.
//!
//! ```sh
//! cargo bench -p lcr-tests --bench search
//! ```

mod rounds;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::thread;
use std::time::Duration;

use lcr_core::Factory;
use lcr_core::metadata::Metadata;
use lcr_tests::{Profile, Scratch};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rounds::{Side, compare, target};

const LIBRARIES: usize = 1_000;
const ROUNDS: usize = 25;

fn main() {
    let mut criterion = rounds::criterion();
    let scratch = Scratch::new();
    let all = libraries(scratch.path());
    let wanted = LIBRARIES / 2;
    // One library alone, in a place of its own: what loading costs without a search.
    let alone = scratch.path().join("alone");
    fs::create_dir(&alone).unwrap();
    let only = alone.join("only.so");
    fs::copy(&all[wanted], &only).unwrap();
    // A directory's time is no proof while it is younger than a clock's tick.
    thread::sleep(Duration::from_millis(200));

    let factory = |place: &Path| Factory::builder().components([]).without_environment().path(place).build();
    let reference = |factory: &Factory| {
        // SAFETY: nothing of the table is called, and the constructor only prints its
        // context.
        drop(unsafe { factory.reference_raw::<[usize; 3]>(&name(wanted), 0, ptr::null_mut()) }.unwrap());
    };
    let (warm, single) = (factory(all[wanted].parent().unwrap()), factory(&alone));
    reference(&warm);
    reference(&single);

    let sides = vec![
        Side::each("cold: a new factory, 1,000 libraries", || reference(&factory(all[0].parent().unwrap()))),
        Side::each("warm: the directory has not changed", || reference(&warm)),
        Side::each("warm: one library in its directory", || reference(&single)),
        Side::each("dlopen each in turn, to the 500th", || in_turn(&all[..=wanted])),
        Side::each("dlopen each in turn, to the 1,000th", || in_turn(&all)),
    ];
    let measured = compare(&mut criterion, "first reference", ROUNDS, 1, sides);
    let ms = |name: &str| measured.median(name) / 1e6;
    let cold = ms("cold: a new factory, 1,000 libraries");
    let warm = ms("warm: the directory has not changed") - ms("warm: one library in its directory");
    target("first reference among 1,000 libraries, cold", 10.0, cold, "ms");
    target("first reference among 1,000 libraries, warm, beyond one load", 0.2, warm, "ms");
    println!("cold: {:.2} of dlopen each to the middle", cold / ms("dlopen each in turn, to the 500th"));
    criterion.final_summary();
}

/// The name of the interface in the library of that number: as long as `A_iface1`.
fn name(number: usize) -> String {
    format!("I_{number:06}")
}

/// A thousand libraries, each with an interface of its own: copies of one, with
/// another name wherever its own stood (in the note and in the descriptor).
fn libraries(scratch: &Path) -> Vec<PathBuf> {
    let built = lcr_tests::build(&["lcr-sample-a-library"], Profile::Release);
    let small = scratch.join("small");
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(built.library("test_a")).status();
    assert!(stripped.is_ok_and(|status| status.success()), "strip (binutils) makes the library small");
    let original = fs::read(&small).unwrap();
    let found: Vec<usize> = memchr(&original, b"A_iface1");
    println!("a library of {} KiB, its interface's name in {} places", original.len() / 1024, found.len());
    let directory = scratch.join("libraries");
    fs::create_dir(&directory).unwrap();
    let all: Vec<PathBuf> = (0..LIBRARIES)
        .map(|number| {
            let mut bytes = original.clone();
            for at in &found {
                bytes[*at..at + 8].copy_from_slice(name(number).as_bytes());
            }
            let path = directory.join(format!("{number:04}.so"));
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        })
        .collect();
    for (number, path) in all.iter().enumerate() {
        let metadata = Metadata::read(path).unwrap();
        assert!(metadata.interfaces().all(|(_, i)| i.name == name(number)), "{}", path.display());
    }
    all
}

fn memchr(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text).map(|(at, _)| at).collect()
}

/// What one does without notes: opens each, asks what it has, and closes it again.
fn in_turn(libraries: &[PathBuf]) {
    for path in libraries {
        // SAFETY: our own libraries, whose constructors only register.
        unsafe {
            let library = Library::open(Some(path), RTLD_NOW | RTLD_LOCAL).unwrap();
            let entry = library.get::<unsafe extern "C" fn()>(b"lcr_v1_library\0").unwrap();
            assert!(!entry.as_raw_ptr().is_null());
        }
    }
}
