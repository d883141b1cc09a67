//! Builds the shared objects that the tests load: once, with cargo, into the
//! target directory of this very build, so that dependencies are shared.

#![allow(dead_code)] // Each test program uses some of it.
#![allow(clippy::missing_transmute_annotations)] // The fields of `Worker` say the types.

use std::fs;
use std::mem::transmute;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

use lcr_core::library::Library;

/// Where the built files are: `libone.so`, `libtwo.so`, `libown.so`,
/// `liborigin.so`, `libplain.so`, `rdynamic`.
pub(crate) fn built(file: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(file)
}

fn build() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loader-libraries");
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |name: &str, text: &str| {
        let path = scratch.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Unchanged files keep their times: nothing is built twice.
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            fs::write(&path, text).unwrap();
        }
    };
    write("worker.rs", include_str!("worker.rs"));
    write("plain.rs", include_str!("plain.rs"));
    write("rdynamic.rs", include_str!("rdynamic.rs"));
    let members = ["one", "two", "own", "origin", "plain", "rdynamic"];
    write("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n"));
    for name in members {
        let version = if name == "two" { 2 } else { 1 };
        let head = format!("[package]\nname = {name:?}\nversion = \"{version}.0.0\"\nedition = \"2024\"\n");
        let target = match name {
            "rdynamic" => "[[bin]]\nname = \"rdynamic\"\npath = \"../rdynamic.rs\"\n".to_owned(),
            "plain" => "[lib]\ncrate-type = [\"cdylib\"]\npath = \"../plain.rs\"\n".to_owned(),
            _ => "[lib]\ncrate-type = [\"cdylib\"]\npath = \"../worker.rs\"\n".to_owned(),
        };
        let features = if name == "own" { "default = [\"own\"]\n" } else { "" };
        let dependency =
            format!("[dependencies]\nlcr-core = {{ path = {core:?} }}\nlibc = \"0.2\"\nlinkme = \"0.3\"\n");
        let dependency = if name == "plain" { String::new() } else { dependency };
        write(
            &format!("{name}/Cargo.toml"),
            &format!("{head}{target}[features]\nown = []\n{features}{dependency}"),
        );
        let argument = match name {
            "rdynamic" => "cargo::rustc-link-arg-bins=-rdynamic",
            "origin" => "cargo::rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN/needed",
            _ => "cargo::rerun-if-changed=build.rs",
        };
        write(&format!("{name}/build.rs"), &format!("fn main() {{ println!({argument:?}); }}\n"));
    }
    // The same versions of dependencies as this build; cargo drops what is not used.
    let lock = fs::read_to_string(core.join("../Cargo.lock")).unwrap_or_default();
    if !scratch.join("Cargo.lock").exists() {
        write("Cargo.lock", &lock);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo
        .current_dir(&scratch)
        .args(["build", "--offline", "--quiet", "--workspace", "--target-dir"])
        .arg(target);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
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
    assert!(output.status.success(), "building the libraries: {}", String::from_utf8_lossy(&output.stderr));
    target.join(profile)
}

/// An empty directory for one test, the same at each run: nothing piles up.
pub(crate) fn scratch(test: &str) -> PathBuf {
    let form = if std::env::var_os("LCR_NO_MEMFD").is_some() { "-no-memfd" } else { "" };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loader-{test}{form}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A copy of a built file that this test may change.
pub(crate) fn copy(file: &str, to: &Path) -> PathBuf {
    fs::copy(built(file), to).unwrap();
    to.into()
}

/// The functions of `worker.rs`.
#[derive(Clone, Copy)]
pub(crate) struct Worker {
    pub(crate) version: extern "C" fn() -> u32,
    pub(crate) local: extern "C" fn(&'static AtomicUsize),
    pub(crate) late: extern "C" fn(&'static AtomicUsize),
    pub(crate) current: extern "C" fn() -> bool,
    pub(crate) busy: extern "C" fn(&'static AtomicUsize) -> u32,
    pub(crate) loud_panic: extern "C" fn() -> bool,
    pub(crate) calls: extern "C" fn(extern "C" fn()),
    pub(crate) spawns: extern "C" fn(extern "C" fn()),
    pub(crate) block: extern "C" fn(usize) -> *mut u8,
    pub(crate) owner: extern "C" fn() -> *const lcr_core::allocator::Allocator,
    pub(crate) frees_early: extern "C" fn() -> u32,
}

impl Worker {
    pub(crate) fn of(library: &Library) -> Worker {
        let symbol = |name| library.object().symbol(name).expect("a worker's symbol");
        // SAFETY: the types of `worker.rs`.
        unsafe {
            Worker {
                version: transmute(symbol(c"worker_version")),
                local: transmute(symbol(c"worker_local")),
                late: transmute(symbol(c"worker_late")),
                current: transmute(symbol(c"worker_current")),
                busy: transmute(symbol(c"worker_busy")),
                loud_panic: transmute(symbol(c"worker_loud_panic")),
                calls: transmute(symbol(c"worker_calls")),
                spawns: transmute(symbol(c"worker_spawns")),
                block: transmute(symbol(c"worker_block")),
                owner: transmute(symbol(c"worker_owner")),
                frees_early: transmute(symbol(c"worker_frees_early")),
            }
        }
    }
}
