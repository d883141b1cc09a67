//! What the tests that cross crates stand on: real packages of this workspace,
//! built by the test that needs them.
//!
//! `cargo test --workspace` builds no member that is a cdylib and nothing else,
//! and it builds no program with the release profile. So a test says which
//! packages it wants, [`build`] has cargo build them, and [`Artifacts`] says
//! where cargo has put them:
//!
//! ```no_run
//! use lcr_tests::{Profile, build, stdout};
//! use std::process::Command;
//!
//! let built = build(&["lcr-sample-a-library", "lcr-sample-programs"], Profile::Release);
//! let library = built.library("test_a"); // …/release/libtest_a.so
//! let said = stdout(Command::new(built.program("test_dynamic")).env("LCR_PATH", built.directory()));
//! assert!(said.starts_with("A - version 0 constructor"));
//! ```
//!
//! What holds:
//!
//! 1. Everything lands in the target directory of the running test, whatever
//!    chose it (`CARGO_TARGET_DIR`, `--target-dir`, a configuration), for the
//!    target triple of the running test, and with the flags of its environment:
//!    a test under a sanitizer gets libraries under that sanitizer.
//! 2. A list of packages is built once a process. Test programs that run at the
//!    same time take turns on cargo's own lock, and the second finds all done.
//! 3. `Cargo.lock` is not written: builds are `--locked`.
//! 4. A test whose real counterpart (a program, a kernel feature) is missing
//!    says so where nobody overlooks it, and fails in CI: see [`missing`].

use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The profile that packages are built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Quick to build; what `cargo build` does.
    Dev,
    /// What is shipped; what `cargo build --release` does.
    Release,
}

/// What a build has made.
#[derive(Debug, Clone)]
pub struct Artifacts {
    directory: PathBuf,
    libraries: HashMap<String, PathBuf>,
    programs: HashMap<String, PathBuf>,
}

impl Artifacts {
    /// The directory that cargo has put them into: `…/target/release`, say. It
    /// holds what other builds have made, too.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The shared object of the `[lib]` of that name: `library("test_a")` is
    /// `…/libtest_a.so`.
    ///
    /// # Panics
    ///
    /// If none of the packages makes one; the message lists those made.
    #[must_use]
    #[track_caller]
    pub fn library(&self, name: &str) -> PathBuf {
        found(&self.libraries, "shared object", name)
    }

    /// The program of that name.
    ///
    /// # Panics
    ///
    /// If none of the packages makes one; the message lists those made.
    #[must_use]
    #[track_caller]
    pub fn program(&self, name: &str) -> PathBuf {
        found(&self.programs, "program", name)
    }
}

#[track_caller]
fn found(made: &HashMap<String, PathBuf>, what: &str, name: &str) -> PathBuf {
    made.get(name).cloned().unwrap_or_else(|| {
        let mut names: Vec<_> = made.keys().collect();
        names.sort_unstable();
        panic!("the packages built here make no {what} {name:?}, but {names:?}: name the package that does")
    })
}

/// Builds packages of this workspace, in one go and once a process: their shared
/// objects and their programs.
///
/// Features are cargo's own affair: packages that are built together agree on
/// them, so build together what a test loads together.
///
/// # Panics
///
/// If cargo cannot build them; the compiler's messages are in the panic's.
#[must_use]
#[track_caller]
pub fn build(packages: &[&str], profile: Profile) -> Arc<Artifacts> {
    build_with(packages, profile, &[])
}

/// As [`build`], with further arguments for `cargo build`: `--features …`,
/// `--bin …`, `--config …`.
///
/// # Panics
///
/// As [`build`].
#[must_use]
#[track_caller]
pub fn build_with(packages: &[&str], profile: Profile, arguments: &[&str]) -> Arc<Artifacts> {
    type Wanted = (Vec<String>, Profile, Vec<String>);
    static BUILT: Mutex<Option<HashMap<Wanted, Arc<Artifacts>>>> = Mutex::new(None);

    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let wanted: Wanted = (owned(packages), profile, owned(arguments));
    // Held while cargo runs: a second test of this process waits here for the result.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(artifacts) = built.get(&wanted) {
        return Arc::clone(artifacts);
    }
    let artifacts = Arc::new(cargo_build(&wanted.0, profile, &wanted.2));
    built.insert(wanted, Arc::clone(&artifacts));
    artifacts
}

