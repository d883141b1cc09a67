#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    fn greet(&self, who: &str) -> String;
}

#[lcr_core::component]
mod english {
    use super::Greeter;

    #[derive(lcr_core::Interface)]
    #[interface(name = "greeter", version = 0, contract = dyn Greeter)]
    pub struct English;

    impl Greeter for English {
        fn greet(&self, who: &str) -> String {
            who.to_owned()
        }
    }
}

fn main() {}
