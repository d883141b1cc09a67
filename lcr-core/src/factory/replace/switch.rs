//! The switch: one store for each gate.
//!
//! Before it, the places of the old instances are closed for new callers; when that
//! has succeeded ([`Closed`]), nothing can fail any more.

use std::sync::Arc;
use std::time::Instant;

use super::super::Inner;
use super::super::instance::{Acceptance, Built, GateRef};
use super::super::lines::{Line, Succession};
use super::super::retire::Retired;
use super::prepared::Prepared;
use super::rewire::{Rewired, Rewiring, is_news};
use super::turn::Patience;
use super::{Failure, Report, Step};
use crate::gate::check_barrier;

/// The old instances' places, closed for new callers, with all that have been
/// accepted known to fit. What is left to do cannot fail.
pub(super) struct Closed<'g> {
    acceptances: Vec<Acceptance<'g>>,
    /// What answered references before: dropped when no lock is held, for it may be
    /// the last use of a library.
    before: Vec<Line>,
}

impl<'g> Closed<'g> {
    /// `None` if there are instances of the old version that nobody knows of.
    pub(super) fn close(
        inner: &Inner,
        prepared: &[Prepared],
        gates: &'g [GateRef],
    ) -> Result<Option<Self>, Failure> {
        let mut acceptances = Vec::new();
        let targets = prepared.iter().flat_map(|p| p.targets.iter().map(move |_| p));
        for (p, gate) in targets.zip(gates) {
            acceptances.push(gate.close_acceptance());
            gate.accepts_successor(&p.name, p.offer.version(), p.offer.contract().as_ref())
                .map_err(|error| Failure::new(&p.name, Step::Switch, error))?;
        }
        let successions: Vec<Succession<'_>> = prepared.iter().map(|p| p.succession(inner)).collect();
        let known: Vec<(&str, Vec<&GateRef>)> = prepared
            .iter()
            .map(|p| (&*p.name, p.targets.iter().map(|t| &t.gate).chain(&p.others).collect()))
            .collect();
        let known: Vec<(&str, &[&GateRef])> = known.iter().map(|(name, gates)| (*name, &gates[..])).collect();
        let is_open = |name: &str, serving: &_, before| is_news(prepared, name, serving, before);
        let succeed = || {
            // From here references are answered by the new version; who has constructed
            // the old one without having listed it throws it away.
            successions.iter().flat_map(|new| inner.lines.succeed(new)).collect::<Vec<Line>>()
        };
        let before = inner.boards.settled(is_open, || inner.gates.settled(&known, succeed));
        let Some(before) = before.flatten() else { return Ok(None) };
        inner.history.remember(prepared.iter().map(|p| (&*p.name, &*p.previous)));
        for p in prepared {
            inner.gates.replaced(&p.name, &p.replaces);
        }
        Ok(Some(Closed { acceptances, before }))
    }

    /// Puts `built` into their places; their heads stand behind the gates. Returns
    /// what was there.
    #[allow(clippy::vec_box, reason = "gates point to them: they must not move")]
    pub(super) fn succeed(self, built: Vec<Box<Built>>, gates: &[GateRef]) -> Vec<Retired> {
        let Closed { acceptances, before } = self;
        let succeeded = acceptances.into_iter().zip(built).zip(gates);
        let retired = succeeded
            .map(|((place, built), gate)| Retired::new(gate.clone(), place.succeed(built)))
            .collect();
        drop(before);
        retired
    }
}

/// What a switch leaves.
pub(super) struct Switched {
    /// The old instances.
    pub(super) retired: Vec<Retired>,
    /// Does somebody keep an old version who cannot be waited for?
    pub(super) lingers: bool,
}

impl Switched {
    pub(super) fn new(retired: Vec<Retired>, rewired: Rewired, report: &mut Report) -> Self {
        report.held = report.held.max(rewired.held);
        Switched { retired, lingers: rewired.lingers }
    }
}

/// What was built, out of the targets' hands.
#[allow(clippy::vec_box, reason = "gates point to them: they must not move")]
pub(super) fn take_built(prepared: &mut [Prepared]) -> Vec<Box<Built>> {
    prepared.iter_mut().flat_map(|p| &mut p.targets).filter_map(|t| t.built.take()).collect()
}

/// One stateless interface: constructed beside the old one, switched by one store.
/// Callers never wait.
pub(super) fn switch_open(
    inner: &Arc<Inner>,
    prepared: &mut [Prepared],
    start: Instant,
    patience: Patience<'_>,
    report: &mut Report,
) -> Result<Option<Switched>, Failure> {
    let mut door = None;
    loop {
        for p in prepared.iter_mut() {
            p.build()?;
            patience.check().map_err(|error| Failure::new(&p.name, Step::Build, error))?;
        }
        // Without it nobody could ever tell when the old version is quiet. (Whoever
        // holds has passed it already.)
        let name = prepared.first().map_or("", |p| &p.name);
        check_barrier().map_err(|error| Failure::new(name, Step::Switch, error.into()))?;
        let rewiring = Rewiring::begin(inner, prepared, patience)?;
        report.prepared = start.elapsed();
        let switching = Instant::now();
        let gates: Vec<GateRef> = prepared.iter().flat_map(|p| &p.targets).map(|t| t.gate.clone()).collect();
        if let Some(closed) = Closed::close(inner, prepared, &gates)? {
            let built = take_built(prepared);
            for (gate, built) in gates.iter().zip(&built) {
                // SAFETY: the instance was built for this gate, and is owned by it from
                // `succeed` on until `retire` found it quiet; this thread has the turn, so
                // nobody else replaces or holds.
                unsafe { gate.head().exchange(built.head()) };
            }
            let retired = closed.succeed(built, &gates);
            let rewired = rewiring.commit();
            report.switched = switching.elapsed();
            return Ok(Some(Switched::new(retired, rewired, report)));
        }
        drop(rewiring);
        // The next round shall be the last one.
        let names = || prepared.iter().map(|p| p.name.clone()).collect();
        door.get_or_insert_with(|| inner.gates.close_door(names()));
        for p in prepared.iter_mut() {
            p.catch_up(inner)?;
        }
        if patience.is_over() || prepared.iter().any(Prepared::hands_state_over) {
            return Ok(None);
        }
    }
}
