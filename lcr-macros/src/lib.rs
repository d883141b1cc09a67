//! The macros of lcr-core; use them through that crate.
//!
//! | macro | on | writes |
//! |---|---|---|
//! | [`contract`] | a trait | the table, the two ends of a call, the signature, a note |
//! | [`Interface`](derive@Interface) | a struct | the descriptor of a typed interface |
//! | [`component`] | an inline module | the component's descriptor, its registration, a note |
//! | [`file_component!`] | the end of a file | the same for the file |
//! | [`Abi`](derive@Abi) | a struct or an enum | how its values cross |
//!
//! All of them name what they need from `::lcr_core`. What they write stands in
//! anonymous constants, so that no name of theirs meets one of yours.

mod abi;
mod component;
mod contract;
mod interface;
mod note;
mod options;
mod place;
mod raw;
mod refusal;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a trait a contract: it can be called in components that were compiled
/// elsewhere, and the two sides are compared before they meet.
///
/// ```
/// #[lcr_core::contract]
/// pub trait Greeter: Send + Sync {
///     fn greet(&self, who: &str) -> String;
///     /// Appended later: providers built before it answer with this body.
///     fn languages(&self) -> Vec<String> {
///         vec!["en".into()]
///     }
/// }
///
/// fn meet(greeter: &lcr_core::Handle<dyn Greeter>) -> String {
///     greeter.greet("world")
/// }
/// ```
///
/// # What a contract is
///
/// - A trait without parameters and with the supertraits `Send + Sync`. It is
///   implemented for `Handle<dyn Trait>` and `Instance<dyn Trait>` here, and by
///   components for types of their own.
/// - Its items are methods that take `&self` and values that can cross: numbers,
///   text, collections, and your own types under [`Abi`](derive@Abi).
///   Arguments may borrow, and must show it: `&str`, `BorrowedFd<'_>`. What is
///   returned is owned.
/// - Not in it: type parameters, `&mut self`, `impl Trait`, `dyn` other than in
///   `Handle<dyn …>`, associated types and constants, `async`, `where`.
/// - `#[cfg]` on a method removes it from the contract.
///
/// # How it changes
///
/// Methods are matched by position, name and types. Only appending is compatible.
/// A method that is appended with a default body is answered by that body where
/// the provider is older; one without makes older providers unfit.
///
/// # When a component panics
///
/// The panic goes on in the caller, with the same message. A method that returns
/// `Result<_, E>` with `E: From<CallError>` returns an error in its place.
///
/// ```compile_fail
/// #[lcr_core::contract]
/// pub trait Counter: Send + Sync {
///     fn count(&mut self); // write `&self`, and an atomic in the component
/// }
/// ```
#[proc_macro_attribute]
pub fn contract(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(arguments.into(), item.into()).into()
}

/// Makes a struct an interface: a named, versioned thing that can be referenced.
///
/// ```
/// # #[lcr_core::contract]
/// # pub trait Clock: Send + Sync { fn now(&self) -> u64; }
/// # #[lcr_core::contract]
/// # pub trait Greeter: Send + Sync { fn greet(&self, who: &str) -> String; }
/// #[lcr_core::component]
/// mod english {
///     use super::{Clock, Greeter};
///
///     #[derive(lcr_core::Interface)]
///     #[interface(
///         name = "greeter",
///         version = 2,
///         replaces(0, 1),
///         contract = dyn Greeter,
///         requires("clock" as dyn Clock),
///     )]
///     pub struct English {
///         clock: Handle<dyn Clock>,
///     }
///
///     impl Construct for English {
///         fn construct(cx: &Context) -> Result<Self, BoxError> {
///             Ok(English { clock: cx.require("clock")? })
///         }
///     }
///
///     impl Greeter for English {
///         fn greet(&self, who: &str) -> String {
///             format!("hello, {who}, it is {}", self.clock.now())
///         }
///     }
/// }
/// # fn main() {}
/// ```
///
/// # `#[interface(…)]`
///
/// | key | value |
/// |---|---|
/// | `name = "…"` | what it is referenced by: 1 to 255 of `A-Z a-z 0-9 _ - .`; required |
/// | `version = N` | from 0; required |
/// | `contract = dyn Trait` | a trait under `#[contract]` that the struct implements; required |
/// | `replaces(N, …)` | versions that this one can stand in for |
/// | `requires("name" as dyn Trait, "raw.name", …)` | interfaces that are constructed before it |
/// | `per_reference` | constructed at each reference, instead of once |
/// | `state` | hands its state over when it is replaced |
///
/// The struct has no parameters, implements `Construct`, is `Send + Sync`, and
/// stands directly in a component.
#[proc_macro_derive(Interface, attributes(interface))]
pub fn derive_interface(input: TokenStream) -> TokenStream {
    interface::expand(&parse_macro_input!(input as DeriveInput)).into()
}

