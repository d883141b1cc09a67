#[lcr_core::contract]
pub struct Greeter;

fn main() {}
