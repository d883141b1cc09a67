//! A child of `fork` replaces, too, whatever its parent was doing. In a process of its
//! own: it forks.

#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lcr_core::{Factory, Handle};

#[lcr_core::contract]
pub(crate) trait Number: Send + Sync {
    fn number(&self) -> u32;
}

static MAY_GO: AtomicBool = AtomicBool::new(false);
static IS_IN: AtomicBool = AtomicBool::new(false);

#[lcr_core::component]
mod numbers {
    use super::{IS_IN, MAY_GO, Number, Ordering};

    #[derive(Interface)]
    #[interface(name = "slow", version = 0, contract = dyn Number)]
    pub(crate) struct SlowZero;

    #[derive(Interface)]
    #[interface(name = "slow", version = 1, replaces(0), contract = dyn Number)]
    pub(crate) struct SlowOne;

    #[derive(Interface)]
    #[interface(name = "quick", version = 0, contract = dyn Number)]
    pub(crate) struct QuickZero;

    #[derive(Interface)]
    #[interface(name = "quick", version = 1, replaces(0), contract = dyn Number)]
    pub(crate) struct QuickOne;

    macro_rules! number {
        ($type:ident, $version:literal, $waits:literal) => {
            impl Construct for $type {
                fn construct(_: &Context) -> Result<Self, BoxError> {
                    while $waits && !MAY_GO.load(Ordering::SeqCst) {
                        IS_IN.store(true, Ordering::SeqCst);
                        std::thread::yield_now();
                    }
                    Ok($type)
                }
            }

            impl Number for $type {
                fn number(&self) -> u32 {
                    $version
                }
            }
        };
    }

    number!(SlowZero, 0, false);
    number!(SlowOne, 1, true);
    number!(QuickZero, 0, false);
    number!(QuickOne, 1, false);
}

#[test]
fn a_child_replaces_although_a_thread_of_its_parent_had_the_turn() {
    let factory = Factory::builder().without_environment().build();
    let slow: Handle<dyn Number> = factory.reference("slow", 0).unwrap();
    let quick: Handle<dyn Number> = factory.reference("quick", 0).unwrap();
    let replacing = {
        let factory = factory.clone();
        thread::spawn(move || factory.replace("slow").version(1).run().unwrap())
    };
    while !IS_IN.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // SAFETY: the child ends without unwinding or running destructors, and its one thread
    // holds no lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let replaced = factory.replace("quick").version(1).timeout(Duration::from_secs(20)).run();
        let code = match replaced {
            Ok(_) if (slow.number(), quick.number()) == (0, 1) => 0,
            Ok(_) => 1,
            Err(failure) => {
                eprintln!("{failure}");
                2
            }
        };
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) }
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: waits for the child just made.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "1: wrong versions, 2: not replaced");
    MAY_GO.store(true, Ordering::SeqCst);
    replacing.join().unwrap();
    assert_eq!((slow.number(), quick.number()), (1, 0));
}
