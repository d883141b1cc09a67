//! A library that does everything that makes unloading hard.

use std::cell::RefCell;
use std::panic;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;

use lcr_core::descriptor::Comp;
use lcr_core::registry::Registration;

#[cfg(feature = "own")]
lcr_core::library!(; own_allocator, stay);
#[cfg(not(feature = "own"))]
lcr_core::library!();

/// What the macros write for an annotated module.
#[linkme::distributed_slice(lcr_core::registry::COMPONENTS)]
static REGISTRATION: Registration = {
    static COMP: Comp = Comp::new(&[]);
    // SAFETY: it has no interfaces.
    unsafe {
        Registration::new(
            &COMP,
            "worker",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            module_path!(),
        )
    }
};

/// Which build this is.
#[unsafe(no_mangle)]
pub extern "C" fn worker_version() -> u32 {
    env!("CARGO_PKG_VERSION_MAJOR").parse().unwrap()
}

struct Local(&'static AtomicUsize);

impl Drop for Local {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Initialises a thread-local whose destructor counts itself.
#[unsafe(no_mangle)]
pub extern "C" fn worker_local(drops: &'static AtomicUsize) {
    LOCAL.with(|local| *local.borrow_mut() = Some(Local(drops)));
}

/// Touches `thread::current()`, which creates a thread-specific key.
#[unsafe(no_mangle)]
pub extern "C" fn worker_current() -> bool {
    thread::current().name().is_some()
}

/// Everything at once: answers 42.
#[unsafe(no_mangle)]
pub extern "C" fn worker_busy(drops: &'static AtomicUsize) -> u32 {
    worker_current();
    worker_local(drops);
    panic::set_hook(Box::new(|_| {}));
    let caught = panic::catch_unwind(|| panic!("caught in the library"));
    drop(panic::take_hook());
    assert!(caught.is_err());
    let spawned = thread::spawn(move || {
        worker_local(drops);
        let _ = thread::current().id();
        21
    });
    2 * spawned.join().unwrap()
}

/// A panic that is caught, with the default hook.
#[unsafe(no_mangle)]
pub extern "C" fn worker_loud_panic() -> bool {
    panic::catch_unwind(|| panic!("a panic that the library catches")).is_err()
}

/// Calls the program back from within the library.
#[unsafe(no_mangle)]
pub extern "C" fn worker_calls(back: extern "C" fn()) {
    back();
    std::hint::black_box(());
}

/// Spawns a thread that calls the program, and leaves it.
#[unsafe(no_mangle)]
pub extern "C" fn worker_spawns(back: extern "C" fn()) {
    drop(thread::spawn(move || back()));
}

/// A block of the library's allocator, to be freed by whoever owns it.
#[unsafe(no_mangle)]
pub extern "C" fn worker_block(length: usize) -> *mut u8 {
    Box::into_raw(vec![7_u8; length].into_boxed_slice()).cast()
}

/// Whose allocator that is.
#[unsafe(no_mangle)]
pub extern "C" fn worker_owner() -> *const lcr_core::allocator::Allocator {
    lcr_core::allocator::own()
}

/// Allocates before the program hands over its services.
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = {
    extern "C" fn early() {
        let mut early = vec![1_u8; 100];
        early.extend([2; 1000]);
        EARLY_BLOCK.store(early.leak().as_mut_ptr().addr(), Ordering::SeqCst);
    }
    early
};
static EARLY_BLOCK: AtomicUsize = AtomicUsize::new(0);

/// Frees what was allocated early: the library's own arena must recognise it.
#[unsafe(no_mangle)]
pub extern "C" fn worker_frees_early() -> u32 {
    let address = EARLY_BLOCK.swap(0, Ordering::SeqCst);
    let block: *mut [u8; 1100] = std::ptr::with_exposed_provenance_mut(address);
    let mut early = unsafe { Box::from_raw(block) }.to_vec();
    early.push(1);
    early.iter().map(|&byte| u32::from(byte)).sum()
}

static LATE_COUNT: AtomicPtr<AtomicUsize> = AtomicPtr::new(std::ptr::null_mut());

/// Where the ELF destructor counts itself.
#[unsafe(no_mangle)]
pub extern "C" fn worker_late(count: &'static AtomicUsize) {
    LATE_COUNT.store(std::ptr::from_ref(count).cast_mut(), Ordering::SeqCst);
}

/// An ELF destructor that uses the key once more, and a thread-local that has none yet
/// on this thread.
#[used]
#[unsafe(link_section = ".fini_array")]
static LATE: extern "C" fn() = {
    extern "C" fn late() {
        let _ = thread::current().id();
        thread_local! { static OTHER: RefCell<String> = RefCell::new("late".repeat(10)); }
        OTHER.with(|other| assert_eq!(other.borrow().len(), 40));
        // SAFETY: a static of the program, or null.
        if let Some(count) = unsafe { LATE_COUNT.load(Ordering::SeqCst).as_ref() } {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
    late
};
