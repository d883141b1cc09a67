//! Telling those who watch what happens to a factory's interfaces.

use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::history::{Entry, Outcome};
use super::{Factory, Inner};

/// Something that happened in a factory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A replacement ended, this way or that.
    Replacement(Entry),
    /// A new version was found unhealthy within its window, and is taken back.
    Unhealthy {
        /// The interface.
        interface: String,
        /// The new version.
        version: i32,
        /// What is wrong.
        reason: String,
    },
}

impl Event {
    /// The event as a word: `replaced`, `failed` or `unhealthy`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Event::Replacement(Entry { outcome: Outcome::Done, .. }) => "replaced",
            Event::Replacement(Entry { outcome: Outcome::Failed(_), .. }) => "failed",
            Event::Unhealthy { .. } => "unhealthy",
        }
    }
}

impl Factory {
    /// The replacements that end from now on, as they end. The channel is closed
    /// when the receiver is dropped.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

impl Inner {
    /// Tells everyone who watches.
    pub(super) fn tell(&self, event: &Event) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher: &Sender<Event>| watcher.send(event.clone()).is_ok());
    }
}
