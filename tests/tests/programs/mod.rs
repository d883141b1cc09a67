//! Programs and libraries that tests run: `fixtures/programs`, built once with
//! cargo, in the ways that a test asks for.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(unreachable_pub, reason = "a module of each test program")]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A way to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// The files' directory.
    pub name: &'static str,
    /// Arguments of cargo.
    pub arguments: &'static [&'static str],
    /// Its environment: profiles are varied so, and share what they have in common.
    pub environment: &'static [(&'static str, &'static str)],
    /// Where cargo puts it, in its target directory.
    pub output: &'static str,
    /// The programs and libraries to keep.
    pub files: &'static [&'static str],
}

/// Every program and library.
pub const ALL: &[&str] = &[
    "all_static",
    "all_dynamic",
    "clocks_static",
    "greeters_static",
    "exported",
    "liblibclocks.so",
    "liblibgreeters.so",
];

const HALVES: &[&str] = &["-p", "hosts", "-p", "libclocks", "-p", "libgreeters"];
const RELEASED: &[&str] = &["-p", "hosts", "-p", "libclocks", "-p", "libgreeters", "--release"];

/// Programs and libraries of different times of one contract.
pub const EVOLUTION: Build = Build {
    name: "evolution",
    arguments: &["-p", "evolution", "--examples"],
    environment: &[],
    output: "debug/examples",
    files: &[
        "host_old",
        "host_new",
        "host_strict",
        "libgreetings_old.so",
        "libgreetings_new.so",
        "libgreetings_changed.so",
        "libgreetings_removed.so",
    ],
};

/// As cargo builds without being told.
pub const DEV: Build =
    Build { name: "dev", arguments: HALVES, environment: &[], output: "debug", files: ALL };

/// With optimisation, and nothing else changed.
pub const RELEASE: Build =
    Build { name: "release", arguments: RELEASED, environment: &[], output: "release", files: ALL };

fn scratch_root() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Copies a workspace of fixtures to the target directory, where it is built.
/// Files that have not changed keep their times: nothing is built twice.
pub fn copied(fixture: &str) -> PathBuf {
    static COPIED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut all = COPIED.lock().unwrap();
    all.get_or_insert_default()
        .entry(fixture.to_owned())
        .or_insert_with(|| {
            let package = Path::new(env!("CARGO_MANIFEST_DIR"));
            let to = scratch_root().join("fixtures").join(fixture);
            copy_tree(
                &package.join("fixtures").join(fixture),
                &to,
                &package.join("../lcr-core").canonicalize().unwrap(),
            );
            // The same versions as this build's, whenever those change; cargo drops
            // what is not used.
            let (lock, taken) = (package.join("../Cargo.lock"), to.join("Cargo.lock.taken"));
            if fs::read(&taken).ok() != fs::read(&lock).ok() {
                fs::copy(&lock, to.join("Cargo.lock")).unwrap();
                fs::copy(&lock, &taken).unwrap();
            }
            to
        })
        .clone()
}

fn copy_tree(from: &Path, to: &Path, core: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to, core);
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap().replace("@core@", &core.display().to_string());
        if fs::read_to_string(&to).ok().as_deref() != Some(&*text) {
            fs::write(&to, text).unwrap();
        }
    }
}

/// The only one so far.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The flags of this run, if they ask for a sanitizer: the programs are then built
/// with it, too.
pub fn sanitizer_flags() -> Option<String> {
    std::env::var("RUSTFLAGS").ok().filter(|flags| flags.contains("sanitizer"))
}

