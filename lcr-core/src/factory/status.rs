//! What lives in a factory now, for those who watch.

use std::path::PathBuf;
use std::sync::PoisonError;

use super::instance::GateRef;
use super::offer::Offer;
use super::{Factory, Inner, retire};

/// One interface of a running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The version that serves, or would.
    pub version: i32,
    /// Whether it does.
    pub state: Stage,
    /// The library that it comes from; `None`: compiled in.
    pub file: Option<PathBuf>,
    /// The component that offers it.
    pub component: String,
    /// Handles, pinned instances and raw references to it.
    pub references: usize,
    /// Calls that were counted while somebody [observed](Factory::observe), or watched
    /// the health of a new version; `None`: nobody does.
    pub calls: Option<u64>,
}

/// What an interface is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// It has an instance that serves.
    Live,
    /// Callers wait: state is being handed over.
    Held,
    /// Nobody has referenced it.
    Idle,
    /// A replaced version whose last caller has not left.
    Leaving,
}

impl Stage {
    /// The state as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Live => "live",
            Stage::Held => "held",
            Stage::Idle => "idle",
            Stage::Leaving => "leaving",
        }
    }
}

impl Factory {
    /// All interfaces: those that are compiled in, and those of libraries that are
    /// in use; by name, then version.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Status> {
        let inner = &self.inner;
        let gates = inner.gates.all();
        let mut all: Vec<Status> = gates.iter().map(GateRef::status).collect();
        all.extend(inner.boards.status());
        for gate in &gates {
            for offer in retire::leaving(gate) {
                all.push(Status {
                    name: offer.name(),
                    version: offer.version(),
                    state: Stage::Leaving,
                    file: offer.library().map(|l| l.path().to_owned()),
                    component: offer.component().to_owned(),
                    references: 0,
                    calls: None,
                });
            }
        }
        let index = &inner.compiled_in().index;
        for offer in (0..index.len()).map(|position| index.offer(position)) {
            let name = offer.name();
            let is_answered = inner.lines.of(&name, offer.version()).is_some();
            let is_listed =
                all.iter().any(|s| s.name == name && s.version == offer.version() && s.file.is_none());
            if !is_listed && !is_answered {
                let holders = inner.raw_holders(&name);
                let references =
                    holders.iter().find(|(v, _)| *v == offer.version()).map_or(0, |(_, count)| *count);
                all.push(Status {
                    version: offer.version(),
                    state: if references > 0 { Stage::Live } else { Stage::Idle },
                    file: None,
                    component: offer.component().to_owned(),
                    references,
                    calls: None,
                    name,
                });
            }
        }
        all.extend(inner.raw_by_name());
        for line in inner.lines.all() {
            let is_live = all.iter().any(|s| s.name == line.name && s.version == line.offer.version());
            if !is_live {
                all.push(Status {
                    version: line.offer.version(),
                    state: Stage::Idle,
                    file: line.offer.library().map(|l| l.path().to_owned()),
                    component: line.offer.component().to_owned(),
                    references: 0,
                    calls: None,
                    name: line.name,
                });
            }
        }
        all.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        all
    }
}

impl Inner {
    /// Interfaces with a raw table that the index does not know: of libraries that are in
    /// use, and of C components that registered themselves late.
    fn raw_by_name(&self) -> Vec<Status> {
        let held = self.raw_holders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = Vec::new();
        let mut push = |offer: &Offer| {
            let (name, version) = (offer.name(), offer.version());
            let holders = held.get(&name).and_then(|v| v.iter().find(|(v, _)| *v == version));
            let references = holders.map_or(0, |(_, count)| *count);
            let file = offer.library().map(|l| l.path().to_owned());
            if offer.prologue().is_none() && (references > 0 || file.is_none()) {
                all.push(Status {
                    version,
                    state: if references > 0 { Stage::Live } else { Stage::Idle },
                    file,
                    component: offer.component().to_owned(),
                    references,
                    calls: None,
                    name,
                });
            }
        };
        if let Some(late) = self.late() {
            (0..late.len()).for_each(|position| push(&late.offer(position)));
        }
        for library in self.libraries.all_loaded() {
            library.offers().iter().for_each(&mut push);
        }
        all
    }
}

impl GateRef {
    fn status(&self) -> Status {
        let offer = self.offer();
        let head = self.head();
        Status {
            name: head.name().to_owned(),
            version: offer.version(),
            state: if head.is_held() { Stage::Held } else { Stage::Live },
            file: offer.library().map(|l| l.path().to_owned()),
            component: offer.component().to_owned(),
            // But for the count that is being looked with.
            references: head.refs().load(std::sync::atomic::Ordering::Relaxed).saturating_sub(1),
            calls: head.is_counting().then(|| head.counted_calls()),
        }
    }
}
