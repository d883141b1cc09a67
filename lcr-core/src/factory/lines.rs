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
    /// Those that were answered before the last replacement: the way back.
    pub(crate) earlier: Vec<i32>,
    pub(crate) offer: Offer,
    /// Where its singleton lives.
    pub(crate) slot: Arc<Slot>,
}

/// A replacement, as references see it.
pub(crate) struct Succession<'a> {
    pub(crate) name: &'a str,
    pub(crate) offer: Offer,
    /// The versions that it replaces now.
    pub(crate) replaced: &'a [i32],
    /// Versions that served, where their singletons live, and whether they do.
    pub(crate) places: Vec<(i32, Arc<Slot>, bool)>,
    /// Goes back: what is gone back from is answered as it was before.
    pub(crate) back: Option<&'a Back>,
}

/// Going back.
#[derive(Clone, Debug)]
pub(super) struct Back {
    /// The version that is gone back from: no other one is replaced.
    pub(super) from: i32,
    /// The version that served before: who came from there goes back there,
    pub(super) to: i32,
    /// and others, unless they came from one of these.
    pub(super) others: Option<Vec<i32>>,
    /// The very offer that served before, if it was compiled in,
    pub(super) offer: Option<Offer>,
    /// else what its library must be.
    pub(super) sha256: Option<String>,
}

impl Back {
    /// Does it go back for who has come from these versions?
    pub(super) fn takes(&self, came_from: &[i32]) -> bool {
        let is_others = |others: &Vec<i32>| others.iter().any(|other| came_from.contains(other));
        came_from.contains(&self.to) || self.others.as_ref().is_some_and(|others| !is_others(others))
    }
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

    /// Does this very offer answer for its version, as far as replacements go?
    pub(crate) fn is_current(&self, offer: &Offer) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return true;
        }
        let (name, version) = (offer.name(), offer.version());
        let lines = self.lock();
        let mut answering =
            lines.iter().filter(|l| l.name == name && l.answers.contains(&version)).peekable();
        answering.peek().is_none() || answering.any(|l| std::ptr::eq(l.offer.iface(), offer.iface()))
    }

    /// From now on `new` answers. Returns what stood there before, which is dropped
    /// where no lock is held.
    pub(crate) fn succeed(&self, new: &Succession<'_>) -> Vec<Line> {
        let &Succession { name, ref offer, replaced, ref places, back } = new;
        let is_back = back.is_some();
        let mut lines = self.lock();
        let mut before = Vec::new();
        let is_its = |line: &Line| {
            line.name == name
                && replaced.contains(&line.offer.version())
                && back.is_none_or(|back| back.takes(&line.earlier))
        };
        for line in lines.iter_mut().filter(|line| is_its(line)) {
            before.push(line.clone());
            let answers = line.answers.clone();
            if is_back {
                line.answers.clone_from(&line.earlier);
            }
            line.earlier = answers;
            line.offer = offer.clone();
        }
        for (version, slot, is_live) in places {
            let is_placed = lines.iter().any(|l| {
                l.name == name
                    && (Arc::ptr_eq(&l.slot, slot)
                        || !is_live
                            && l.answers.contains(version)
                            && std::ptr::eq(l.offer.iface(), offer.iface()))
            });
            if !is_placed {
                lines.push(Line {
                    name: name.to_owned(),
                    answers: Vec::new(),
                    earlier: vec![*version],
                    offer: offer.clone(),
                    slot: Arc::clone(slot),
                });
                let line = lines.len() - 1;
                if !is_back {
                    lines[line].answers.push(*version);
                }
            }
        }
        // All that it says it replaces, unless another line answers for that.
        let wide: Vec<i32> = if is_back { Vec::new() } else { offer.replaces().to_vec() };
        // Who wants this very version gets the one that was of it, if there is one.
        let is_own = |l: &Line| l.name == name && std::ptr::eq(l.offer.iface(), offer.iface());
        let has_own = lines.iter().any(|l| is_own(l) && l.answers.contains(&offer.version()));
        for at in 0..lines.len() {
            if lines[at].name != name || !std::ptr::eq(lines[at].offer.iface(), offer.iface()) {
                continue;
            }
            for version in wide.iter().copied().chain([offer.version()]) {
                let is_answered = lines.iter().any(|l| l.name == name && l.answers.contains(&version));
                let is_free = if version == offer.version() { !has_own } else { !is_answered };
                if !lines[at].answers.contains(&version) && is_free {
                    lines[at].answers.push(version);
                }
            }
        }
        self.any.store(true, Ordering::Release);
        before
    }

    /// All lines.
    pub(crate) fn all(&self) -> Vec<Line> {
        self.lock().clone()
    }
}
