//! Reference, call, release, over and over, through the typed interface: nothing
//! grows. In a process of its own. 300 cycles; 10,000 with `LCR_LONG=1`.

#[path = "programs/mapped.rs"]
mod mappings;
mod programs;

use std::fs;

use lcr_core::factory::sweep;
use lcr_core::{Factory, Handle};
use programs::RELEASE;

/// As the fixtures know it.
#[lcr_core::contract]
pub(crate) trait Worker: Send + Sync {
    fn busy(&self) -> u64;
}

/// What must not grow.
#[derive(Debug)]
struct Footprint {
    lines: usize,
    descriptors: usize,
    free_keys: usize,
    resident_kib: usize,
}

fn footprint() -> Footprint {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Footprint {
        lines: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        free_keys: free_keys(),
        resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// How many thread-specific keys the process can still create.
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

#[test]
fn nothing_grows_over_many_cycles() {
    let long = std::env::var_os("LCR_LONG").is_some();
    let cycles = if long { 10_000 } else { 300 };
    let factory = Factory::builder()
        .without_environment()
        .components([])
        .path(RELEASE.file("liblibgreeters.so"))
        .build();
    let cycle = || {
        let worker: Handle<dyn Worker> = factory.reference("worker", 0).unwrap();
        // `thread::current()`, a thread-local with a destructor, a caught panic, a
        // joined thread that does the same.
        assert_eq!(worker.busy(), 42);
    };
    // What the process allocates once.
    for _ in 0..20 {
        cycle();
    }
    let (mapped, before) = (mappings::mapped(), footprint());
    let began = std::time::Instant::now();
    for _ in 0..cycles {
        cycle();
    }
    let (took, after) = (began.elapsed() / cycles, footprint());
    println!("{cycles} cycles, {took:?} each: {before:?} -> {after:?}");
    assert_eq!(sweep(), []);
    assert_eq!(mappings::mapped(), mapped);
    assert_eq!(after.free_keys, before.free_keys);
    assert_eq!(after.descriptors, before.descriptors);
    // The allocator may split a mapping of its own, once.
    assert!(after.lines <= before.lines + 4, "{before:?} -> {after:?}");
    assert!(after.resident_kib < before.resident_kib + 2048, "{before:?} -> {after:?}");
}
