//! The sample programs are real processes, and it shows nowhere in what they
//! print whether their components were compiled in, loaded, or both.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use lcr_core::metadata::Metadata;
use lcr_tests::{Artifacts, Profile, Scratch, build, run, told};

const LINES: &str = "\
A - version 0 constructor context 0xaaaa0000
B - version 0 constructor context 0xbbbb0000
A - version 1 constructor context 0xaaaa1111
B - version 1 constructor context 0xbbbb1111
A - version 0 func1
A - version 0 func2
A - version 0 func3
A - version 0 destructor context 0xaaaa0000
A - version 1 func1
A - version 1 func2
A - version 1 func3
A - version 1 destructor context 0xaaaa1111
B - version 0 func1
B - version 0 func2
B - version 0 func3
B - version 0 destructor context 0xbbbb0000
B - version 1 func1
B - version 1 func2
B - version 1 func3
B - version 1 destructor context 0xbbbb1111
";

fn samples() -> Arc<Artifacts> {
    let packages = ["lcr-sample-a-library", "lcr-sample-b-library", "lcr-sample-programs"];
    build(&packages, Profile::Release)
}

/// A sample program in an environment that says nothing of libraries.
fn sample(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_remove("LCR_PATH");
    command
}

#[track_caller]
fn prints_the_lines_and_nothing_else(command: &mut Command) {
    let output = run(command);
    let told = told(command, &output);
    assert!(output.status.success(), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), LINES, "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{told}");
}

#[test]
fn the_static_program_needs_no_shared_object() {
    let samples = samples();
    let alone = Scratch::new();
    let program = alone.copy(&samples.program("test_static"));
    prints_the_lines_and_nothing_else(&mut sample(program));
}

#[test]
fn the_dynamic_program_finds_libraries_in_its_own_directory() {
    let samples = samples();
    prints_the_lines_and_nothing_else(&mut sample(samples.program("test_dynamic")));
}

#[test]
fn the_dynamic_program_finds_libraries_in_the_search_path() {
    let samples = samples();
    let (alone, first, second) = (Scratch::new(), Scratch::new(), Scratch::new());
    let program = alone.copy(&samples.program("test_dynamic"));
    first.copy(&samples.library("test_a"));
    second.copy_as(&samples.library("test_b"), "any-name.lcrso");
    let path = std::env::join_paths([alone.path(), first.path(), second.path()]).unwrap();
    prints_the_lines_and_nothing_else(sample(program).env("LCR_PATH", path));
}

#[test]
fn the_mixed_program_needs_the_library_of_b_alone() {
    let samples = samples();
    let alone = Scratch::new();
    let program = alone.copy(&samples.program("test_mixed"));
    alone.copy(&samples.library("test_b"));
    prints_the_lines_and_nothing_else(&mut sample(program));
}

#[test]
fn a_compiled_in_component_is_asked_before_a_library() {
    let samples = samples();
    let directory = Scratch::new();
    // If it were loaded, it would be refused: everyone can write it.
    let library = directory.copy(&samples.library("test_a"));
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o777)).unwrap();
    directory.copy(&samples.library("test_b"));
    let path = directory.path();
    prints_the_lines_and_nothing_else(sample(samples.program("test_mixed")).env("LCR_PATH", path));
    let refused = run(sample(samples.program("test_dynamic")).env("LCR_PATH", path));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("chmod o-w {}", library.display())), "{stderr}");
}

#[test]
fn a_missing_library_is_an_error_that_names_interface_and_place() {
    let samples = samples();
    let empty = Scratch::new();
    let mut command = sample(samples.program("test_dynamic"));
    let output = run(command.env("LCR_PATH", empty.path()));
    let told = told(&command, &output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty(), "{told}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("A_iface1") && stderr.contains(&*empty.path().to_string_lossy()), "{told}");
}

#[test]
fn what_is_compiled_in_is_what_the_program_links() {
    let samples = samples();
    let held = |file: &Path| -> Vec<(String, i32)> {
        let metadata = Metadata::read(file).unwrap();
        let mut held: Vec<_> = metadata.interfaces().map(|(_, i)| (i.name.clone(), i.version)).collect();
        held.sort();
        held
    };
    let a = [("A_iface1".to_owned(), 0), ("A_iface1".to_owned(), 1)];
    let b = [("B_iface1".to_owned(), 0), ("B_iface1".to_owned(), 1)];
    assert_eq!(held(&samples.program("test_static")), [a.clone(), b.clone()].concat());
    assert_eq!(held(&samples.program("test_dynamic")), []);
    assert_eq!(held(&samples.program("test_mixed")), a);
    assert_eq!(held(&samples.library("test_a")), a);
    assert_eq!(held(&samples.library("test_b")), b);
}

#[test]
fn a_reader_that_goes_away_harms_nobody() {
    let samples = samples();
    for program in ["test_static", "test_dynamic", "test_mixed"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sample(samples.program(program));
        let output = command.stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{}", told(&command, &output));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn where_memfds_cannot_be_executed_private_copies_serve() {
    let samples = samples();
    prints_the_lines_and_nothing_else(sample(samples.program("test_dynamic")).env("LCR_NO_MEMFD", "1"));
}
