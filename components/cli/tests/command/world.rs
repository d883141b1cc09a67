//! A directory with libraries, and the command run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lcr_tests::{Profile, Scratch};
use serde_json::{Value, json};

use crate::builder::{Elf, PT_INTERP, Segment};

/// A scratch directory, which the command runs in.
pub(crate) struct World(Scratch);

/// What a command has done.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    /// Everything in one text, for golden ones.
    pub(crate) fn all(&self) -> String {
        let Done { code, out, err } = self;
        let code = code.map_or("a signal".into(), |code| code.to_string());
        let err = if err.is_empty() { String::new() } else { format!("--- standard error\n{err}") };
        format!("{out}{err}--- exit code {code}\n")
    }
}

impl World {
    pub(crate) fn new() -> World {
        World(Scratch::new())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// An executable script.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        self.0.script(name, text)
    }

    /// `libenglish.so`, the real one; answers it.
    pub(crate) fn english(&self) -> PathBuf {
        self.0.copy(&samples().library("english"))
    }

    /// A sample program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.copy(&samples().program(name))
    }

    /// The library with the changed contract.
    pub(crate) fn changed(&self) -> PathBuf {
        self.0.copy(&built_changed())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lcr"));
        command.current_dir(self.path()).args(arguments).env("COLUMNS", "100").stdin(Stdio::null());
        for name in ["LCR_PATH", "NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn lcr(&self, arguments: &[&str]) -> Done {
        self.run(&mut self.command(arguments))
    }

    pub(crate) fn run(&self, command: &mut Command) -> Done {
        let Output { status, stdout, stderr } = command.output().unwrap();
        Done { code: status.code(), out: self.text(stdout), err: self.text(stderr) }
    }

    /// What was printed, with the compiler's version and this directory as placeholders.
    fn text(&self, bytes: Vec<u8>) -> String {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(lcr_core::__private::RUSTC, "[RUSTC]")
            .replace(&self.path().display().to_string(), "[HERE]")
    }
}

fn samples() -> std::sync::Arc<lcr_tests::Artifacts> {
    lcr_tests::build(&["lcr-sample-greeter-english-library", "lcr-sample-greeter"], Profile::Dev)
}

/// The library with the changed contract is an example, which cargo puts beside.
fn built_changed() -> PathBuf {
    let built =
        lcr_tests::build_with(&["lcr-sample-greeter-changed"], Profile::Dev, &["--example", "changed"]);
    built.library("changed")
}

/// The note of a component: its interfaces are (name, version, what it requires).
pub(crate) fn component(name: &str, interfaces: &[(&str, i32, &[&str])]) -> String {
    let interfaces: Value = interfaces
        .iter()
        .map(|(name, version, requires)| {
            json!({
                "name": name, "version": version, "replaces": [], "requires": requires, "per_reference": false,
                "state": false, "contract": null,
            })
        })
        .collect();
    json!({
        "lcr": 1, "kind": "component", "component": name, "package": "made", "package_version": "0.1.0",
        "rustc": "1.89.0", "interfaces": interfaces,
    })
    .to_string()
}

/// The note of a library.
pub(crate) const LIBRARY: &str = r#"{"lcr":1,"kind":"library","package":"made","package_version":"0.1.0","rustc":"1.89.0","own_allocator":false,"stay":false}"#;

/// A shared object with these notes, that could be loaded as far as its headers go.
pub(crate) fn library(notes: &[&str]) -> Vec<u8> {
    Elf::with_json(notes).with(Segment::dynamic(&[])).build()
}

/// A program with these notes.
pub(crate) fn program(notes: &[&str]) -> Vec<u8> {
    let interpreter = Segment::new(PT_INTERP, 1, "/lib64/ld.so\0");
    Elf::with_json(notes).with(Segment::dynamic(&[])).with(interpreter).build()
}
