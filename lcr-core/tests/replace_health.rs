//! A new version that does not keep to what was asked is taken back by itself.

#![allow(missing_docs, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use lcr_core::Handle;
use lcr_core::factory::{Event, Factory, Health, Outcome};

/// What the tests call.
#[lcr_core::contract]
pub trait Patient: Send + Sync {
    fn version(&self) -> u32;
    /// Version 1 fails, where it is asked to.
    fn try_it(&self, fail: bool) -> Result<u32, String>;
    /// Version 1 panics.
    fn shake(&self) -> u32;
}

macro_rules! version {
    ($module:ident, $name:literal, $version:literal, $replaces:literal) => {
        #[lcr_core::component]
        mod $module {
            use super::Patient;

            #[derive(Interface)]
            #[interface(name = $name, version = $version, replaces($replaces), contract = dyn Patient)]
            pub struct It;

            impl Construct for It {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    Ok(It)
                }
            }

            impl Patient for It {
                fn version(&self) -> u32 {
                    $version
                }
                fn try_it(&self, fail: bool) -> Result<u32, String> {
                    if fail && $version == 1 { Err("no disk".into()) } else { Ok($version) }
                }
                fn shake(&self) -> u32 {
                    if $version == 1 {
                        std::panic::resume_unwind(Box::new("shaken".to_owned()));
                    }
                    0
                }
            }
        }
    };
}

version!(first_0, "first", 0, 1);
version!(first_1, "first", 1, 0);
version!(second_0, "second", 0, 1);
version!(second_1, "second", 1, 0);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

fn patient() -> (Factory, Handle<dyn Patient>, Receiver<Event>) {
    let factory = Factory::builder().without_environment().build();
    let patient = factory.reference("first", 0).unwrap();
    let events = factory.events();
    (factory, patient, events)
}

/// Why it was taken back, once it was.
fn taken_back(events: &Receiver<Event>) -> String {
    let mut why = None;
    loop {
        match events.recv_timeout(LONG).unwrap() {
            Event::Unhealthy { interface, version, reason } => {
                assert_eq!((&*interface, version), ("first", 1));
                why = Some(reason);
            }
            Event::Replacement(entry) if entry.to == Some(0) => {
                assert_eq!(entry.outcome, Outcome::Done);
                return why.unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn a_call_that_panics_takes_the_old_version_back() {
    let (factory, patient, events) = patient();
    factory.replace("first").version(1).watch(Health::within(LONG).max_panics(1)).run().unwrap();
    catch_unwind(AssertUnwindSafe(|| patient.shake())).unwrap_err();
    assert_eq!(patient.version(), 1, "one may");
    catch_unwind(AssertUnwindSafe(|| patient.shake())).unwrap_err();
    assert_eq!(taken_back(&events), "2 calls panicked, and 1 may");
    assert_eq!((patient.version(), patient.shake()), (0, 0));
}

#[test]
fn too_many_errors_take_the_old_version_back() {
    let (factory, patient, events) = patient();
    factory.replace("first").version(1).watch(Health::within(LONG).max_error_rate(0.25)).run().unwrap();
    for call in 0..100 {
        assert_eq!(patient.try_it(call % 5 == 0).is_err(), call % 5 == 0, "a fifth may");
    }
    assert_eq!(factory.interfaces().iter().find(|s| s.name == "first").unwrap().calls, Some(100));
    while patient.version() == 1 {
        let _ = patient.try_it(true);
    }
    let why = taken_back(&events);
    assert!(why.ends_with(" calls returned an error, and 0.25 of all may"), "{why}");
    let first = factory.interfaces().into_iter().find(|s| s.name == "first").unwrap();
    assert_eq!((first.version, first.calls), (0, None), "calls are counted no longer");
}

#[test]
fn a_check_of_ones_own_takes_all_back_that_was_replaced_at_once() {
    let (factory, first, events) = patient();
    let second: Handle<dyn Patient> = factory.reference("second", 0).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let check = move || match count.fetch_add(1, Ordering::SeqCst) {
        0..3 => Ok(()),
        _ => Err("the queue does not move".to_owned()),
    };
    factory
        .replace("first")
        .version(1)
        .also("second")
        .version(1)
        .watch(Health::within(LONG).check(check))
        .run()
        .unwrap();
    assert_eq!(taken_back(&events), "its check failed: the queue does not move");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert_eq!((first.version(), second.version()), (0, 0));
}

#[test]
fn who_keeps_to_it_stays_and_a_replacement_closes_the_window() {
    let (factory, patient, events) = patient();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let check = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    factory.replace("first").version(1).watch(Health::within(Duration::ZERO).check(check)).run().unwrap();
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    // Its window is over, so what happens now is nobody's business.
    while Arc::strong_count(&asked) > 1 {
        std::thread::yield_now();
    }
    catch_unwind(AssertUnwindSafe(|| patient.shake())).unwrap_err();
    assert_eq!(patient.version(), 1);

    // Anew, with a window; then somebody replaces it, and the window closes.
    let held = Arc::new(());
    let hold = Arc::clone(&held);
    let check = move || {
        let _ = &hold;
        Ok(())
    };
    factory.replace("first").version(1).watch(Health::within(LONG).check(check)).run().unwrap();
    factory.replace("first").version(0).run().unwrap();
    while Arc::strong_count(&held) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(patient.version(), 0);
    assert!(events.try_iter().all(|event| matches!(event, Event::Replacement(_))));
}
