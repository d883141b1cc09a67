//! Registration: how compiled-in components are found.
//!
//! The `component` attribute puts a [`Registration`] into a list that the linker
//! builds. With the feature `linkme` (default) that is a slice in a section of
//! its own, and nothing runs before `main`; with `inventory` a constructor of the
//! object links it into a list. Both are lists of *this* object: a program has
//! its own, and so has each library.
//!
//! C components, and Rust code that does not want the macro, use [`register`].

use std::sync::Mutex;

use crate::abi::RawStr;
use crate::descriptor::Comp;

/// A component as the linker hands it over.
#[repr(C)]
#[derive(Debug)]
pub struct Registration {
    comp: *const Comp,
    name: RawStr,
    package: RawStr,
    package_version: RawStr,
    module: RawStr,
}

// SAFETY: everything it points to is constant.
unsafe impl Sync for Registration {}
// SAFETY: as above.
unsafe impl Send for Registration {}

impl Registration {
    /// The registration of `comp`.
    #[must_use]
    pub const fn new(
        comp: &'static Comp,
        name: &'static str,
        package: &'static str,
        package_version: &'static str,
        module: &'static str,
    ) -> Self {
        Registration {
            comp,
            name: RawStr::new(name),
            package: RawStr::new(package),
            package_version: RawStr::new(package_version),
            module: RawStr::new(module),
        }
    }

    /// The descriptor.
    #[must_use]
    pub fn comp(&self) -> &Comp {
        // SAFETY: `new` took a `&'static Comp`, of an object that is mapped as
        // long as this registration can be borrowed. So below.
        unsafe { &*self.comp }
    }

    /// The component's name.
    #[must_use]
    pub fn name(&self) -> &str {
        // SAFETY: see `comp`.
        unsafe { self.name.as_str() }
    }

    /// The package that it was compiled in.
    #[must_use]
    pub fn package(&self) -> &str {
        // SAFETY: see `comp`.
        unsafe { self.package.as_str() }
    }

    /// The package's version.
    #[must_use]
    pub fn package_version(&self) -> &str {
        // SAFETY: see `comp`.
        unsafe { self.package_version.as_str() }
    }

    /// The module's path.
    #[must_use]
    pub fn module(&self) -> &str {
        // SAFETY: see `comp`.
        unsafe { self.module.as_str() }
    }
}

/// The list, with linkme.
#[cfg(feature = "linkme")]
#[doc(hidden)]
#[linkme::distributed_slice]
pub static COMPONENTS: [Registration];

#[cfg(all(feature = "inventory", not(feature = "linkme")))]
inventory::collect!(Registration);

static BY_HAND: Mutex<Vec<&'static Registration>> = Mutex::new(Vec::new());

/// Registers a component by hand. It is seen by every look-up that begins later;
/// a factory that has built its index already does not see it.
pub fn register(registration: &'static Registration) {
    BY_HAND.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(registration);
}

/// The components of this object: what the linker has collected, then what was
/// registered by hand.
#[must_use]
pub fn registrations() -> Vec<&'static Registration> {
    let mut all: Vec<&'static Registration> = linked().collect();
    all.extend(BY_HAND.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter());
    all
}

#[cfg(all(feature = "linkme", not(miri)))]
fn linked() -> impl Iterator<Item = &'static Registration> {
    COMPONENTS.iter()
}

#[cfg(all(feature = "inventory", not(feature = "linkme"), not(miri)))]
fn linked() -> impl Iterator<Item = &'static Registration> {
    inventory::iter::<Registration>.into_iter()
}

// Miri rejects the symbols of linkme's section, and no other backend is chosen
// without a feature: what is registered by hand is all there is.
#[cfg(any(miri, not(any(feature = "linkme", feature = "inventory"))))]
fn linked() -> impl Iterator<Item = &'static Registration> {
    std::iter::empty()
}

/// Puts `static NAME: Registration = …;` into the list: the one line of the
/// `component` attribute that knows the backend.
#[cfg(feature = "linkme")]
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($registration:expr) => {
        #[$crate::__private::linkme::distributed_slice($crate::registry::COMPONENTS)]
        #[linkme(crate = $crate::__private::linkme)]
        static REGISTRATION: $crate::registry::Registration = $registration;
    };
}

#[cfg(all(feature = "inventory", not(feature = "linkme")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($registration:expr) => {
        $crate::__private::inventory::submit! { $registration }
    };
}

#[cfg(not(any(feature = "linkme", feature = "inventory")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($registration:expr) => {
        compile_error!("lcr-core has no registration backend: enable its feature `linkme` or `inventory`");
    };
}

/// Links component crates into a program: `link!(english_component, clock);`.
///
/// A crate that nothing mentions is not linked at all, however many components
/// register themselves in it; this mentions it. A crate that is not a dependency
/// is a compile error. Components in the program's own crate need nothing.
#[macro_export]
macro_rules! link {
    ($($component:ident),+ $(,)?) => {
        $( #[allow(unused_extern_crates, reason = "linked for its components")] extern crate $component as _; )+
    };
}
