//! A program without forwarding: libraries that have it work all the same.

use std::mem::transmute;

use lcr_core::library::{Candidate, Locals, Policy, Unload};

fn main() {
    for path in std::env::args_os().skip(1) {
        let library = Candidate::open(&path, &Policy::default()).unwrap().load().unwrap();
        for name in [c"talk_log", c"talk_events", c"talk_spans", c"talk_panic"] {
            let symbol = library.object().symbol(name).unwrap();
            // SAFETY: the type of all functions of `talker.rs`.
            let function = unsafe { transmute::<*mut _, extern "C" fn() -> u64>(symbol) };
            function();
        }
        // SAFETY: nothing of it is used any more.
        match unsafe { library.try_unload(Locals::Wait) } {
            Unload::Unloaded => println!("unloaded"),
            Unload::Kept { reason, .. } => println!("kept: {reason}"),
        }
    }
}
