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

lcr_core::file_component! {
    English,
    #[interface(name = "greeter", version = 0)]
    mod v0 {
        #[function]
        extern "C" fn func1() {}
    }
}

fn main() {}
