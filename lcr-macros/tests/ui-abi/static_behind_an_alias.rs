//! The macro cannot see through an alias; the borrow checker can.

use lcr_core::Abi;

type Text = &'static str;

#[derive(Abi)]
struct Label {
    text: Text,
}

fn main() {}
