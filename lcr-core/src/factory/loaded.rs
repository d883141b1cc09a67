//! A library that a factory has loaded, for as long as anything uses it.

use std::path::{Path, PathBuf};

/// provisional
pub(crate) struct Loaded { path: PathBuf }
impl Loaded { pub(crate) fn path(&self) -> &Path { &self.path } }
