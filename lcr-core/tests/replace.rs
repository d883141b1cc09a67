//! Replacement of compiled-in versions, one by the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::factory::{Factory, ReplaceError, Stage, Step};
use lcr_core::{Handle, Instance, ReferenceError};

/// What the tests call.
#[lcr_core::contract]
pub trait Counter: Send + Sync {
    /// Which version answers.
    fn version(&self) -> u32;
    /// One more.
    fn next(&self) -> u64;
    /// Calls back while inside.
    fn wait_for(&self, flag: u64) -> u32;
}

static GO: AtomicBool = AtomicBool::new(false);
static IN: AtomicBool = AtomicBool::new(false);

/// Versions without state.
#[lcr_core::component]
pub mod plain {
    use super::*;

    /// A version.
    #[derive(Interface)]
    #[interface(name = "plain", version = 0, replaces(1), contract = dyn Counter)]
    pub struct Zero(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "plain", version = 1, replaces(0), contract = dyn Counter)]
    pub struct One(AtomicU64);

    impl Construct for Zero {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Zero(AtomicU64::new(0)))
        }
    }

    impl Construct for One {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(One(AtomicU64::new(1000)))
        }
    }

    impl Counter for Zero {
        fn version(&self) -> u32 {
            0
        }
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
        fn wait_for(&self, _: u64) -> u32 {
            IN.store(true, Ordering::SeqCst);
            while !GO.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            0
        }
    }

    impl Counter for One {
        fn version(&self) -> u32 {
            1
        }
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
        fn wait_for(&self, _: u64) -> u32 {
            1
        }
    }
}

/// Versions with state.
#[lcr_core::component]
pub mod stateful {
    use super::*;

    /// A version.
    #[derive(Interface)]
    #[interface(name = "stateful", version = 0, contract = dyn Counter, state)]
    pub struct Zero(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "stateful", version = 1, replaces(0), contract = dyn Counter, state)]
    pub struct One(AtomicU64);

    /// A version.
    #[derive(Interface)]
    #[interface(name = "stateful", version = 2, replaces(0, 1), contract = dyn Counter, state)]
    pub struct Refuses;

    impl Construct for Zero {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Zero(AtomicU64::new(0)))
        }
    }
    impl Construct for One {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(One(AtomicU64::new(0)))
        }
    }
    impl Construct for Refuses {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Refuses)
        }
    }

    impl Handover for Zero {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            state.section("count", 1).write(&self.0.load(Ordering::Relaxed).to_le_bytes());
            Ok(())
        }
        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(Zero(AtomicU64::new(u64::from_le_bytes(state.read("count", 1..=1)?.bytes().try_into()?))))
        }
    }
    impl Handover for One {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            state.section("count", 1).write(&self.0.load(Ordering::Relaxed).to_le_bytes());
            Ok(())
        }
        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            Ok(One(AtomicU64::new(u64::from_le_bytes(state.read("count", 1..=1)?.bytes().try_into()?))))
        }
    }
    impl Handover for Refuses {
        fn save(&self, _: &mut State) -> Result<(), BoxError> {
            Ok(())
        }
        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            state.read("count", 2..=3)?;
            Ok(Refuses)
        }
    }

    impl Counter for Zero {
        fn version(&self) -> u32 {
            0
        }
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
        fn wait_for(&self, _: u64) -> u32 {
            0
        }
    }
    impl Counter for One {
        fn version(&self) -> u32 {
            1
        }
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
        fn wait_for(&self, _: u64) -> u32 {
            1
        }
    }
    impl Counter for Refuses {
        fn version(&self) -> u32 {
            2
        }
        fn next(&self) -> u64 {
            0
        }
        fn wait_for(&self, _: u64) -> u32 {
            2
        }
    }
}

fn factory() -> Factory {
    Factory::builder().without_environment().build()
}

