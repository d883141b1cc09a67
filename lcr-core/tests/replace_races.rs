//! References that come and go while versions are replaced back to back.

#![allow(missing_docs, reason = "a test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lcr_core::Handle;
use lcr_core::factory::{Factory, Outcome};

/// What the tests call.
#[lcr_core::contract]
pub trait Version: Send + Sync {
    /// Which one answers.
    fn version(&self) -> u32;
    /// Waits inside, if the test wants that.
    fn wait(&self) -> u32;
}

static BUILT: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
type Gates = (mpsc::Sender<()>, mpsc::Receiver<()>);
static WAIT: Mutex<Option<Gates>> = Mutex::new(None);

macro_rules! version {
    ($module:ident, $name:literal, $version:literal, [$($replaces:literal),*] $(, $each:ident)?) => {
        #[lcr_core::component]
        mod $module {
            use super::{BUILT, DROPPED, Ordering, Version, WAIT};

            #[derive(Interface)]
            #[interface(
                name = $name, version = $version, replaces($($replaces),*), contract = dyn Version $(, $each)?
            )]
            pub(crate) struct It;

            impl Construct for It {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    BUILT.fetch_add(1, Ordering::SeqCst);
                    Ok(It)
                }
            }

            impl Drop for It {
                fn drop(&mut self) {
                    DROPPED.fetch_add(1, Ordering::SeqCst);
                }
            }

            impl Version for It {
                fn version(&self) -> u32 {
                    $version
                }
                fn wait(&self) -> u32 {
                    if let Some((inside, go)) = WAIT.lock().unwrap().take() {
                        inside.send(()).unwrap();
                        go.recv().unwrap();
                    }
                    $version
                }
            }
        }
    };
}

version!(each_0, "each", 0, [1], per_reference);
version!(each_1, "each", 1, [0], per_reference);
version!(one_0, "one", 0, [1]);
version!(one_1, "one", 1, [0]);
version!(chain_0, "chain", 0, []);
version!(chain_1, "chain", 1, [0]);
version!(chain_2, "chain", 2, [0, 1]);

/// They count what is built, and take turns anyway.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn factory() -> Factory {
    Factory::builder().without_environment().build()
}

/// How long a test that looks for races goes on.
fn a_while() -> Duration {
    Duration::from_millis(if std::env::var_os("LCR_LONG").is_some() { 20_000 } else { 700 })
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `others` on two threads, again and again, while `main` runs.
fn meanwhile(others: impl Fn() + Sync, main: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    others();
                }
            });
        }
        // Stopped by a failure, too.
        let _stop = Stop(&stop);
        main();
    });
}

#[test]
fn no_instance_of_the_old_version_outlives_the_switch_however_it_came() {
    let _alone = alone();
    let factory = factory();
    let live: Mutex<Vec<Handle<dyn Version>>> = Mutex::default();
    let (built, dropped) = (BUILT.load(Ordering::SeqCst), DROPPED.load(Ordering::SeqCst));
    let (mut rounds, mut at_most) = (0, 0);
    meanwhile(
        || {
            let new = factory.reference("each", 0).unwrap();
            let mut live = live.lock().unwrap();
            live.push(new);
            if live.len() > 8 {
                live.remove(0);
            }
        },
        || {
            let end = Instant::now() + a_while();
            while Instant::now() < end {
                let to = 1 - rounds % 2;
                factory.replace("each").version(to).run().unwrap();
                for handle in live.lock().unwrap().iter() {
                    assert_eq!(handle.version(), to.cast_unsigned());
                    at_most += 1;
                }
                rounds += 1;
            }
        },
    );
    println!("{rounds} replacements, {at_most} handles looked at");
    assert!(rounds > 2);
    live.lock().unwrap().clear();
    drop(factory);
    let built = BUILT.load(Ordering::SeqCst) - built;
    // The last ones may leave by the thread that waits.
    let end = Instant::now() + Duration::from_secs(10);
    while DROPPED.load(Ordering::SeqCst) - dropped != built && Instant::now() < end {
        thread::yield_now();
    }
    assert_eq!(DROPPED.load(Ordering::SeqCst) - dropped, built, "each that was built is destroyed, once");
}

