//! A field whose type has no fixed layout.

use lcr_core::Abi;
use std::collections::HashMap;

#[derive(Abi)]
struct Index {
    names: HashMap<String, u32>,
    list: Vec<std::rc::Rc<str>>,
}

#[derive(Abi)]
enum Either {
    Left(*const u8),
    Right { callback: fn() },
}

fn main() {}