#[test]
fn a_handle_follows_and_an_instance_stays() -> Result<(), ReferenceError> {
    let factory = factory();
    let counter: Handle<dyn Counter> = factory.reference("plain", 0)?;
    let pinned: Instance<dyn Counter> = Handle::instance(&counter);
    assert_eq!((counter.version(), counter.next(), counter.next()), (0, 0, 1));

    let report = factory.replace("plain").timeout(Duration::from_millis(300)).run().unwrap();
    assert_eq!((report.interfaces[0].from, report.interfaces[0].to), (Some(0), 1));
    assert_eq!(report.drained, None, "it is pinned");
    assert_eq!((counter.version(), counter.next()), (1, 1000));
    assert_eq!((pinned.version(), pinned.next()), (0, 2));

    // Old and new wishes are answered by the successor, which is one object.
    let old_wish: Handle<dyn Counter> = factory.reference("plain", 0)?;
    let new_wish: Handle<dyn Counter> = factory.reference("plain", 1)?;
    assert_eq!((old_wish.next(), new_wish.next()), (1001, 1002));

    let back = factory.rollback("plain").timeout(Duration::from_millis(300)).run().unwrap();
    assert_eq!((back.interfaces[0].from, back.interfaces[0].to), (Some(1), 0));
    assert_eq!((counter.version(), counter.next()), (0, 0));
    assert_eq!(factory.history().len(), 2);
    // For ever is a time, too.
    drop(pinned);
    factory.replace("plain").timeout(Duration::MAX).plan().unwrap();
    factory.replace("plain").timeout(Duration::MAX).run().unwrap();
    assert_eq!(counter.version(), 1);
    Ok(())
}

#[test]
fn state_is_handed_over_and_a_refused_restore_leaves_the_old_version_serving() -> Result<(), ReferenceError> {
    let factory = factory();
    let counter: Handle<dyn Counter> = factory.reference("stateful", 0)?;
    assert_eq!((counter.next(), counter.next()), (0, 1));
    let plan = factory.replace("stateful").version(1).plan().unwrap();
    assert_eq!(plan.interfaces[0].to, 1);
    assert_eq!(counter.version(), 0);

    let report = factory.replace("stateful").version(1).run().unwrap();
    assert!(report.drained.is_some());
    assert_eq!((counter.version(), counter.next()), (1, 2));

    let failure = factory.replace("stateful").run().unwrap_err();
    assert_eq!(failure.step, Step::Restore);
    assert_eq!(
        failure.to_string(),
        "`stateful` was not replaced (restore): the `restore` of version 2 (component `stateful` of \
         lcr-core 0.1.0, compiled in) failed: section `count` was saved with schema version 1, and this version \
         restores versions 2 to 3"
    );
    assert_eq!((counter.version(), counter.next()), (1, 3));
    Ok(())
}

#[test]
fn several_interfaces_switch_as_one_or_not_at_all() -> Result<(), ReferenceError> {
    let factory = factory();
    let plain: Handle<dyn Counter> = factory.reference("plain", 0)?;
    let stateful: Handle<dyn Counter> = factory.reference("stateful", 0)?;
    stateful.next();
    let failure = factory.replace("plain").also("stateful").run().unwrap_err();
    assert_eq!(failure.step, Step::Restore);
    assert_eq!((plain.version(), stateful.version()), (0, 0));
    let report = factory.replace("plain").also("stateful").version(1).run().unwrap();
    assert_eq!(report.interfaces.len(), 2);
    assert_eq!((plain.version(), stateful.version(), stateful.next()), (1, 1, 1));
    Ok(())
}

#[test]
fn what_does_not_replace_is_refused_before_anything_runs() -> Result<(), ReferenceError> {
    let factory = factory();
    let counter: Handle<dyn Counter> = factory.reference("stateful", 1)?;
    let failure = factory.replace("stateful").version(0).run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::DoesNotReplace { found: 0, .. }), "{failure}");
    assert_eq!(counter.version(), 1);
    let failure = factory.replace("nobody").run().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::NoSuchVersion { .. }), "{failure}");
    Ok(())
}

#[test]
fn a_caller_that_stays_inside_finishes_on_the_old_version() -> Result<(), ReferenceError> {
    let factory = factory();
    let counter: Handle<dyn Counter> = factory.reference("plain", 0)?;
    let inside = counter.clone();
    let stays = thread::spawn(move || inside.wait_for(0));
    while !IN.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    let report = factory.replace("plain").timeout(Duration::from_millis(50)).run().unwrap();
    assert_eq!(report.drained, None);
    assert_eq!(counter.version(), 1);
    GO.store(true, Ordering::SeqCst);
    assert_eq!(stays.join().unwrap(), 0);
    Ok(())
}

