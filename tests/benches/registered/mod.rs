//! Components by the thousand: registrations as the macros write them, made while
//! the program runs.

use std::ffi::{CString, c_int, c_void};

use bench_worker::{Work, components::Adder};
use lcr_core::Contract;
use lcr_core::construct::TypedTable;
use lcr_core::descriptor::{Comp, Iface, Names, RawTable};
use lcr_core::registry::Registration;

static TYPED: TypedTable<<dyn Work as Contract>::Methods> =
    // SAFETY: it has no state.
    unsafe { TypedTable::new::<Adder, dyn Work>(0, std::ptr::null()) };
static RAW: RawTable<1> = RawTable([function as *const c_void]);
static NOTHING: Names<0> = Names::new([]);

extern "C" fn function() {}

unsafe extern "C" fn constructor(_: *mut c_void) -> c_int {
    0
}

unsafe extern "C" fn destructor(_: *mut c_void) {}

/// The name of a typed interface, version 0.
pub(crate) fn typed(number: usize) -> String {
    format!("bench.typed.{number:05}")
}

/// The name of a raw one, version 0.
pub(crate) fn raw(number: usize) -> String {
    format!("bench.raw.{number:05}")
}

/// So many components: a typed interface in one, a raw one in the next.
pub(crate) fn components(count: usize) -> Vec<&'static Registration> {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    (0..count)
        .map(|number| {
            let iface = if number % 2 == 0 {
                let name = Box::leak(CString::new(typed(number)).unwrap().into_boxed_c_str());
                Iface::typed(name, 0, &[], &NOTHING, &TYPED)
            } else {
                let name = Box::leak(CString::new(raw(number)).unwrap().into_boxed_c_str());
                Iface::raw(name, 0, &[], &NOTHING, Some(constructor), Some(destructor), &RAW)
            };
            let comp = Box::leak(Box::new(Comp::new(Box::leak(Box::new([iface])))));
            let name = leak(format!("component{number}"));
            // SAFETY: the descriptor is true, and stays.
            let registration = unsafe { Registration::new(comp, name, "bench", "0.1.0", "bench") };
            &*Box::leak(Box::new(registration))
        })
        .collect()
}
