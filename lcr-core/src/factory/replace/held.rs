//! The switch while callers wait: the old instances pause, the last caller leaves
//! them, they save, and the new ones are restored.
//!
//! Each step is undone when what stands for it is dropped: [`HeldGates`] lets callers
//! in to the old instances again, [`Paused`] lets these go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Inner;
use super::super::instance::{Built, GateRef};
use super::prepared::{Prepared, Target};
use super::rewire::Rewiring;
use super::switch::{Closed, Switched, take_built};
use super::turn::Patience;
use super::{Failure, ReplaceError, Report, Step};
use crate::gate::{Hold, Inside, InstanceHead, NotQuiet, Pins, wait_quiet_unless};
use crate::handover::{Failed as Refusal, Saved};

/// Old instances whose own threads stand still; they go on when this is dropped.
struct Paused<'t> {
    gates: Vec<&'t GateRef>,
}

impl<'t> Paused<'t> {
    fn pause(prepared: &[Prepared], gates: &'t [GateRef]) -> Result<Self, Failure> {
        let mut paused = Paused { gates: Vec::new() };
        let names = prepared.iter().flat_map(|p| p.targets.iter().map(move |_| &p.name));
        for (name, gate) in names.zip(gates) {
            // Whoever stops half-way is let go on, too.
            paused.gates.push(gate);
            let said = gate.with_built(|built| {
                // SAFETY: the object is the table's, alive behind its gate.
                built.hand_over(|table, object| unsafe { table.pause(object) })
            });
            flatten(said).map_err(|refusal| Failure::of_component(name, Step::Pause, "pause", refusal))?;
        }
        Ok(paused)
    }

    /// They will not go on: the new ones do.
    fn leave_standing(mut self) {
        self.gates.clear();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        for gate in self.gates.drain(..).rev() {
            gate.with_built(Built::resume);
        }
    }
}

type Said<T> = Option<std::io::Result<Result<T, Refusal>>>;

/// `None` where the interface hands nothing over.
fn flatten<T>(said: Said<T>) -> Result<Option<T>, Refusal> {
    match said {
        None => Ok(None),
        Some(Ok(answer)) => answer.map(Some),
        Some(Err(error)) => {
            Err(Refusal { message: format!("no thread for it could be started: {error}"), panicked: false })
        }
    }
}

/// State is handed over, or several interfaces switch as one: callers wait.
///
/// `None`, and all is as before: instances of an old version were constructed
/// meanwhile.
pub(super) fn switch_held(
    inner: &Arc<Inner>,
    prepared: &mut [Prepared],
    start: Instant,
    patience: Patience<'_>,
    report: &mut Report,
) -> Result<Option<Switched>, Failure> {
    let name = prepared.first().map_or_else(String::new, |p| p.name.clone());
    let fail = |step, error: ReplaceError| Failure::new(&name, step, error);
    // While the old ones serve.
    for p in prepared.iter_mut() {
        p.build()?;
    }
    report.prepared = start.elapsed();
    let patience = patience.anew();
    wait_until_unpinned(prepared, patience).map_err(|error| fail(Step::Drain, error))?;

    // Declared in the order in which they are undone, the last one first.
    let gates: Vec<GateRef> = prepared.iter().flat_map(|p| &p.targets).map(|t| t.gate.clone()).collect();
    let heads: Vec<_> = gates.iter().map(|gate| gate.head()).collect();
    let paused = Paused::pause(prepared, &gates)?;
    let holding = Instant::now();
    // SAFETY: this thread has the turn, so nobody else swaps; instances behind the
    // gates are freed by `retire` only; the gates differ: no interface is named twice.
    let hold = unsafe { Hold::begin(&heads) }.map_err(|error| fail(Step::Drain, error.into()))?;
    let hold = HeldGates { hold: Some(hold), paused: Some(paused) };
    let left = wait_until_left(hold.get(), prepared, patience);
    patience.check().map_err(|error| fail(Step::Drain, error))?;
    left.map_err(|error| fail(Step::Drain, error.into()))?;

    // Whatever runs for the transaction from here must not call what it holds.
    let working = hold.get().worker().work();
    let mut states: Vec<Option<Saved>> = Vec::new();
    for (p, target) in each_target(prepared) {
        states.push(save(&p.name, &target.gate)?);
    }
    let mut states = states.into_iter();
    for p in prepared.iter_mut() {
        let (name, offer) = (&p.name, &p.offer);
        for (target, state) in p.targets.iter_mut().zip(states.by_ref()) {
            let Some(state) = state else { continue };
            let dependencies = target.dependencies.take().unwrap_or_default();
            let built = Built::restored(&target.gate, offer.clone(), dependencies, state)
                .map_err(|error| Failure::new(name, Step::Restore, ReplaceError::of_restore(error)))?;
            target.built = Some(built);
        }
    }
    let rewiring = Rewiring::begin(inner, prepared, patience)?;
    drop(working);
    patience.check().map_err(|error| fail(Step::Switch, error))?;

    let switching = Instant::now();
    let Some(closed) = Closed::close(inner, prepared, &gates)? else { return Ok(None) };
    let built = take_built(prepared);
    let new: Vec<*const InstanceHead> = built.iter().map(|b| std::ptr::from_ref(b.head())).collect();
    // SAFETY: nobody is inside; the instances were built for these gates, in this
    // order, and are owned by them from here on until `retire` found them quiet.
    report.held_calls = unsafe { hold.open_with(&new) };
    let retired = closed.succeed(built, &gates);
    let rewired = rewiring.commit();
    report.switched = switching.elapsed();
    report.held = holding.elapsed();
    Ok(Some(Switched::new(retired, rewired, report)))
}

