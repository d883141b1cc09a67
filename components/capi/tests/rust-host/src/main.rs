//! References what its arguments say, `NAME:VERSION`, and calls the first function.

use std::ffi::c_void;
use std::ptr::without_provenance_mut;

lcr_core::export_to_c!();

/// A table, as far as it is used here.
#[repr(C)]
struct Functions {
    first: extern "C" fn(),
}

/// A Rust component that requires a C one.
#[lcr_core::component]
mod asks {
    /// Calls it.
    #[interface(name = "asks", version = 0, requires("plain"))]
    mod v0 {
        #[function]
        extern "C" fn ask() {
            crate::call("plain", 0);
        }
    }
}

fn call(name: &str, version: i32) {
    let context: *mut c_void = without_provenance_mut(0xc0de);
    // SAFETY: all components that this program is told to use have such a table, and
    // print the context without following it.
    match unsafe { lcr_core::reference_raw::<Functions>(name, version, context) } {
        Ok(functions) => (functions.first)(),
        Err(error) => println!("{error}"),
    }
}

fn main() {
    for argument in std::env::args().skip(1) {
        let (name, version) = argument.split_once(':').unwrap_or((&argument, "0"));
        call(name, version.parse().unwrap_or_default());
    }
}
