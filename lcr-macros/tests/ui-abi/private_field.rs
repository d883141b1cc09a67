//! A field's type that is less visible than the type: its wire is part of the type's.

use lcr_core::Abi;

#[derive(Abi)]
struct Inner {
    number: u32,
}

#[derive(Abi)]
pub struct Outer {
    inner: Inner,
}

fn main() {}