#[track_caller]
fn cargo_build(packages: &[String], profile: Profile, arguments: &[String]) -> Artifacts {
    let place = Place::of_this_program();
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    if let Some(Place { target, triple }) = &place {
        cargo.arg("--target-dir").arg(target);
        if let Some(triple) = triple {
            cargo.arg("--target").arg(triple);
        }
    }
    let output = cargo.args(arguments).output().expect("cargo can be run");
    assert!(
        output.status.success(),
        "cannot build {packages:?}: {cargo:?} says {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    artifacts(&output.stdout)
        .unwrap_or_else(|| panic!("{packages:?} make neither a shared object nor a program"))
}

/// Reads cargo's messages.
fn artifacts(messages: &[u8]) -> Option<Artifacts> {
    let (mut libraries, mut programs) = (HashMap::new(), HashMap::new());
    for line in messages.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let Some(name) = message["target"]["name"].as_str() else { continue };
        let mut kinds = message["target"]["kind"].as_array().into_iter().flatten();
        // An example's kind is `example`, whatever it is.
        let mut types = message["target"]["crate_types"].as_array().into_iter().flatten();
        if types.any(|kind| kind == "cdylib") {
            let files = message["filenames"].as_array().into_iter().flatten();
            let object = files.filter_map(|file| file.as_str()).find(|file| file.ends_with(".so"));
            libraries.extend(object.map(|file| (name.to_owned(), PathBuf::from(file))));
        }
        if kinds.any(|kind| kind == "bin")
            && let Some(file) = message["executable"].as_str()
        {
            programs.insert(name.to_owned(), PathBuf::from(file));
        }
    }
    let directory = libraries.values().chain(programs.values()).next()?.parent()?.to_owned();
    Some(Artifacts { directory, libraries, programs })
}

/// Where cargo has put the running test.
struct Place {
    target: PathBuf,
    triple: Option<String>,
}

impl Place {
    /// From `<target>[/<triple>]/<profile>/deps/<program>`; what cargo remembers of
    /// the compiler marks the target directory.
    fn of_this_program() -> Option<Place> {
        let program = env::current_exe().ok()?;
        let target = program.ancestors().skip(1).find(|above| above.join(".rustc_info.json").is_file())?;
        let below: Vec<_> = program.strip_prefix(target).ok()?.iter().collect();
        let triple = match below[..] {
            [triple, _profile, _deps, _program] => Some(triple.to_str()?.to_owned()),
            _ => None,
        };
        Some(Place { target: target.to_owned(), triple })
    }
}

/// The directory of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a member")
}

/// The cargo that runs this test, in the workspace's directory, without what it
/// has told the test about the test's own package.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_", "CARGO_CRATE_"]
            .iter()
            .any(|p| text.starts_with(p))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs a command to its end, and answers what it wrote on its standard output.
///
/// # Panics
///
/// If it cannot be started, fails, or writes what is not UTF-8; the message holds
/// all that it wrote.
#[track_caller]
pub fn stdout(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", told(command, &output));
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// Runs a command to its end, whatever that is.
///
/// # Panics
///
/// If it cannot be started.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// A finished command's words, for a test's message.
#[must_use]
pub fn told(command: &Command, output: &Output) -> String {
    format!(
        "{command:?}: {}\n--- standard output\n{}--- standard error\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A directory of one test, removed with its contents when dropped: in the target
/// directory, so that it is on a file system that holds programs, and with mode
/// 0700, so that libraries in it are trusted.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let target = Place::of_this_program().map_or_else(env::temp_dir, |place| place.target);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = target.join("tmp").join(format!("lcr-tests-{}-{number}", std::process::id()));
        // Of a process that was killed and had our number.
        let _ = fs::remove_dir_all(&path);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Scratch(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of `file` in it, under the same name; answers the copy's path.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    #[track_caller]
    pub fn copy(&self, file: &Path) -> PathBuf {
        self.copy_as(file, file.file_name().expect("a file has a name"))
    }

    /// A copy of `file` in it, under another name.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    #[track_caller]
    pub fn copy_as(&self, file: &Path, name: impl AsRef<OsStr>) -> PathBuf {
        let copy = self.0.join(name.as_ref());
        copy_program(file, &copy);
        copy
    }

    /// An executable script in it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[track_caller]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let (written, script) = (self.0.join(format!("{name}.text")), self.0.join(name));
        fs::write(&written, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", written.display()));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&written, mode).expect("the owner may set a mode");
        copy_program(&written, &script);
        script
    }
}

/// Copies a file, with its mode, that a test is going to execute. By another process: had this one
/// opened the copy to write it, then what another test forks just then would hold it open until
/// it executes something, and who executes the copy meanwhile gets `ETXTBSY`.
///
/// # Panics
///
/// If it cannot be copied.
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let output = run(Command::new("cp").arg("--").args([from, to]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Does this run decide whether a change is good? Services that do so set `CI`.
#[must_use]
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
}

/// Says that a test cannot show what it is for, because `what` is missing; `cure`
/// is how to get it. The caller returns.
///
/// The line goes to the process's standard error itself: the harness captures
/// only what `eprintln!` writes, so it is seen in a run that passes.
///
/// # Panics
///
/// In CI, where everything is there or the run is worth nothing.
#[track_caller]
pub fn missing(what: &str, cure: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("SKIPPED {test}: {what} is missing; {cure}\n");
    assert!(!is_ci(), "{line}");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The program of that name in `PATH`, or else [`missing`].
///
/// ```no_run
/// let Some(gdb) = lcr_tests::program("gdb", "install the package gdb") else { return };
/// ```
///
/// # Panics
///
/// As [`missing`].
#[must_use]
#[track_caller]
pub fn program(name: &str, cure: &str) -> Option<PathBuf> {
    // Daemons live in the sbin directories, which are not in everybody's path.
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = env::split_paths(&path).chain(sbin).map(|directory| directory.join(name));
    let found = candidates.into_iter().find(|file| is_executable(file));
    if found.is_none() {
        missing(&format!("the program {name}"), cure);
    }
    found
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
}
