//! A greeter that no longer fits: its author has changed a method of the contract.
//!
//! Name and version say that it is `greeter` 2. A program that was compiled against
//! the tutorial's contract and called it would pass a text where an `Option` of one
//! is expected. It is refused before any code of it runs; `lcr check` says so without
//! the program.

/// The contract, as it stood in somebody else's copy.
#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    /// A greeting for `who`, or for everybody. It was `who: &str`.
    fn greet(&self, who: Option<String>) -> String;
}

/// The component.
#[lcr_core::component]
pub mod changed {
    use crate::Greeter;

    /// Greets everybody.
    #[derive(lcr_core::Interface)]
    #[interface(name = "greeter", version = 2, contract = dyn Greeter)]
    pub struct Changed;

    impl Construct for Changed {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Changed)
        }
    }

    impl Greeter for Changed {
        fn greet(&self, who: Option<String>) -> String {
            format!("Hello, {}!", who.as_deref().unwrap_or("everybody"))
        }
    }
}
