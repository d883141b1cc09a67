//! Choosing the new version: all that can be checked before anything is loaded.
//!
//! A [`Choice`] is made of what notes and descriptors say: no code of the new
//! version runs for it. So it is all that a plan does, and where a transaction
//! begins.

use std::sync::Arc;

use super::super::history::{Previous, sha256_of};
use super::super::instance::GateRef;
use super::super::libraries::{Hit, Seen};
use super::super::lines::{Back, Line};
use super::super::offer::Offer;
use super::super::slot::Slot;
use super::super::{Inner, Source, Wanted, plan};
use super::prepared::{Prepared, Target};
use super::rewire::{Known, fits, is_replaced};
use super::{Ask, ReplaceError, Replaced, Way};
use crate::metadata::unnoted::Said;
use crate::metadata::{Contract, Interface};
use crate::version::Version;

/// An interface's new version, chosen and not yet loaded.
pub(super) struct Choice {
    pub(super) name: String,
    source: Source,
    interface: Interface,
    /// The live instances that it replaces,
    gates: Vec<GateRef>,
    /// and those of the same name that it does not.
    others: Vec<GateRef>,
    /// Versions that serve, or would, before.
    from: Vec<i32>,
    back: Option<Back>,
}

impl Choice {
    pub(super) fn make(inner: &Inner, ask: &Ask) -> Result<Self, ReplaceError> {
        let name = &ask.interface;
        match (&ask.way, &ask.file) {
            (Way::Nowhere, _) => return Err(ReplaceError::NothingBefore { interface: name.clone() }),
            (Way::Back(Back { sha256: Some(wanted), .. }), Some(file)) => {
                Back::same_file(file, Some(sha256_of(file).map_err(|error| error.to_string())), wanted)?;
            }
            _ => {}
        }
        let gates: Vec<GateRef> = inner.gates.all().into_iter().filter(|g| g.head().name() == name).collect();
        let raw = inner.raw_holders(name);
        let boards = inner.boards.serving(name);
        let mut from: Vec<i32> = gates.iter().map(|g| g.offer().version()).collect();
        from.extend(raw.iter().map(|(version, _)| *version));
        from.extend(boards.iter().map(|(serving, _)| serving.version()));
        let mut is_typed = (!from.is_empty()).then_some(!gates.is_empty());
        if from.is_empty()
            && let Ok(idle) = inner.source(name, Version::any())
        {
            // Nobody uses it now: later references will get the new version.
            from.push(idle.version(inner));
            is_typed = Some(idle.is_typed(inner));
        }
        from.sort_unstable();
        from.dedup();
        let mut candidates = candidates(inner, ask)?;
        if let Some(version) = ask.version {
            candidates.retain(|(_, interface)| interface.version == version);
        }
        let replaces = |interface: &Interface, v: i32| match ask.is_back() {
            Some(back) => v == back.from,
            None => v == interface.version || interface.replaces.contains(&v),
        };
        let may = |interface: &Interface| from.iter().any(|v| replaces(interface, *v));
        // Who names neither wants nothing older.
        let is_named = ask.version.is_some() || ask.file.is_some() || ask.is_back().is_some();
        let is_not_older =
            |interface: &Interface| from.iter().all(|v| !replaces(interface, *v) || interface.version >= *v);
        let may_be_chosen = |interface: &Interface| may(interface) && (is_named || is_not_older(interface));
        candidates.sort_by_key(|(_, interface)| std::cmp::Reverse(interface.version));
        let fits = candidates.iter().position(|(_, interface)| may_be_chosen(interface));
        let Some(fits) = fits else {
            if let Some(back) = ask.is_back()
                && !from.contains(&back.from)
            {
                return Err(ReplaceError::Overtaken {
                    interface: name.clone(),
                    from: back.from,
                    serving: from,
                });
            }
            if let Some((_, found)) = candidates.iter().find(|(_, interface)| may(interface)) {
                let (interface, found) = (name.clone(), found.version);
                return Err(ReplaceError::OnlyOlder { interface, serving: from, found });
            }
            return Err(match candidates.into_iter().next() {
                Some((_, found)) if !from.is_empty() => ReplaceError::DoesNotReplace {
                    interface: name.clone(),
                    serving: from,
                    found: found.version,
                    replaces: found.replaces,
                },
                Some(_) | None => ReplaceError::NoSuchVersion {
                    interface: name.clone(),
                    version: ask.version,
                    place: ask.file.clone(),
                    serving: from,
                },
            });
        };
        let (source, interface) = candidates.swap_remove(fits);
        if is_typed.is_some_and(|typed| typed != interface.contract.is_some()) {
            let contract = interface.contract.map(|contract| contract.name);
            return Err(ReplaceError::Kind { interface: name.clone(), to: interface.version, contract });
        }
        from.retain(|v| replaces(&interface, *v));
        let (gates, others) = gates.into_iter().partition(|gate| match ask.is_back() {
            Some(back) => back.is_of(gate),
            None => replaces(&interface, gate.offer().version()),
        });
        let choice = Choice {
            name: name.clone(),
            source,
            interface,
            gates,
            others,
            from,
            back: ask.is_back().cloned(),
        };
        if choice.gates.iter().any(|g| g.close_acceptance().built().head().inside()) {
            return Err(ReplaceError::Inside { interface: name.clone() });
        }
        Ok(choice)
    }

