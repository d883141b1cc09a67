//! Bounds on type parameters, in either place.

use lcr_core::Abi;

#[derive(Abi)]
struct Named<T: Clone> {
    value: T,
}

#[derive(Abi)]
struct Shown<T>
where
    T: std::fmt::Display,
{
    value: T,
}

fn main() {}
