//! The same cases with components that are compiled in, that are loaded, and with
//! one half of each: nobody can tell the difference.

mod programs;

use programs::{DEV, RELEASE, everywhere};

#[test]
fn a_typed_interface_gets_what_it_requires_and_serves_any_thread() {
    everywhere(
        &DEV,
        &["typed"],
        "clock constructor\n\
         greeter constructor\n\
         hello, world, at 100\n\
         hello, thread, at 101\n\
         hello, instance, at 102\n\
         greeter destructor\n\
         clock destructor\n",
    );
}

#[test]
fn a_raw_table_is_constructed_at_each_reference_with_its_context() {
    everywhere(
        &DEV,
        &["raw"],
        "A 0 constructor 0xaaaa0000\n\
         A 1 constructor 0xaaaa1111\n\
         A 1 constructor 0xaaaa2222\n\
         2 1002 1020\n\
         A 1 destructor 0xaaaa1111\n\
         20 1003\n\
         A 0 destructor 0xaaaa0000\n\
         A 1 destructor 0xaaaa2222\n\
         A 0 constructor 0x0\n",
    );
}

#[test]
fn an_interface_per_reference_is_one_object_for_each_reference_and_its_clones() {
    everywhere(
        &DEV,
        &["per_reference"],
        "session constructor\n\
         session constructor\n\
         1 2 1\n\
         1 2 3 1\n\
         session destructor\n\
         one is left\n\
         session constructor\n\
         3\n\
         session destructor\n\
         session destructor\n",
    );
}

#[test]
fn a_singleton_is_one_object_until_the_last_reference_goes() {
    everywhere(
        &DEV,
        &["singleton"],
        "clock constructor\n\
         1 1\n\
         100 101 102\n\
         103\n\
         clock destructor\n\
         nobody has it\n\
         clock constructor\n\
         100\n\
         clock destructor\n",
    );
}

#[test]
fn an_equal_version_answers_else_the_highest_that_replaces_it_and_ranges_take_the_highest() {
    everywhere(
        &DEV,
        &["versions"],
        "1 -> thing 1\n\
         2 -> thing 2\n\
         3 -> thing 4\n\
         0 -> thing 4\n\
         any -> thing 4\n\
         1..=2 -> thing 2\n\
         2..4 -> thing 2\n\
         3.. -> thing 4\n\
         ..=1 -> thing 1\n",
    );
}

#[test]
fn raw_and_typed_interfaces_of_one_component_are_told_apart() {
    everywhere(
        &DEV,
        &["mixed_up"],
        "contract: `A_iface1` version 1 (origin) does not fit: the interface has a raw C table, and the contract \
         `Clock` was wanted: use `reference_raw`\n\
         typed: `thing` version 2 (origin) is a typed interface of contract `Thing`, and has no table of C \
         functions: only Rust code can reference it, with `reference::<dyn Thing>`\n\
         contract: `thing` version 1 (origin) does not fit: the contract is `Thing`, and `Clock` was wanted\n",
    );
}

#[test]
fn handles_cross_the_border_as_arguments_and_results_and_are_counted() {
    everywhere(
        &DEV,
        &["handles"],
        "clock constructor\n\
         greeter constructor\n\
         1 1\n\
         100 101\n\
         102\n\
         greeter destructor\n\
         clock destructor\n",
    );
}

/// With optimisation, as it is shipped.
#[test]
fn a_panic_of_a_component_is_a_panic_or_an_error_of_the_caller_with_its_message() {
    everywhere(
        &RELEASE,
        &["panics"],
        "clock constructor\n\
         greeter constructor\n\
         the disk is ünreadable\n\
         a panic whose payload is no text\n\
         inside\n\
         the component panicked in `Greeter::tries`: no luck\n\
         Ok(4)\n\
         hello, world, at 100\n\
         greeter destructor\n\
         clock destructor\n",
    );
}

#[test]
fn a_constructor_gets_all_kinds_of_parameters_and_the_pointer_or_says_what_is_wrong() {
    everywhere(
        &DEV,
        &["parameters"],
        "-7 0.5 vm1 ü [0, 255] 30313233-3435-3637-3839-616263646566 0xaaaa0000 for parameters 0\n\
         -7 3 vm1 ü [0, 255] 30313233-3435-3637-3839-616263646566 0xaaaa0000 for parameters 0\n\
         construct: the constructor of `parameters` version 0 (origin) failed: parameter `integer` is text, and an \
         integer was wanted\n\
         construct: the constructor of `parameters` version 0 (origin) failed: parameter `uuid` is bytes, and a uuid \
         was wanted\n\
         construct: the constructor of `parameters` version 0 (origin) failed: parameter `integer` is missing (given: \
         uuid, float)\n\
         construct: the constructor of `parameters` version 0 (origin) failed: parameter `uuid` is missing (none was \
         given)\n",
    );
}