/// Makes an inline module a component, which registers itself at link time.
///
/// Its interfaces are the structs directly in it that derive
/// [`Interface`](derive@Interface), and the modules directly in it under
/// `#[interface(…)]`, which are raw tables. It is called like its module;
/// `#[component(name = "…")]` gives it another name. `lcr_core::prelude` is in
/// scope in it; what the module declares or imports by name wins over that.
///
/// A module in a file of its own says [`file_component!`] instead.
///
/// # Raw tables
///
/// C's way: an array of functions, whose types the caller knows from a header.
/// The functions under `#[function]` make the table in the order of the source;
/// constructor and destructor, which get the reference's context, may be left
/// out. `core::ffi`'s types are in scope. A panic in such a function ends the
/// process: nothing can unwind through C, and `extern "C-unwind"` is refused.
///
/// ```
/// #[lcr_core::component]
/// mod a {
///     #[interface(name = "A_iface1", version = 1, replaces(0))]
///     mod v1 {
///         #[constructor]
///         extern "C" fn constructor(context: *mut c_void) -> c_int {
///             println!("A - version 1 constructor context {context:p}");
///             0
///         }
///
///         #[destructor]
///         extern "C" fn destructor(context: *mut c_void) {
///             println!("A - version 1 destructor context {context:p}");
///         }
///
///         #[function]
///         extern "C" fn func1() {
///             println!("A - version 1 func1");
///         }
///
///         #[function]
///         extern "C" fn func2() {
///             println!("A - version 1 func2");
///         }
///     }
/// }
/// # fn main() {}
/// ```
///
/// # Errors of the compiler
///
/// Two interfaces of one name and version in a component, and a component without
/// any, do not compile.
#[proc_macro_attribute]
pub fn component(arguments: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(arguments.into(), item.into()).into()
}

/// Makes a whole file a component: stands at its end, and names its interfaces.
///
/// An attribute does not see into another file, so `#[component] mod english;` is
/// not possible; and a macro has one name in one place, so this one cannot be
/// called `component!`.
///
/// ```
/// // english.rs
/// # #[lcr_core::contract]
/// # pub trait Greeter: Send + Sync { fn greet(&self, who: &str) -> String; }
/// use lcr_core::prelude::*;
///
/// #[derive(Interface)]
/// #[interface(name = "greeter", version = 0, contract = dyn Greeter)]
/// pub struct English;
///
/// impl Construct for English {
///     fn construct(_: &Context) -> Result<Self, BoxError> {
///         Ok(English)
///     }
/// }
///
/// impl Greeter for English {
///     fn greet(&self, who: &str) -> String {
///         format!("hello, {who}")
///     }
/// }
///
/// lcr_core::file_component! { English }
/// # fn main() {}
/// ```
///
/// The component is called like the file's module; `name = "english",` in front
/// of the list gives it another name. Raw tables are written into the braces, as
/// modules under `#[interface(…)]`; see [`component`].
#[proc_macro]
pub fn file_component(input: TokenStream) -> TokenStream {
    component::expand_file(input.into()).into()
}

/// Lets values of a struct or an enum cross between components.
///
/// All fields must be able to cross, and their types be as visible as this one, whose
/// wire theirs are part of. Lifetimes are allowed, in arguments; type parameters too,
/// without bounds. A type that holds itself, one that implements
/// `Drop`, a union, a packed type and an enum without variants are refused.
///
/// So are two types that hold each other, by the compiler: an *overflow evaluating
/// the requirement `File: Abi`, required for `Vec<File>`, required for
/// `Vec<Folder>`* names the types in the circle. The shape of such a type would
/// have no end; cross a flat `Vec` of each, whose elements name others by index:
///
/// ```
/// #[derive(lcr_core::Abi)]
/// struct Tree {
///     folders: Vec<Folder>,
///     files: Vec<File>,
/// }
///
/// #[derive(lcr_core::Abi)]
/// struct Folder {
///     name: String,
///     files: Vec<u32>, // indices into `Tree::files`
/// }
///
/// #[derive(lcr_core::Abi)]
/// struct File {
///     name: String,
///     links: Vec<u32>, // indices into `Tree::folders`
/// }
/// ```
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
