//! Whether this thread has the turn to replace, or works for one that has it.

use std::cell::Cell;

thread_local! {
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// Has it?
pub(super) fn is_here() -> bool {
    HAS_TURN.get()
}

/// From here on it has, or no longer.
#[cfg(feature = "replace")]
pub(super) fn here(has: bool) {
    HAS_TURN.set(has);
}

/// What a thread that works in the place of another is to know of its turn.
#[derive(Clone, Copy)]
pub(super) struct Carried(bool);

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
