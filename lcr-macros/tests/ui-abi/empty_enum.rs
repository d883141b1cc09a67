//! No value, nothing to cross.

use lcr_core::Abi;

#[derive(Abi)]
enum Never {}

fn main() {}
