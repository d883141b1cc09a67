//! What the three sample programs do, wherever the components come from.
//!
//! | program | A | B |
//! |---|---|---|
//! | `test_static` | compiled in | compiled in |
//! | `test_dynamic` | `libtest_a.so` | `libtest_b.so` |
//! | `test_mixed` | compiled in | `libtest_b.so` |
//!
//! Each references four interfaces, calls them and releases them; and all three
//! print the same lines, which are the components' own.

use std::env;
use std::ffi::c_void;
use std::ptr::without_provenance_mut;

use lcr_core::{Factory, Raw, ReferenceError};

/// The table of `A_iface1` and `B_iface1`: in C it would stand in their header.
#[repr(C)]
#[derive(Debug)]
pub struct Functions {
    /// Prints a line.
    pub func1: extern "C" fn(),
    /// Prints a line.
    pub func2: extern "C" fn(),
    /// Prints a line.
    pub func3: extern "C" fn(),
}

/// A factory that searches `LCR_PATH`, or where that is not set the directory of
/// the program itself. What is compiled in comes before both.
///
/// # Errors
///
/// The program's own path is unknown.
pub fn factory() -> std::io::Result<Factory> {
    let mut builder = Factory::builder();
    if env::var_os("LCR_PATH").is_none() {
        let program = env::current_exe()?;
        builder = builder.path(program.parent().unwrap_or(&program));
    }
    Ok(builder.build())
}

/// References both components in both versions, calls them, releases them.
///
/// # Errors
///
/// A reference failed.
pub fn run(factory: &Factory) -> Result<(), ReferenceError> {
    let a0 = reference(factory, "A_iface1", 0, 0xaaaa_0000)?;
    let b0 = reference(factory, "B_iface1", 0, 0xbbbb_0000)?;
    let a1 = reference(factory, "A_iface1", 1, 0xaaaa_1111)?;
    let b1 = reference(factory, "B_iface1", 1, 0xbbbb_1111)?;
    for functions in [a0, a1, b0, b1] {
        (functions.func1)();
        (functions.func2)();
        (functions.func3)();
        // Released here: its destructor runs.
        drop(functions);
    }
    Ok(())
}

fn reference(
    factory: &Factory,
    name: &str,
    version: i32,
    context: usize,
) -> Result<Raw<Functions>, ReferenceError> {
    let context: *mut c_void = without_provenance_mut(context);
    // SAFETY: both versions of both interfaces have this table, and print the context
    // without following it.
    unsafe { factory.reference_raw(name, version, context) }
}
