//! The component and its library, with abi_stable.

use abi_stable::export_root_module;
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_extern_fn;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RStr, RString, RVec};
use opponent_abi_stable::{Root, RootRef, Work, Work_TO, WorkBox};

struct Adder(u64);

impl Work for Adder {
    fn add(&self, x: u64) -> u64 {
        (x >> 1).checked_add(self.0).expect("half of a number and one")
    }

    fn greet(&self, who: RStr<'_>) -> RString {
        let mut text = RString::with_capacity(who.len() + 7);
        text.push_str("Hello, ");
        text.push_str(who.as_str());
        text
    }

    fn turn(&self, mut data: RVec<u8>) -> RVec<u8> {
        data[0] = data[0].wrapping_add(1);
        data
    }
}

#[export_root_module]
fn root() -> RootRef {
    Root { new }.leak_into_prefix()
}

#[sabi_extern_fn]
fn new() -> WorkBox {
    Work_TO::from_value(Adder(std::hint::black_box(1)), TD_Opaque)
}
