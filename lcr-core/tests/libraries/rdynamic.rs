//! A program that exports all its symbols: a library's own references must not
//! bind to them.

use lcr_core::descriptor::Comp;
use lcr_core::registry::Registration;
use lcr_core::library::{Candidate, Locals, Policy, Unload};
use std::mem::transmute;
use std::sync::atomic::{AtomicUsize, Ordering};

static DROPS: AtomicUsize = AtomicUsize::new(0);

/// A bait: what a library would call if its entry were looked up globally.
#[unsafe(no_mangle)]
pub extern "C" fn lcr_v1_library(_: *const ()) -> *const () {
    panic!("the program's symbol was called for the library's");
}

/// A third: the program's components must not be taken for the library's.
#[linkme::distributed_slice(lcr_core::registry::COMPONENTS)]
static REGISTRATION: Registration = {
    static COMP: Comp = Comp::new(&[]);
    // SAFETY: it has no interfaces.
    unsafe { Registration::new(&COMP, "program", "rdynamic", "1.0.0", "rdynamic") }
};

fn main() {
    let _ = std::thread::current().id();
    lcr_v1_library_is_exported();
    for path in std::env::args_os().skip(1) {
        let library = Candidate::open(&path, &Policy::default()).and_then(Candidate::load);
        let library = match library {
            Ok(library) => library,
            Err(error) => return println!("{error}"),
        };
        // SAFETY: the library's statics, and it is mapped.
        let names: Vec<_> = library.registrations().map(|found| found.name()).collect();
        assert_eq!(names, ["worker"]);
        let busy = library.object().symbol(c"worker_busy").unwrap();
        let busy = unsafe { transmute::<*mut _, extern "C" fn(&'static AtomicUsize) -> u32>(busy) };
        assert_eq!(busy(&DROPS), 42);
        assert!(library.live_keys() > 0);
        match unsafe { library.try_unload(Locals::Wait) } {
            Unload::Unloaded => println!("unloaded after {} drops", DROPS.load(Ordering::SeqCst)),
            Unload::Kept { reason, .. } => println!("kept: {reason}"),
        }
    }
}

fn lcr_v1_library_is_exported() {
    let own = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"lcr_v1_library".as_ptr()) };
    assert!(!own.is_null(), "linked without -rdynamic: the test would show nothing");
}
