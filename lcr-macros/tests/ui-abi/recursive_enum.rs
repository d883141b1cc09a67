//! A recursive enum, through another module path of the same name.

use lcr_core::Abi;

#[derive(Abi)]
enum Json {
    Null,
    Text(String),
    List(Vec<self::Json>),
}

fn main() {}
