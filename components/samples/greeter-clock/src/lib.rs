//! The greeter tutorial's clock: a component that requires nothing.

/// The component.
#[lcr_core::component]
pub mod clock {
    use std::time::{Duration, SystemTime};

    use greeter_api::Clock;

    /// The system's clock.
    #[derive(lcr_core::Interface)]
    #[interface(name = "clock", version = 0, contract = dyn Clock)]
    pub struct SystemClock;

    impl Construct for SystemClock {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(SystemClock)
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Duration {
            SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
        }
    }
}
