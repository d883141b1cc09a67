//! Loading, using and unloading a library, over and over, in a process of its own:
//! nothing may grow. 300 cycles; 10,000 with `LCR_LONG=1`.

mod libraries;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use lcr_core::library::{Candidate, Locals, Policy, Unload};
use libraries::{Worker, built};

/// What must not grow.
#[derive(Debug)]
struct Footprint {
    mappings: usize,
    descriptors: usize,
    free_keys: usize,
    resident_kib: usize,
}

fn footprint() -> Footprint {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Footprint {
        mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        free_keys: free_keys(),
        resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// How many keys the process can still create.
fn free_keys() -> usize {
    let mut keys = Vec::new();
    let mut key = 0;
    // SAFETY: creates keys, and deletes those very keys.
    unsafe {
        while libc::pthread_key_create(&raw mut key, None) == 0 {
            keys.push(key);
        }
        for &key in &keys {
            libc::pthread_key_delete(key);
        }
    }
    keys.len()
}

fn cycle(drops: &'static AtomicUsize) {
    let candidate = Candidate::open(built("libone.so"), &Policy::default()).unwrap();
    let library = candidate.load().unwrap();
    let worker = Worker::of(&library);
    let before = drops.load(Ordering::SeqCst);
    assert_eq!((worker.busy)(drops), 42);
    assert_eq!(drops.load(Ordering::SeqCst), before + 1, "the joined thread's local is gone");
    assert!(library.live_keys() > 0, "thread::current() was to be recorded");
    assert_eq!(library.live_threads(), 0, "a joined thread is not counted");
    // SAFETY: nothing of the library is used any more.
    match unsafe { library.try_unload(Locals::Wait) } {
        Unload::Unloaded => {}
        Unload::Kept { reason, .. } => panic!("kept: {reason}"),
    }
    assert_eq!(drops.load(Ordering::SeqCst), before + 2, "this thread's local is gone");
}

#[test]
fn nothing_grows_over_many_cycles() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let cycles = if std::env::var_os("LCR_LONG").is_some() { 10_000 } else { 300 };
    // What the process allocates once.
    for _ in 0..20 {
        cycle(&DROPS);
    }
    let before = footprint();
    let began = std::time::Instant::now();
    for _ in 0..cycles {
        cycle(&DROPS);
    }
    let took = began.elapsed() / cycles;
    let after = footprint();
    println!("{cycles} cycles, {took:?} each: {before:?} -> {after:?}");
    assert_eq!(after.free_keys, before.free_keys);
    assert_eq!(after.descriptors, before.descriptors);
    // The allocator may split a mapping of its own, once.
    assert!(after.mappings <= before.mappings + 4, "{before:?} -> {after:?}");
    assert!(after.resident_kib < before.resident_kib + 2048, "{before:?} -> {after:?}");
}
