//! Who looks on: for whom calls are counted, and what the instances of a watched
//! version have gone through.
//!
//! An observer names an interface, not instances: what comes to life while it looks
//! is observed from its first call on, and what dies leaves its numbers behind. It
//! keeps nothing alive, and is counted nowhere as a reference.
//!
//! Invariants:
//!
//! * Observers stand beside the list of gates, under its lock, and so does every
//!   change of what they want: a gate in the list counts its calls while somebody
//!   wants that of it, and at no other time.
//! * An instance's numbers are in its watchers' sum once: while its gate is in the
//!   list they are read there, and when it leaves the list they are added up.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Factory;
use super::instance::{Gate, Gates, Listed};

/// The calls of one version's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) panics: u64,
    pub(super) errors: u64,
    /// Those that were counted.
    pub(super) calls: u64,
}

impl AddAssign for Numbers {
    fn add_assign(&mut self, more: Numbers) {
        let Numbers { panics, errors, calls } = more;
        self.panics += panics;
        self.errors += errors;
        self.calls += calls;
    }
}

/// An instance, as those who look on see it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) version: i32,
    pub(super) born: Born,
    pub(super) numbers: Numbers,
}

/// When an instance came to life, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Born(u64);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Born {
    /// Now, and after all that were.
    pub(super) fn now() -> Self {
        Born(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All who look on.
#[derive(Default)]
pub(super) struct Observers {
    last: u64,
    /// Who wants calls counted: of which interface; `None`: of all.
    counting: Vec<(u64, Option<String>)>,
    watched: Vec<Watched>,
}

/// What one watches.
struct Watched {
    number: u64,
    name: String,
    /// Older instances are none of it.
    since: Born,
    /// None before the switch.
    version: Option<i32>,
    /// The version was replaced since.
    is_replaced: bool,
    /// Instances that are gone, by version.
    gone: Vec<(i32, Numbers)>,
}

impl Watched {
    fn is_of(&self, seen: &Seen) -> bool {
        self.version == Some(seen.version) && seen.born > self.since
    }
}

impl Observers {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Lets a gate in the list count its calls, or not.
    pub(super) fn apply_to(&self, gate: &Gate) {
        let head = gate.head();
        let is_wanted = self.counting.iter().any(|(_, of)| of.as_ref().is_none_or(|of| of == head.name()));
        if is_wanted != head.is_counting() {
            head.count_calls(is_wanted);
        }
    }

    /// A gate has left the list, for ever.
    pub(super) fn part_with(&mut self, gate: &Gate) {
        let name = gate.head().name();
        for watched in self.watched.iter_mut().filter(|watched| watched.name == name) {
            // Nobody else has the gate.
            let Some(Seen { version, born, numbers }) = gate.look() else { continue };
            if born > watched.since {
                match watched.gone.iter_mut().find(|(of, _)| *of == version) {
                    Some((_, sum)) => *sum += numbers,
                    None => watched.gone.push((version, numbers)),
                }
            }
        }
    }
}

impl Listed {
    /// After a change of who wants calls counted.
    fn apply(&self) {
        self.iter().for_each(|gate| self.observers.apply_to(gate));
    }
}

impl Gates {
    fn count(&self, of: Option<&str>) -> u64 {
        let mut list = self.lock();
        let number = list.observers.number();
        list.observers.counting.push((number, of.map(str::to_owned)));
        list.apply();
        number
    }

    fn count_no_more(&self, number: u64) {
        let mut list = self.lock();
        list.observers.counting.retain(|(of, _)| *of != number);
        list.apply();
    }

    fn watch(&self, name: &str) -> u64 {
        let mut list = self.lock();
        let number = list.observers.number();
        list.observers.watched.push(Watched {
            number,
            name: name.to_owned(),
            since: Born::now(),
            version: None,
            is_replaced: false,
            gone: Vec::new(),
        });
        number
    }

    fn watch_no_more(&self, number: u64) {
        self.lock().observers.watched.retain(|watched| watched.number != number);
    }

    /// These versions of `name` are replaced, whether they have instances or not.
    /// Called in the turn of the replacement.
    pub(super) fn replaced(&self, name: &str, versions: &[i32]) {
        for watched in &mut self.lock().observers.watched {
            watched.is_replaced |=
                watched.name == name && watched.version.is_some_and(|version| versions.contains(&version));
        }
    }
}

/// Calls are counted while this lives; see [`Factory::observe`].
#[must_use = "calls are counted while it lives"]
pub struct Counting {
    factory: Factory,
    number: u64,
}

impl Counting {
    /// Those of one interface.
    pub(super) fn of(factory: &Factory, interface: &str) -> Self {
        Counting { number: factory.inner.gates.count(Some(interface)), factory: factory.clone() }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.factory.inner.gates.count_no_more(self.number);
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").finish_non_exhaustive()
    }
}

impl Factory {
    /// Counts the calls of all interfaces, those that come to life meanwhile included,
    /// until what it returns is dropped and nobody else wants them counted;
    /// [`interfaces`](Self::interfaces) tells them. While calls are counted each costs a
    /// few nanoseconds more; otherwise nothing.
    ///
    /// ```
    /// use lcr_core::Factory;
    ///
    /// let counting = Factory::process().observe();
    /// assert!(Factory::process().interfaces().iter().all(|live| live.calls.is_none_or(|n| n == 0)));
    /// drop(counting);
    /// ```
    pub fn observe(&self) -> Counting {
        Counting { number: self.inner.gates.count(None), factory: self.clone() }
    }
}

/// Watches the new version of an interface, from before it is switched to.
pub(super) struct Watching {
    factory: Factory,
    number: u64,
    pub(super) name: String,
}

/// What one sees of it.
pub(super) enum Look {
    /// Somebody has replaced it.
    Replaced,
    /// Somebody is just about to: look again.
    Later,
    /// What all its instances have gone through, those that are gone included.
    Numbers(Numbers),
}

impl Watching {
    /// Before the new version is built.
    pub(super) fn begin(factory: &Factory, name: &str) -> Self {
        Watching { number: factory.inner.gates.watch(name), factory: factory.clone(), name: name.to_owned() }
    }

    /// The switch to `version` has taken place. In the turn still, so that nobody has
    /// replaced it since.
    pub(super) fn switched_to(&self, version: i32) {
        let mut list = self.factory.inner.gates.lock();
        let watched = list.observers.watched.iter_mut().find(|watched| watched.number == self.number);
        if let Some(watched) = watched {
            watched.version = Some(version);
        }
    }

    pub(super) fn look(&self) -> Look {
        let list = self.factory.inner.gates.lock();
        let watched = list.observers.watched.iter().find(|watched| watched.number == self.number);
        let Some(watched) = watched else { unreachable!("in the list until this is dropped") };
        if watched.is_replaced {
            return Look::Replaced;
        }
        let mut sum = Numbers::default();
        for (_, gone) in watched.gone.iter().filter(|(version, _)| watched.version == Some(*version)) {
            sum += *gone;
        }
        for gate in list.iter().filter(|gate| gate.head().name() == watched.name) {
            match gate.look() {
                Some(seen) if watched.is_of(&seen) => sum += seen.numbers,
                Some(_) => {}
                None => return Look::Later,
            }
        }
        Look::Numbers(sum)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.factory.inner.gates.watch_no_more(self.number);
    }
}
