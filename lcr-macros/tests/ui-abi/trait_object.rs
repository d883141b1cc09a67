//! A trait object; the contract in a handle is only a name.

use lcr_core::{Abi, Handle};

#[lcr_core::contract]
trait Clock: Send + Sync {
    fn now(&self) -> u64;
}

#[derive(Abi)]
struct Held {
    callback: Box<dyn Fn()>,
    clock: Handle<dyn Clock>,
}

fn main() {}
