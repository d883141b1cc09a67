//! What is ready to be switched to: loaded, its dependencies alive, and, where no
//! state is handed over, constructed. The old version serves.

use std::sync::Arc;

use super::super::Inner;
use super::super::history::Previous;
use super::super::instance::{Built, Dependencies, GateRef};
use super::super::lines::{Back, Succession};
use super::super::offer::Offer;
use super::super::slot::Slot;
use super::{Failure, ReplaceError, Replaced, Step};

/// A new version that is loaded, and whose dependencies live.
pub(super) struct Prepared {
    // Dropped before the offer: what is built of it.
    pub(super) targets: Vec<Target>,
    pub(super) others: Vec<GateRef>,
    /// All versions that it replaces, whether they serve or not.
    pub(super) replaces: Vec<i32>,
    pub(super) back: Option<Back>,
    pub(super) name: String,
    pub(super) offer: Offer,
    pub(super) from: Vec<i32>,
    pub(super) previous: Vec<Previous>,
    /// Their libraries are not unloaded before this is dropped.
    pub(super) _before: Vec<Offer>,
    pub(super) report: Replaced,
}

/// One live instance that is to be replaced.
pub(super) struct Target {
    // Dropped in this order: an instance's gate outlives it.
    pub(super) built: Option<Box<Built>>,
    pub(super) dependencies: Option<Dependencies>,
    pub(super) version: i32,
    pub(super) gate: GateRef,
}

impl Target {
    pub(super) fn hands_state_over(&self) -> bool {
        self.gate.offer().handover().is_some()
    }
}

impl Prepared {
    pub(super) fn hands_state_over(&self) -> bool {
        self.targets.iter().any(Target::hands_state_over)
    }

    /// Constructs what needs no state of the old.
    pub(super) fn build(&mut self) -> Result<(), Failure> {
        let waiting = self.targets.iter_mut().filter(|t| t.built.is_none() && !t.hands_state_over());
        for target in waiting {
            let dependencies = target.dependencies.take().unwrap_or_default();
            let built = Built::successor(&target.gate, self.offer.clone(), dependencies)
                .map_err(|error| Failure::new(&self.name, Step::Build, error.into()))?;
            target.built = Some(built);
        }
        Ok(())
    }

    /// Live instances of the old version that are none of the targets: they were
    /// constructed since. They become targets, if no state is to be handed over.
    pub(super) fn catch_up(&mut self, inner: &Arc<Inner>) -> Result<(), Failure> {
        let fail = |error: ReplaceError| Failure::new(&self.name, Step::Build, error);
        for gate in inner.gates.all() {
            let known = self.targets.iter().map(|t| &t.gate).chain(&self.others);
            if gate.head().name() != self.name || known.clone().any(|k| k.is(&gate)) {
                continue;
            }
            let version = gate.offer().version();
            let is_ours =
                self.back.as_ref().map_or(self.replaces.contains(&version), |back| back.is_of(&gate));
            if !is_ours {
                self.others.push(gate);
                continue;
            }
            if !self.from.contains(&version) {
                self.from.push(version);
            }
            gate.accepts_successor(&self.name, self.offer.version(), self.offer.contract().as_ref())
                .map_err(fail)?;
            let dependencies = Some(inner.dependencies(&self.offer).map_err(|e| fail(e.into()))?);
            self.targets.push(Target { built: None, dependencies, version, gate });
        }
        Ok(())
    }

    /// How references see it.
    pub(super) fn succession(&self, inner: &Inner) -> Succession<'_> {
        let mut places: Vec<(i32, Arc<Slot>, bool)> =
            self.targets.iter().filter_map(|t| Some((t.version, t.gate.slot()?.clone(), true))).collect();
        for version in &self.from {
            if !places.iter().any(|(v, _, _)| v == version) {
                places.push((*version, inner.slot_of(&self.name, *version), false));
            }
        }
        Succession {
            name: &self.name,
            offer: self.offer.clone(),
            replaced: &self.replaces,
            places,
            back: self.back.as_ref(),
        }
    }
}
