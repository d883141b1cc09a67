//! Several versions of one interface at once: replaced together, and taken back each to
//! what it was.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lcr_core::factory::{Health, Outcome};
use lcr_core::{Factory, Handle};

/// What the versions do.
#[lcr_core::contract]
pub(crate) trait Counter: Send + Sync {
    fn version(&self) -> u64;
    fn next(&self) -> u64;
    fn fail(&self);
}

/// Each without and with state.
#[lcr_core::component]
mod versions {
    use super::{AtomicU64, Counter, Ordering};

    /// A version.
    #[derive(Interface)]
    #[interface(name = "plain", version = 0, contract = dyn Counter)]
    pub(crate) struct Plain0(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "plain", version = 1, contract = dyn Counter)]
    pub(crate) struct Plain1(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "plain", version = 2, replaces(0, 1), contract = dyn Counter)]
    pub(crate) struct Plain2(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "each", version = 0, contract = dyn Counter, per_reference)]
    pub(crate) struct Each0(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "each", version = 1, contract = dyn Counter, per_reference)]
    pub(crate) struct Each1(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "each", version = 2, replaces(0, 1), contract = dyn Counter, per_reference)]
    pub(crate) struct Each2(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "state", version = 0, contract = dyn Counter, state)]
    pub(crate) struct State0(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "state", version = 1, contract = dyn Counter, state)]
    pub(crate) struct State1(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "state", version = 2, replaces(0, 1), contract = dyn Counter, state)]
    pub(crate) struct State2(AtomicU64);

    macro_rules! version {
        ($type:ident, $version:literal) => {
            impl Construct for $type {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    Ok($type(AtomicU64::new(0)))
                }
            }

            impl Counter for $type {
                fn version(&self) -> u64 {
                    $version
                }
                fn next(&self) -> u64 {
                    self.0.fetch_add(1, Ordering::SeqCst) + 1
                }
                fn fail(&self) {
                    std::panic::resume_unwind(Box::new("it fails"));
                }
            }
        };
        ($type:ident, $version:literal, state) => {
            version!($type, $version);

            impl Handover for $type {
                fn save(&self, state: &mut State) -> Result<(), BoxError> {
                    state.section("count", 1).write(&self.0.load(Ordering::SeqCst).to_le_bytes());
                    Ok(())
                }
                fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
                    let count = state.read("count", 1..=1)?.bytes().try_into()?;
                    Ok($type(AtomicU64::new(u64::from_le_bytes(count))))
                }
            }
        };
    }

    version!(Plain0, 0);
    version!(Plain1, 1);
    version!(Plain2, 2);
    version!(Each0, 0);
    version!(Each1, 1);
    version!(Each2, 2);
    version!(State0, 0, state);
    version!(State1, 1, state);
    version!(State2, 2, state);
}

fn factory() -> Factory {
    Factory::builder().without_environment().build()
}

fn counter(factory: &Factory, name: &str, version: i32) -> Handle<dyn Counter> {
    factory.reference(name, version).unwrap()
}

#[test]
fn both_go_back_to_where_they_came_from() {
    for name in ["plain", "each", "state"] {
        let factory = factory();
        let (zero, one) = (counter(&factory, name, 0), counter(&factory, name, 1));
        for _ in 0..10 {
            one.next();
        }
        let report = factory.replace(name).version(2).run().unwrap();
        assert_eq!(report.interfaces.len(), 1, "{name}");
        assert_eq!((zero.version(), one.version()), (2, 2), "{name}");
        let report = factory.rollback(name).run().unwrap();
        let back: Vec<_> = report.interfaces.iter().map(|back| (back.from, back.to)).collect();
        assert_eq!(back, [(Some(2), 0), (Some(2), 1)], "{name}");
        assert_eq!((zero.version(), one.version()), (0, 1), "{name}");
        // References, too.
        let new = [0, 1, 2].map(|version| counter(&factory, name, version).version());
        assert_eq!(new, [0, 1, 2], "{name}");
        if name == "state" {
            assert_eq!((zero.next(), one.next()), (1, 11));
        }
        // And on again, and back.
        factory.rollback(name).run().unwrap();
        assert_eq!((zero.version(), one.version()), (2, 2), "{name}");
        factory.rollback(name).run().unwrap();
        assert_eq!((zero.version(), one.version()), (0, 1), "{name}");
        assert!(factory.history().iter().all(|entry| entry.outcome == Outcome::Done));
    }
}

#[test]
fn what_was_the_version_already_goes_back_to_itself() {
    for name in ["plain", "state"] {
        let factory = factory();
        let (zero, two) = (counter(&factory, name, 0), counter(&factory, name, 2));
        let _ = (zero.next(), two.next());
        factory.replace(name).version(2).run().unwrap();
        assert_eq!((zero.version(), two.version()), (2, 2), "{name}");
        factory.rollback(name).run().unwrap();
        assert_eq!((zero.version(), two.version()), (0, 2), "{name}");
        if name == "state" {
            assert_eq!((zero.next(), two.next()), (2, 2));
        }
    }
}

#[test]
fn a_new_wish_for_the_version_finds_the_one_that_was_of_it() {
    for (first, second) in [(0, 2), (2, 0)] {
        let factory = factory();
        let handles = [counter(&factory, "state", first), counter(&factory, "state", second)];
        let (zero, two) = if first == 0 { (&handles[0], &handles[1]) } else { (&handles[1], &handles[0]) };
        for _ in 0..5 {
            zero.next();
        }
        for _ in 0..50 {
            two.next();
        }
        factory.replace("state").version(2).run().unwrap();
        assert_eq!(counter(&factory, "state", 2).next(), 51, "{first} was first");
        assert_eq!(counter(&factory, "state", 0).next(), 6, "{first} was first");
        assert_eq!((zero.next(), two.next()), (7, 52), "{first} was first");
    }
}

#[test]
fn the_way_back_of_a_window_takes_each_where_it_came_from() {
    let factory = factory();
    let events = factory.events();
    let (zero, one) = (counter(&factory, "plain", 0), counter(&factory, "plain", 1));
    let health = Health::within(Duration::from_secs(60));
    factory.replace("plain").version(2).watch(health).run().unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.fail())).unwrap_err();
    while (zero.version(), one.version()) != (0, 1) {
        let _ = events.recv_timeout(Duration::from_millis(10));
    }
}
