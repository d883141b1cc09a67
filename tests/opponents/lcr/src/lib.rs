//! The contract and the component, with lcr.

/// What is called.
#[lcr_core::contract]
pub trait Work: Send + Sync {
    /// A little.
    fn add(&self, x: u64) -> u64;
    /// Text in, text out.
    fn greet(&self, who: &str) -> String;
    /// A buffer in, the same buffer out.
    fn turn(&self, data: Vec<u8>) -> Vec<u8>;
}

/// The component.
#[lcr_core::component]
pub mod worker {
    use crate::Work;

    /// Answers.
    #[derive(lcr_core::Interface)]
    #[interface(name = "work", version = 1, contract = dyn Work)]
    pub struct Worker;

    impl Construct for Worker {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Worker)
        }
    }

    impl Work for Worker {
        fn add(&self, x: u64) -> u64 {
            x + 1
        }

        fn greet(&self, who: &str) -> String {
            format!("Hello, {who}!")
        }

        fn turn(&self, mut data: Vec<u8>) -> Vec<u8> {
            data.reverse();
            data
        }
    }
}
