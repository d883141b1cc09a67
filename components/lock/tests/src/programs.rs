//! The two programs of these tests, as their tests use them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lcr_lock::{Guest, Resource};

/// A manager in a process of its own: it starts a guest, plugs a disk, and does no more.
#[derive(Debug)]
pub struct Starter {
    process: Child,
    /// The guest's standard input: it ends with this.
    pub input: ChildStdin,
    /// The guest's process.
    pub pid: u32,
    /// What the manager has written down.
    pub state: String,
}

impl Starter {
    /// Starts it, from this program.
    ///
    /// # Panics
    ///
    /// If it does not come to start a guest.
    #[must_use]
    #[track_caller]
    pub fn new(
        program: &str,
        interface: &str,
        guest: &Guest,
        disk: &Resource,
        plugged: &Resource,
    ) -> Starter {
        let mut process = Command::new(program)
            .args([interface, &guest.name, &guest.uuid.to_string()])
            .args([disk.path(), plugged.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let line = first_line(process.stdout.take());
        let (pid, state) = line.split_once(' ').unwrap_or_else(|| panic!("the starter says {line:?}"));
        let input = process.stdin.take().unwrap_or_else(|| unreachable!("it was asked for"));
        Starter { input, pid: pid.parse().expect("a number"), state: state.to_owned(), process }
    }

    /// Kills the manager, as nothing can be caught.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process that wants to lock a file's first byte, with plain system calls.
#[derive(Debug)]
pub struct Rival {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Rival {
    /// Starts one that tries all the time; when this returns, it has tried.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    #[track_caller]
    pub fn trying(program: &str, file: &Path) -> Rival {
        Rival::new(program, "try", file)
    }

    /// Starts one that has taken the older kind of lock when this returns.
    ///
    /// # Panics
    ///
    /// If it does not get it.
    #[must_use]
    #[track_caller]
    pub fn holding(program: &str, file: &Path) -> Rival {
        Rival::new(program, "hold", file)
    }

    fn new(program: &str, what: &str, file: &Path) -> Rival {
        let mut process = Command::new(program)
            .arg(what)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut output =
            BufReader::new(process.stdout.take().unwrap_or_else(|| unreachable!("it was asked for")));
        let mut line = String::new();
        output.read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "ready\n");
        Rival { process, output }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it; answers how often it has tried, and how often it got the lock.
    ///
    /// # Panics
    ///
    /// If it does not say.
    #[track_caller]
    pub fn ended(mut self) -> (u64, u64) {
        drop(self.process.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a pipe can be read");
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [tried, got] = numbers[..] else { panic!("the rival says {line:?}") };
        (tried, got)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn first_line(output: Option<ChildStdout>) -> String {
    let mut line = String::new();
    let output = output.unwrap_or_else(|| unreachable!("it was asked for"));
    BufReader::new(output).read_line(&mut line).expect("a pipe can be read");
    line.trim_end().to_owned()
}
