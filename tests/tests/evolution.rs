//! Contracts that change: programs and libraries that were built against different
//! times of one contract crate.

mod programs;

use lcr_tests::Scratch;
use programs::{EVOLUTION, printed};

/// What a program prints with a library, and whether any code of the library ran.
fn meet(host: &str, library: &str) -> (String, bool) {
    let scratch = Scratch::new();
    let mark = scratch.path().join("mark");
    let library = EVOLUTION.file(library);
    let mut program = EVOLUTION.program(host);
    let said = printed(program.env("LCR_PATH", &library).env("MARK", &mark));
    let origin = format!("({})", library.display());
    (said.replace(&origin, "(library)"), mark.exists())
}

#[test]
fn programs_and_libraries_of_one_time_meet() {
    let both = "hello, world\n2\n".to_owned();
    assert_eq!(meet("host_old", "libgreetings_old.so"), (both.clone(), true), "and leave a mark");
    assert_eq!(meet("host_new", "libgreetings_new.so"), (both + "[\"de\"]\n", true));
}

#[test]
fn a_new_program_gets_the_default_body_for_what_an_old_library_lacks() {
    let said = "hello, world\n2\n[\"en\", \"hello, the default body\"]\n";
    assert_eq!(meet("host_new", "libgreetings_old.so"), (said.to_owned(), true));
}

#[test]
fn an_old_program_calls_a_new_library() {
    assert_eq!(meet("host_old", "libgreetings_new.so"), ("hello, world\n2\n".to_owned(), true));
}

#[test]
fn a_changed_signature_is_refused_before_any_code_of_the_library_runs() {
    let said = "contract: `greetings` version 1 (library) does not fit: method 1 of contract `Greetings` differs: \
                expected `count: fn(Vec<String>) -> u64`, found `count: fn(Vec<String>) -> u32`; \
                methods may only be appended to a contract: rebuild the older side\n";
    for host in ["host_old", "host_new", "host_strict"] {
        assert_eq!(meet(host, "libgreetings_changed.so"), (said.to_owned(), false), "{host}");
    }
}

#[test]
fn a_removed_method_is_refused_by_its_name_before_any_code_of_the_library_runs() {
    let said = "contract: `greetings` version 1 (library) does not fit: contract `Greetings`: the provider has no \
                method `count` (`count: fn(Vec<String>) -> u64`), and the trait has no default body for it: \
                rebuild the component against the present contract\n";
    for host in ["host_old", "host_new", "host_strict"] {
        assert_eq!(meet(host, "libgreetings_removed.so"), (said.to_owned(), false), "{host}");
    }
}

#[test]
fn an_appended_method_without_a_default_makes_older_libraries_unfit() {
    let missing = "contract: `greetings` version 1 (library) does not fit: contract `Greetings`: the provider has \
                   no method `rename` (`rename: fn(String, String)`), and the trait has no default body for it: \
                   rebuild the component against the present contract\n";
    assert_eq!(meet("host_strict", "libgreetings_old.so"), (missing.to_owned(), false));
    let differs = "contract: `greetings` version 1 (library) does not fit: method 2 of contract `Greetings` \
                   differs: expected `rename: fn(String, String)`, found `languages: fn() -> Vec<String>`; \
                   methods may only be appended to a contract: rebuild the older side\n";
    assert_eq!(meet("host_strict", "libgreetings_new.so"), (differs.to_owned(), false));
}

/// The parameter has another name in each time of the contract.
#[test]
fn names_of_parameters_are_no_part_of_a_signature() {
    let old = include_str!("../fixtures/programs/evolution/contract-old/src/lib.rs");
    let new = include_str!("../fixtures/programs/evolution/contract-new/src/lib.rs");
    assert!(old.contains("greet(&self, who: &str)") && new.contains("greet(&self, name: &str)"));
    assert_eq!(meet("host_old", "libgreetings_new.so").0, "hello, world\n2\n");
}