    /// Are both parts of the way back from one replacement, which was one of several
    /// versions?
    pub(super) fn shares(&self, ask: &Ask) -> bool {
        self.back
            .as_ref()
            .zip(ask.is_back())
            .is_some_and(|(one, other)| (one.from, one.to) != (other.from, other.to))
    }

    /// All checks that need no code of the new version.
    pub(super) fn check(&self, inner: &Inner) -> Result<(), ReplaceError> {
        for gate in &self.gates {
            gate.accepts_successor(&self.name, self.interface.version, self.interface.contract.as_ref())?;
            let hands_over = gate.offer().handover().is_some();
            if hands_over && !self.interface.state {
                return Err(ReplaceError::StateLost {
                    interface: self.name.clone(),
                    from: gate.offer().version(),
                    to: self.interface.version,
                });
            }
        }
        self.check_tables(inner)?;
        if let Source::External(hit) = &self.source {
            inner.libraries.check(hit)?;
        }
        plan::check(inner, &self.source)?;
        Ok(())
    }

    /// Could the tables that C code holds become those of the new version, as far as that
    /// can be seen before it is loaded?
    fn check_tables(&self, inner: &Inner) -> Result<(), ReplaceError> {
        let (back, to) = (self.back.as_ref(), self.interface.version);
        let replaces = |v| v == to || self.interface.replaces.contains(&v);
        let boards =
            inner.boards.look(&self.name, |serving, before| is_replaced(serving, before, back, replaces));
        if boards.is_empty() {
            return Ok(());
        }
        let offer = match &self.source {
            Source::CompiledIn(position) => inner.compiled_in().index.offer(*position),
            Source::Late(offer) => offer.clone(),
            Source::Line(line) => line.offer.clone(),
            Source::External(hit) => {
                let said = hit.seen.unnoted.as_ref().map(|unnoted| unnoted.table_of(&self.name, to));
                return match said {
                    // It is loaded first.
                    Some(Said::Unknown) => Ok(()),
                    Some(Said::Table { functions, state }) => {
                        Ok(fits(&boards, to, &Known::File { functions, state })?)
                    }
                    None | Some(Said::Nothing) => Ok(fits(&boards, to, &Known::Unsized)?),
                };
            }
        };
        let table = offer.sized()?;
        Ok(fits(&boards, to, &table.as_ref().map_or(Known::Unsized, Known::Table))?)
    }

    /// Does nobody hold a table that cannot be changed?
    pub(super) fn check_unpinned(&self, inner: &Inner) -> Result<(), ReplaceError> {
        let raw = inner.raw_holders(&self.name);
        let held = raw.into_iter().filter(|(version, _)| self.from.contains(version));
        let (versions, counts): (Vec<i32>, Vec<usize>) = held.unzip();
        if versions.is_empty() {
            return Ok(());
        }
        Err(ReplaceError::Pinned {
            interface: self.name.clone(),
            described: versions.iter().all(|version| inner.describes(&self.name, *version)),
            versions,
            references: counts.iter().sum(),
        })
    }

    /// How many raw references keep the old version.
    fn pinned(&self, inner: &Inner) -> usize {
        let raw = inner.raw_holders(&self.name);
        raw.iter().filter(|(v, _)| self.from.contains(v)).map(|(_, count)| count).sum()
    }

