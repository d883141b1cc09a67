//! In the place of `libraries` where the feature `dlopen` is off: there are none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::offer::Offer;
use super::{Inner, Wanted};
use crate::__private::RUSTC;
use crate::descriptor::Iface;
use crate::error::{Found, ReferenceError};
use crate::note::{Note, pad4};
use crate::table::Description;
use crate::text::{self, Piece};
use crate::version::Version;

/// Says in the program's file that it loads nothing, to those who would have it load
/// something: `lcr check`.
#[used]
#[unsafe(link_section = ".note.lcr")]
static NOTE: Note<{ pad4(text::len(SAYS)) }> = Note::new(SAYS);

const SAYS: &[Piece] = &[
    Piece::Str(r#"{"lcr":1,"kind":"core","package_version":""#),
    Piece::Str(env!("CARGO_PKG_VERSION")),
    Piece::Str(r#"","rustc":""#),
    Piece::Str(RUSTC),
    Piece::Str(r#"","dlopen":false}"#),
];

#[derive(Debug, Default)]
pub(super) struct Settings;

impl Settings {
    pub(super) fn libraries(self, _: bool) -> Libraries {
        Libraries
    }
}

pub(super) struct Libraries;

impl Libraries {
    pub(super) fn places(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    pub(super) fn find(&self, _: &str, _: Version) -> Result<Option<Hit>, ReferenceError> {
        Ok(None)
    }

    pub(super) fn not_found(
        &self,
        name: &str,
        version: Version,
        mut versions: Vec<(i32, String)>,
    ) -> ReferenceError {
        if cfg!(target_feature = "crt-static") {
            return ReferenceError::Static { name: name.to_owned(), version };
        }
        versions.sort_unstable();
        let found = Found { versions, nowhere: true, ..Found::default() };
        ReferenceError::NotFound { name: name.to_owned(), version, found: Box::new(found) }
    }

    pub(super) fn all_loaded(&self) -> Vec<Arc<Loaded>> {
        Vec::new()
    }
}

/// A library that a search has found.
#[derive(Clone, Debug)]
pub(crate) enum Hit {}

impl Hit {
    pub(super) fn name(&self) -> &str {
        match *self {}
    }

    pub(super) fn version(&self) -> i32 {
        match *self {}
    }

    pub(super) fn requires(&self) -> Vec<String> {
        match *self {}
    }

    pub(super) fn is_typed(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_singleton(&self) -> bool {
        match *self {}
    }
}

/// A library that is loaded.
pub(crate) enum Loaded {}

impl Loaded {
    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn is_c(&self) -> bool {
        match *self {}
    }

    pub(crate) fn table_of(&self, _: *const Iface) -> Option<&Description> {
        match *self {}
    }

    pub(crate) fn offers(self: &Arc<Self>) -> Vec<Offer> {
        match **self {}
    }
}

impl Wanted<'_> {
    pub(super) fn fits_note(self, hit: &Hit) -> Result<(), ReferenceError> {
        match *hit {}
    }
}

impl Inner {
    pub(super) fn load(&self, hit: &Hit, _: Wanted<'_>) -> Result<Offer, ReferenceError> {
        match *hit {}
    }
}
