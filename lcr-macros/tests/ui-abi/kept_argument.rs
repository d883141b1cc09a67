//! A component cannot keep what a call has lent it.

use lcr_core::abi::{Abi, Frame};

fn main() {
    let sender = Frame::new();
    let wire = ["text".to_string()].as_slice().into_wire(&sender);
    let kept: &'static [String] = {
        let receiver = Frame::new();
        unsafe { <&[String]>::from_wire(wire, &receiver) }
    };
    drop(kept);
}
