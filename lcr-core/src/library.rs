//! Libraries: shared objects that hold components, from file to unmapping.
//!
//! Loading goes in steps, each of which can be refused before the next has any
//! effect:
//!
//! 1. [`Candidate::open`] opens, verifies and copies the file ([`Policy`] says what
//!    is accepted). Nothing of it runs; its metadata is read from the copy.
//! 2. [`Candidate::map`] lets the dynamic linker map that copy. The object's ELF
//!    constructors run.
//! 3. [`Object::enter`] calls the entry symbol, if the object itself has one:
//!    services in, table out. [`Candidate::load`] is 2 and 3.
//!
//! [`Library::try_unload`] goes back. It answers [`Unload::Kept`], with the reason
//! and the library, when something of the library may still run; the caller tries
//! again later. `dlclose` is not called before it is certain: the C library would
//! otherwise unmap a pinned library at some unrelated later `dlclose`.
//!
//! Invariants: a [`Library`] that is dropped stays mapped; a library is unmapped
//! only when no thread of it lives, none of its thread-locals waits for a
//! destructor, its keys are deleted, and the unmapping thread has no frame of it on
//! its stack. That no instance, table or borrowed text of it is in use is the
//! caller's to know, which is why unloading is `unsafe`.
//!
//! ```no_run
//! use lcr_core::library::{Candidate, Locals, Policy, Unload};
//!
//! let candidate = Candidate::open("/usr/lib/app/libenglish.so", &Policy::default())?;
//! let library = candidate.load()?;
//! for registration in library.registrations() {
//!     println!("{}", registration.name());
//! }
//! // SAFETY: nothing of the library has been used.
//! match unsafe { library.try_unload(Locals::Wait) } {
//!     Unload::Unloaded => {}
//!     Unload::Kept { reason, library } => println!("{} is kept: {reason}", library.path().display()),
//! }
//! # Ok::<(), lcr_core::library::LoadError>(())
//! ```

mod c;
mod elf;
mod error;
mod map;
mod policy;
pub mod probe;
mod program;
mod unload;
mod verify;

use std::ffi::c_void;
use std::mem::{size_of, transmute};
use std::path::Path;
use std::sync::atomic::Ordering;

pub(crate) use c::CLibrary;
pub use error::LoadError;
pub use map::{Mapping, Object};
pub use policy::{GroupWritable, Policy};
pub(crate) use program::{is_secure, is_static};
pub use unload::{Kept, Locals, Unload};
pub use verify::{Candidate, Stamp};

use crate::border;
use crate::descriptor::ABI_VERSION;
use crate::entry::{self, Book, EntryFn, LibraryTable};
use crate::registry::Registration;
use crate::services::{self, Services};

/// A loaded library. Stays loaded when it is dropped: [`Library::try_unload`].
#[derive(Debug)]
pub struct Library {
    object: Object,
    table: &'static LibraryTable,
    /// `table.book`: its address is asked for when the table has gone.
    book: *const Book,
    registrations: Vec<&'static Registration>,
}

/// Why an object is no library; the object, still mapped, comes back with it: it
/// may be a component library in C.
#[derive(Debug)]
pub struct NotEntered {
    /// Why.
    pub error: LoadError,
    /// The object.
    pub object: Object,
}

impl Candidate {
    /// Maps it and calls its entry symbol with this program's services.
    ///
    /// # Errors
    ///
    /// [`LoadError::Link`] from the dynamic linker; [`LoadError::NoEntry`] and
    /// [`LoadError::Abi`] as [`Object::enter`], the object being unmapped then.
    pub fn load(self) -> Result<Library, LoadError> {
        // SAFETY: they are this program's.
        let entered = unsafe { self.map()?.enter(services::offered_by_process()) };
        entered.map_err(|refused| {
            let NotEntered { error, mut object } = *refused;
            // SAFETY: of the object only ELF constructors have run, and at most an entry
            // that refused our services: nobody has anything of it.
            unsafe { object.close() };
            error
        })
    }

