#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    fn greet(&self, who: &str) -> String;
}

#[derive(lcr_core::Interface)]
#[interface(name = "greeter", version = 0, contract = dyn Greeter)]
pub enum English {
    Loud,
    Soft,
}

#[derive(lcr_core::Interface)]
#[interface(name = "greeter", version = 1, contract = dyn Greeter)]
pub struct Polyglot<L> {
    language: L,
}

fn main() {}
