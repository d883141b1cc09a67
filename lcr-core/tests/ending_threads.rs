//! Threads of the program that end in the very instant in which a library that
//! they used is unmapped. In a process of its own, for a failure is a crash.

mod libraries;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lcr_core::library::{Candidate, Kept, Locals, Policy, Unload};
use libraries::{Worker, built};

#[test]
fn a_thread_that_ends_while_the_library_is_unmapped_does_not_crash() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let rounds = if std::env::var_os("LCR_LONG").is_some() { 20_000 } else { 300 };
    let (mut kept, mut forgotten) = (0, 0);
    for round in 0..rounds {
        let library = Candidate::open(built("libone.so"), &Policy::default()).unwrap().load().unwrap();
        let worker = Worker::of(&library);
        let before = DROPS.load(Ordering::SeqCst);
        let together = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (worker.current)();
                    (worker.local)(&DROPS);
                    together.wait();
                    // Another moment in each round, from at once to some microseconds.
                    for _ in 0..round % 50 * 20 {
                        std::hint::spin_loop();
                    }
                });
            }
            together.wait();
            let mut library = library;
            loop {
                // SAFETY: nobody calls the library any more; its threads' ends are the question.
                match unsafe { library.try_unload(Locals::Forget) } {
                    Unload::Unloaded => break,
                    Unload::Kept { reason, library: again } => {
                        assert!(matches!(reason, Kept::Locals(_)), "{reason}");
                        kept += 1;
                        library = again;
                    }
                }
            }
        });
        forgotten += 2 - (DROPS.load(Ordering::SeqCst) - before);
    }
    println!("{rounds} rounds: kept {kept} times, {forgotten} thread-locals forgotten");
}