#[test]
fn the_last_handle_may_go_at_any_time() {
    let _alone = alone();
    let factory = factory();
    let (built, dropped) = (BUILT.load(Ordering::SeqCst), DROPPED.load(Ordering::SeqCst));
    let (calls, mut rounds) = (AtomicU64::new(0), 0);
    // Which version new references must be answered by, once a replacement has returned.
    let now: Mutex<Option<u32>> = Mutex::new(None);
    meanwhile(
        || {
            // A replacement is not under way while this is held.
            let now = now.lock().unwrap();
            let one: Handle<dyn Version> = factory.reference("one", 0).unwrap();
            calls.fetch_add(1, Ordering::SeqCst);
            if let Some(now) = *now {
                assert_eq!(one.version(), now);
            }
            drop(now);
            for _ in 0..3 {
                let one: Handle<dyn Version> = factory.reference("one", 1).unwrap();
                assert!(one.version() <= 1);
            }
        },
        || {
            while calls.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            let end = Instant::now() + a_while();
            while Instant::now() < end {
                let to = 1 - rounds % 2;
                if rounds % 3 != 0 {
                    // References come in the middle; then nobody compares.
                    *now.lock().unwrap() = None;
                    factory.replace("one").version(to).run().unwrap();
                }
                let mut now = now.lock().unwrap();
                factory.replace("one").version(to).run().unwrap();
                *now = Some(to.cast_unsigned());
                drop(now);
                rounds += 1;
            }
        },
    );
    println!("{rounds} rounds, {} references", calls.load(Ordering::SeqCst) * 4);
    let built = BUILT.load(Ordering::SeqCst) - built;
    let end = Instant::now() + Duration::from_secs(10);
    while DROPPED.load(Ordering::SeqCst) - dropped != built && Instant::now() < end {
        thread::yield_now();
    }
    assert_eq!(DROPPED.load(Ordering::SeqCst) - dropped, built, "each that was built is destroyed, once");
}

#[test]
fn handles_are_cloned_and_dropped_while_a_call_is_inside() {
    let _alone = alone();
    let factory = factory();
    let chain: Handle<dyn Version> = factory.reference("chain", 0).unwrap();
    let (inside, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    *WAIT.lock().unwrap() = Some((inside, may_go));
    thread::scope(|scope| {
        let own = chain.clone();
        let caller = scope.spawn(move || (own.wait(), own.version()));
        is_inside.recv().unwrap();
        // The one that it was cloned from goes, and another comes.
        let other = chain.clone();
        drop(chain);
        let replacing = scope.spawn(|| factory.replace("chain").version(1).timeout(LONG).run().unwrap());
        while other.version() != 1 {
            thread::yield_now();
        }
        // Only the caller's is left.
        drop(other);
        go.send(()).unwrap();
        assert_eq!(caller.join().unwrap(), (0, 1), "the call ends where it began, the next one does not");
        assert!(replacing.join().unwrap().drained.is_some());
    });
    let references = factory.interfaces().into_iter().find(|i| i.name == "chain").unwrap().references;
    assert_eq!(references, 0);
}

#[test]
fn all_of_it_holds_without_membarrier() {
    if std::env::var_os("LCR_NO_MEMBARRIER").is_some() {
        assert!(lcr_core::gate::readers_pay_a_fence(), "LCR_NO_MEMBARRIER is not heeded");
        return;
    }
    let _alone = alone();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.env("LCR_NO_MEMBARRIER", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_way_back_is_that_of_the_last_switch_not_of_the_last_to_see_its_callers_leave() {
    let _alone = alone();
    let factory = factory();
    let chain: Handle<dyn Version> = factory.reference("chain", 0).unwrap();
    let (inside, is_inside) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    *WAIT.lock().unwrap() = Some((inside, may_go));
    thread::scope(|scope| {
        let stuck = scope.spawn(|| chain.wait());
        is_inside.recv().unwrap();
        // Waits for the caller inside version 0, without keeping others from replacing.
        let first = scope.spawn(|| factory.replace("chain").version(1).run().unwrap());
        while chain.version() != 1 {
            thread::yield_now();
        }
        factory.replace("chain").version(2).run().unwrap();
        go.send(()).unwrap();
        assert_eq!(stuck.join().unwrap(), 0, "it finishes where it began");
        assert!(first.join().unwrap().drained.is_some());
    });
    assert_eq!(factory.history().iter().filter(|entry| entry.outcome == Outcome::Done).count(), 2);
    factory.rollback("chain").run().unwrap();
    assert_eq!(chain.version(), 1);
    // And to and fro.
    factory.rollback("chain").run().unwrap();
    assert_eq!(chain.version(), 2);
}
