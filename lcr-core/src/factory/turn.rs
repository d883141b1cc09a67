//! Whether this thread has the turn to replace, or works for one that has it.

use std::cell::Cell;

/// What a turn is taken for.
#[derive(Clone, Copy)]
pub(super) enum For {
    Replacing,
    Retiring,
}

thread_local! {
    static TURN: Cell<Option<For>> = const { Cell::new(None) };
}

/// What it has the turn for, or the one that it works for.
pub(super) fn here() -> Option<For> {
    TURN.get()
}

/// Has it?
pub(super) fn is_here() -> bool {
    here().is_some()
}

/// From here on it has, or no longer.
pub(super) fn set(turn: Option<For>) {
    TURN.set(turn);
}

/// What a thread that works in the place of another is to know of its turn.
#[derive(Clone, Copy)]
pub(super) struct Carried(Option<For>);

/// For a thread that works in this one's place.
pub(super) fn carried() -> Carried {
    Carried(here())
}

impl Carried {
    /// From here on, on the thread that works.
    pub(super) fn carry_on(self) {
        set(self.0);
    }
}
