#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    fn greet(&self, who: &str) -> String;
}

#[lcr_core::component]
mod english {
    use super::Greeter;

    #[derive(lcr_core::Interface)]
    #[interface(name = "greeter", version = 1, replaces(0, 1, 0), contract = dyn Greeter, requires("greeter"))]
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
}

/// What is wrong with one is said of that alone.
#[lcr_core::component]
mod beside {
    use super::Greeter;

    #[derive(lcr_core::Interface)]
    #[interface(name = "sound", version = 1, contract = dyn Greeter)]
    pub struct Sound;

    #[derive(lcr_core::Interface)]
    #[interface(name = "itself", version = 1, contract = dyn Greeter, requires("itself"))]
    pub struct Itself;

    impl Construct for Sound {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Sound)
        }
    }

    impl Greeter for Sound {
        fn greet(&self, who: &str) -> String {
            who.to_owned()
        }
    }
}

fn main() {}
