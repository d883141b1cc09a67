//! What was replaced live is answered by its successor: the memory of that.
//!
//! A *line* is the history of one interface's versions in this process: the
//! versions that were replaced, and the offer that answers for all of them now.
//! As long as nothing was ever replaced there are no lines, and look-ups pass by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::offer::Offer;
use super::slot::Slot;
use crate::version::Version;

#[derive(Default)]
pub(crate) struct Lines {
    any: AtomicBool,
    lines: Mutex<Vec<Line>>,
}

/// One interface's successors.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The versions that are answered by `offer`, its own included.
    pub(crate) answers: Vec<i32>,
    pub(crate) offer: Offer,
    /// Where its singleton lives.
    pub(crate) slot: Arc<Slot>,
}

impl Lines {
    /// Was anything of this name ever replaced?
    #[inline]
    pub(crate) fn know(&self, name: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.lock().iter().any(|l| l.name == name)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line that answers for this very version.
    pub(crate) fn of(&self, name: &str, version: i32) -> Option<Line> {
        self.lock().iter().find(|l| l.name == name && l.answers.contains(&version)).cloned()
    }

    /// The line that would answer this wish, by its present version.
    pub(crate) fn choose(&self, name: &str, version: Version) -> Option<Line> {
        let lines = self.lock();
        let of_name: Vec<&Line> = lines.iter().filter(|l| l.name == name).collect();
        if version.exact
            && let Some(line) = of_name.iter().find(|l| l.answers.contains(&version.low))
        {
            return Some((*line).clone());
        }
        // SAFETY: a registered descriptor is a sound one.
        let offers = of_name.iter().map(|l| (l.offer.version(), unsafe { l.offer.iface().replaces() }));
        version.choose(offers).map(|at| of_name[at].clone())
    }

    /// From now on, `offer` answers for `replaced` and for its own version, in the
    /// line of `slot`. With `back`, the version that it goes back from is answered
    /// as it was before. Returns what stood there before.
    pub(crate) fn succeed(
        &self,
        name: &str,
        replaced: i32,
        offer: Offer,
        slot: &Arc<Slot>,
        back: bool,
    ) -> Option<Line> {
        let mut lines = self.lock();
        let before = lines.iter().position(|l| l.name == name && Arc::ptr_eq(&l.slot, slot));
        let mut answers = before.map_or_else(Vec::new, |at| lines[at].answers.clone());
        for version in [replaced, offer.version()] {
            if !answers.contains(&version) {
                answers.push(version);
            }
        }
        if back && replaced != offer.version() {
            answers.retain(|v| *v != replaced);
        }
        let line = Line { name: name.to_owned(), answers, offer, slot: Arc::clone(slot) };
        let before = match before {
            Some(at) => Some(std::mem::replace(&mut lines[at], line)),
            None => {
                lines.push(line);
                None
            }
        };
        self.any.store(true, Ordering::Release);
        before
    }

    /// All lines.
    pub(crate) fn all(&self) -> Vec<Line> {
        self.lock().clone()
    }
}
