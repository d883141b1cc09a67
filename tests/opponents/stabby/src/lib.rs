//! The contract, with stabby.

/// What is called.
#[stabby::stabby(checked)]
pub trait Work {
    /// A little.
    extern "C" fn add(&self, x: u64) -> u64;
    /// Text in, text out.
    extern "C" fn greet<'a>(&'a self, who: stabby::str::Str<'a>) -> stabby::string::String;
    /// A buffer in, the same buffer out.
    extern "C" fn turn(&self, data: stabby::vec::Vec<u8>) -> stabby::vec::Vec<u8>;
}

/// The object.
pub type WorkBox = stabby::dynptr!(stabby::boxed::Box<dyn Work>);

/// Loads the library, for ever.
///
/// # Panics
///
/// If it does not fit.
#[must_use]
pub fn load(path: &std::path::Path) -> WorkBox {
    use stabby::libloading::StabbyLibrary as _;
    // SAFETY: it is the plugin, whose constructors do nothing.
    let library = unsafe { libloading::Library::new(path) }.expect("the plugin is there");
    let library = Box::leak(Box::new(library));
    // SAFETY: stabby compares the types.
    let new = unsafe { library.get_stabbied::<extern "C" fn() -> WorkBox>(b"new_work") };
    new.expect("the plugin fits")()
}
