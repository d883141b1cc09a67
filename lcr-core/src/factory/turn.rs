//! Whether this thread has the turn to replace, or works for one that has it.

use std::cell::Cell;

/// What a turn is taken for.
#[derive(Clone, Copy)]
pub(super) enum For {
    /// To replace.
    Replacing,
    /// To let versions go that were replaced.
    Retiring,
}

thread_local! {
    static HAS_TURN: Cell<Option<For>> = const { Cell::new(None) };
}

/// Has it?
pub(super) fn is_here() -> bool {
    HAS_TURN.get().is_some()
}

/// What it has it for.
#[cfg(feature = "replace")]
pub(super) fn what() -> Option<For> {
    HAS_TURN.get()
}

/// From here on it has, for this, or no longer.
#[cfg(feature = "replace")]
pub(super) fn here(what: Option<For>) {
    HAS_TURN.set(what);
}

/// What a thread that works in the place of another is to know of its turn.
#[derive(Clone, Copy)]
pub(super) struct Carried(Option<For>);

/// For a thread that works in this one's place.
pub(super) fn carried() -> Carried {
    Carried(HAS_TURN.get())
}

impl Carried {
    /// From here on, on the thread that works.
    pub(super) fn carry_on(self) {
        HAS_TURN.set(self.0);
    }
}
