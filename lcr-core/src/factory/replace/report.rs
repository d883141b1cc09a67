//! What a replacement did, for people and for programs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::super::KeptLibrary;

/// What a replacement did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each interface, in the order of the request.
    pub interfaces: Vec<Replaced>,
    /// From the request until everything was ready for the switch (or, with state,
    /// for holding the gates). The old version served.
    pub prepared: Duration,
    /// How long calls were held; zero where no state was handed over.
    pub held: Duration,
    /// The switch itself.
    pub switched: Duration,
    /// From the switch until the last caller had left the old version, and it was
    /// destroyed. `None`: somebody is inside still, or has it pinned, or C code holds
    /// references that may have called it; it is destroyed after them.
    pub drained: Option<Duration>,
    /// How many calls waited.
    pub held_calls: u64,
    /// Libraries that nothing refers to any more and that are mapped still, with the
    /// reason: of this replacement, or of an earlier one.
    pub kept: Vec<KeptLibrary>,
}

/// One interface of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its name.
    pub interface: String,
    /// The version that served; `None` where none was known.
    pub from: Option<i32>,
    /// The version that serves.
    pub to: i32,
    /// The library that it comes from; `None`: compiled in.
    pub file: Option<PathBuf>,
    /// The library's SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Raw references to the old version, which keep it until they are released.
    pub pinned: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, replaced) in self.interfaces.iter().enumerate() {
            let Replaced { interface, from, to, file, sha256: _, pinned } = replaced;
            let end = if at + 1 < self.interfaces.len() { "\n" } else { "" };
            write!(f, "{interface}: ")?;
            if let Some(from) = from {
                write!(f, "version {from} → ")?;
            }
            write!(f, "version {to}")?;
            match file {
                Some(file) => write!(f, " from {}", file.display())?,
                None => write!(f, ", compiled in")?,
            }
            if *pinned > 0 {
                write!(f, "; {pinned} raw references keep the old version")?;
            }
            f.write_str(end)?;
        }
        Ok(())
    }
}
