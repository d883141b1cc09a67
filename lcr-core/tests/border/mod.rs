//! Builds libraries and a program with and without forwarding, once, into the
//! target directory of this very build.

#![allow(dead_code)] // Each test program uses some of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_void};
use std::fs;
use std::mem::transmute;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use lcr_core::library::{Candidate, Library, Locals, Policy, Unload};

/// Where the built files are: `libtalker.so` (with the features), `libmute.so`
/// (the same without), `deaf` (a program without).
pub(crate) fn built(file: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(file)
}

fn build() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("border-libraries");
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |name: &str, text: &str| {
        let path = scratch.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Unchanged files keep their times: nothing is built twice.
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&path, text).unwrap();
        }
    };
    write("talker.rs", include_str!("talker.rs"));
    write("deaf.rs", include_str!("deaf.rs"));
    let members = ["talker", "mute", "deaf"];
    write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n"));
    for name in members {
        let target = match name {
            "deaf" => "[[bin]]\nname = \"deaf\"\npath = \"../deaf.rs\"\n",
            _ => "[lib]\ncrate-type = [\"cdylib\"]\npath = \"../talker.rs\"\n",
        };
        let features = if name == "talker" { ", features = [\"log\", \"tracing\"]" } else { "" };
        let tracing = "tracing = { version = \"0.1\", default-features = false, features = [\"std\"] }";
        let crates = if name == "deaf" { String::new() } else { format!("log = \"0.4\"\n{tracing}\n") };
        write(
            &format!("{name}/Cargo.toml"),
            &format!(
                "[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2024\"\n{target}[dependencies]\n\
                 lcr-core = {{ path = {core:?}{features} }}\n{crates}"
            ),
        );
    }
    // The same versions of dependencies as this build; cargo drops what is not used.
    let lock = fs::read_to_string(core.join("../Cargo.lock")).unwrap_or_default();
    if !scratch.join("Cargo.lock").exists() {
        write("Cargo.lock", &lock);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    // One by one: cargo would give all of them the features that any of them wants.
    for member in members {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
        cargo
            .current_dir(&scratch)
            .args(["build", "--offline", "--quiet", "--package", member, "--target-dir"])
            .arg(target);
        if profile == "release" {
            cargo.arg("--release");
        }
        // What cargo told this test about its own package is not for that build.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "building {member}: {}", String::from_utf8_lossy(&output.stderr));
    }
    target.join(profile)
}

/// Logger, dispatcher and counts are the process's: one test at a time.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn load(file: &str) -> Library {
    Candidate::open(built(file), &Policy::default()).unwrap().load().unwrap()
}

#[track_caller]
pub(crate) fn unload(library: Library) {
    let range = library.mapping().range.clone();
    // SAFETY: the tests use nothing of a library after this.
    match unsafe { library.try_unload(Locals::Wait) } {
        Unload::Unloaded => {}
        Unload::Kept { reason, .. } => panic!("kept: {reason}"),
    }
    assert!(
        !mappings()
            .iter()
            .any(|line| line.contains("r-xp") && line.starts_with(&format!("{:x}-", range.start)))
    );
}

/// A function of `talker.rs`.
#[track_caller]
pub(crate) fn function(library: &Library, name: &CStr) -> extern "C" fn() -> u64 {
    let symbol = library.object().symbol(name).expect("a talker's symbol");
    // SAFETY: all functions of `talker.rs` are of this type.
    unsafe { transmute::<*mut c_void, extern "C" fn() -> u64>(symbol) }
}

/// Calls it.
#[track_caller]
pub(crate) fn call(library: &Library, name: &CStr) -> u64 {
    function(library, name)()
}

/// What is mapped now.
pub(crate) fn mappings() -> Vec<String> {
    fs::read_to_string("/proc/self/maps").unwrap().lines().map(str::to_owned).collect()
}

/// Counts the bytes that live in the program's allocator, the libraries' too.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator does it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Bytes that are allocated and not freed.
pub(crate) fn allocated() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// Nothing is left behind by a round. The harness may allocate in between, once; a
/// leak shows each time.
#[track_caller]
pub(crate) fn leaves_nothing(round: impl Fn()) {
    for _ in 0..5 {
        round();
    }
    let mut grown = Vec::new();
    for _ in 0..5 {
        let before = allocated();
        for _ in 0..10 {
            round();
        }
        grown.push(allocated() - before);
    }
    assert!(grown.iter().any(|&bytes| bytes <= 0), "bytes in 10 rounds, each time: {grown:?}");
}

const CHILD: &str = "BORDER_TEST_CHILD";

/// Is this the process that [`in_child`] has made for this test? Its environment
/// alone does not say: it may be everybody's.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var_os(CHILD).is_some_and(|child| child == test)
}

/// Runs one test of this file alone, in a process with another environment.
pub(crate) fn in_child(test: &str, name: &str, value: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(name, value)
        .env(CHILD, test)
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    text
}
