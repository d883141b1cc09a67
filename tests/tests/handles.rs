//! Handles that cross the border and do not fit where they arrive. What fits is
//! shown by the conformance tests.

mod programs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use lcr_core::{Factory, Handle, registry};
use programs::DEV;

/// The fixtures' contracts as another time knows them: its clock has a method more.
mod later {
    use lcr_core::Handle;

    #[lcr_core::contract]
    pub(crate) trait Clock: Send + Sync {
        fn now(&self) -> u64;
        fn who(&self) -> u64;
        fn set(&self, now: u64);
    }

    #[derive(Debug, lcr_core::Abi)]
    pub(crate) struct Failed(pub(crate) String);

    #[lcr_core::contract]
    pub(crate) trait Greeter: Send + Sync {
        fn greet(&self, who: &str) -> String;
        fn panics(&self, message: &str) -> u64;
        fn panics_with_a_number(&self) -> u64;
        fn tries(&self, number: u64) -> Result<u64, Failed>;
        fn clock(&self) -> Handle<dyn Clock>;
    }
}

/// And as an earlier one: its clock has a method less.
mod earlier {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use lcr_core::Handle;

    pub(crate) use super::later::Failed;

    #[lcr_core::contract]
    pub(crate) trait Clock: Send + Sync {
        fn now(&self) -> u64;
    }

    #[lcr_core::contract]
    pub(crate) trait Greeter: Send + Sync {
        fn greet(&self, who: &str) -> String;
        fn panics(&self, message: &str) -> u64;
        fn panics_with_a_number(&self) -> u64;
        fn tries(&self, number: u64) -> Result<u64, Failed>;
        fn clock(&self) -> Handle<dyn Clock>;
        fn read(&self, clock: Handle<dyn Clock>) -> u64;
        fn peek(&self, clock: &Handle<dyn Clock>) -> u64;
        fn keep(&self, clock: Option<Handle<dyn Clock>>) -> Option<Handle<dyn Clock>>;
    }

    pub(crate) static DESTROYED: AtomicUsize = AtomicUsize::new(0);

    #[lcr_core::component]
    pub(crate) mod sundial {
        use super::{AtomicUsize, Clock, DESTROYED, Ordering};

        #[derive(lcr_core::Interface)]
        #[interface(name = "clock", version = 1, contract = dyn Clock)]
        pub(crate) struct Sundial(AtomicUsize);

        impl Construct for Sundial {
            fn construct(_: &Context) -> Result<Self, BoxError> {
                Ok(Sundial(AtomicUsize::new(0)))
            }
        }

        impl Clock for Sundial {
            fn now(&self) -> u64 {
                self.0.fetch_add(1, Ordering::SeqCst) as u64
            }
        }

        impl Drop for Sundial {
            fn drop(&mut self) {
                DESTROYED.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn libraries() -> Factory {
    Factory::builder()
        .without_environment()
        .components([])
        .path(DEV.file("liblibclocks.so"))
        .path(DEV.file("liblibgreeters.so"))
        .build()
}

/// The message of the panic that `f` ends with.
#[track_caller]
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it returned"),
        Err(payload) => *payload.downcast::<String>().expect("a text"),
    }
}

#[test]
fn a_result_that_does_not_fit_the_caller_is_a_panic_that_says_why() {
    use later::Greeter;
    let greeter: Handle<dyn Greeter> = libraries().reference("greeter", 2).unwrap();
    let message = panic_of(|| greeter.clock());
    assert_eq!(
        message,
        format!(
            "a handle came from another component, and cannot be called from here: `clock` version 1 ({}) does not \
             fit: contract `Clock`: the provider has no method `set` (`set: fn(u64)`), and the trait has no default \
             body for it: rebuild the component against the present contract",
            DEV.file("liblibclocks.so").display()
        )
    );
    assert!(greeter.greet("world").starts_with("hello, world"), "it goes on serving");
}

#[test]
fn an_argument_that_does_not_fit_the_component_is_a_panic_that_says_why_and_is_released() {
    use earlier::{Clock, DESTROYED, Greeter};
    let greeter: Handle<dyn Greeter> = libraries().reference("greeter", 2).unwrap();
    let own = registry::registrations().into_iter().filter(|r| r.name() == "sundial");
    let sundials = Factory::builder().without_environment().components(own).build();
    let sundial: Handle<dyn Clock> = sundials.reference("clock", 1).unwrap();
    assert_eq!(sundial.now(), 0);
    let why = format!(
        "a handle came from another component, and cannot be called from here: `clock` version 1 (component \
         `sundial` of lcr-tests {}, compiled in) does not fit: contract `Clock`: the provider has no method `who` \
         (`who: fn() -> u64`), and the trait has no default body for it: rebuild the component against the present \
         contract",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(panic_of(|| greeter.read(sundial.clone())), why, "moved");
    assert_eq!(panic_of(|| greeter.peek(&sundial)), why, "lent");
    assert_eq!(panic_of(|| greeter.keep(Some(sundial.clone()))), why, "in an option");
    // The other way round it fits: the library's clock has more than is wanted here.
    let clock = greeter.clock();
    assert_eq!((clock.now(), greeter.peek(&clock) > 0), (100, true));
    // Nobody has kept a count of what was refused.
    assert_eq!((sundial.now(), DESTROYED.load(Ordering::SeqCst)), (1, 0));
    drop(sundial);
    assert_eq!(DESTROYED.load(Ordering::SeqCst), 1);
}
