//! Nothing says which field of a union is there.

use lcr_core::Abi;

#[derive(Abi)]
#[repr(C)]
union Word {
    bytes: [u8; 4],
    number: u32,
}

fn main() {}
