//! The greeter tutorial: one source of the component, two programs.

use std::process::Command;
use std::sync::Arc;

use lcr_tests::{Artifacts, Profile, Scratch, build, run, stdout, told};

fn greeter() -> Arc<Artifacts> {
    build(&["lcr-sample-greeter", "lcr-sample-greeter-english-library"], Profile::Release)
}

/// `Good morning, Ada!` and its like.
#[track_caller]
fn greets(said: &str, who: &str) {
    let any = ["morning", "afternoon", "evening"].map(|time| format!("Good {time}, {who}!\n"));
    assert!(any.iter().any(|greeting| greeting == said), "{said:?}");
}

#[test]
fn a_program_of_one_file_greets() {
    let (greeter, alone) = (greeter(), Scratch::new());
    let program = alone.copy(&greeter.program("greeter"));
    greets(&stdout(Command::new(program).arg("Ada").env_remove("LCR_PATH")), "Ada");
}

#[test]
fn a_library_greets_by_the_programs_clock() {
    let (greeter, libraries) = (greeter(), Scratch::new());
    libraries.copy(&greeter.library("english"));
    let mut program = Command::new(greeter.program("greeter_dynamic"));
    greets(&stdout(program.arg("Ada").env("LCR_PATH", libraries.path())), "Ada");
}

#[test]
fn without_the_library_the_error_says_where_it_was_sought() {
    let (greeter, empty) = (greeter(), Scratch::new());
    let mut program = Command::new(greeter.program("greeter_dynamic"));
    let output = run(program.arg("Ada").env("LCR_PATH", empty.path()));
    assert_eq!(output.status.code(), Some(1), "{}", told(&program, &output));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "Error: no component offers `greeter` version 2; searched: the program, {}\n",
            empty.path().display()
        )
    );
}

#[test]
fn without_a_search_path_the_error_says_how_to_set_one() {
    let greeter = greeter();
    let mut program = Command::new(greeter.program("greeter_dynamic"));
    let output = run(program.arg("Ada").env_remove("LCR_PATH"));
    assert_eq!(output.status.code(), Some(1), "{}", told(&program, &output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("set LCR_PATH"), "{}", told(&program, &output));
}
