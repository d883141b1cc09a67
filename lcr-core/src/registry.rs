//! Registration: how compiled-in components are found.
//!
//! The `component` attribute puts a [`Registration`] into a list that the linker
//! builds. With the feature `linkme` (default) that is a slice in a section of
//! its own, and nothing runs before `main`; with `inventory` a constructor of the
//! object links it into a list. Both are lists of *this* object: a program has
//! its own, and so has each library.
//!
//! Rust code that does not want the macro uses [`register`]. C components register
//! themselves, each from an ELF constructor ([`register_c`]): in the program before
//! `main`, in a library while it is being loaded. One that does so while this crate
//! loads a library, on the thread that does, belongs to that library; any other to the
//! program, for ever.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::sync::Lazy;

use crate::abi::RawStr;
use crate::descriptor::{Comp, Iface};
use crate::table::{Description, Table};

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
    ///
    /// # Safety
    ///
    /// The descriptor must be true: what it points to is there for as long as the program
    /// is, and its functions are what a factory takes them for, C's or the derive's.
    #[must_use]
    pub const unsafe fn new(
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

    /// The registration of a C component, which has no name of its own: that of its
    /// first interface stands for it.
    ///
    /// # Safety
    ///
    /// `comp` must be a sound descriptor, with an interface that has a name, and be
    /// mapped as long as the registration is used.
    pub(crate) unsafe fn of_c(comp: *const Comp) -> Self {
        // SAFETY: the caller's word.
        let name = unsafe { (*comp).ifaces().first().map_or(c"", |iface| CStr::from_ptr(iface.name)) };
        Registration {
            comp,
            name: RawStr::new(name.to_str().unwrap_or("?")),
            package: RawStr::new(""),
            package_version: RawStr::new(""),
            module: RawStr::new(""),
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

#[derive(Default)]
struct ByHand {
    all: Vec<&'static Registration>,
    /// The addresses of the program's C components.
    c: HashSet<usize>,
}

static BY_HAND: Lazy<Mutex<ByHand>> = Lazy::new(Mutex::default);
/// How many there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn by_hand() -> MutexGuard<'static, ByHand> {
    BY_HAND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a component by hand. It is seen by every look-up that begins later.
pub fn register(registration: &'static Registration) {
    let mut by_hand = by_hand();
    by_hand.all.push(registration);
    COUNT.store(by_hand.all.len(), Ordering::Release);
}

/// What the ELF constructors of a library have registered.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    pub(crate) components: Vec<*const Comp>,
    /// What it says of its tables.
    pub(crate) tables: Vec<*const Table>,
    /// Why components were passed over.
    pub(crate) refused: Vec<String>,
}

thread_local! {
    /// What the library that this thread is loading has registered so far.
    static LOADING: RefCell<Option<Registered>> = const { RefCell::new(None) };
}

impl Registered {
    /// Passes over, with a line on standard error, what is said of the tables of interfaces
    /// that were not registered, where it cannot be true: nobody will reference these, and
    /// be told.
    ///
    /// # Safety
    ///
    /// The library is mapped.
    pub(crate) unsafe fn check_tables(&mut self) {
        let Registered { components, tables, refused } = self;
        let is_registered = |iface: *const Iface| {
            // SAFETY: `register_c` has looked at them, and the library is mapped.
            let mut all = components.iter().flat_map(|comp| unsafe { (**comp).ifaces() });
            all.any(|registered| std::ptr::eq(registered, iface))
        };
        for table in tables {
            // SAFETY: `describe_c` has looked at it, and the library is mapped.
            let table = unsafe { &**table };
            if is_registered(table.iface) {
                continue;
            }
            if let Err(reason) = table.check() {
                // SAFETY: as above.
                let subject = unsafe { table.subject() };
                let reason =
                    format!("{subject}, which no component registers, has no table as it says: {reason}");
                eprintln!("lcr: {reason}");
                refused.push(reason);
            }
        }
    }
}

/// Runs `f`, which loads a library, and answers what that has registered, each
/// component once.
pub(crate) fn collect<R>(f: impl FnOnce() -> R) -> (R, Registered) {
    let outer = LOADING.replace(Some(Registered::default()));
    let result = f();
    let registered = LOADING.replace(outer).unwrap_or_default();
    (result, registered)
}

/// Is this thread just loading a library, so that one of its ELF constructors asks?
pub(crate) fn is_loading() -> bool {
    LOADING.try_with(|loading| loading.borrow().is_some()).unwrap_or(false)
}

/// No component in C has more of anything: what says so was not filled in.
const MOST: usize = 1 << 16;

/// Why [`register_c`] passes over this component, a sentence; `None` if it takes it. One
/// without interfaces, or with an interface that has no name, could never be referenced.
///
/// # Safety
///
/// `comp` must point to a component's descriptor.
#[must_use]
pub unsafe fn refusal(comp: *const Comp) -> Option<String> {
    // SAFETY: the caller's word.
    let comp = unsafe { &*comp };
    if comp.iface_count > MOST {
        return Some(format!(
            "a component was not registered: it says that it has {} interfaces; `iface_count` is the number of its \
             `ifaces`",
            comp.iface_count
        ));
    }
    // SAFETY: as above.
    let ifaces = unsafe { comp.ifaces() };
    let is_true = |iface: &Iface| {
        iface.dependency_count <= MOST
            && usize::try_from(iface.versions_replace_count).is_ok_and(|n| n <= MOST)
    };
    if let Some(lies) = ifaces.iter().find(|iface| !iface.name.is_null() && !is_true(iface)) {
        return Some(format!(
            "a component was not registered: its `{}` says that it has {} dependencies and replaces {} versions",
            // SAFETY: as above; it is not null.
            unsafe { lies.name() },
            lies.dependency_count,
            lies.versions_replace_count
        ));
    }
    let lacks = if ifaces.is_empty() {
        "interfaces"
    } else if ifaces.iter().any(|iface| iface.name.is_null()) {
        "a name for each of its interfaces"
    } else {
        return None;
    };
    Some(format!(
        "a component without {lacks} was not registered: fill the descriptor in before lcr_component_register is \
         called"
    ))
}

/// Registers a C component: what `lcr_component_register` does. The same component a
/// second time is no second one. One that could never be referenced ([`refusal`]) is
/// passed over, with a line on standard error, for whoever calls this has no way to be told;
/// of a library's, those who look for an interface are told, too.
///
/// # Safety
///
/// `comp` must be null or point to a component's descriptor that lives as long as the
/// object that holds it is mapped: in the program, for ever.
pub unsafe fn register_c(comp: *const Comp) {
    if comp.is_null() {
        return;
    }
    // SAFETY: the caller's word; it is not null.
    if let Some(reason) = unsafe { refusal(comp) } {
        eprintln!("lcr: {reason}");
        let _ = LOADING.try_with(|loading| {
            loading.borrow_mut().iter_mut().for_each(|registered| registered.refused.push(reason.clone()));
        });
        return;
    }
    let is_librarys = LOADING.try_with(|loading| match &mut *loading.borrow_mut() {
        Some(registered) => {
            if !registered.components.contains(&comp) {
                registered.components.push(comp);
            }
            true
        }
        None => false,
    });
    if is_librarys.unwrap_or(false) {
        return;
    }
    let mut by_hand = by_hand();
    if by_hand.c.insert(comp.addr()) {
        // SAFETY: the program's own, so it is there for ever.
        let registration = Box::leak(Box::new(unsafe { Registration::of_c(comp) }));
        by_hand.all.push(registration);
        COUNT.store(by_hand.all.len(), Ordering::Release);
    }
}

/// What the program's own C components say of their tables, by the interface's address.
static TABLES: Lazy<Mutex<HashMap<usize, &'static Description>>> = Lazy::new(Mutex::default);
/// Has anybody, ever, described a table?
static HAS_TABLES: AtomicBool = AtomicBool::new(false);

/// Keeps what a C component says of a table: what `lcr_component_describe` does. One
/// that says it in a form which is not known here is as one that says nothing, with a line
/// on standard error. What cannot be true is told to whoever references the interface; and
/// where that may be nobody, it has a line on standard error, too.
///
/// # Safety
///
/// `table` must be null or point to a description, which lives as long as the object that
/// holds it is mapped: in the program, for ever. So must the descriptor that it names.
pub unsafe fn describe_c(table: *const Table) {
    // SAFETY: the caller's word.
    let Some(sound) = (unsafe { table.as_ref() }) else { return };
    if !sound.is_sound() {
        eprintln!(
            "lcr: a description of a table was passed over: make it with LCR_TABLE or LCR_TABLE_WITH_STATE of lcr.h"
        );
        return;
    }
    HAS_TABLES.store(true, Ordering::Release);
    let is_librarys = LOADING.try_with(|loading| match &mut *loading.borrow_mut() {
        Some(registered) => {
            registered.tables.push(table);
            true
        }
        None => false,
    });
    if is_librarys.unwrap_or(false) {
        return;
    }
    if let Err(reason) = sound.form() {
        // SAFETY: as above.
        eprintln!("lcr: {} has no table as it says: {reason}", unsafe { sound.subject() });
    }
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    tables.entry(sound.iface.addr()).or_insert_with(|| {
        // SAFETY: the program's own, so it is there for ever.
        Box::leak(Box::new(unsafe { Description::new(table) }))
    });
}

/// Has anybody, ever, described a table?
#[inline]
pub(crate) fn has_tables() -> bool {
    HAS_TABLES.load(Ordering::Acquire)
}

/// What a component of the program says of this interface's table.
pub(crate) fn table_of(iface: *const Iface) -> Option<&'static Description> {
    if !has_tables() {
        return None;
    }
    TABLES.lock().unwrap_or_else(PoisonError::into_inner).get(&iface.addr()).copied()
}

/// How many components were registered by hand, up to now.
pub(crate) fn count_by_hand() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// Those that were registered by hand after the first `count`.
pub(crate) fn by_hand_since(count: usize) -> Vec<&'static Registration> {
    by_hand().all.get(count..).unwrap_or_default().to_vec()
}

/// The components of this object: what the linker has collected, then what was
/// registered by hand.
#[must_use]
pub fn registrations() -> Vec<&'static Registration> {
    counted().0
}

/// The same, and how many of them, at the end, were registered by hand.
pub(crate) fn counted() -> (Vec<&'static Registration>, usize) {
    let mut all: Vec<&'static Registration> = linked().collect();
    let by_hand = by_hand();
    all.extend(by_hand.all.iter());
    (all, by_hand.all.len())
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
