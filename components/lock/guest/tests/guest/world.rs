//! A host or two, disks, and guests that end with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lcr_tests::{Profile, Scratch};
use serde_json::Value;

/// How long anything may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is there.
#[track_caller]
pub(crate) fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not after {} s: {what}", PATIENCE.as_secs());
        std::thread::yield_now();
    }
}

/// The programs of the lock manager's tests: `lock-rival`, `lock-guest`.
pub(crate) fn test_program(name: &str) -> String {
    lcr_tests::build(&["lcr-lock-tests"], Profile::Dev).program(name).display().to_string()
}

pub(crate) fn library(package: &str, name: &str) -> PathBuf {
    lcr_tests::build(&[package], Profile::Dev).library(name)
}

/// Disks, and hosts that share them.
#[derive(Debug)]
pub(crate) struct World {
    scratch: Scratch,
}

/// A run directory.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) directory: PathBuf,
    pub(crate) libraries: Option<PathBuf>,
}

impl World {
    pub(crate) fn new() -> World {
        World { scratch: Scratch::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A disk, which is made if it is not there.
    pub(crate) fn disk(&self, name: &str) -> String {
        let path = self.path(name);
        if !path.exists() {
            std::fs::write(&path, b"disk").unwrap();
        }
        path.display().to_string()
    }

    /// An executable script.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        self.scratch.script(name, text).display().to_string()
    }

    pub(crate) fn host(&self, name: &str) -> Host {
        Host { directory: self.path(name), libraries: None }
    }
}

impl Host {
    pub(crate) fn with(self, library: PathBuf) -> Host {
        Host { libraries: Some(library), ..self }
    }

    /// `lcr-guest` with these arguments, in this host's environment.
    pub(crate) fn command<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lcr-guest"));
        command.args(arguments.iter().map(AsRef::as_ref));
        command.env("LCR_RUNTIME_DIR", &self.directory).env_remove("LCR_PATH").stdin(Stdio::null());
        if let Some(libraries) = &self.libraries {
            command.env("LCR_PATH", libraries);
        }
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn output<S: AsRef<str>>(&self, arguments: &[S]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, and it must do what it is asked for. Answers its standard error.
    #[track_caller]
    pub(crate) fn done<S: AsRef<str>>(&self, arguments: &[S]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", output.status);
        said
    }

    /// Runs it, and it must refuse. Answers why.
    #[track_caller]
    pub(crate) fn refused<S: AsRef<str>>(&self, code: i32, arguments: &[S]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        said
    }

    /// What `list --json` says.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Value> {
        let output = self.output(&["list", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        list.as_array().unwrap().clone()
    }

    /// A guest of the list.
    #[track_caller]
    pub(crate) fn look(&self, name: &str) -> Option<Value> {
        self.list().into_iter().find(|guest| guest["name"] == name)
    }

    /// Waits until a guest is in this state, and answers what the list says of it.
    #[track_caller]
    pub(crate) fn until(&self, name: &str, state: &str) -> Value {
        soon(&format!("{name} is {state}"), || self.look(name).filter(|guest| guest["state"] == state))
    }

    /// Starts a guest that runs until it is ended, and waits until it is running.
    #[track_caller]
    pub(crate) fn run<S: AsRef<str>>(&self, name: &str, arguments: &[S]) -> Program {
        let arguments = arguments.iter().map(AsRef::as_ref);
        let all: Vec<&str> =
            ["run", "--name", name].into_iter().chain(arguments).chain(["--", "cat"]).collect();
        let program = Program::start(self.command(&all));
        self.until(name, "running");
        program
    }

    /// Whether a disk is locked: another guest gets it, or is refused.
    #[track_caller]
    pub(crate) fn is_held(&self, disk: &str) -> bool {
        let name = format!("rival-{}", std::process::id());
        let output = self.output(&["run", "--name", &name, "--disk", disk, "--", "true"]);
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => false,
            Some(125) if said.contains(": held by") => true,
            code => panic!("{code:?}: {said}"),
        }
    }

    #[track_caller]
    pub(crate) fn free_soon(&self, disk: &str) {
        soon(&format!("{disk} is free"), || (!self.is_held(disk)).then_some(()));
    }
}

pub(crate) fn pid(guest: &Value) -> u32 {
    u32::try_from(guest["pid"].as_u64().unwrap_or_else(|| panic!("{guest}"))).unwrap()
}

/// Whether a process is there, and has not ended.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether all of a process stands still.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// `lcr-guest` as a supervisor. Its guest has its standard input, and ends with it: when
/// it is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) child: Child,
    /// Not the child's: waiting for that would close it.
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    said: Option<std::thread::JoinHandle<String>>,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let mut error = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = error.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Program { input: child.stdin.take(), child, lines, said: Some(said) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn write(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// The next line of its standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("there is another line")
    }

    /// Ends what has its standard input, and waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        drop(self.input.take());
        self.wait()
    }

    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        soon("it ends", || self.child.try_wait().unwrap())
    }

    /// Kills it, as nothing can be caught. Its guest has its standard input still.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it, and all that it has started, has said on standard error to its end.
    pub(crate) fn said(mut self) -> String {
        drop(self.input.take());
        self.said.take().unwrap().join().unwrap()
    }
}

pub(crate) fn lines_of(output: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that is not there, in a directory that is.
pub(crate) fn absent(world: &World) -> PathBuf {
    Path::new(&world.disk("here")).with_file_name("absent")
}
