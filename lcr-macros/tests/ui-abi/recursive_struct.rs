//! A type that holds itself, also behind a `Vec` or a `Box`.

use lcr_core::Abi;

#[derive(Abi)]
struct Node {
    name: String,
    children: Vec<Node>,
    parent: Option<Box<Self>>,
}

fn main() {}