    pub(super) fn describe(&self) -> Replaced {
        Replaced {
            interface: self.name.clone(),
            from: self.from.last().copied(),
            to: self.interface.version,
            file: match &self.source {
                Source::External(hit) => Some(hit.seen.path.clone()),
                Source::Line(line) => line.offer.library().map(|l| l.path().to_owned()),
                Source::CompiledIn(_) | Source::Late(_) => None,
            },
            sha256: None,
            pinned: 0,
        }
    }

    /// Loads it, and constructs what it requires.
    pub(super) fn prepare(self, inner: &Arc<Inner>) -> Result<Prepared, ReplaceError> {
        let wanted = if self.interface.contract.is_some() { Wanted::Typed } else { Wanted::Raw };
        let offer = inner.offer(&self.source, wanted)?;
        let mut report = self.describe();
        report.sha256 = offer.library().and_then(|l| l.sha256());
        if let (Some(back), Some(file)) = (&self.back, &report.file)
            && let Some(wanted) = &back.sha256
        {
            Back::same_file(file, report.sha256.clone().map(Ok), wanted)?;
        }
        report.pinned = self.pinned(inner);
        let mut before: Vec<Offer> = self.gates.iter().map(|gate| gate.offer()).collect();
        let boards = inner.boards.serving(&self.name).into_iter().map(|(serving, _)| serving);
        before.extend(boards.filter(|serving| self.from.contains(&serving.version())));
        before.sort_by_key(Offer::version);
        before.dedup_by_key(|offer| offer.version());
        if before.is_empty() {
            let version = self.from.last().map_or(Version::any(), |v| Version::exact(*v));
            before.extend(inner.source(&self.name, version).and_then(|s| inner.offer(&s, wanted)));
        }
        let mut targets = Vec::new();
        for gate in self.gates {
            let dependencies = Some(inner.dependencies(&offer)?);
            let version = gate.offer().version();
            targets.push(Target { built: None, dependencies, version, gate });
        }
        Ok(Prepared {
            targets,
            others: self.others,
            replaces: match &self.back {
                Some(back) => vec![back.from],
                None => offer.replaces().iter().copied().chain([offer.version()]).collect(),
            },
            back: self.back,
            name: self.name,
            offer,
            from: self.from,
            // Here, and not when callers wait: it may have to hash a file.
            previous: before.iter().map(|old| Previous::of(old, self.interface.version)).collect(),
            _before: before,
            report,
        })
    }
}

impl GateRef {
    /// Could every caller that it has accepted call a successor with this contract?
    pub(super) fn accepts_successor(
        &self,
        interface: &str,
        to: i32,
        contract: Option<&Contract>,
    ) -> Result<(), ReplaceError> {
        self.callers_accept(contract).map_err(|mismatch| ReplaceError::Contract {
            interface: interface.to_owned(),
            to,
            mismatch,
        })
    }
}

/// What could be the new version.
fn candidates(inner: &Inner, ask: &Ask) -> Result<Vec<(Source, Interface)>, ReplaceError> {
    let name = &ask.interface;
    if let Some(offer) = ask.is_back().and_then(|back| back.offer.as_ref()) {
        let line = Line {
            name: name.clone(),
            answers: vec![offer.version()],
            earlier: Vec::new(),
            offer: offer.clone(),
            slot: Slot::new(name.clone()),
        };
        return Ok(vec![(Source::Line(Box::new(line)), offer.describe())]);
    }
    let hits = |seen: &Arc<Seen>, is_named: bool| -> Vec<(Source, Interface)> {
        let of_name = seen.interfaces().filter(|i| i.name == *name).map(|interface| {
            let wish = Version::exact(interface.version);
            let hit = Hit { wish, is_named, seen: Arc::clone(seen), interface: interface.clone() };
            (Source::External(hit), interface.clone())
        });
        of_name.collect()
    };
    if let Some(file) = &ask.file {
        let seen = Arc::new(inner.look_at(file)?);
        let hits = hits(&seen, true);
        if hits.is_empty() {
            let offers = seen.interfaces().map(|i| format!("`{}` version {}", i.name, i.version)).collect();
            let fault = seen.fault(name);
            return Err(ReplaceError::NotInFile {
                interface: name.clone(),
                file: file.clone(),
                offers,
                fault,
            });
        }
        return Ok(hits);
    }
    let mut all = Vec::new();
    for (position, offer) in inner.compiled_in().index.all(name)? {
        all.push((Source::CompiledIn(position), offer.describe()));
    }
    for seen in inner.libraries.look() {
        all.extend(hits(&seen, false));
    }
    Ok(all)
}
