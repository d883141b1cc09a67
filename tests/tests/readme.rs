//! The README is true: its commands run and say what it shows, and the code that
//! it shows stands in the samples.
//!
//! - In a `sh` block each line is a command that must succeed.
//! - In a `console` block what stands below a `$` line is what the command says,
//!   on both streams, or on standard output if it is cargo that runs it; a `…` stands for the rest of a line, a line `…` for the rest
//!   of the output. A command with nothing below it must succeed.
//! - A `rust` block begins with the file that it is taken from.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lcr_tests::{run, told, workspace};

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

/// Runs a line of the README in the workspace's directory; answers what it said.
#[track_caller]
fn says(line: &str) -> (bool, String) {
    let target = target().display().to_string();
    let mut shell = Command::new("bash");
    let streams = if line.starts_with("cargo ") { "" } else { "exec 2>&1\n" };
    let line = line.replace("target/", &format!("{target}/"));
    shell.args(["-euo", "pipefail", "-c", &format!("{streams}{line}")]);
    shell.current_dir(workspace()).env("CARGO_TARGET_DIR", &target).env("CARGO_TERM_QUIET", "true");
    shell.env_remove("LCR_PATH").env("RUST_BACKTRACE", "0").env("NO_COLOR", "1");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            shell.env_remove(name);
        }
    }
    let output = run(&mut shell);
    if !output.status.success() && streams.is_empty() {
        return (false, told(&shell, &output));
    }
    (output.status.success(), String::from_utf8_lossy(&output.stdout).replace(&target, "target"))
}

/// Does `said` look like what the README shows?
fn looks_like(shown: &[String], said: &str) -> bool {
    let mut said = said.lines();
    for shown in shown {
        if shown == "…" {
            return said.next().is_some();
        }
        let Some(said) = said.next() else { return false };
        if !line_looks_like(shown, said) {
            return false;
        }
    }
    said.next().is_none()
}

fn line_looks_like(shown: &str, said: &str) -> bool {
    // The one sample that looks at the clock.
    let said = said.replace("Good afternoon", "Good morning").replace("Good evening", "Good morning");
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

#[test]
fn its_commands_say_what_it_shows() {
    for block in of_kind("console") {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{line:?} follows no command"));
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.clone());
            }
            let (fine, said) = says(command);
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
}

#[test]
fn its_two_commands_are_the_ones_that_ci_runs() {
    let [block] = of_kind("sh").try_into().ok().expect("one block of sh");
    let ci = fs::read_to_string(workspace().join(".ci/run")).unwrap();
    assert_eq!(block.lines.last().map(String::as_str), Some(THIS));
    for line in &block.lines {
        assert!(ci.lines().any(|of_ci| of_ci.contains(&format!("as_user {line}"))), "{line}");
        if line != THIS {
            let (fine, said) = says(line);
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
}
