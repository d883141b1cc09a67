//! The README is true. What stands below a `$` line of a `console` block is what the
//! command says; `…` stands for anything in a line, a line `…` for some lines. A block
//! `console stays` is a terminal of its own, whose command runs on.

use std::process::{Command, Stdio};

use crate::world::{World, soon};

#[test]
fn the_commands_of_the_readme_say_what_it_shows() {
    let world = World::new();
    let host = world.host("host");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_lcr-guest")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let shell = |line: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", line]).current_dir(world.path("")).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{path}", bin.display())).env_remove("LCR_PATH");
        shell.env("LCR_RUNTIME_DIR", &host.directory);
        shell
    };
    let readme = include_str!("../../README.md");
    // What it says to build, in the tests' own profile.
    let packages: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("cargo build --release "))
        .flat_map(str::split_whitespace)
        .filter(|word| *word != "-p")
        .collect();
    assert_eq!(packages, ["lcr-guest", "lcr-cli", "lcr-lock-file-two"]);
    let built = lcr_tests::build(&packages[1..], lcr_tests::Profile::Dev);
    assert_eq!(built.program("lcr").parent(), Some(bin), "they are found where the README looks");
    let mut terminals = Vec::new();
    let mut run = 0;
    for block in readme.split("```console").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        let (kind, block) = block.split_once('\n').unwrap();
        for command in block.split("$ ").filter(|command| !command.is_empty()) {
            // A `$` of the shell has no blank behind it.
            let (line, expected) = command.split_once('\n').unwrap_or((command, ""));
            run += 1;
            if kind == " stays" {
                // In a script, the shell would stay between.
                let (before, last) = line.rsplit_once("; ").unwrap_or(("true", line));
                terminals
                    .push(shell(&format!("{before}; exec {last}")).stderr(Stdio::null()).spawn().unwrap());
                let pid = terminals.last().unwrap().id();
                let is_it =
                    |guest: &serde_json::Value| guest["supervisor_pid"] == pid && guest["state"] == "running";
                let hosts = [host.clone(), world.host("other-host")];
                soon(line, || hosts.iter().any(|host| host.list().iter().any(is_it)).then_some(()));
                soon("the other side has it alone", || {
                    let names = hosts.iter().map(|host| host.list().len()).sum::<usize>();
                    (names == 1).then_some(())
                });
                continue;
            }
            let run = || {
                let output = shell(&format!("exec 2>&1; {line}")).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            let mut said = run();
            if line == "lcr-guest list" && !fits(&said, expected) {
                // What was killed takes a moment to end.
                let start = std::time::Instant::now();
                while !fits(&said, expected) && start.elapsed() < std::time::Duration::from_secs(10) {
                    said = run();
                }
            }
            assert!(fits(&said, expected), "{line}\nsays\n{said}and not\n{expected}");
        }
    }
    assert!(run > 10, "{run} commands");
    for mut terminal in terminals {
        soon("it ends", || terminal.try_wait().unwrap());
    }
}

/// Whether each line that is shown is said, in this order and without others.
fn fits(said: &str, expected: &str) -> bool {
    let expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
    let said: Vec<&str> = said.lines().collect();
    let (expected, some) = match expected.split_last() {
        Some((&"…", before)) => (before, true),
        _ => (&expected[..], false),
    };
    (said.len() == expected.len() || some && said.len() >= expected.len())
        && expected.iter().zip(&said).all(|(expected, said)| line_fits(said, expected))
}

fn line_fits(said: &str, expected: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (said, expected) = (words(said), words(expected));
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn a_pattern_fits_what_it_shows_and_nothing_else() {
    assert!(line_fits("a  b c", "a b …") && line_fits("web 12 13 x", "web … … x") && line_fits("a", "a"));
    assert!(!line_fits("a b", "a") && !line_fits("web 12 y", "web … x") && !line_fits("b", "a…"));
    assert!(fits("a\nb\nc\n", "a\n…\n") && !fits("a\nb\n", "a\n") && fits("", ""));
}
