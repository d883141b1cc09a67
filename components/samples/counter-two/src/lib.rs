//! Version 2 of the counter: it takes the state of the other one, and gives its own.

/// The component.
#[lcr_core::component]
pub mod counter_two {
    use counter_api::{Counter, Ledger, Ticket};

    /// The version, in its tickets.
    const VERSION: i32 = 2;

    /// Counts for each caller.
    #[derive(lcr_core::Interface)]
    #[interface(name = "counter", version = 2, replaces(1), contract = dyn Counter, state)]
    pub struct Counting(Ledger);

    impl Construct for Counting {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Counting(Ledger::new()))
        }
    }

    impl Handover for Counting {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            self.0.save(state);
            Ok(())
        }

        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(Counting(Ledger::restore(state)?))
        }
    }

    impl Counter for Counting {
        fn next(&self, caller: u32) -> Ticket {
            self.0.next(caller, VERSION)
        }

        fn given(&self) -> Vec<u64> {
            self.0.given()
        }
    }
}
