//! A new version that does not keep to what was asked is taken back by itself.

#![allow(missing_docs, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lcr_core::Handle;
use lcr_core::factory::{Event, Factory, Health, Outcome, Stage, Status};

/// What the tests call.
#[lcr_core::contract]
pub trait Patient: Send + Sync {
    fn version(&self) -> u32;
    /// Version 1 fails, where it is asked to.
    fn try_it(&self, fail: bool) -> Result<u32, String>;
    /// Version 1 panics.
    fn shake(&self) -> u32;
    /// Stays as long as `STAY` says.
    fn stay(&self) -> u32;
}

/// The next caller says that it is inside, and waits.
static STAY: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);

macro_rules! version {
    ($module:ident, $name:literal, $version:literal, $replaces:literal $(, $more:ident)?) => {
        #[lcr_core::component]
        mod $module {
            use super::{Patient, STAY};

            #[derive(Interface)]
            #[interface(name = $name, version = $version, replaces($replaces), contract = dyn Patient $(, $more)?)]
            pub(crate) struct It;

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
                fn stay(&self) -> u32 {
                    if let Some((inside, go)) = STAY.lock().unwrap().take() {
                        inside.send(()).unwrap();
                        go.recv().unwrap();
                    }
                    $version
                }
            }
        }
    };
}

version!(first_0, "first", 0, 1);
version!(first_1, "first", 1, 0);
version!(second_0, "second", 0, 1);
version!(second_1, "second", 1, 0);
// The older one has the higher number: so it would serve, if somebody asked.
version!(idle_1, "idle", 1, 2);
version!(idle_2, "idle", 2, 1);
version!(each_0, "each", 0, 1, per_reference);
version!(each_1, "each", 1, 0, per_reference);

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
    taken_back_to(events, "first", 0)
}

fn taken_back_to(events: &Receiver<Event>, name: &str, old: i32) -> String {
    let mut why = None;
    loop {
        match events.recv_timeout(LONG).unwrap() {
            Event::Unhealthy { interface, version, reason } => {
                assert_eq!((&*interface, version), (name, 1));
                why = Some(reason);
            }
            Event::Replacement(entry) if entry.to == Some(old) => {
                assert_eq!(entry.outcome, Outcome::Done);
                return why.unwrap();
            }
            _ => {}
        }
    }
}

/// A check that is always content, and tells how often it was asked.
struct Rounds(Arc<AtomicU64>);

impl Rounds {
    fn new() -> Self {
        Rounds(Arc::default())
    }

