//! provisional
mod api {
    #[lcr_core::contract]
    pub trait Clock: Send + Sync {
        fn now(&self) -> u64;
    }

    /// Greets.
    #[lcr_core::contract]
    pub trait Greeter: Send + Sync {
        /// Greets someone.
        fn greet(&self, who: &str) -> String;
        /// Appended later: providers built before it answer with this body.
        fn languages(&self) -> Vec<String> {
            vec!["en".into()]
        }
    }
}

#[lcr_core::component]
pub mod english {
    use super::api::{Clock, Greeter};
    #[derive(lcr_core::Interface)]
    #[interface(name = "greeter", version = 2, replaces(0, 1), contract = dyn Greeter, requires("clock" as dyn Clock))]
    pub struct English {
        clock: Handle<dyn Clock>,
    }

    impl Construct for English {
        fn construct(cx: &Context) -> Result<Self, BoxError> {
            Ok(English { clock: cx.require("clock")? })
        }
    }

    impl Greeter for English {
        fn greet(&self, who: &str) -> String {
            format!("hello, {who}, at {}", self.clock.now())
        }
    }
}
#[test]
fn x() {}
