//! A closer look at a library that does not say what it offers.

use std::path::Path;

use crate::metadata::Interface;

/// What to do about a library from before components registered themselves.
pub(crate) const OLDER: &str = "exports `lcr_comp_get`, which nothing calls any more: call \
                                `lcr_component_register(&comp)` from a function with \
                                `__attribute__((constructor))` instead";

/// What a library registers when it is loaded.
pub(crate) fn ask(_path: &Path) -> Result<Vec<Interface>, String> {
    Err("its data describe no component".to_owned())
}
