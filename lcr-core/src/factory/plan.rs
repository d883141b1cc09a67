//! Whether everything that an interface requires can be had, before anything is
//! constructed: a walk over names alone, in descriptors and notes.

use std::collections::HashSet;

use super::{Inner, Source};
use crate::error::ReferenceError;
use crate::version::Version;

/// Walks the dependencies of `source`, depth first.
///
/// # Errors
///
/// A circle, or something that nobody offers, with the path to it.
pub(crate) fn check(factory: &Inner, source: &Source) -> Result<(), ReferenceError> {
    if source.is_alone(factory) {
        return Ok(());
    }
    let requires = source.requires(factory);
    let root = source.name(factory);
    Walk { factory, root: &root, path: vec![root.clone()], sound: HashSet::new() }.down(&requires)
}

/// How deep dependencies may be: each is checked, and constructed, on the stack of the one
/// that requires it.
const DEEPEST: usize = 256;

struct Walk<'a> {
    factory: &'a Inner,
    root: &'a str,
    path: Vec<String>,
    /// Names below which nothing is missing.
    sound: HashSet<String>,
}

impl Walk<'_> {
    fn down(&mut self, requires: &[String]) -> Result<(), ReferenceError> {
        for name in requires {
            if self.sound.contains(name) {
                continue;
            }
            let is_circle = self.path.contains(name);
            self.path.push(name.clone());
            if is_circle {
                return Err(ReferenceError::Cycle { name: self.root.to_owned(), path: self.path.clone() });
            }
            if self.path.len() > DEEPEST + 1 {
                let (name, path) = (self.root.to_owned(), self.path.clone());
                return Err(ReferenceError::Deep { name, most: DEEPEST, path });
            }
            let below = match self.factory.source(name, Version::any()) {
                Ok(source) => source.requires(self.factory),
                Err(cause) => {
                    return Err(ReferenceError::Dependency {
                        name: self.root.to_owned(),
                        path: self.path.clone(),
                        cause: Box::new(cause),
                    });
                }
            };
            self.down(&below)?;
            self.path.pop();
            self.sound.insert(name.clone());
        }
        Ok(())
    }
}
