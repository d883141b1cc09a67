//! A program with a global allocator of its own, and libraries that use it or bring
//! one: each block is freed by the allocator that made it. Both allocators mark
//! their blocks and end the process when they are handed another's.
//!
//! The same under AddressSanitizer, which also sees what is used after it was freed
//! and what is lost, is a part of `.ci/run asan`. The sanitizer's runtime stands in
//! the program, which must show it to the libraries:
//!
//! ```text
//! RUSTFLAGS="-Zsanitizer=address -Clink-arg=-rdynamic" \
//!     cargo +nightly test -p lcr-tests --test allocators --target x86_64-unknown-linux-gnu
//! ```

mod programs;

use programs::{Build, printed};

const EXCHANGE: Build = Build {
    name: "exchange",
    arguments: &["-p", "exchange", "-p", "lib-own", "-p", "lib-forward", "--lib", "--examples"],
    environment: &[],
    output: "debug",
    files: &["examples/exchange_host", "libexchange_own.so", "libexchange_forward.so"],
};

fn exchange(library: &str) -> String {
    let mut program = EXCHANGE.program("examples/exchange_host");
    printed(program.env("LCR_PATH", EXCHANGE.file(library)))
}

#[test]
fn a_library_with_an_allocator_of_its_own_exchanges_values_with_a_program_that_has_one() {
    assert_eq!(exchange("libexchange_own.so"), "0 blocks more\n");
}

#[test]
fn a_library_that_uses_the_programs_allocator_exchanges_values_with_it() {
    assert_eq!(exchange("libexchange_forward.so"), "0 blocks more\n");
}
