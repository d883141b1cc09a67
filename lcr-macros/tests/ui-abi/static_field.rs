//! What is borrowed lives as long as a call.

use lcr_core::Abi;

#[derive(Abi)]
struct Label {
    text: &'static str,
}

fn main() {}
