//! The switch of sized tables: entries of [switchboards](super::super::switchboard) are
//! changed under their C callers, whom nobody can keep out.
//!
//! ```text
//! build    the boards are closed: who references waits. The new version is constructed
//!          for each reference, with its context.
//! state    old.pause, old.save, new.pause, new.restore.
//! switch   new.resume(null), the entries, old.resume(table): what waited goes on there.
//! ```
//!
//! `new` serves before the first entry leads to it, and `old` lets calls go on only when
//! the last entry does: a call that is made again through the table never comes back.
//!
//! Until [`Rewiring::commit`] all is undone when it is dropped: the old version resumes, and
//! what was constructed is destroyed.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::lines::Back;
use super::super::offer::Offer;
use super::super::switchboard::{Closing, Holder, Switching};
use super::super::turn::For;
use super::super::{Factory, Inner};
use super::prepared::Prepared;
use super::turn::{Patience, Turn};
use super::{Failure, ReplaceError, Step};
use crate::handover::Failed as Refusal;
use crate::table::{Hooks, Measured};
use crate::version::Version;

/// Why a table cannot be replaced under its callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableMismatch {
    /// The new version says nothing of its table.
    #[error(
        "version {to} does not say how long its table is, and {} a table whose entries would become its \
         functions; describe it with LCR_TABLE of lcr.h, or release {} first", holds(*.references), them(*.references)
    )]
    Unsized {
        /// The new version.
        to: i32,
        /// How many references.
        references: usize,
    },
    /// The new version has fewer functions.
    #[error(
        "the table of version {to} has {}, and {} one of {held}: the others would lead nowhere; append functions, \
         and never take one away", counted(*.functions), holds(*.references)
    )]
    Shorter {
        /// The new version.
        to: i32,
        /// How many functions it has.
        functions: usize,
        /// How many somebody may call.
        held: usize,
        /// How many references.
        references: usize,
    },
    /// The new version lacks a function in the middle.
    #[error(
        "the table of version {to} has no function number {at} (from 0), and the one that serves has: somebody may \
         be about to call it"
    )]
    Hole {
        /// The new version.
        to: i32,
        /// Which function.
        at: usize,
    },
    /// The old version hands state over, and the new one does not take it.
    #[error(
        "version {from} hands its state over and version {to} takes none: it would be lost; describe its table with \
         LCR_TABLE_WITH_STATE of lcr.h"
    )]
    StateLost {
        /// The old version.
        from: i32,
        /// The new version.
        to: i32,
    },
    /// Two versions would hand over their states to one.
    #[error(
        "versions {} and {} both serve and both hand their state over, and version {to} has room for one; replace \
         one of them first", .from.0, .from.1
    )]
    TwoStates {
        /// The old versions.
        from: (i32, i32),
        /// The new version.
        to: i32,
    },
}

fn holds(references: usize) -> String {
    if references == 1 { "1 reference holds".to_owned() } else { format!("{references} references hold") }
}

fn counted(functions: usize) -> String {
    if functions == 1 { "1 function".to_owned() } else { format!("{functions} functions") }
}

fn them(references: usize) -> &'static str {
    if references == 1 { "it" } else { "them" }
}

/// What is known of a new version's table.
pub(super) enum Known<'t> {
    /// All.
    Table(&'t Measured),
    /// It says nothing.
    Unsized,
    /// What its file says, which was not loaded.
    File { functions: usize, state: bool },
}

/// Could the tables that are held become those of the new version?
pub(super) fn fits(held: &[Switching], to: i32, new: &Known<'_>) -> Result<(), TableMismatch> {
    let references = held.iter().map(|board| board.holders.len()).sum();
    let (functions, takes_state, present) = match new {
        Known::Unsized if references == 0 => return Ok(()),
        Known::Unsized => return Err(TableMismatch::Unsized { to, references }),
        Known::Table(table) => (table.functions.len(), table.hooks.is_some(), Some(&table.functions)),
        Known::File { functions, state } => (*functions, *state, None),
    };
    let mut stateful: Option<&Offer> = None;
    for board in held {
        if board.held > functions {
            let references = board.holders.iter().filter(|holder| holder.length() > functions).count();
            return Err(TableMismatch::Shorter { to, functions, held: board.held, references });
        }
        if let Some(present) = present {
            let mut both = board.functions.iter().zip(present);
            if let Some(at) = both.position(|(old, new)| !old.is_null() && new.is_null()) {
                return Err(TableMismatch::Hole { to, at });
            }
        }
        let old = &board.serving;
        if old.description().is_none_or(|description| description.table().save.is_none()) {
            continue;
        }
        if !takes_state {
            return Err(TableMismatch::StateLost { from: old.version(), to });
        }
        match stateful {
            Some(other) if !other.is(old) => {
                return Err(TableMismatch::TwoStates { from: (other.version(), old.version()), to });
            }
            _ => stateful = Some(old),
        }
    }
    Ok(())
}

