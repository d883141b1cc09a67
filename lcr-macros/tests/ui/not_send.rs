#[lcr_core::contract]
pub trait Greeter {
    fn greet(&self, who: &str) -> String;
}

fn main() {}