    /// Maps it: its ELF constructors run, and nothing else.
    ///
    /// # Errors
    ///
    /// [`LoadError::Link`] with the dynamic linker's words; [`LoadError::Swapped`]
    /// if a policy lets it be loaded by path.
    pub fn map(self) -> Result<Object, LoadError> {
        Object::map(self)
    }
}

impl Object {
    /// Calls the object's own entry symbol.
    ///
    /// # Safety
    ///
    /// The services must be a program's own, or a true copy of them.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoEntry`] if it has none; [`LoadError::Abi`] if it was made for
    /// another version of the border. Both with the object.
    pub unsafe fn enter(self, services: &'static Services) -> Result<Library, Box<NotEntered>> {
        let path = self.path().to_path_buf();
        let Some(entry) = self.symbol(entry::ENTRY) else {
            let found = match self.foreign_symbol(entry::ENTRY) {
                Some(holder) => format!("only that of {holder}"),
                None => "none".into(),
            };
            return Err(Box::new(NotEntered { error: LoadError::NoEntry { path, found }, object: self }));
        };
        // SAFETY: the symbol lies in the object just opened, and a symbol of this name,
        // which holds the ABI version, is of this type.
        let entry = unsafe { transmute::<*mut c_void, EntryFn>(entry) };
        border::panics::mapped(&self.mapping().range, &path);
        // SAFETY: services that live as long as the program.
        let table = unsafe { entry(services) };
        // SAFETY: null, or a table of the library that begins with its size and ABI.
        let facts = (!table.is_null()).then(|| unsafe { ((*table).size, (*table).abi) });
        let found = match facts {
            None => Some(format!("another than {ABI_VERSION}, or a newer revision of it")),
            Some((_, abi)) if abi != ABI_VERSION => Some(abi.to_string()),
            Some((size, _)) if size < size_of::<LibraryTable>() => {
                Some(format!("an older revision of {ABI_VERSION} (a table of {size} bytes)"))
            }
            Some(_) => None,
        };
        if let Some(found) = found {
            let error = LoadError::Abi { path, found, wanted: ABI_VERSION };
            return Err(Box::new(NotEntered { error, object: self }));
        }
        // SAFETY: not null, of our ABI and at least our size; a static of the library, which
        // stays mapped while this `Library` lives, and `Library` hands out no longer borrow.
        let table: &'static LibraryTable = unsafe { &*table };
        let mut registrations: Vec<&'static Registration> = Vec::new();
        // SAFETY: the library shows each registration to `collect`, with our vector.
        unsafe { (table.registrations)(collect, (&raw mut registrations).cast()) };
        Ok(Library { object: self, table, book: table.book, registrations })
    }
}

// SAFETY: what it points to is the library's statics, which are made of atomics and
// read-only tables, and the functions there may be called by any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

unsafe extern "C" fn collect(registrations: *mut c_void, registration: *const Registration) {
    // SAFETY: the vector of `Object::enter`, which waits for us.
    let registrations = unsafe { &mut *registrations.cast::<Vec<&'static Registration>>() };
    // SAFETY: a static of the library; `Library` bounds its life.
    registrations.push(unsafe { &*registration });
}

impl Library {
    /// The path it was verified under.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.object.path()
    }

    /// What is mapped: device and inode are the library's identity in this process.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        self.object.mapping()
    }

    /// The mapped object.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The components that it holds.
    pub fn registrations(&self) -> impl ExactSizeIterator<Item = &Registration> {
        self.registrations.iter().copied()
    }

    /// Whether its buffers must be copied: it has an allocator of its own.
    #[must_use]
    pub fn has_own_allocator(&self) -> bool {
        self.table.flags & entry::OWN_ALLOCATOR != 0
    }

    /// Threads that the library spawned and that live.
    #[must_use]
    pub fn live_threads(&self) -> usize {
        // SAFETY: a static of the library, which is mapped.
        unsafe { (*self.book).threads.load(Ordering::Acquire) }
    }

    /// Thread-specific keys that the library has.
    #[must_use]
    pub fn live_keys(&self) -> usize {
        // SAFETY: as above; the function only counts.
        unsafe { ((*self.book).keys)() }
    }
}
