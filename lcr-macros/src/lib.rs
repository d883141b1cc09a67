//! The macros of lcr-core; use them through that crate.

mod abi;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Lets values of a struct or an enum cross between components.
///
/// All fields must be able to cross. Lifetimes are allowed, in arguments; type
/// parameters too, without bounds. A type that holds itself, a union, a packed
/// type and an enum without variants are refused.
///
/// Fields and variants are what the two sides agree on, names included, in their
/// order: to change one is to change each method that the type occurs in. A
/// discriminant (`= 3`) is not: variants cross by position.
///
/// Put `#[repr(C)]` on a struct of numbers, or `#[repr(transparent)]` on a newtype
/// of one, to have slices and vectors of it cross without a copy.
#[proc_macro_derive(Abi)]
pub fn derive_abi(input: TokenStream) -> TokenStream {
    abi::derive(&parse_macro_input!(input as DeriveInput)).into()
}