/// Is a board, on which `serving` serves and `before` stood before, replaced?
pub(super) fn is_replaced(
    serving: &Offer,
    before: Option<i32>,
    back: Option<&Back>,
    replaces: impl Fn(i32) -> bool,
) -> bool {
    match back {
        Some(back) => serving.version() == back.from && back.takes(before.as_slice()),
        None => replaces(serving.version()),
    }
}

impl Prepared {
    /// Is such a board one of those that it replaces? Not one on which it serves already.
    fn rewires(&self, serving: &Offer, before: Option<i32>) -> bool {
        !serving.is(&self.offer)
            && is_replaced(serving, before, self.back.as_ref(), |v| self.replaces.contains(&v))
    }
}

/// Is there a board that is open, and would have to be replaced?
pub(super) fn is_news(prepared: &[Prepared], name: &str, serving: &Offer, before: Option<i32>) -> bool {
    prepared.iter().any(|p| p.name == name && p.rewires(serving, before))
}

/// Boards that are ready to be switched.
pub(super) struct Rewiring<'i> {
    inner: &'i Inner,
    moves: Vec<Move>,
    /// Old versions that are paused,
    old: Vec<Stopped>,
    /// and new ones.
    new: Vec<Stopped>,
    built: Vec<(Arc<Holder>, Offer)>,
    // Dropped after all that was undone: who waits comes in.
    _closing: Vec<Closing<'i>>,
    holding: Option<Instant>,
}

/// A board, and what it is switched to.
struct Move {
    name: String,
    board: Switching,
    new: Offer,
    table: Measured,
}

/// A version whose calls wait.
struct Stopped {
    offer: Offer,
    hooks: Hooks,
}

impl Stopped {
    fn forwards(&self, does: bool) {
        if let Some(description) = self.offer.description() {
            description.forwards.store(does, Ordering::Release);
        }
    }
}

/// What became of it.
#[derive(Default)]
pub(super) struct Rewired {
    /// How long calls that change state waited.
    pub(super) held: Duration,
    /// Does a reference keep an old version?
    pub(super) lingers: bool,
}

impl<'i> Rewiring<'i> {
    /// Closes the boards, constructs, and hands state over.
    pub(super) fn begin(
        inner: &'i Arc<Inner>,
        prepared: &[Prepared],
        patience: Patience<'_>,
    ) -> Result<Self, Failure> {
        let mut this = Rewiring {
            inner,
            moves: Vec::new(),
            old: Vec::new(),
            new: Vec::new(),
            built: Vec::new(),
            _closing: Vec::new(),
            holding: None,
        };
        for p in prepared {
            let (closing, boards) = inner.boards.close(&p.name, |serving, before| p.rewires(serving, before));
            this._closing.push(closing);
            if boards.is_empty() {
                continue;
            }
            let fail = |error: ReplaceError| Failure::new(&p.name, Step::Prepare, error);
            let table = p.offer.sized().map_err(|error| fail(error.into()))?;
            let known = table.as_ref().map_or(Known::Unsized, Known::Table);
            fits(&boards, p.offer.version(), &known).map_err(|error| fail(error.into()))?;
            let Some(table) = table else { continue };
            let moves = boards.into_iter().map(|board| Move {
                name: p.name.clone(),
                board,
                new: p.offer.clone(),
                table: table.clone(),
            });
            this.moves.extend(moves);
        }
        this.construct(inner, patience)?;
        this.hand_over()?;
        if let Some(first) = this.moves.first() {
            patience.check().map_err(|error| Failure::new(&first.name, Step::Switch, error))?;
        }
        Ok(this)
    }

    fn construct(&mut self, inner: &Arc<Inner>, patience: Patience<'_>) -> Result<(), Failure> {
        for Move { name, board, new, .. } in &self.moves {
            for holder in &board.holders {
                patience.check().map_err(|error| Failure::new(name, Step::Build, error))?;
                let is_new = holder.construct(inner, new);
                if is_new.map_err(|error| Failure::new(name, Step::Build, error.into()))? {
                    self.built.push((Arc::clone(holder), new.clone()));
                }
            }
        }
        Ok(())
    }

