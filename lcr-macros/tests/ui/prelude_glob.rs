#[lcr_core::contract]
pub trait Clock: Send + Sync {
    fn now(&self) -> u64;
}

pub struct State(u64);
pub struct Value(u64);

#[lcr_core::component]
mod noon {
    // Which `State` is it, the parent's or the prelude's? `Value` is named.
    use super::Value;
    use super::*;

    #[derive(lcr_core::Interface)]
    #[interface(name = "clock", version = 0, contract = dyn Clock)]
    pub struct Noon(State, Value);

    impl Construct for Noon {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Err("never".into())
        }
    }

    impl Clock for Noon {
        fn now(&self) -> u64 {
            self.1.0
        }
    }
}

fn main() {}
