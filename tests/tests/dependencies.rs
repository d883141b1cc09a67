//! What an interface requires: constructed first, released last, and checked as a
//! whole before anything is constructed. The chains go to and fro between two
//! crates, so that with one of them compiled in and the other loaded every arrow
//! crosses the border.

mod programs;

use std::ffi::{CStr, CString, c_void};

use lcr_core::Factory;
use lcr_core::descriptor::{Comp, Iface, Names, RawTable};
use lcr_core::registry::Registration;
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

/// As many interfaces, each of which requires the next.
fn chain(length: usize) -> Vec<&'static Registration> {
    static TABLE: RawTable<1> = RawTable([function as *const c_void]);
    static NONE: Names<0> = Names::new([]);
    extern "C" fn function() {}
    let name =
        |at: usize| -> &'static CStr { Box::leak(CString::new(format!("chain.{at}")).unwrap().into()) };
    let one = |at: usize| -> &'static Registration {
        let iface = if at + 1 < length {
            let next: &'static Names<1> = Box::leak(Box::new(Names::new([name(at + 1)])));
            Iface::raw(name(at), 0, &[], next, None, None, &TABLE)
        } else {
            Iface::raw(name(at), 0, &[], &NONE, None, None, &TABLE)
        };
        let comp: &'static Comp = Box::leak(Box::new(Comp::new(Box::leak(Box::new([iface])))));
        // SAFETY: the descriptor is true, and stays.
        Box::leak(Box::new(unsafe { Registration::new(comp, "link", "chain", "0.0.0", "chain") }))
    };
    (0..length).map(one).collect()
}

#[test]
fn dependencies_may_be_deep_but_not_without_end() {
    let first = |length: usize| {
        let factory = Factory::builder().without_environment().components(chain(length)).build();
        // SAFETY: the table has this function, and no constructor.
        unsafe { factory.reference_raw::<extern "C" fn()>("chain.0", 0, std::ptr::null_mut()) }
    };
    assert!(first(257).is_ok());
    for length in [258, 100_000] {
        let error = first(length).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (
                "dependency",
                "the dependencies of `chain.0` are more than 256 deep: chain.0 → chain.1 → chain.2 → … → chain.257; is \
                 the list of one of them made by a program that has gone wrong?"
            )
        );
    }
}
