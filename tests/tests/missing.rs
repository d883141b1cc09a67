//! A test that could not show anything says so: this is how it looks.

use std::process::{Command, Output};

const PLAYED: &str = "LCR_TESTS_PLAYS_THE_SKIPPED_ONE";

/// Runs this very test once more, in a process where it finds something missing.
fn skipped(ci: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "what_is_missing_is_said_past_the_harness_and_fails_in_ci"]);
    command.env(PLAYED, "1").env("CI", ci).env("RUST_BACKTRACE", "0");
    lcr_tests::run(&mut command)
}

#[test]
fn what_is_missing_is_said_past_the_harness_and_fails_in_ci() {
    if std::env::var_os(PLAYED).is_some() {
        let nowhere = lcr_tests::program("lcr-no-such-program", "nobody can install it");
        assert_eq!(nowhere, None);
        return;
    }
    let at_home = skipped("");
    assert!(at_home.status.success());
    assert_eq!(
        String::from_utf8_lossy(&at_home.stderr),
        "SKIPPED what_is_missing_is_said_past_the_harness_and_fails_in_ci: the program lcr-no-such-program is \
         missing; nobody can install it\n"
    );
    let in_ci = skipped("true");
    assert!(!in_ci.status.success());
    assert!(String::from_utf8_lossy(&in_ci.stdout).contains("the program lcr-no-such-program is missing"));
}

#[test]
fn a_program_in_the_path_is_found() {
    let found = lcr_tests::program("sh", "there is no system without it").unwrap();
    assert!(found.is_absolute() && found.is_file());
}