    /// All old versions pause before the first one saves.
    fn hand_over(&mut self) -> Result<(), Failure> {
        let mut states = Vec::new();
        for Move { name, board, .. } in &self.moves {
            let old = &board.serving;
            // Two boards may be served by one version, which has one state.
            if self.old.iter().any(|stopped| stopped.offer.is(old)) {
                continue;
            }
            let hooks = old.sized().ok().flatten().and_then(|measured| measured.hooks);
            let Some(hooks) = hooks else { continue };
            self.holding.get_or_insert_with(Instant::now);
            let refused = |message| {
                let refusal = Refusal { message, panicked: false };
                Failure::of_component(name, Step::Pause, "pause", refusal)
            };
            hooks.pause().map_err(refused)?;
            self.old.push(Stopped { offer: old.clone(), hooks });
        }
        for stopped in &self.old {
            let name = stopped.offer.name();
            let refused = |message| {
                let refusal = Refusal { message, panicked: false };
                Failure::of_component(&name, Step::Save, "save", refusal)
            };
            states.push((stopped.offer.clone(), stopped.hooks.save().map_err(refused)?));
        }
        for Move { name, board, new, table } in &self.moves {
            let Some(hooks) = table.hooks else { continue };
            let state = states.iter().position(|(old, _)| old.is(&board.serving));
            let state = state.map(|at| states.swap_remove(at).1);
            let is_stopped = self.new.iter().any(|stopped| stopped.offer.is(new));
            let was_told = new.description().is_some_and(|d| d.forwards.load(Ordering::Acquire));
            if is_stopped || state.is_none() && !was_told {
                continue;
            }
            let refused = |message| {
                let (to, origin) = (new.version(), new.to_string());
                let error = ReplaceError::Restore { to, origin, message, panicked: false };
                Failure::new(name, Step::Restore, error)
            };
            hooks.pause().map_err(|message| refused(format!("its `pause` failed: {message}")))?;
            self.new.push(Stopped { offer: new.clone(), hooks });
            if let Some(state) = state {
                hooks.restore(state).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Where calls go on that `offer` has kept waiting, seen through `is_it`.
    fn elsewhere(
        &self,
        is_it: impl Fn(&Move) -> bool,
        functions: impl Fn(&Move) -> usize,
    ) -> Option<(*const *const std::ffi::c_void, usize)> {
        let longest = self.moves.iter().filter(|m| is_it(m)).max_by_key(|m| m.board.table.len())?;
        let table = longest.board.table;
        Some((ptr::from_ref(table).cast(), table.len().min(functions(longest))))
    }

    /// Switches. Nothing can fail.
    pub(super) fn commit(mut self) -> Rewired {
        for stopped in std::mem::take(&mut self.new) {
            stopped.hooks.resume(None);
            stopped.forwards(false);
        }
        for Move { board, new, table, .. } in &self.moves {
            self.inner.boards.switch(board, new, &table.functions);
        }
        for stopped in std::mem::take(&mut self.old) {
            let is_its = |m: &Move| m.board.serving.is(&stopped.offer);
            stopped.forwards(true);
            stopped.hooks.resume(self.elsewhere(is_its, |m| m.table.functions.len()));
        }
        self.built.clear();
        let mut holders = self.moves.iter().flat_map(|m| &m.board.holders);
        Rewired {
            held: self.holding.map(|began| began.elapsed()).unwrap_or_default(),
            lingers: holders.any(|holder| holder.versions() > 1),
        }
    }
}

impl Drop for Rewiring<'_> {
    fn drop(&mut self) {
        for stopped in std::mem::take(&mut self.old).into_iter().rev() {
            stopped.hooks.resume(None);
        }
        for stopped in std::mem::take(&mut self.new).into_iter().rev() {
            // It may have served before: then late calls go on as they did.
            let is_its = |m: &Move| m.new.is(&stopped.offer);
            stopped.forwards(true);
            stopped.hooks.resume(self.elsewhere(is_its, |m| m.board.table.len()));
        }
        for (holder, offer) in self.built.drain(..).rev() {
            holder.destroy(|built| built.is(&offer));
        }
    }
}

impl Factory {
    /// Says that no thread is inside a version of `interface` that was replaced, and none
    /// has read a function of one that it has not called yet. Of C components that describe
    /// their tables nobody else can know. The destructors of these versions run, for each
    /// reference, and their libraries are unmapped.
    ///
    /// Without this, they stay until the references that may have called them are released.
    ///
    /// # Errors
    ///
    /// A replacement was going on for five seconds, or asks this itself; or there is no
    /// such interface, neither in use nor anywhere that is searched.
    pub fn retire(&self, interface: &str) -> Result<(), ReplaceError> {
        if self.inner.boards.holders(interface).is_empty() {
            self.inner.source(interface, Version::any())?;
        }
        let cancelled = std::sync::atomic::AtomicBool::new(false);
        let turn = Turn::take(For::Retiring, Patience::new(Instant::now(), super::TIMEOUT, &cancelled))?;
        for (serving, holder) in self.inner.boards.holders(interface) {
            holder.destroy(|built| !built.is(&serving));
        }
        drop(turn);
        Ok(())
    }
}
