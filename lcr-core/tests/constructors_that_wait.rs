//! Constructors and destructors that wait for a thread which references what they are
//! about: refused once the factory's patience is over, and not for ever.

#![allow(missing_docs, reason = "a test")]

use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::ReferenceError;
use lcr_core::factory::Factory;

/// What the tests reference.
#[lcr_core::contract]
pub trait Thing: Send + Sync {
    /// What was said to the thread.
    fn said(&self) -> String;
}

static HASTY: LazyLock<Factory> = LazyLock::new(|| {
    Factory::builder().without_environment().construct_wait(Duration::from_millis(200)).build()
});
static PATIENT: LazyLock<Factory> = LazyLock::new(|| Factory::builder().without_environment().build());

/// What a reference on a thread of its own is answered.
fn on_a_thread(factory: &'static Factory, name: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || match factory.reference::<dyn Thing>(name, 0) {
        Ok(thing) => format!("got {}", thing.said()),
        Err(error) => format!("{}: {error}", error.kind()),
    })
}

macro_rules! thing {
    ($module:ident, $name:literal, $construct:expr, $drop:expr) => {
        #[lcr_core::component]
        mod $module {
            #[derive(Interface)]
            #[interface(name = $name, version = 0, contract = dyn super::Thing)]
            pub(crate) struct It(String);

            impl Construct for It {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    $construct.map(It)
                }
            }

            impl Drop for It {
                fn drop(&mut self) {
                    $drop
                }
            }

            impl super::Thing for It {
                fn said(&self) -> String {
                    self.0.clone()
                }
            }
        }
    };
}

static STARTED: Mutex<Option<thread::JoinHandle<String>>> = Mutex::new(None);
static DROPPED: Mutex<Option<String>> = Mutex::new(None);
static SLOW: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>> = Mutex::new(None);

thing!(joins, "joins", Ok(crate::on_a_thread(&crate::HASTY, "joins").join().unwrap()), ());
thing!(fails, "fails", Err(crate::on_a_thread(&crate::HASTY, "fails").join().unwrap().into()), ());
thing!(
    starts,
    "starts",
    {
        *crate::STARTED.lock().unwrap() = Some(crate::on_a_thread(&crate::PATIENT, "starts"));
        Ok("constructed".to_owned())
    },
    ()
);
thing!(ends, "ends", Ok(String::new()), {
    // The second time it is constructed for nobody.
    let mut dropped = crate::DROPPED.lock().unwrap();
    if dropped.is_none() {
        *dropped = Some(crate::on_a_thread(&crate::HASTY, "ends").join().unwrap());
    }
});
thing!(
    slow,
    "slow",
    {
        if let Some((inside, go)) = crate::SLOW.lock().unwrap().take() {
            inside.send(()).unwrap();
            go.recv().unwrap();
        }
        Ok("slow".to_owned())
    },
    ()
);

#[test]
fn a_constructor_that_waits_for_a_thread_which_references_it_goes_on() {
    let began = Instant::now();
    let builder = thread::Builder::new().name("builder".into());
    let built = builder.spawn(|| HASTY.reference::<dyn Thing>("joins", 0).unwrap()).unwrap();
    let said = built.join().unwrap().said();
    let number = said.split("number ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    assert!(number.parse::<u32>().is_ok(), "{said}");
    assert_eq!(
        said.replace(number, "N"),
        "waited: `joins` is still being constructed by another thread (\"builder\", number N) after 200ms: if that \
         one waits for this thread, neither goes on; a constructor may start a thread that references what it \
         constructs, but must not wait for it; if it only takes long, allow more: LCR_CONSTRUCT_WAIT=SECONDS, or \
         Builder::construct_wait in a Rust program"
    );
    assert!(began.elapsed() >= Duration::from_millis(200), "refused after {:?}", began.elapsed());
}

#[test]
fn the_constructor_s_own_error_may_be_the_thread_s() {
    let Err(error) = HASTY.reference::<dyn Thing>("fails", 0) else { panic!("it fails") };
    assert!(matches!(error, ReferenceError::Construct { .. }), "{error}");
    assert!(error.to_string().contains("failed: waited: `fails` is still being constructed"), "{error}");
}

#[test]
fn a_destructor_that_waits_for_a_thread_which_references_it_goes_on() {
    drop(HASTY.reference::<dyn Thing>("ends", 0).unwrap());
    let said = DROPPED.lock().unwrap().clone().unwrap();
    assert!(said.starts_with("waited: `ends` is still being released by another thread"), "{said}");
}

#[test]
fn a_thread_that_is_not_waited_for_gets_what_was_constructed() {
    let thing = PATIENT.reference::<dyn Thing>("starts", 0).unwrap();
    let started = STARTED.lock().unwrap().take().unwrap();
    assert_eq!(started.join().unwrap(), "got constructed");
    drop(thing);
}

#[test]
fn who_was_refused_gets_it_later() {
    let ((inside, entered), (go, gone)) = (mpsc::channel(), mpsc::channel());
    *SLOW.lock().unwrap() = Some((inside, gone));
    let builder = thread::spawn(|| HASTY.reference::<dyn Thing>("slow", 0).unwrap());
    entered.recv().unwrap();
    let refused = HASTY.reference::<dyn Thing>("slow", 0).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), "waited");
    go.send(()).unwrap();
    let built = builder.join().unwrap();
    assert_eq!(HASTY.reference::<dyn Thing>("slow", 0).unwrap().said(), built.said());
}
