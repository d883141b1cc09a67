//! Many threads, and constructors that reference: an error, never a deadlock, never
//! a stack overflow. A program that hangs is killed and fails the test.

mod programs;

use programs::{DEV, PROVIDERS, RELEASE, everywhere, printed};

const HINT: &str = "name what a constructor needs in its interface's dependencies (`requires` and `Context::require` in \
                    Rust, `dependencies` in C)";

#[test]
fn sixteen_threads_build_one_singleton_once() {
    for build in [DEV, RELEASE] {
        for program in PROVIDERS {
            let said = printed(build.program(program).arg("crowd"));
            // Never two alive at once, in twenty rounds.
            let lines: Vec<&str> = said.lines().collect();
            assert!(lines.len() >= 2, "{program}: {said}");
            for pair in lines.chunks(2) {
                assert_eq!(pair, ["clock constructor", "clock destructor"], "{program}: {said}");
            }
        }
    }
}

#[test]
fn sixteen_threads_load_one_library_once() {
    for program in PROVIDERS {
        let said = printed(DEV.program(program).arg("crowd_each"));
        assert_eq!(said.lines().filter(|line| *line == "session constructor").count(), 320);
        assert_eq!(said.lines().filter(|line| *line == "session destructor").count(), 320);
    }
}

#[test]
fn a_constructor_that_references_itself_gets_an_error() {
    let failed =
        "failed: `itself` was referenced while it was being constructed on the same path: itself → itself";
    everywhere(
        &DEV,
        &["things", "itself"],
        &format!(
            "itself constructor\nconstruct: the constructor of `itself` version 0 (origin) {failed}; {HINT}\n\
             releasing\n"
        ),
    );
    everywhere(
        &DEV,
        &["things", "stubborn"],
        "stubborn constructor\nstubborn\nreleasing\nstubborn destructor\n",
    );
}

#[test]
fn constructors_that_reference_each_other_over_two_and_three_get_an_error() {
    everywhere(
        &DEV,
        &["things", "two.a"],
        &format!(
            "two.a constructor\ntwo.b constructor\n\
             construct: the constructor of `two.a` version 0 (origin) failed: \
             the constructor of `two.b` version 0 (origin) failed: \
             `two.a` was referenced while it was being constructed on the same path: two.a → two.b → two.a; {HINT}\n\
             releasing\n"
        ),
    );
    everywhere(
        &DEV,
        &["things", "three.a"],
        &format!(
            "three.a constructor\nthree.b constructor\nthree.c constructor\n\
             construct: the constructor of `three.a` version 0 (origin) failed: \
             the constructor of `three.b` version 0 (origin) failed: \
             the constructor of `three.c` version 0 (origin) failed: \
             `three.a` was referenced while it was being constructed on the same path: \
             three.a → three.b → three.c → three.a; {HINT}\n\
             releasing\n"
        ),
    );
}

#[test]
fn what_is_constructed_at_each_reference_and_references_itself_gets_an_error() {
    everywhere(
        &DEV,
        &["things", "each.itself", "each.a"],
        &format!(
            "each.itself constructor\n\
             construct: the constructor of `each.itself` version 0 (origin) failed: \
             `each.itself` was referenced while it was being constructed on the same path: \
             each.itself → each.itself; {HINT}\n\
             each.a constructor\neach.b constructor\n\
             construct: the constructor of `each.a` version 0 (origin) failed: \
             the constructor of `each.b` version 0 (origin) failed: \
             `each.a` was referenced while it was being constructed on the same path: \
             each.a → each.b → each.a; {HINT}\n\
             releasing\n"
        ),
    );
    everywhere(
        &DEV,
        &["things", "raw:raw.itself"],
        &format!(
            "reentered: `raw.itself` was referenced while it was being constructed on the same path: \
             raw.itself → raw.itself; {HINT}\n\
             construct: the constructor of `raw.itself` version 0 (origin) failed: it returned 7\n\
             releasing\n"
        ),
    );
}

#[test]
fn two_threads_whose_constructors_reference_each_other_both_end() {
    for program in PROVIDERS {
        let said = printed(DEV.program(program).arg("opposite"));
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        let all = [
            "opposite.a constructor",
            "opposite.a destructor",
            "opposite.b constructor",
            "opposite.b destructor",
        ];
        assert_eq!(lines, all, "{program}");
    }
}

#[test]
fn a_constructor_that_waits_for_a_thread_which_references_it_gets_an_error() {
    for program in PROVIDERS {
        let said = printed(DEV.program(program).env("LCR_CONSTRUCT_WAIT", "0.2").args(["things", "joins"]));
        let begins = "joins constructor\nconstruct: the constructor of `joins` version 0 (";
        assert!(said.starts_with(begins), "{program}: {said}");
        let waited = "failed: `joins` is still being constructed by another thread (";
        assert!(said.contains(waited) && said.contains(") after 200ms: if that one"), "{program}: {said}");
        assert!(said.ends_with("\nreleasing\n"), "{program}: {said}");
    }
}

#[test]
fn a_constructor_may_reference_what_has_nothing_to_do_with_it() {
    everywhere(
        &DEV,
        &["things", "unrelated"],
        "unrelated constructor\n\
         chain.bottom constructor\n\
         unrelated over chain.bottom\n\
         releasing\n\
         chain.bottom destructor\n\
         unrelated destructor\n",
    );
}

#[test]
fn who_waits_for_a_line_that_has_gone_on_is_not_part_of_a_circle() {
    for program in PROVIDERS {
        printed(DEV.program(program).arg("bystanders"));
    }
}

#[test]
fn the_last_handle_may_go_with_its_threads_locals() {
    everywhere(
        &DEV,
        &["at_thread_end"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         chain.second constructor\n\
         chain.top constructor\n\
         chain.top destructor\n\
         chain.second destructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n\
         the thread has ended\n",
    );
}
