//! Exit codes, help, and who reads the output.

use std::io::Read;
use std::process::Stdio;

use crate::world::{World, component, library};

#[test]
fn wrong_usage_is_code_2() {
    let world = World::new();
    for wrong in [
        &["inspect"][..],
        &["list"],
        &["tree"],
        &["check", "x.so"],
        &["check", "--host", "x"],
        &["inspect", "--jsn", "x.so"],
        &["replicate"],
        &[],
    ] {
        let done = world.lcr(wrong);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(done.err.contains("Usage: lcr"), "{}", done.err);
    }
}

/// `lcr guest list` is `lcr-guest list`.
#[test]
fn a_command_that_is_a_program_of_its_own_is_executed() {
    let world = World::new();
    let program = world.script("lcr-else", "#!/bin/sh\necho \"$0: $*\"; exit 7\n");
    let run = |argument: &str| {
        let mut command = world.command(&[argument, "--json", "a b"]);
        let path = std::env::join_paths([program.parent().unwrap(), "/usr/bin".as_ref(), "/bin".as_ref()]);
        command.env("PATH", path.unwrap()).output().unwrap()
    };
    let output = run("else");
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("lcr-else: --json a b\n"));
    // None, and none that is meant.
    for wrong in ["elsewhere", "../lcr-else", "--else"] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: lcr"));
    }
}

#[test]
fn list_without_a_place_says_what_to_name() {
    let world = World::new();
    snapbox::assert_data_eq!(
        world.lcr(&["list"]).all(),
        snapbox::str![[r#"
--- standard error
error: nothing to list: name a directory or a file, or set LCR_PATH

Usage: lcr list [OPTIONS] [DIR|FILE]...

For more information, try '--help'.
--- exit code 2

"#]]
    );
}

#[test]
fn help_names_the_commands_and_not_the_hidden_one() {
    let world = World::new();
    let help = world.lcr(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["inspect", "list", "tree", "check", "demo"] {
        assert!(help.out.contains(command), "{}", help.out);
    }
    assert!(!help.out.contains("__probe"), "{}", help.out);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let world = World::new();
    let note = component("many", &[("a", 0, &[])]);
    world.file("libmany.so", library(&[&note]));
    // More than a pipe holds.
    let mut arguments = vec!["inspect"];
    arguments.extend(std::iter::repeat_n("libmany.so", 2000));
    let mut child = world.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_disk_that_is_full_is_a_failure() {
    let world = World::new();
    world.file("libmany.so", library(&[]));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = world.command(&["inspect", "libmany.so"]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "lcr: cannot write to standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn colour_is_for_terminals_and_for_those_who_force_it() {
    let world = World::new();
    world.file("libmade.so", library(&[&component("made", &[("a", 0, &[])])]));
    assert!(!world.lcr(&["inspect", "libmade.so"]).out.contains('\x1b'));
    let mut forced = world.command(&["inspect", "libmade.so"]);
    assert!(world.run(forced.env("CLICOLOR_FORCE", "1")).out.contains('\x1b'));
    assert!(!world.run(forced.env("NO_COLOR", "1")).out.contains('\x1b'));
}
