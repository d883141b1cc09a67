//! The contract, with abi_stable.

#![allow(non_local_definitions, reason = "what the macro writes")]

use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RBox, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

/// What is called.
#[sabi_trait]
pub trait Work: Send + Sync {
    /// A little.
    fn add(&self, x: u64) -> u64;
    /// Text in, text out.
    fn greet(&self, who: RStr<'_>) -> RString;
    /// A buffer in, the same buffer out.
    fn turn(&self, data: RVec<u8>) -> RVec<u8>;
}

/// The object.
pub type WorkBox = Work_TO<'static, RBox<()>>;

/// What the library exports.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = RootRef)))]
pub struct Root {
    /// Makes one.
    #[sabi(last_prefix_field)]
    pub new: extern "C" fn() -> WorkBox,
}

impl RootModule for RootRef {
    abi_stable::declare_root_module_statics! {RootRef}
    const BASE_NAME: &'static str = "abi_stable_plugin";
    const NAME: &'static str = "abi_stable_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

/// Loads the library.
///
/// # Panics
///
/// If it does not fit.
#[must_use]
pub fn load(path: &std::path::Path) -> WorkBox {
    let root = RootRef::load_from_file(path).expect("the plugin fits");
    root.new()()
}
