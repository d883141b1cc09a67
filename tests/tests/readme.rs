//! The README is true: its commands run and say what it shows, and the code that
//! it shows stands in the samples.
//!
//! - In a `sh` block each line is a command that must succeed.
//! - In a `console` block what stands below a `$` line is what the command says,
//!   on both streams, or on standard output if it is cargo that runs it. A `…`
//!   stands for a part of a line, a line `…` for some lines; a time for any time; how
//!   far columns are apart does not matter. A command with nothing below it must
//!   succeed.
//! - A `console stays` block is a terminal of its own: its command is left running
//!   while those below it run, and interrupted at the end. What stands below it is
//!   what it has said by then.
//! - A `rust` block begins with the file that it is taken from.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lcr_tests::{Scratch, run, told, workspace};

/// This is the command that is running just now. CI runs it under its own name.
const THIS: &str = "cargo test --workspace";

struct Block {
    kind: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for line in readme.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some(Block { kind: kind.to_owned(), lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the README's last block is not closed");
    blocks
}

fn of_kind(kind: &str) -> Vec<Block> {
    let found: Vec<_> = blocks().into_iter().filter(|block| block.kind == kind).collect();
    assert!(!found.is_empty(), "the README has no {kind} block");
    found
}

/// The target directory of this build, which the README calls `target`.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().to_owned()
}

/// A shell that runs a line of the README in the workspace's directory. Programs that
/// can be asked have their sockets in `sockets`, where there are no others.
fn shell(line: &str, sockets: &Scratch) -> Command {
    let target = target().display().to_string();
    let mut shell = Command::new("bash");
    let streams = if line.starts_with("cargo ") { "" } else { "exec 2>&1\n" };
    let line = line.replace("target/", &format!("{target}/"));
    shell.args(["-euo", "pipefail", "-c", &format!("{streams}{line}")]);
    shell.current_dir(workspace()).env("CARGO_TARGET_DIR", &target).env("CARGO_TERM_QUIET", "true");
    shell.env_remove("LCR_PATH").env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").env_remove("COLUMNS");
    shell.env("LCR_RUNTIME_DIR", sockets.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            shell.env_remove(name);
        }
    }
    shell
}

/// Whether a line of the README succeeds, and what it says.
#[track_caller]
fn says(line: &str, sockets: &Scratch) -> (bool, String) {
    let mut shell = shell(line, sockets);
    let output = run(&mut shell);
    if !output.status.success() && line.starts_with("cargo ") {
        return (false, told(&shell, &output));
    }
    (output.status.success(), short(&String::from_utf8_lossy(&output.stdout)))
}

/// The target directory under its short name.
fn short(said: &str) -> String {
    said.replace(&target().display().to_string(), "target")
}

/// A command that is left running.
struct Staying {
    command: String,
    shown: Vec<String>,
    child: Child,
    lines: Receiver<String>,
    said: String,
}

/// No command takes longer to say something.
const PATIENCE: Duration = Duration::from_secs(60);

