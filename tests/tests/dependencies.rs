//! What an interface requires: constructed first, released last, and checked as a
//! whole before anything is constructed. The chains go to and fro between two
//! crates, so that with one of them compiled in and the other loaded every arrow
//! crosses the border.

mod programs;

use programs::{DEV, everywhere};

#[test]
fn dependencies_are_constructed_first_and_released_last_once_each() {
    everywhere(
        &DEV,
        &["things", "chain.top"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         chain.second constructor\n\
         chain.top constructor\n\
         chain.top over chain.second over chain.third over chain.bottom\n\
         releasing\n\
         chain.top destructor\n\
         chain.second destructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n",
    );
}

#[test]
fn a_dependency_that_others_hold_outlives_what_required_it() {
    everywhere(
        &DEV,
        &["things", "chain.third", "chain.top", "chain.bottom"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         chain.third over chain.bottom\n\
         chain.second constructor\n\
         chain.top constructor\n\
         chain.top over chain.second over chain.third over chain.bottom\n\
         chain.bottom\n\
         releasing\n\
         chain.top destructor\n\
         chain.second destructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n",
    );
}

#[test]
fn a_circle_is_refused_with_its_path_before_any_constructor_runs() {
    everywhere(
        &DEV,
        &["things", "circle.a", "circle.b"],
        "cycle: the dependencies of `circle.a` form a circle: circle.a → circle.b → circle.c → circle.a\n\
         cycle: the dependencies of `circle.b` form a circle: circle.b → circle.c → circle.a → circle.b\n\
         releasing\n",
    );
}

#[test]
fn a_missing_dependency_is_refused_with_its_path_before_any_constructor_runs() {
    for program in programs::PROVIDERS {
        let said = programs::printed(DEV.program(program).args(["things", "missing.top"]));
        let searched = DEV.directory();
        assert_eq!(
            said,
            format!(
                "dependency: `missing.top` cannot be constructed, missing.top → missing.middle → nowhere: \
                 no component offers any version of `nowhere`; searched: the program, {}\nreleasing\n",
                searched.display()
            ),
            "{program}"
        );
    }
}

#[test]
fn a_failing_constructor_undoes_what_was_constructed_for_it() {
    everywhere(
        &DEV,
        &["things", "fails", "fails"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         fails constructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n\
         construct: the constructor of `fails` version 0 (origin) failed: no disk\n\
         chain.bottom constructor\n\
         chain.third constructor\n\
         fails constructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n\
         construct: the constructor of `fails` version 0 (origin) failed: no disk\n\
         releasing\n",
    );
}

#[test]
fn a_panicking_constructor_undoes_what_was_constructed_for_it() {
    everywhere(
        &DEV,
        &["things", "bursts"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         bursts constructor\n\
         bursts destructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n\
         construct: the constructor of `bursts` version 0 (origin) panicked: kaboom\n\
         releasing\n",
    );
}

#[test]
fn a_dependency_that_fails_fails_what_requires_it_and_the_others_are_released() {
    everywhere(
        &DEV,
        &["things", "over.fails"],
        "chain.bottom constructor\n\
         chain.third constructor\n\
         fails constructor\n\
         chain.third destructor\n\
         chain.bottom destructor\n\
         dependency: `over.fails` cannot be constructed, over.fails → fails: the constructor of `fails` version 0 \
         (origin) failed: no disk\n\
         releasing\n",
    );
}

#[test]
fn a_constructor_that_asks_for_what_it_does_not_require_is_told_what_to_write() {
    everywhere(
        &DEV,
        &["things", "unrequired"],
        "unrequired constructor\n\
         construct: the constructor of `unrequired` version 0 (origin) failed: interface `unrequired` does not \
         require `chain.bottom`: add `requires(\"chain.bottom\" as dyn …)` to its `#[interface(…)]`, so that \
         `chain.bottom` is constructed before it\n\
         releasing\n",
    );
}

#[test]
fn a_dependency_of_another_contract_is_refused_to_the_constructor() {
    everywhere(
        &DEV,
        &["things", "mistaken"],
        "clock constructor\n\
         mistaken constructor\n\
         clock destructor\n\
         construct: the constructor of `mistaken` version 0 (origin) failed: of what interface `mistaken` \
         requires, `clock` version 1 (origin) does not fit: the contract is `Clock`, and `Thing` was wanted\n\
         releasing\n",
    );
}
