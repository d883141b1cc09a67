//! A call lends, it does not share to be changed.

use lcr_core::Abi;

#[derive(Abi)]
struct Buffer<'a> {
    bytes: &'a mut [u8],
}

fn main() {}
