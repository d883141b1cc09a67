//! The greeter tutorial's contracts: what callers and components agree on.

use std::time::Duration;

/// Tells the time.
#[lcr_core::contract]
pub trait Clock: Send + Sync {
    /// The time since 1970 began, in UTC.
    fn now(&self) -> Duration;
}

/// Greets people.
#[lcr_core::contract]
pub trait Greeter: Send + Sync {
    /// A greeting for `who`, fit for the hour.
    fn greet(&self, who: &str) -> String;

    /// Appended later: providers built before it answer with this body.
    fn languages(&self) -> Vec<String> {
        vec!["en".into()]
    }
}
