//! Why a replacement was undone: the step, and the reason.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::KeptLibrary;
use super::rewire::TableMismatch;
use crate::contract::Mismatch;
use crate::error::ReferenceError;
use crate::gate::{BarrierRefused, HoldRefused, Inside, NotQuiet};
use crate::handover::Failed as Refusal;

/// The steps of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding, checking, loading.
    Prepare,
    /// Constructing the new instance.
    Build,
    /// Stopping the old one's own threads.
    Pause,
    /// Waiting until callers have left.
    Drain,
    /// Saving the old one's state.
    Save,
    /// Making the new one from it.
    Restore,
    /// Switching.
    Switch,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prepare => "prepare",
            Step::Build => "build",
            Step::Pause => "pause",
            Step::Drain => "drain",
            Step::Save => "save",
            Step::Restore => "restore",
            Step::Switch => "switch",
        })
    }
}

/// A replacement that was undone. The old version serves.
#[derive(Debug, thiserror::Error)]
#[error("`{interface}` was not replaced ({step}): {error}")]
pub struct Failure {
    /// The interface at which it failed.
    pub interface: String,
    /// The step that failed.
    pub step: Step,
    /// Why.
    #[source]
    pub error: ReplaceError,
    /// When.
    pub time: SystemTime,
    /// As [`Report::kept`](super::Report::kept).
    pub kept: Vec<KeptLibrary>,
}

impl Failure {
    pub(super) fn new(interface: &str, step: Step, error: ReplaceError) -> Self {
        Failure { interface: interface.to_owned(), step, error, time: SystemTime::now(), kept: Vec::new() }
    }

    pub(super) fn of_component(interface: &str, step: Step, what: &'static str, refusal: Refusal) -> Self {
        let Refusal { message, panicked } = refusal;
        Self::new(interface, step, ReplaceError::Component { what, message, panicked })
    }

