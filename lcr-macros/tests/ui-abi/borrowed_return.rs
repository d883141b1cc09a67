//! What the contract macro emits for a return type that borrows.

const _: () = lcr_core::abi::assert_owned::<Option<&'static str>>();

fn main() {}