impl Staying {
    /// Returns when it has said the first line.
    fn start(command: &str, shown: Vec<String>, sockets: &Scratch) -> Staying {
        let mut shell = shell(&format!("exec {command}"), sockets);
        let mut child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = channel();
        thread::spawn(move || said.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let mut staying = Staying { command: command.to_owned(), shown, child, lines, said: String::new() };
        assert!(staying.hears(Instant::now() + PATIENCE), "{} says nothing", staying.command);
        staying
    }

    /// Waits for one more line.
    fn hears(&mut self, deadline: Instant) -> bool {
        let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        self.said.extend(line.iter().flat_map(|line| [short(line), "\n".to_owned()]));
        line.is_ok()
    }

    /// Ends it, once it has said what is shown. (Who is started in the background may
    /// ignore to be interrupted.)
    fn end(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !looks_like(&self.shown, &self.said) {
            let Staying { command, shown, said, .. } = &self;
            let difference = format!("$ {command}\n{said}\nThe README shows:\n{}", shown.join("\n"));
            assert!(self.hears(deadline), "{difference}");
        }
        // SAFETY: a signal to a child that nobody has waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let status = self.child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(libc::SIGTERM), "$ {}: {status}", self.command);
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `said` look like what the README shows?
fn looks_like(shown: &[String], said: &str) -> bool {
    let said: Vec<&str> = said.lines().collect();
    lines_look_like(shown, &said)
}

fn lines_look_like(shown: &[String], said: &[&str]) -> bool {
    match (shown, said) {
        ([], _) => said.is_empty(),
        ([some, shown @ ..], _) if some == "…" => match shown {
            [] => !said.is_empty(),
            _ => (0..=said.len()).any(|at| lines_look_like(shown, &said[at..])),
        },
        ([line, shown @ ..], [one, said @ ..]) => line_looks_like(line, one) && lines_look_like(shown, said),
        (_, []) => false,
    }
}

fn line_looks_like(shown: &str, said: &str) -> bool {
    // The one sample that looks at the clock.
    let said = said.replace("Good afternoon", "Good morning").replace("Good evening", "Good morning");
    // Wherever that is.
    let (shown, said) = (timeless(&shown.replace("…/target/", "target/")), timeless(&said));
    let mut rest = said.as_str();
    let mut parts = shown.split('…');
    let Some(after) = rest.strip_prefix(parts.next().unwrap_or("")) else { return false };
    rest = after;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = if part.is_empty() { "" } else { &rest[at + part.len()..] };
    }
    rest.is_empty()
}

/// A line's words, one blank apart, with a word for each time.
fn timeless(line: &str) -> String {
    const TIME: &str = "TIME";
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let unit = word.trim_end_matches([',', ';', ')']);
        let is_number = |word: &String| word.parse::<f64>().is_ok();
        if ["ns", "µs", "ms", "s"].contains(&unit) && words.last().is_some_and(is_number) {
            words.pop();
            words.pop_if(|word| word == "under");
            words.push(format!("{TIME}{}", &word[unit.len()..]));
            continue;
        }
        let is_moment =
            |mark| word.matches(mark).count() == 2 && word.starts_with(|c: char| c.is_ascii_digit());
        words.push(if is_moment(':') || is_moment('-') { TIME.to_owned() } else { word.to_owned() });
    }
    line[..indent].to_owned() + &words.join(" ")
}

#[test]
fn its_commands_say_what_it_shows() {
    let sockets = Scratch::new();
    let mut staying = Vec::new();
    for block in blocks().into_iter().filter(|block| block.kind.starts_with("console")) {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{line:?} follows no command"));
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.clone());
            }
            if block.kind == "console stays" {
                staying.push(Staying::start(command, shown, &sockets));
                continue;
            }
            let (fine, said) = says(command, &sockets);
            if shown.is_empty() {
                assert!(fine, "$ {command}\n{said}");
            }
            assert!(
                looks_like(&shown, &said),
                "$ {command}\n{said}\nThe README shows:\n{}",
                shown.join("\n")
            );
        }
    }
    // The program last, which has most to say: whether anything was lost.
    assert!(!staying.is_empty());
    staying.into_iter().rev().for_each(Staying::end);
}

#[test]
fn its_two_commands_are_the_ones_that_ci_runs() {
    let [block] = of_kind("sh").try_into().ok().expect("one block of sh");
    let ci = fs::read_to_string(workspace().join(".ci/run")).unwrap();
    assert_eq!(block.lines.last().map(String::as_str), Some(THIS));
    for line in &block.lines {
        assert!(ci.lines().any(|of_ci| of_ci.contains(&format!("as_user {line}"))), "{line}");
        if line != THIS {
            let (fine, said) = says(line, &Scratch::new());
            assert!(fine, "$ {line}\n{said}");
        }
    }
}

#[test]
fn the_code_that_it_shows_is_the_samples() {
    for block in of_kind("rust") {
        let (place, code) = block.lines.split_first().expect("a block is not empty");
        let file = place.strip_prefix("// ").unwrap_or_else(|| panic!("{place:?} names no file"));
        let source =
            fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&code.join("\n")), "{file} does not hold:\n{}", code.join("\n"));
    }
}

#[test]
fn what_it_shows_is_compared_to_the_last_line() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(looks_like(&shown("a\nb"), "a\nb\n"));
    assert!(!looks_like(&shown("a\nb"), "a\n"));
    assert!(!looks_like(&shown("a"), "a\nb\n"));
    assert!(looks_like(&shown("a\n…"), "a\nb\nc\n"));
    assert!(!looks_like(&shown("a\n…"), "a\n"));
    assert!(looks_like(&shown("rustc …, 1 component"), "rustc 1.95.0, 1 component\n"));
    assert!(!looks_like(&shown("rustc …, 1 component"), "rustc 1.95.0, 2 components\n"));
    assert!(looks_like(&shown("at …"), "at noon\n"));
    assert!(!looks_like(&shown(""), "more\n"));
    assert!(looks_like(&shown("a\n…\nz"), "a\nb\nc\nz\n"));
    assert!(!looks_like(&shown("a\n…\nz"), "a\nb\n"));
    assert!(!looks_like(&shown("a\n…\nz"), "a\nz\nb\n"));
    assert!(looks_like(
        &shown("12:00:01.5  held for 97 µs (2 waited)"),
        "23:59:59.9  held for 3.6 ms (2 waited)"
    ));
    assert!(looks_like(&shown("2026-11-21 12:00:01  a   1 s  b"), "2027-01-01 00:00:00  a  under 1 µs  b"));
    assert!(!looks_like(&shown("a in 3 ms, b"), "a in 3 ms; b"));
    assert!(!looks_like(&shown("version 1 → 2"), "version 2 → 1"));
}
