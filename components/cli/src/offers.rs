//! Who would answer a requirement, among files that are in one process.
//!
//! What the factory does with names alone: a program's own components are asked first;
//! only when none of them offers the name, the libraries are. Among either, the highest
//! version answers, and the first of equals.

use lcr_core::metadata::{Component, Interface};

use crate::files::File;

/// An interface, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'f> {
    pub(crate) file: &'f File,
    pub(crate) component: &'f Component,
    pub(crate) interface: &'f Interface,
}

/// What there is to answer, in the order in which it is asked.
#[derive(Debug)]
pub(crate) struct Offers<'f>(Vec<Offer<'f>>);

impl<'f> Offers<'f> {
    pub(crate) fn of(files: impl IntoIterator<Item = &'f File>) -> Offers<'f> {
        let mut offers: Vec<Offer<'f>> = files.into_iter().flat_map(all_of).collect();
        offers.sort_by_key(|offer| !offer.file.is_program());
        Offers(offers)
    }

    /// What answers a requirement.
    pub(crate) fn find(&self, name: &str) -> Option<Offer<'f>> {
        let is_program = self.named(name).any(|offer| offer.file.is_program());
        let mut best: Option<Offer<'f>> = None;
        for offer in self.named(name).filter(|offer| offer.file.is_program() == is_program) {
            if best.is_none_or(|best| offer.interface.version > best.interface.version) {
                best = Some(offer);
            }
        }
        best
    }

    fn named(&self, name: &str) -> impl Iterator<Item = Offer<'f>> {
        self.0.iter().filter(move |offer| offer.interface.name == name).copied()
    }
}

/// What a file offers.
pub(crate) fn all_of(file: &File) -> impl Iterator<Item = Offer<'_>> {
    file.metadata.interfaces().map(move |(component, interface)| Offer { file, component, interface })
}
