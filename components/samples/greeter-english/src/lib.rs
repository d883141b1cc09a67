//! The greeter tutorial's component: it requires a clock, wherever that is.

/// The component.
#[lcr_core::component]
pub mod english {
    use greeter_api::{Clock, Greeter};

    /// Greets in English.
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
            let hour = self.clock.now().as_secs() / 3600 % 24;
            let time = match hour {
                5..12 => "morning",
                12..18 => "afternoon",
                _ => "evening",
            };
            format!("Good {time}, {who}!")
        }
    }
}
