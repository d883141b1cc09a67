//! What the macros write is no warning to anybody, even where unsafe code is
//! forbidden and every lint is an error.
#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    unreachable_pub,
    unused,
    unused_qualifications,
    nonstandard_style,
    rust_2018_idioms,
    let_underscore_drop,
    elided_lifetimes_in_paths,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    non_local_definitions,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    clippy::as_conversions,
    clippy::std_instead_of_core,
    clippy::absolute_paths,
    clippy::missing_inline_in_public_items,
    clippy::exhaustive_structs
)]
#![allow(clippy::redundant_pub_crate, clippy::missing_const_for_fn, reason = "of the test's own items")]

mod api {
    /// Types that have the names which the macros use.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, lcr_core::Abi)]
    pub(crate) struct Methods(pub(crate) u32);

    /// As above.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, lcr_core::Abi)]
    pub(crate) struct T(pub(crate) Methods);

    /// A contract.
    #[lcr_core::contract]
    pub(crate) trait Store: Send + Sync {
        /// Puts.
        fn put(&self, key: &str, value: Vec<u8>) -> Result<T, String>;
        /// Gets.
        fn get(&self, keys: &[&str]) -> Option<Vec<u8>>;
        /// Does nothing.
        fn sync(&self) {}
        /// Is gone.
        #[deprecated]
        fn old(&self, methods: Methods) -> Methods {
            methods
        }
    }
}

#[lcr_core::component]
mod memory {
    use super::api::{Methods, Store, T};

    /// A store in memory.
    #[derive(Debug, Clone, Copy, Interface)]
    #[interface(name = "quiet.store", version = 0, contract = dyn Store, requires("quiet.raw"), per_reference)]
    pub(crate) struct Memory;

    impl Construct for Memory {
        fn construct(_: &Context) -> Result<Self, BoxError> {
            Ok(Self)
        }
    }

    impl Store for Memory {
        fn put(&self, _: &str, value: Vec<u8>) -> Result<T, String> {
            u32::try_from(value.len()).map(|n| T(Methods(n))).map_err(|e| e.to_string())
        }

        fn get(&self, _: &[&str]) -> Option<Vec<u8>> {
            None
        }
    }

    #[interface(name = "quiet.raw", version = 0)]
    mod raw {
        #[constructor]
        extern "C" fn constructor(_: *mut c_void) -> c_int {
            0
        }

        #[function]
        extern "C" fn nothing() {}
    }
}

#[test]
fn all_of_it_compiled() {
    use api::Store;
    use lcr_core::registry::registrations;
    assert!(registrations().iter().any(|r| r.name() == "memory"));
    assert_eq!(memory::Memory.put("a", vec![0; 3]), Ok(api::T(api::Methods(3))));
    assert_eq!(memory::Memory.get(&["a"]), None);
    memory::Memory.sync();
    #[allow(deprecated)]
    let old = memory::Memory.old(api::Methods(1));
    assert_eq!(old, api::Methods(1));
}
