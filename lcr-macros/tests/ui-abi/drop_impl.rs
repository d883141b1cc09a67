//! A type with a destructor of its own cannot be taken apart.

use lcr_core::Abi;

#[derive(Abi)]
struct Guard {
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {}
}

fn main() {}
