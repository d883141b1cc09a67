//! Two types that hold each other: the macro sees one at a time, the compiler says it.

use lcr_core::Abi;

#[derive(Abi)]
struct Folder {
    name: String,
    files: Vec<File>,
}

#[derive(Abi)]
struct File {
    name: String,
    links: Vec<Folder>,
}

fn main() {}