fn each_target(prepared: &[Prepared]) -> impl Iterator<Item = (&Prepared, &Target)> {
    prepared.iter().flat_map(|p| p.targets.iter().map(move |t| (p, t)))
}

/// Held gates of paused instances. When it is dropped, callers are let in to the
/// old instances again, and these go on.
struct HeldGates<'g> {
    // Dropped in this order: what an instance does when it goes on may need its gate.
    hold: Option<Hold<'g>>,
    paused: Option<Paused<'g>>,
}

impl<'g> HeldGates<'g> {
    fn get(&self) -> &Hold<'g> {
        self.hold.as_ref().unwrap_or_else(|| unreachable!("taken by `open_with` alone"))
    }

    /// # Safety
    ///
    /// As [`Hold::open_with`].
    unsafe fn open_with(mut self, new: &[*const InstanceHead]) -> u64 {
        if let Some(paused) = self.paused.take() {
            paused.leave_standing();
        }
        // SAFETY: the caller's word.
        self.hold.take().map_or(0, |hold| unsafe { hold.open_with(new) }.held_calls)
    }
}

/// Waits until nobody has an instance pinned whose state is to be saved; callers do
/// not, meanwhile. Somebody may pin one again before the gates are held.
fn wait_until_unpinned(prepared: &[Prepared], patience: Patience<'_>) -> Result<(), ReplaceError> {
    const PAUSE: Duration = Duration::from_micros(200);
    let began = Instant::now();
    loop {
        let pinned = each_target(prepared).filter(|(_, target)| target.hands_state_over());
        let pinned: Vec<Inside> = pinned
            .filter_map(|(_, target)| target.gate.with_built(|built| Inside::pinned(built.head(), began)))
            .collect();
        if pinned.is_empty() {
            return Ok(());
        }
        patience.check()?;
        if patience.is_over() {
            return Err(ReplaceError::Deadline(pinned));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until no call is inside any of the instances that are held, and nobody has
/// one pinned whose state is to be saved.
fn wait_until_left(hold: &Hold<'_>, prepared: &[Prepared], patience: Patience<'_>) -> Result<(), NotQuiet> {
    let Patience { deadline, cancelled, .. } = patience;
    let held: Vec<&InstanceHead> = hold.instances().collect();
    wait_quiet_unless(&held, Pins::Ignore, deadline, cancelled)?;
    // Nobody is inside any more who could pin, or enter: what is pinned can only
    // become less. What has no state stays with those who have it pinned.
    let saved = each_target(prepared).zip(held).filter(|((_, target), _)| target.hands_state_over());
    let saved: Vec<&InstanceHead> = saved.map(|(_, instance)| instance).collect();
    wait_quiet_unless(&saved, Pins::Count, deadline, cancelled)
}

fn save(name: &str, gate: &GateRef) -> Result<Option<Saved>, Failure> {
    let said = gate.with_built(|built| {
        // SAFETY: the object is the table's; its gate is held, and nobody is inside.
        built.hand_over(|table, object| unsafe { table.save(object) })
    });
    flatten(said).map_err(|refusal| Failure::of_component(name, Step::Save, "save", refusal))
}
