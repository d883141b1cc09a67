//! References what its arguments say, `NAME:VERSION`, and calls the first function.
//! `replace=FILE` replaces the counter.

use std::error::Error;
use std::ffi::{c_long, c_void};
use std::ptr::{null_mut, without_provenance_mut};

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

/// What `needs` and `counter` offer.
#[repr(C)]
struct Counter {
    next: extern "C" fn() -> c_long,
    show: extern "C" fn() -> c_long,
}

/// Has the counter replaced under a C component that calls it; then under Rust code, which
/// is refused.
fn replace(file: &str) -> Result<(), Box<dyn Error>> {
    let factory = lcr_core::Factory::process();
    let replace = || factory.replace("counter").with(file).unpinned();
    // SAFETY: its table is of this type, and its constructor ignores the context.
    let needs = unsafe { lcr_core::reference_raw::<Counter>("needs", 0, null_mut())? };
    (needs.next)();
    replace().run()?;
    (needs.next)();
    (needs.show)();
    // SAFETY: as above.
    let counter = unsafe { lcr_core::reference_raw::<Counter>("counter", 0, null_mut())? };
    (counter.show)();
    if let Err(error) = replace().plan() {
        println!("{error}");
    }
    Ok(())
}

fn main() {
    for argument in std::env::args().skip(1) {
        if let Some(file) = argument.strip_prefix("replace=") {
            if let Err(error) = replace(file) {
                println!("{error}");
            }
            continue;
        }
        let (name, version) = argument.split_once(':').unwrap_or((&argument, "0"));
        call(name, version.parse().unwrap_or_default());
    }
}
