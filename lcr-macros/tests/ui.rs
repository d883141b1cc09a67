//! What the macros say about code that they do not take.
//!
//! Each file in `ui/` is one misuse, and the `.stderr` beside it is what a person
//! reads. After a change of a message, `TRYBUILD=overwrite` writes them anew: read
//! the difference before it is committed.

#[test]
fn each_misuse_is_refused_with_what_to_write_instead() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    cases.compile_fail("tests/ui-abi/*.rs");
}
