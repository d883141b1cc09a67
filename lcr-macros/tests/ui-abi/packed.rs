//! The fields of a packed struct cannot be lent.

use lcr_core::Abi;

#[derive(Abi)]
#[repr(C, packed)]
struct Header {
    kind: u8,
    length: u32,
}

fn main() {}
