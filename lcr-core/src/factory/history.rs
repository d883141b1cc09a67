//! What was replaced when, by whom, from which file, and how it went.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::offer::Offer;
use super::replace::{Failure, Replaced, Report};
use super::watch::Event;
use super::{Factory, Inner};

/// How many entries are kept; the oldest go first.
const KEPT: usize = 1024;

/// One replacement of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was over.
    pub time: SystemTime,
    /// The interface.
    pub interface: String,
    /// The version that served before.
    pub from: Option<i32>,
    /// The version that serves since; `None` where it failed before one was chosen.
    pub to: Option<i32>,
    /// The library; `None`: compiled in.
    pub file: Option<PathBuf>,
    /// The library's SHA-256.
    pub sha256: Option<String>,
    /// Who asked for it; `None`: the program itself.
    pub uid: Option<u32>,
    /// How it went.
    pub outcome: Outcome,
    /// How long its steps took; `None` where it failed.
    pub timings: Option<Timings>,
}

/// How long the steps of a replacement took; see [`Report`] for what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Until everything was ready.
    pub prepared: Duration,
    /// How long calls were held.
    pub held: Duration,
    /// The switch itself.
    pub switched: Duration,
    /// Until the old version was destroyed; `None`: it was not yet.
    pub drained: Option<Duration>,
}

/// How a replacement went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Undone, with what the error said.
    Failed(String),
}

impl Entry {
    pub(super) fn done(replaced: &Replaced, report: &Report, uid: Option<u32>) -> Self {
        let Replaced { interface, from, to, file, sha256, pinned: _ } = replaced.clone();
        let &Report { interfaces: _, prepared, held, switched, drained, held_calls: _, kept: _ } = report;
        Entry {
            time: SystemTime::now(),
            interface,
            from,
            to: Some(to),
            file,
            sha256,
            uid,
            outcome: Outcome::Done,
            timings: Some(Timings { prepared, held, switched, drained }),
        }
    }

    pub(super) fn failed(failure: &Failure, file: Option<PathBuf>, uid: Option<u32>) -> Self {
        Entry {
            time: SystemTime::now(),
            interface: failure.interface.clone(),
            from: None,
            to: None,
            file,
            sha256: None,
            uid,
            outcome: Outcome::Failed(failure.to_string()),
            timings: None,
        }
    }
}

/// What served before a replacement.
#[derive(Clone)]
pub(super) struct Previous {
    /// What replaced it: the version that is gone back from.
    pub(super) to: i32,
    pub(super) version: i32,
    /// Compiled in: always there.
    pub(super) offer: Option<Offer>,
    /// A library, which is loaded anew, if it is still the same.
    pub(super) file: Option<(PathBuf, String)>,
}

impl Previous {
    pub(super) fn of(offer: &Offer, to: i32) -> Self {
        match offer.library() {
            None => Previous { to, version: offer.version(), offer: Some(offer.clone()), file: None },
            Some(library) => Previous {
                to,
                version: offer.version(),
                offer: None,
                file: library.sha256().map(|sha256| (library.path().to_owned(), sha256)),
            },
        }
    }
}

#[derive(Default)]
pub(super) struct History(Mutex<Records>);

#[derive(Default)]
struct Records {
    entries: Vec<Entry>,
    /// The way back, by interface: one for each version that was replaced, the lowest
    /// first.
    previous: Vec<(String, Previous)>,
}

impl History {
    fn add(&self, entry: Entry) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.entries.len() == KEPT {
            records.entries.remove(0);
        }
        records.entries.push(entry);
    }

    /// Keeps the way back from one transaction. Called in its turn, so that the last
    /// one counts, whichever is the first to see its callers leave.
    pub(super) fn remember<'a>(&self, all: impl Iterator<Item = (&'a str, &'a [Previous])> + Clone) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.previous.retain(|(name, _)| all.clone().all(|(new, _)| new != name));
        for (name, previous) in all {
            records.previous.extend(previous.iter().map(|previous| (name.to_owned(), previous.clone())));
        }
    }

    pub(super) fn previous(&self, interface: &str) -> Vec<Previous> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.previous.iter().filter(|(name, _)| name == interface).map(|(_, p)| p.clone()).collect()
    }
}

impl Inner {
    /// Keeps an entry, and tells those who watch.
    pub(super) fn record(&self, entry: Entry) {
        self.history.add(entry.clone());
        self.tell(&Event::Replacement(entry));
    }

    fn entries(&self) -> Vec<Entry> {
        self.history.0.lock().unwrap_or_else(PoisonError::into_inner).entries.clone()
    }
}

impl Factory {
    /// What was replaced since the program started, the oldest first. The last
    /// thousand or so are kept.
    #[must_use]
    pub fn history(&self) -> Vec<Entry> {
        self.inner.entries()
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    sha256(&mut File::open(path)?)
}

pub(super) fn sha256(from: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            n => hash.update(&chunk[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