    /// Who was inside at a deadline.
    #[must_use]
    pub fn inside(&self) -> &[Inside] {
        match &self.error {
            ReplaceError::Deadline(inside) => inside,
            _ => &[],
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// Nothing offers such a version.
    #[error("{}", no_such(.interface, *.version, .place.as_deref(), .serving))]
    NoSuchVersion {
        /// The interface.
        interface: String,
        /// The version that was asked for.
        version: Option<i32>,
        /// The library that was named.
        place: Option<PathBuf>,
        /// What serves.
        serving: Vec<i32>,
    },
    /// Neither version nor library was named, and there is nothing that is not older than
    /// what serves.
    #[error(
        "version {} of `{interface}` serves, and what could replace it, compiled in or in the directories that are \
         searched, is older: version {found} at most; to go down, name that version, or the file", numbers(.serving)
    )]
    OnlyOlder {
        /// The interface.
        interface: String,
        /// What serves.
        serving: Vec<i32>,
        /// The highest version that could replace it.
        found: i32,
    },
    /// The named library does not offer the interface.
    #[error("{}", not_in_file(.interface, .file, .offers, .fault.as_deref()))]
    NotInFile {
        /// The interface.
        interface: String,
        /// The library.
        file: PathBuf,
        /// What it offers.
        offers: Vec<String>,
        /// What is wrong with it, if that is why.
        fault: Option<String>,
    },
    /// The new version does not say that it replaces what serves.
    #[error(
        "version {found} does not replace version {}: its `replaces` {}; add the version that serves to that \
         (in C, to `versions_replace`)", numbers(.serving), listed(.replaces)
    )]
    DoesNotReplace {
        /// The interface.
        interface: String,
        /// What serves.
        serving: Vec<i32>,
        /// The best version that was found.
        found: i32,
        /// What it replaces.
        replaces: Vec<i32>,
    },
    /// A live handle could not be called through the new version.
    #[error("version {to} does not fit the handles that are live: {mismatch}")]
    Contract {
        /// The interface.
        interface: String,
        /// The new version.
        to: i32,
        /// The difference.
        mismatch: Mismatch,
    },
    /// The old version hands state over, and the new one does not take it.
    #[error(
        "version {from} hands its state over and version {to} takes none: it would be lost; \
         add `state` to its `#[interface(…)]` and implement `Handover`"
    )]
    StateLost {
        /// The interface.
        interface: String,
        /// The old version.
        from: i32,
        /// The new version.
        to: i32,
    },
    /// A raw table cannot stand in for a typed interface, nor the other way round.
    #[error("{}", other_kind(.interface, *.to, .contract.as_deref()))]
    Kind {
        /// The interface.
        interface: String,
        /// The new version.
        to: i32,
        /// Its contract; `None` where it has a raw table.
        contract: Option<String>,
    },
    /// Raw references cannot be moved to another table, and it was asked that nobody stays
    /// on the old version.
    #[error("{}", pinned(.interface, .versions, *.references, *.described))]
    Pinned {
        /// The interface.
        interface: String,
        /// Its versions that are held.
        versions: Vec<i32>,
        /// How many references.
        references: usize,
        /// Do these versions say how long their tables are?
        described: bool,
    },
    /// A library's code asked for it.
    #[error(
        "a library asked for the replacement of `{interface}`, and only the program that has loaded it can wait for its \
         callers; have the program replace, or ask its control service"
    )]
    InLibrary {
        /// The interface.
        interface: String,
    },
    /// The way back was from a version that serves no more.
    #[error(
        "this was the way back of `{interface}` from version {from}, and somebody else has replaced that meanwhile: \
         version {} serves; look at the history, and ask again", numbers(.serving)
    )]
    Overtaken {
        /// The interface.
        interface: String,
        /// The version that was to be taken back.
        from: i32,
        /// What serves.
        serving: Vec<i32>,
    },
    /// A table that C code holds could not become one of the new version.
    #[error(transparent)]
    Table(#[from] TableMismatch),
    /// The same interface stands twice in one request.
    #[error("`{interface}` stands twice in this request; name each interface once")]
    Twice {
        /// The interface.
        interface: String,
    },
    /// New instances of the old version were constructed without a break.
    #[error(
        "other threads constructed new instances of the old version, again and again, until the time was over; try again, \
         with a longer timeout"
    )]
    Outrun,
    /// It cannot be found, loaded, or constructed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The component refused to pause or save.
    #[error("the old version's `{what}` {}: {message}", if *.panicked { "panicked" } else { "failed" })]
    Component {
        /// `pause` or `save`.
        what: &'static str,
        /// What it said.
        message: String,
        /// Did it panic?
        panicked: bool,
    },
    /// The new version refused what the old one had saved.
    #[error(
        "the `restore` of version {to} ({origin}) {}: {message}", if *.panicked { "panicked" } else { "failed" }
    )]
    Restore {
        /// The new version.
        to: i32,
        /// Where it comes from.
        origin: String,
        /// What it said.
        message: String,
        /// Did it panic?
        panicked: bool,
    },
    /// Callers were inside when the time was over.
    #[error("the time was over while callers were inside: {}", who(.0))]
    Deadline(Vec<Inside>),
    /// The thread that asks is inside what it wants to replace.
    #[error(
        "the replacement of `{interface}` was asked for from inside a call to it, and would wait for itself; \
         ask from a thread that is not inside"
    )]
    Inside {
        /// The interface.
        interface: String,
    },
    /// The thread that asks is replacing already.
    #[error("this was asked for from within another replacement (a constructor, save or restore)")]
    Nested,
    /// The thread that asks runs the destructors of versions that are retired.
    #[error(
        "this was asked for by a destructor of a replaced version that is just retired (by `lcr_retire`, in Rust \
         `Factory::retire`): ask when that has returned"
    )]
    Retiring,
    /// Another replacement went on until the time was over.
    #[error("another replacement was going on until the time was over: they are made one at a time")]
    Busy,
    /// Whoever asked for it called it off.
    #[error("whoever asked for it called it off, or went away, before the switch")]
    Cancelled,
    /// Gates could not be held.
    #[error(transparent)]
    Hold(HoldRefused),
    /// The system refuses the barrier that a drain needs.
    #[error(transparent)]
    Barrier(#[from] BarrierRefused),
    /// There is no way back.
    #[error("`{interface}` was not replaced since the program started, so there is nothing to go back to")]
    NothingBefore {
        /// The interface.
        interface: String,
    },
    /// What served before cannot be had any more.
    #[error("{}, which served before, cannot be loaded again: {reason}", .file.display())]
    Gone {
        /// The library.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ReplaceError {
    pub(super) fn of_restore(error: ReferenceError) -> Self {
        match error {
            ReferenceError::Construct { name: _, version: to, origin, message, panicked } => {
                ReplaceError::Restore { to, origin, message, panicked }
            }
            other => other.into(),
        }
    }
}

impl From<HoldRefused> for ReplaceError {
    fn from(refused: HoldRefused) -> Self {
        match refused {
            HoldRefused::Inside(interface) => ReplaceError::Inside { interface: interface.to_owned() },
            HoldRefused::Barrier(refused) => ReplaceError::Barrier(refused),
            other => ReplaceError::Hold(other),
        }
    }
}

impl From<NotQuiet> for ReplaceError {
    fn from(error: NotQuiet) -> Self {
        match error {
            NotQuiet::Deadline(inside) => ReplaceError::Deadline(inside),
            NotQuiet::Barrier(refused) => ReplaceError::Barrier(refused),
        }
    }
}

fn other_kind(interface: &str, to: i32, contract: Option<&str>) -> String {
    let (found, serves) = match contract {
        Some(contract) => (format!("a typed interface of contract `{contract}`"), "a raw table"),
        None => ("a raw table".to_owned(), "a typed interface"),
    };
    format!("version {to} of `{interface}` is {found}, and what serves is {serves}: callers could not go on")
}

fn pinned(interface: &str, versions: &[i32], references: usize, described: bool) -> String {
    let (holds, it) = if references == 1 { ("reference holds", "it") } else { ("references hold", "them") };
    let why = if described {
        "which belongs to the component, for Rust code may read it only where nobody writes"
    } else {
        "which does not say how long it is"
    };
    format!(
        "{references} {holds} the table of `{interface}` version {}, {why}, so it cannot be changed under its \
         callers; release {it} first, or replace for later references alone (in C with LCR_LATER, in Rust without \
         `unpinned`)",
        numbers(versions)
    )
}

fn not_in_file(interface: &str, file: &Path, offers: &[String], fault: Option<&str>) -> String {
    fault.map_or_else(
        || format!("{} offers no `{interface}`; it offers: {}", file.display(), or_nothing(offers)),
        |fault| format!("it offers no `{interface}`: {fault}"),
    )
}

fn numbers(versions: &[i32]) -> String {
    versions.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

fn listed(replaces: &[i32]) -> String {
    if replaces.is_empty() { "is empty".to_owned() } else { format!("lists {}", numbers(replaces)) }
}

fn or_nothing(offers: &[String]) -> String {
    if offers.is_empty() { "nothing".to_owned() } else { offers.join(", ") }
}

fn no_such(interface: &str, version: Option<i32>, place: Option<&Path>, serving: &[i32]) -> String {
    let what = version.map_or_else(|| "no version".to_owned(), |v| format!("no version {v}"));
    let place = place.map_or_else(
        || "is compiled in or in the directories that are searched".to_owned(),
        |p| format!("is in {}", p.display()),
    );
    let serving = if serving.is_empty() {
        "none serves".to_owned()
    } else {
        format!("version {} serves", numbers(serving))
    };
    format!("{what} of `{interface}` that could replace it {place}; {serving}")
}

fn who(inside: &[Inside]) -> String {
    inside.iter().map(Inside::to_string).collect::<Vec<_>>().join("; ")
}
