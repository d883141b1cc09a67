#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    fn greet(&self, who: &str) -> String;
}

use lcr_core::prelude::*;

#[derive(Interface)]
#[interface(name = "greeter", version = 0, contract = dyn Greeter)]
pub struct English;

impl Construct for English {
    fn construct(_: &Context) -> Result<Self, BoxError> {
        Ok(English)
    }
}

impl Greeter for English {
    fn greet(&self, who: &str) -> String {
        who.to_owned()
    }
}

fn main() {}
