//! An interface that could be referenced: a descriptor, and what keeps it mapped.

use std::fmt;
use std::sync::Arc;

use super::describe;
use super::libraries::Loaded;
use crate::construct::Prologue;
use crate::contract::{Mismatch, Signature};
use crate::descriptor::Iface;
use crate::error::ReferenceError;
use crate::handover::HandoverTable;
use crate::metadata::{Contract, Interface};
use crate::registry::{self, Registration};
use crate::table::{Description, Measured};

/// A descriptor of the program, or of a library that stays loaded as long as the
/// offer lives.
#[derive(Clone)]
pub(crate) struct Offer {
    iface: *const Iface,
    registration: *const Registration,
    library: Option<Arc<Loaded>>,
}

// SAFETY: descriptors are constants of an object that stays mapped: for ever in
// the program, by `library` elsewhere.
unsafe impl Send for Offer {}
// SAFETY: as above.
unsafe impl Sync for Offer {}

impl Offer {
    /// An interface of the program itself.
    pub(crate) fn compiled_in(iface: &'static Iface, registration: &'static Registration) -> Self {
        Offer { iface, registration, library: None }
    }

    /// An interface of a library.
    ///
    /// # Safety
    ///
    /// Both pointers must be into the library.
    pub(crate) unsafe fn external(
        iface: *const Iface,
        registration: *const Registration,
        library: Arc<Loaded>,
    ) -> Self {
        Offer { iface, registration, library: Some(library) }
    }

    pub(crate) fn iface(&self) -> &Iface {
        // SAFETY: mapped as long as `self`; see the type.
        unsafe { &*self.iface }
    }

    fn registration(&self) -> &Registration {
        // SAFETY: as above.
        unsafe { &*self.registration }
    }

    pub(crate) fn name(&self) -> String {
        // SAFETY: a registered descriptor is a sound one.
        unsafe { self.iface().name() }.into_owned()
    }

    pub(crate) fn version(&self) -> i32 {
        self.iface().version
    }

    pub(crate) fn requires(&self) -> Vec<String> {
        // SAFETY: as for `name`.
        unsafe { self.iface().requires() }
    }

    pub(crate) fn prologue(&self) -> Option<&Prologue> {
        // SAFETY: as for `name`.
        unsafe { self.iface().prologue() }
    }

    pub(crate) fn signature(&self) -> Option<&Signature> {
        // SAFETY: a prologue's signature is a constant of the same object.
        self.prologue().map(|p| unsafe { &*p.signature })
    }

    /// How it hands state over, if it does.
    pub(crate) fn handover(&self) -> Option<*const HandoverTable> {
        self.prologue().map(|p| p.handover).filter(|table| !table.is_null())
    }

    /// The contract, as a note would say it.
    pub(crate) fn contract(&self) -> Option<Contract> {
        self.signature().map(Contract::from)
    }

    /// The interface, as a note would say it.
    pub(crate) fn describe(&self) -> Interface {
        describe::interface(self.iface())
    }

    pub(crate) fn replaces(&self) -> &[i32] {
        // SAFETY: as for `name`.
        unsafe { self.iface().replaces() }
    }

    pub(crate) fn library(&self) -> Option<&Arc<Loaded>> {
        self.library.as_ref()
    }

    pub(crate) fn component(&self) -> &str {
        self.registration().name()
    }

    /// Is it the very same?
    pub(crate) fn is(&self, other: &Offer) -> bool {
        std::ptr::eq(self.iface, other.iface)
    }

    /// What its component says of its table, if anything.
    pub(crate) fn description(&self) -> Option<&Description> {
        match &self.library {
            Some(library) => library.table_of(self.iface),
            None => registry::table_of(self.iface),
        }
    }

    /// Its table, if the component says how long that is.
    ///
    /// # Errors
    ///
    /// What the component says cannot be true.
    pub(crate) fn sized(&self) -> Result<Option<Measured>, ReferenceError> {
        let checked = self.description().map(|description| description.table().check()).transpose();
        checked.map_err(|reason| ReferenceError::Table {
            name: self.name(),
            version: self.version(),
            origin: self.to_string(),
            reason,
        })
    }

    /// Is there one instance for all references?
    pub(crate) fn is_singleton(&self) -> bool {
        self.prologue().is_some_and(|p| p.flags & Prologue::PER_REFERENCE == 0)
    }

    /// Does it fit a caller that was compiled against `wanted`?
    pub(crate) fn fits(&self, wanted: Option<&Signature>) -> Result<(), ReferenceError> {
        match (wanted, self.signature()) {
            (None, None) => Ok(()),
            (None, Some(offered)) => Err(ReferenceError::Typed {
                name: self.name(),
                version: self.version(),
                origin: self.to_string(),
                contract: offered.contract().to_owned(),
            }),
            (Some(wanted), offered) => match offered {
                Some(offered) => wanted.accepts(offered),
                None => Err(Mismatch::Raw { expected: wanted.contract().to_owned() }),
            }
            .map_err(|mismatch| ReferenceError::Contract {
                name: self.name(),
                version: self.version(),
                origin: self.to_string(),
                mismatch: Box::new(mismatch),
            }),
        }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} ({self})", self.name(), self.version())
    }
}

/// Where it comes from, for people: a path, or that it is compiled in.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.library {
            Some(library) => write!(f, "{}", library.path().display()),
            None => name_origin(self.registration(), f),
        }
    }
}

fn name_origin(registration: &Registration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if registration.package().is_empty() {
        return write!(f, "C component of `{}`, compiled in", registration.name());
    }
    write!(
        f,
        "component `{}` of {} {}, compiled in",
        registration.name(),
        registration.package(),
        registration.package_version()
    )
}

/// The same for a registration alone.
pub(crate) fn origin(registration: &Registration) -> String {
    struct Origin<'a>(&'a Registration);
    impl fmt::Display for Origin<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            name_origin(self.0, f)
        }
    }
    Origin(registration).to_string()
}
