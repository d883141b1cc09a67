//! A look into a library that says nothing of itself: a C component library has no notes.
//! [`lcr_core::library::probe`] has a child process look, which is this very program with a
//! hidden command ([`child`]).
//!
//! What was seen is remembered by device, inode, size and times of the file.

pub(crate) mod child;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use lcr_core::library::Stamp;
use lcr_core::library::probe::{self, Looked, Outcome, Registered};
use lcr_core::metadata::{Component, Interface};

use crate::refusal::Refusal;

/// The hidden command.
pub(crate) const CHILD: &str = "__probe";

/// What a library registers when it is loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probed {
    pub(crate) components: Vec<Component>,
    /// Why other components were passed over.
    pub(crate) passed_over: Vec<String>,
}

type Seen = crate::Result<Probed>;

/// Looks into a library.
pub(crate) fn probed(path: &Path) -> Seen {
    static KNOWN: Mutex<Option<HashMap<Stamp, Seen>>> = Mutex::new(None);
    let stamp = fs::metadata(path).ok().map(|status| Stamp::from(&status));
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stamp) = stamp
        && let Some(seen) = known().as_ref().and_then(|known| known.get(&stamp))
    {
        return seen.clone();
    }
    let seen = look(path);
    if let Some(stamp) = stamp {
        known().get_or_insert_default().insert(stamp, seen.clone());
    }
    seen
}

fn look(path: &Path) -> Seen {
    let mut child = Command::new("/proc/self/exe");
    let looked = probe::look(child.arg(CHILD).arg(path).stderr(Stdio::piped()));
    let Looked { outcome, said } = looked.map_err(|error| {
        let path = path.display();
        Refusal::new(format!(
            "{path}: cannot probe it: a child process cannot be started or watched: {error}"
        ))
    })?;
    let wrong = match outcome {
        Outcome::Registered(Registered { components, passed_over }) => {
            return Ok(Probed { components: named(components, path), passed_over });
        }
        // The child's own words name the file already.
        Outcome::Refused(reason) => return Err(Refusal::new(reason)),
        Outcome::Late => format!("its constructors did not end within {} s", probe::DEADLINE.as_secs()),
        Outcome::Ended(status) => format!("when it was loaded, {}", probe::ending(status)),
    };
    let mut refusal = Refusal::new(format!("{}: cannot be probed: {wrong}", path.display()));
    refusal = refusal
        .detail("it happened in a child process: a program that loads this library would fare the same");
    for line in String::from_utf8_lossy(&said).lines().filter(|line| !line.trim().is_empty()).take(5) {
        refusal = refusal.detail(format!("it wrote: {line}"));
    }
    Err(refusal)
}

/// Components in C have no names: they get that of their library.
fn named(components: Vec<Vec<Interface>>, path: &Path) -> Vec<Component> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_prefix("lib").unwrap_or(&stem);
    let several = components.len() > 1;
    let name = |position| if several { format!("{stem}-{}", position + 1) } else { stem.to_owned() };
    components
        .into_iter()
        .enumerate()
        .map(|(position, interfaces)| Component {
            name: name(position),
            package: String::new(),
            package_version: String::new(),
            rustc: String::new(),
            interfaces,
        })
        .collect()
}
