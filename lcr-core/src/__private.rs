//! What expanded macros call. No part of the interface: it changes with the macros.

pub use crate::entry;
pub use crate::services::Services;

use std::ffi::c_void;

#[cfg(feature = "inventory")]
pub use inventory;
#[cfg(feature = "linkme")]
pub use linkme;

use crate::abi::Abi;
use crate::construct::InComponent;
use crate::contract::Contract;
use crate::descriptor::RawTable;
use crate::handover::{Handover, HandoverTable};
use crate::text::Piece;

/// The compiler that builds this program.
pub const RUSTC: &str = env!("LCR_RUSTC");

/// What a module with a raw table sees without naming it.
pub mod raw_prelude {
    pub use std::ffi::{
        CStr, c_char, c_double, c_float, c_int, c_long, c_longlong, c_short, c_uchar, c_uint, c_ulong,
        c_ulonglong, c_ushort, c_void,
    };
}

/// What cargo said of a package; a bare rustc says nothing.
#[must_use]
pub const fn known(said: Option<&'static str>) -> &'static str {
    match said {
        Some(said) => said,
        None => "",
    }
}

/// `lists` with commas between them; `N` is twice their number.
///
/// # Panics
///
/// In the compiler, if `N` is another number.
#[must_use]
pub const fn listed<const N: usize>(lists: &[&'static [Piece]]) -> [Piece; N] {
    assert!(N == 2 * lists.len(), "a comma, or nothing, and a list for each");
    let mut pieces = [Piece::Str(""); N];
    let mut i = 0;
    while i < lists.len() {
        if i > 0 {
            pieces[2 * i] = Piece::Str(",");
        }
        pieces[2 * i + 1] = Piece::List(lists[i]);
        i += 1;
    }
    pieces
}

/// Text that the macros put together.
///
/// # Panics
///
/// In the compiler, if it is none.
#[must_use]
pub const fn utf8(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("a shape is text"),
    }
}

/// The functions as a table.
///
/// # Panics
///
/// In the compiler, if `N` is not their number.
#[must_use]
pub const fn raw_table<const N: usize>(functions: &[*const c_void]) -> RawTable<N> {
    assert!(N == functions.len(), "a table is as long as its functions are many");
    let mut table = [std::ptr::null(); N];
    let mut i = 0;
    while i < N {
        table[i] = functions[i];
        i += 1;
    }
    RawTable(table)
}

/// How `T` hands its state over.
#[must_use]
pub const fn handover<T: Handover + Send + Sync + 'static>() -> *const HandoverTable {
    const { &HandoverTable::of::<T>() }
}

/// The last part of a module's path.
#[must_use]
pub const fn last_segment(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let mut start = bytes.len();
    while start > 0 && bytes[start - 1] != b':' {
        start -= 1;
    }
    path.split_at(start).1
}

/// Whether `T` itself implements `Drop`: the constant below if it does, else the trait's.
#[derive(Debug)]
pub struct Destructor<T>(std::marker::PhantomData<T>);

#[allow(drop_bounds, reason = "the question is about `Drop` itself, not about what needs dropping")]
impl<T: Drop> Destructor<T> {
    /// It does.
    pub const IS_THERE: bool = true;
}

/// The other half of [`Destructor`].
pub trait NoDestructor {
    /// It does not.
    const IS_THERE: bool = false;
}

impl<T> NoDestructor for Destructor<T> {}

/// Whether values of `T` borrow, decided as [`Destructor`] is: a type that cannot cross
/// has an error of its own.
#[derive(Debug)]
pub struct Lifetime<T>(std::marker::PhantomData<T>);

impl<T: Abi> Lifetime<T> {
    /// Whether they do.
    pub const IS_THERE: bool = T::BORROWS;
}

/// The other half of [`Lifetime`].
pub trait NoLifetime {
    /// Nothing is known of it.
    const IS_THERE: bool = false;
}

impl<T> NoLifetime for Lifetime<T> {}

/// Fails to compile where `T` stands in no component.
pub const fn assert_in_component<T: InComponent>() {}

/// Fails to compile where `C` is no contract.
pub const fn assert_contract<C: Contract + ?Sized>() {}

/// Fails to compile if a component offers one version of an interface twice.
///
/// # Panics
///
/// In the compiler, if it does.
pub const fn assert_all_differ(interfaces: &[(&str, i32)]) {
    let mut i = 0;
    while i < interfaces.len() {
        let mut j = 0;
        while j < i {
            let same = interfaces[i].1 == interfaces[j].1 && same_text(interfaces[i].0, interfaces[j].0);
            assert!(
                !same,
                "the component offers one version of an interface twice: give one of them another version, and list \
                 in `replaces(…)` what it stands in for"
            );
            j += 1;
        }
        i += 1;
    }
}

const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_the_end_of_its_path() {
        assert_eq!(last_segment("host::components::english"), "english");
        assert_eq!(last_segment("english"), "english");
    }

    #[test]
    fn a_list_has_commas_between_its_parts_only() {
        const LISTS: &[&[Piece]] = &[&[Piece::Str("a")], &[Piece::Int(2)], &[]];
        const PIECES: [Piece; 6] = listed(LISTS);
        const TEXT: [u8; crate::text::len(&PIECES)] = crate::text::write(&PIECES);
        assert_eq!(&TEXT, b"a,2,");
    }

    #[test]
    fn one_version_offered_twice_is_found() {
        assert_all_differ(&[("a", 0), ("a", 1), ("b", 0)]);
        assert!(std::panic::catch_unwind(|| assert_all_differ(&[("a", 0), ("b", 0), ("a", 0)])).is_err());
    }
}
