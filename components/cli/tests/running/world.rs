//! Programs that run, and the command asking them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use lcr_tests::{Profile, Scratch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A runtime directory of its own, and a current one.
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

    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self
    }
}

impl World {
    pub(crate) fn new() -> World {
        let world = World(Scratch::new());
        fs::create_dir(world.path().join("here")).unwrap();
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where sockets are.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The directory that the command runs in.
    pub(crate) fn here(&self) -> PathBuf {
        self.path().join("here")
    }

    /// Version 2 of the counter, in the current directory.
    pub(crate) fn counter_two(&self) -> PathBuf {
        let packages = ["lcr-sample-counter-two"];
        let built = lcr_tests::build_with(&packages, Profile::Dev, &["--example", "counter_two"]);
        let copy = self.here().join("libcounter_two.so");
        fs::copy(built.library("counter_two"), &copy).unwrap();
        copy
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_lcr")), arguments)
    }

    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.here()).args(arguments).stdin(Stdio::null());
        command.env("COLUMNS", "100").env("LCR_RUNTIME_DIR", self.runtime());
        for name in ["LCR_PATH", "NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        command
    }

    #[track_caller]
    pub(crate) fn lcr(&self, arguments: &[&str]) -> Done {
        self.run(&mut self.command(arguments))
    }

    pub(crate) fn run(&self, command: &mut Command) -> Done {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text =
            |bytes| String::from_utf8(bytes).unwrap().replace(&self.path().display().to_string(), "[W]");
        Done { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// `lcr demo --serve`.
    pub(crate) fn serve(&self) -> Program {
        Program::start(self.command(&["demo", "--serve"]))
    }

    /// The same, under another name.
    pub(crate) fn serve_as(&self, name: &str) -> Program {
        let program = self.path().join(name);
        if !program.exists() {
            lcr_tests::copy_program(env!("CARGO_BIN_EXE_lcr").as_ref(), &program);
        }
        Program::start(self.command_of(&program, &["demo", "--serve"]))
    }
}

/// A program that can be asked.
pub(crate) struct Program {
    child: Child,
    pub(crate) pid: String,
    pub(crate) socket: PathBuf,
    is_over: bool,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Program {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |name: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        let pid = line("pid ");
        let socket = PathBuf::from(line("socket "));
        assert_eq!(pid, child.id().to_string());
        Program { child, pid, socket, is_over: false }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Interrupts it: it ends well, for no answer was lost or torn, and takes its
    /// socket away.
    pub(crate) fn end(mut self) {
        self.is_over = true;
        self.signal(Signal::INT);
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket.exists());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The object with this value under that key.
pub(crate) fn find<'a>(all: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = all.as_array().unwrap().iter().find(|one| one[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {all}"))
}

/// An object's keys.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