#[test]
fn what_is_called_off_before_the_switch_is_undone_at_once() -> Result<(), ReferenceError> {
    let factory = factory();
    let counter: Handle<dyn Counter> = factory.reference("stateful", 0)?;
    counter.next();
    // Keeps the replacement waiting.
    let (leave, told) = std::sync::mpsc::channel::<()>();
    let (is_in, wait) = std::sync::mpsc::channel();
    let inside = counter.clone();
    let caller = thread::spawn(move || {
        let run = Handle::enter(&inside);
        is_in.send(()).unwrap();
        let _ = told.recv();
        run.next()
    });
    wait.recv().unwrap();
    let cancelled = Arc::new(AtomicBool::new(false));
    let replacement = factory.replace("stateful").version(1).cancelled_by(Arc::clone(&cancelled));
    let started = Instant::now();
    let waits = thread::spawn(move || replacement.timeout(Duration::from_secs(60)).run());
    while !factory.interfaces().iter().any(|s| s.name == "stateful" && s.state == Stage::Held) {
        thread::yield_now();
    }
    cancelled.store(true, Ordering::SeqCst);
    let failure = waits.join().unwrap().unwrap_err();
    assert!(matches!(failure.error, ReplaceError::Cancelled), "{failure}");
    assert_eq!(failure.step, Step::Drain);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!((counter.version(), counter.next()), (0, 1));
    leave.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), 2);
    let report = factory.replace("stateful").version(1).run().unwrap();
    assert_eq!((report.interfaces[0].to, counter.version(), counter.next()), (1, 1, 3));
    Ok(())
}

#[test]
fn a_way_back_that_somebody_else_went_is_refused_with_what_serves() {
    let factory = Factory::builder().without_environment().build();
    let plain: Handle<dyn Counter> = factory.reference("plain", 0).unwrap();
    factory.replace("plain").version(1).run().unwrap();
    let (first, second) = (factory.rollback("plain"), factory.rollback("plain"));
    first.run().unwrap();
    assert_eq!(plain.version(), 0);
    let error = second.run().unwrap_err().error;
    assert!(matches!(&error, ReplaceError::Overtaken { from: 1, serving, .. } if *serving == [0]), "{error}");
    assert!(
        error.to_string().contains("somebody else has replaced that meanwhile: version 0 serves"),
        "{error}"
    );
    assert_eq!(plain.version(), 0);
}

/// A version that would like to decorate the one before.
#[lcr_core::component]
pub mod rings {
    use super::*;

    /// A version.
    #[derive(Interface)]
    #[interface(name = "ring", version = 0, contract = dyn Counter)]
    pub struct Zero;

    /// A version.
    #[derive(Interface)]
    #[interface(name = "ring", version = 1, replaces(0), contract = dyn Counter)]
    pub struct One(Handle<dyn Counter>);

    impl Construct for Zero {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Zero)
        }
    }

    impl Construct for One {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(One(lcr_core::reference("ring", 0)?))
        }
    }

    impl Counter for Zero {
        fn version(&self) -> u32 {
            0
        }
        fn next(&self) -> u64 {
            0
        }
        fn wait_for(&self, _: u64) -> u32 {
            0
        }
    }

    impl Counter for One {
        fn version(&self) -> u32 {
            self.0.version()
        }
        fn next(&self) -> u64 {
            self.0.next()
        }
        fn wait_for(&self, flag: u64) -> u32 {
            self.0.wait_for(flag)
        }
    }
}

/// The handle would lead to itself after the switch.
#[test]
fn a_constructor_that_references_what_it_replaces_is_refused() {
    let factory = Factory::process();
    let ring: Handle<dyn Counter> = factory.reference("ring", 0).unwrap();
    let error = factory.replace("ring").version(1).run().unwrap_err().error.to_string();
    assert!(
        error.contains(
            "`ring` was referenced while what replaces it was being constructed or restored, ring → ring"
        ),
        "{error}"
    );
    assert_eq!(ring.version(), 0);
    let again: Handle<dyn Counter> = factory.reference("ring", 0).unwrap();
    assert_eq!(again.version(), 0);
}