/// Runs cargo on a copied workspace, in a target directory that all fixtures share.
pub fn cargo(fixture: &str, arguments: &[&str], environment: &[(&str, &str)]) -> PathBuf {
    let target = scratch_root().join("fixtures/target");
    let mut cargo = lcr_tests::cargo();
    cargo.current_dir(copied(fixture)).args(["build", "--offline", "--quiet"]).args(arguments);
    cargo.arg("--target-dir").arg(&target);
    // Flags are the test's to choose; but under a sanitizer everything is.
    let sanitized = sanitizer_flags();
    if let Some(flags) = &sanitized {
        cargo.args(["--target", TARGET]).env("RUSTFLAGS", flags);
    } else {
        cargo.env_remove("RUSTFLAGS");
    }
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").envs(environment.iter().copied());
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{fixture}: {}", String::from_utf8_lossy(&output.stderr));
    if sanitized.is_some() { target.join(TARGET) } else { target }
}

impl Build {
    /// The directory with the built files. Built once in a process; cargo knows
    /// whether another one has built them already.
    pub fn directory(&self) -> PathBuf {
        static BUILT: Mutex<Option<HashMap<Build, PathBuf>>> = Mutex::new(None);
        let mut built = BUILT.lock().unwrap();
        built
            .get_or_insert_default()
            .entry(*self)
            .or_insert_with(|| {
                let target = cargo("programs", self.arguments, self.environment);
                let kept = scratch_root().join("programs").join(self.name);
                fs::create_dir_all(&kept).unwrap();
                for file in self.files {
                    // By renaming: another process may be running the old one.
                    let new = kept.join(format!("{file}.{}", std::process::id()));
                    fs::create_dir_all(new.parent().unwrap()).unwrap();
                    lcr_tests::copy_program(&target.join(self.output).join(file), &new);
                    fs::rename(new, kept.join(file)).unwrap();
                }
                kept
            })
            .clone()
    }

    /// One of the built files.
    pub fn file(&self, name: &str) -> PathBuf {
        assert!(self.files.contains(&name), "{name} is not among the files of {}", self.name);
        self.directory().join(name)
    }

    /// A program, which is told to search the build's libraries.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.file(name));
        command.env("LCR_PATH", self.directory()).env_remove("RUST_BACKTRACE");
        command
    }
}

/// How long a program may take before it is taken for stuck. None takes a second.
const STUCK: Duration = Duration::from_secs(60);

/// Runs a program to its end; one that hangs is killed, and fails the test.
pub fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > STUCK {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "{command:?} hangs; so far it said\n{}\n{}",
                String::from_utf8_lossy(&stdout.join().unwrap().unwrap()),
                String::from_utf8_lossy(&stderr.join().unwrap().unwrap())
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Output { status, stdout: stdout.join().unwrap().unwrap(), stderr: stderr.join().unwrap().unwrap() }
}

/// What a program prints, which must succeed.
#[track_caller]
pub fn printed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", lcr_tests::told(command, &output));
    String::from_utf8(output.stdout).unwrap()
}

/// The programs: all compiled in, all loaded, and one half each, both ways.
pub const PROVIDERS: [&str; 4] = ["all_static", "all_dynamic", "clocks_static", "greeters_static"];

/// The same case with every kind of provider: each must print this. Where a
/// component came from is not compared: it stands as `(origin)`.
#[track_caller]
pub fn everywhere(build: &Build, case: &[&str], expected: &str) {
    for program in PROVIDERS {
        let mut command = build.program(program);
        if program == "all_static" {
            command.env_remove("LCR_PATH");
        }
        let text = without_origins(&printed(command.args(case)));
        assert!(text == expected, "{program} {case:?}:\n{text}\n--- expected:\n{expected}");
    }
}

/// The text with `(origin)` for where a component comes from.
pub fn without_origins(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('(') {
        out.push_str(&rest[..at]);
        let end = match &rest[at..] {
            // A path ends at the first parenthesis; so does what is compiled in.
            origin if origin.starts_with("(/") || origin.starts_with("(component `") => origin.find(')'),
            _ => None,
        };
        match end {
            Some(end) => {
                out.push_str("(origin)");
                rest = &rest[at + end + 1..];
            }
            None => {
                out.push('(');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}
