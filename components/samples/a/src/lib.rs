//! The sample component A: one interface with a raw C table, in two versions.
//!
//! Compiled in or loaded from `libtest_a.so`, it is this same source. Each
//! function prints one line; what is written to a closed pipe is lost, because
//! nothing can unwind through C.

use std::fmt;

/// Prints one line, in one write of the system's: every library has a standard
/// library of its own, and a `println!` here would go through a buffer that nobody
/// frees when this library is unmapped.
fn say(line: fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    let _ = rustix::io::write(rustix::stdio::stdout(), line.as_bytes());
}

/// The component.
#[lcr_core::component]
pub mod a {
    #[interface(name = "A_iface1", version = 0)]
    mod v0 {
        use crate::say;

        #[constructor]
        extern "C" fn constructor(context: *mut c_void) -> c_int {
            say(format_args!("A - version 0 constructor context {context:p}"));
            0
        }

        #[destructor]
        extern "C" fn destructor(context: *mut c_void) {
            say(format_args!("A - version 0 destructor context {context:p}"));
        }

        #[function]
        extern "C" fn func1() {
            say(format_args!("A - version 0 func1"));
        }

        #[function]
        extern "C" fn func2() {
            say(format_args!("A - version 0 func2"));
        }

        #[function]
        extern "C" fn func3() {
            say(format_args!("A - version 0 func3"));
        }
    }

    #[interface(name = "A_iface1", version = 1)]
    mod v1 {
        use crate::say;

        #[constructor]
        extern "C" fn constructor(context: *mut c_void) -> c_int {
            say(format_args!("A - version 1 constructor context {context:p}"));
            0
        }

        #[destructor]
        extern "C" fn destructor(context: *mut c_void) {
            say(format_args!("A - version 1 destructor context {context:p}"));
        }

        #[function]
        extern "C" fn func1() {
            say(format_args!("A - version 1 func1"));
        }

        #[function]
        extern "C" fn func2() {
            say(format_args!("A - version 1 func2"));
        }

        #[function]
        extern "C" fn func3() {
            say(format_args!("A - version 1 func3"));
        }
    }
}
