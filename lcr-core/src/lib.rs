//! Components that register themselves at link time, are found by name and version
//! whether they are compiled in or loaded, and can be replaced while the program runs.
//!
//! ```
//! // An API crate declares a contract…
//! #[lcr_core::contract]
//! pub trait Greeter: Send + Sync {
//!     fn greet(&self, who: &str) -> String;
//! }
//!
//! // …a component crate implements it…
//! #[lcr_core::component]
//! pub mod english {
//!     use super::Greeter;
//!
//!     #[derive(lcr_core::Interface)]
//!     #[interface(name = "greeter", version = 2, replaces(0, 1), contract = dyn Greeter)]
//!     pub struct English;
//!
//!     impl Construct for English {
//!         fn construct(_: &Context) -> Result<Self, BoxError> {
//!             Ok(English)
//!         }
//!     }
//!
//!     impl Greeter for English {
//!         fn greet(&self, who: &str) -> String {
//!             format!("Hello, {who}!")
//!         }
//!     }
//! }
//!
//! // …and a program references it. Version 1 will do: version 2 replaces it.
//! fn main() -> Result<(), lcr_core::ReferenceError> {
//!     let greeter: lcr_core::Handle<dyn Greeter> = lcr_core::reference("greeter", 1)?;
//!     assert_eq!(greeter.greet("world"), "Hello, world!");
//!     Ok(())
//! }
//! ```
//!
//! A component crate is a plain library crate. A program links it with
//! [`link!`]`(english_component)`; or a cdylib crate of one line,
//! [`library!`]`(english_component)`, makes it a shared object that the same
//! reference finds in the directories of `LCR_PATH`. Its source does not change.
//!
//! # A map
//!
//! | to | see |
//! |---|---|
//! | declare a contract, write a component | [`macro@contract`], [`macro@component`], [`macro@Interface`], [`Construct`], [`Context`] |
//! | say what values cross between components | [`abi`] |
//! | reference interfaces | [`reference()`], [`reference_with`], [`reference_raw`], [`Factory`], [`Version`] |
//! | call them | [`Handle`] (follows replacement), [`Instance`] (stays with one version), [`Guard`] (a run of calls) |
//! | replace them live | [`Factory::replace`](factory::Factory::replace), [`Handover`], [`factory`] |
//! | say which libraries may be loaded | [`library::Policy`] |
//! | read what a file holds, without running it | [`metadata`] |
//!
//! Below that, for those who read on: how components register ([`registry`]), what a
//! descriptor is ([`descriptor`]), what stands in a note ([`note`]), how a library
//! is mapped and unmapped ([`mod@library`], [`entry`]), what a host offers to one
//! ([`services`]), what C programs and components call ([`c`]),
//! what these say of their tables ([`table`]), whose memory a buffer is ([`allocator`]), and how a call can be
//! replaced under ([`gate`]).
//!
//! # Features
//!
//! - `linkme` (default): registration through a distributed slice; nothing runs
//!   before `main`. `inventory`: through constructors, for targets that linkme does
//!   not know. With both, linkme is used.
//! - `dlopen` (default, by `replace`): libraries are searched, read and loaded. A program
//!   without it has what is compiled in, and builds in half the time: a reference to
//!   anything else is a [`ReferenceError::NotFound`] that says so. There are no
//!   `library`, no reader of [`metadata`] and no places to search then.
//! - `replace` (default): interfaces are replaced while they run, from libraries or from
//!   what is compiled in. Without it [`Factory`] has no `replace`, `rollback`, `history` and
//!   `events`.
//!
//!   Components need neither, and work in all programs. Cargo unifies features, however: a
//!   program is without them when *every* crate in it that depends on lcr-core is. So let
//!   crates of contracts and components say `default-features = false` (and `linkme`).
//! - `serde`: sections of a [`State`] hold any type that serde knows, as JSON.
//! - `log`: log records of components in libraries reach the program's
//!   `log::logger()`, at the program's level, with target, module path, file and line
//!   ([`border::log`]).
//! - `tracing`: their events and spans reach the program's dispatcher, with typed
//!   values and the program's current span as parent ([`border::trace`]).
//!
//! `log` and `tracing` must be on in the program *and* in the library (in the crate
//! that calls [`library!`]); where one side lacks them, nothing is forwarded and
//! nothing breaks. Nothing in the program refers to a library once it is unloaded.
//! Components that are compiled in use the program's logger and dispatcher as they
//! are. What a library's panic says reaches the program without any feature
//! ([`border::panics`]).

#![cfg_attr(docsrs, feature(doc_cfg))]
// The documentation speaks of all features.
#![cfg_attr(not(feature = "replace"), allow(rustdoc::broken_intra_doc_links))]
// What only a replacement does stands beside what it is done to.
#![cfg_attr(not(feature = "replace"), allow(dead_code))]

extern crate self as lcr_core;

#[doc(hidden)]
pub mod __private;
pub mod abi;
pub mod allocator;
pub mod border;
pub mod c;
pub mod call;
pub mod construct;
pub mod context;
pub mod contract;
pub mod descriptor;
#[cfg(feature = "dlopen")]
mod elf;
pub mod entry;
pub mod error;
pub mod factory;
pub mod gate;
pub mod handle;
pub mod handover;
pub mod interface;
mod kernel;
#[cfg(feature = "dlopen")]
pub mod library;
pub mod metadata;
pub mod note;
pub mod prelude;
mod process;
pub mod registry;
pub mod services;
mod sync;
pub mod table;
pub mod text;
pub mod version;

pub use abi::Abi;
pub use call::CallError;
pub use construct::{BoxError, Construct};
pub use context::{Context, ContextError, Value};
pub use contract::Contract;
pub use error::ReferenceError;
pub use factory::{Factory, Raw, reference, reference_raw, reference_with};
pub use handle::{Guard, Handle, Instance};
pub use handover::{Handover, State, StateError};
pub use lcr_macros::{Interface, component, contract, file_component};
pub use version::Version;