    fn check(&self) -> impl Fn() -> Result<(), String> + Send + Sync + use<> {
        let asked = Arc::clone(&self.0);
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    /// Everything that happened before was looked at: the check is asked last, and of
    /// the healthy only.
    fn pass(&self) {
        let before = self.0.load(Ordering::SeqCst);
        while self.0.load(Ordering::SeqCst) < before + 2 {
            assert!(Arc::strong_count(&self.0) > 1, "nobody looks any more");
            std::thread::yield_now();
        }
    }
}

fn status(factory: &Factory, name: &str, version: i32) -> Status {
    let all = factory.interfaces();
    all.into_iter().find(|s| s.name == name && s.version == version).unwrap()
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

#[test]
fn one_who_observes_and_leaves_does_not_end_the_counting_of_a_window() {
    let (factory, patient, events) = patient();
    let rounds = Rounds::new();
    let health = Health::within(LONG).max_error_rate(0.25).check(rounds.check());
    let earlier = factory.observe();
    factory.replace("first").version(1).watch(health).run().unwrap();
    let later = factory.observe();
    drop(earlier);
    drop(later);
    for call in 0..100 {
        assert_eq!(patient.try_it(call % 5 == 0).is_err(), call % 5 == 0, "a fifth may");
    }
    rounds.pass();
    assert_eq!((patient.version(), status(&factory, "first", 1).calls), (1, Some(101)));
    while patient.version() == 1 {
        let _ = patient.try_it(true);
    }
    taken_back(&events);
    assert_eq!(status(&factory, "first", 0).calls, None, "calls are counted no longer");
}

#[test]
fn a_window_that_closes_does_not_end_the_counting_of_others() {
    let (factory, patient, events) = patient();
    let (one, other) = (factory.observe(), factory.observe());
    factory.replace("first").version(1).watch(Health::within(LONG).max_error_rate(0.25)).run().unwrap();
    while patient.version() == 1 {
        let _ = patient.try_it(true);
    }
    taken_back(&events);
    assert!(status(&factory, "first", 0).calls.is_some());
    drop(one);
    let before = status(&factory, "first", 0).calls.unwrap();
    patient.version();
    assert_eq!(status(&factory, "first", 0).calls, Some(before + 1));
    drop(other);
    assert_eq!(status(&factory, "first", 0).calls, None);
}

#[test]
fn what_comes_to_life_while_somebody_observes_is_counted_from_its_first_call_on() {
    let (factory, _first, _) = patient();
    let counting = factory.observe();
    let second: Handle<dyn Patient> = factory.reference("second", 0).unwrap();
    second.version();
    assert_eq!(status(&factory, "second", 0).calls, Some(1));
    drop(counting);
    second.version();
    assert_eq!(status(&factory, "second", 0).calls, None);
}

#[test]
fn a_rate_of_errors_is_not_judged_before_twenty_calls() {
    let (factory, patient, events) = patient();
    let rounds = Rounds::new();
    let health = Health::within(LONG).max_error_rate(0.5).check(rounds.check());
    // What the old version was asked is none of the new one's calls.
    let _counting = factory.observe();
    for _ in 0..50 {
        patient.try_it(true).unwrap();
    }
    factory.replace("first").version(1).watch(health).run().unwrap();
    for _ in 0..19 {
        patient.try_it(true).unwrap_err();
    }
    rounds.pass();
    assert_eq!(status(&factory, "first", 1).state, Stage::Live);
    patient.try_it(true).unwrap_err();
    assert_eq!(taken_back(&events), "20 of 20 calls returned an error, and 0.5 of all may");
}

#[test]
fn what_comes_to_life_after_the_switch_is_watched_and_what_is_gone_is_not_forgotten() {
    let factory = Factory::builder().without_environment().build();
    let events = factory.events();
    // Nobody references it when it is replaced.
    factory.replace("idle").version(1).watch(Health::within(LONG)).run().unwrap();
    let idle: Handle<dyn Patient> = factory.reference("idle", 2).unwrap();
    assert_eq!(idle.version(), 1);
    catch_unwind(AssertUnwindSafe(|| idle.shake())).unwrap_err();
    assert_eq!(taken_back_to(&events, "idle", 2), "a call panicked");
    assert_eq!(idle.version(), 2);

    // One at each reference, and most of them are gone when they are looked at.
    let rounds = Rounds::new();
    let health = Health::within(LONG).max_panics(5).check(rounds.check());
    let before: Handle<dyn Patient> = factory.reference("each", 0).unwrap();
    factory.replace("each").version(1).watch(health).run().unwrap();
    let shake = || {
        let each: Handle<dyn Patient> = factory.reference("each", 0).unwrap();
        catch_unwind(AssertUnwindSafe(|| each.shake())).unwrap_err();
    };
    (0..4).for_each(|_| shake());
    catch_unwind(AssertUnwindSafe(|| before.shake())).unwrap_err();
    rounds.pass();
    assert_eq!(before.version(), 1, "five may");
    shake();
    assert_eq!(taken_back_to(&events, "each", 0), "6 calls panicked, and 5 may");
    assert_eq!(before.version(), 0);

    // Their calls and errors, too.
    let health = Health::within(LONG).max_error_rate(0.5).check(rounds.check());
    factory.replace("each").version(1).watch(health).run().unwrap();
    let fail = || {
        let each: Handle<dyn Patient> = factory.reference("each", 0).unwrap();
        each.try_it(true).unwrap_err();
    };
    (0..19).for_each(|_| fail());
    rounds.pass();
    fail();
    let why = taken_back_to(&events, "each", 0);
    assert_eq!(why, "20 of 20 calls returned an error, and 0.5 of all may");
}

#[test]
fn what_failed_before_the_replacement_is_not_held_against_it() {
    let (factory, patient, _events) = patient();
    let rounds = Rounds::new();
    factory.replace("first").version(1).run().unwrap();
    // Of the very version that is built anew.
    catch_unwind(AssertUnwindSafe(|| patient.shake())).unwrap_err();
    factory.replace("first").version(1).watch(Health::within(LONG).check(rounds.check())).run().unwrap();
    rounds.pass();
    assert_eq!(patient.version(), 1);
    // Built anew once more, its window closes.
    factory.replace("first").version(1).run().unwrap();
    while Arc::strong_count(&rounds.0) > 1 {
        std::thread::yield_now();
    }
    assert!(factory.history().iter().all(|entry| entry.to == Some(1)));
}

#[test]
fn the_way_back_is_tried_again_while_a_caller_stays_inside() {
    let (factory, first, events) = patient();
    let _second: Handle<dyn Patient> = factory.reference("second", 0).unwrap();
    // Two at once: callers have to leave both, before the deadline.
    let replace = || {
        let both = factory.replace("first").version(1).also("second").version(1);
        both.timeout(Duration::from_millis(300)).watch(Health::within(LONG)).run()
    };
    // Another test may have had the turn for as long.
    while replace().is_err() {}
    while events.try_recv().is_ok() {}

    let (inside, is_inside) = channel();
    let (go, may_go) = channel();
    *STAY.lock().unwrap() = Some((inside, may_go));
    let staying = first.clone();
    let caller = std::thread::spawn(move || staying.stay());
    is_inside.recv_timeout(LONG).unwrap();
    catch_unwind(AssertUnwindSafe(|| first.shake())).unwrap_err();
    let mut is_ill = false;
    let failed = loop {
        match events.recv_timeout(LONG).unwrap() {
            Event::Unhealthy { .. } => is_ill = true,
            Event::Replacement(entry) => match entry.outcome {
                Outcome::Failed(why) if why.contains("inside") => break why,
                Outcome::Failed(_) => {}
                Outcome::Done => panic!("somebody is inside"),
            },
            _ => {}
        }
    };
    assert!(is_ill, "{failed}");
    assert_eq!(first.version(), 1, "it serves on");
    go.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), 1);
    loop {
        match events.recv_timeout(LONG).unwrap() {
            Event::Replacement(entry) if entry.outcome == Outcome::Done => break,
            Event::Replacement(_) => {}
            other => panic!("it was told already: {other:?}"),
        }
    }
    assert_eq!(first.version(), 0);
}

#[test]
fn a_window_may_be_for_ever() {
    let (factory, patient, events) = patient();
    let rounds = Rounds::new();
    let health = Health::within(Duration::MAX).check(rounds.check());
    factory.replace("first").version(1).watch(health).run().unwrap();
    rounds.pass();
    catch_unwind(AssertUnwindSafe(|| patient.shake())).unwrap_err();
    assert_eq!(taken_back(&events), "a call panicked");
}

#[test]
fn a_window_is_no_reference() {
    let (factory, patient, _events) = patient();
    let rounds = Rounds::new();
    let health = Health::within(LONG).max_error_rate(0.5).check(rounds.check());
    factory.replace("first").version(1).watch(health).run().unwrap();
    rounds.pass();
    assert_eq!(status(&factory, "first", 1).references, 1);
    drop(patient);
    rounds.pass();
    let gone = status(&factory, "first", 1);
    assert_eq!((gone.state, gone.references), (Stage::Idle, 0), "nobody keeps it");
}
