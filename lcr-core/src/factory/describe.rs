//! What a running program says of itself, in the words of its metadata.
//!
//! The same facts stand in two places: in the notes of the file, for those who read
//! it, and in the descriptors in memory, which answer references. This is the second
//! place. Tests hold the two against each other.

use super::Factory;
use crate::__private::RUSTC;
use crate::construct::Prologue;
use crate::descriptor::Iface;
use crate::metadata::{Component, Contract, FileKind, Interface, Metadata};
use crate::registry::{self, Registration};

impl Factory {
    /// The components that are compiled in, as their descriptors say, in the order of
    /// [`Metadata::sort`]: equal to what [`Metadata::read`] finds in the program's file.
    ///
    /// A descriptor does not say which compiler made it; the one that compiled this
    /// crate is named.
    #[must_use]
    pub fn compiled_in(&self) -> Vec<Component> {
        let components = match &self.inner.registrations {
            Some(these) => these.iter().map(|registration| component(registration)).collect(),
            None => registry::registrations().into_iter().map(component).collect(),
        };
        let mut metadata = Metadata {
            kind: FileKind::Executable,
            components,
            contracts: Vec::new(),
            library: None,
            core: None,
        };
        metadata.sort();
        metadata.components
    }
}

pub(crate) fn component(registration: &Registration) -> Component {
    // SAFETY: a registered descriptor is a sound one.
    let ifaces = unsafe { registration.comp().ifaces() };
    Component {
        name: registration.name().to_owned(),
        package: registration.package().to_owned(),
        package_version: registration.package_version().to_owned(),
        rustc: RUSTC.to_owned(),
        interfaces: ifaces.iter().map(interface).collect(),
    }
}

/// An interface, as a note would say it.
pub(super) fn interface(iface: &Iface) -> Interface {
    // SAFETY: a registered descriptor is a sound one.
    let (name, replaces, requires, prologue) =
        unsafe { (iface.name(), iface.replaces(), iface.requires(), iface.prologue()) };
    let flag = |flag| prologue.is_some_and(|prologue| prologue.flags & flag != 0);
    Interface {
        name: name.into_owned(),
        version: iface.version,
        replaces: replaces.to_vec(),
        requires,
        per_reference: flag(Prologue::PER_REFERENCE),
        state: flag(Prologue::STATE),
        // SAFETY: a prologue's signature is a constant of the same object.
        contract: prologue.map(|prologue| Contract::from(unsafe { &*prologue.signature })),
    }
}
