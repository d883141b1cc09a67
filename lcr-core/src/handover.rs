//! State hand-over: how an old version gives its state to a new one.
//!
//! An interface that says `state` implements [`Handover`]. When it is replaced,
//! its gate is held, the last caller leaves, [`save`](Handover::save) writes what
//! matters into a [`State`], and the new version's [`restore`](Handover::restore)
//! makes its object from that. Saving does not consume: descriptors are
//! duplicated, so that the old object can go on as if nothing had been, should a
//! later step fail.
//!
//! A state is a list of named sections (the original's `lcr_ckpt` had the same
//! idea), each with the version of its schema, bytes, and descriptors. The new
//! version says which schema versions of a section it understands; an older one
//! than that is refused by name, and the old component goes on serving.
//!
//! ```
//! use lcr_core::{BoxError, Context, Handover, State};
//!
//! struct Hits { count: u64 }
//!
//! impl Handover for Hits {
//!     fn save(&self, state: &mut State) -> Result<(), BoxError> {
//!         state.section("count", 1).write(&self.count.to_le_bytes());
//!         Ok(())
//!     }
//!
//!     fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
//!         let count = state.read("count", 1..=1)?.bytes().try_into()?;
//!         Ok(Hits { count: u64::from_le_bytes(count) })
//!     }
//! }
//!
//! let mut state = State::new();
//! Hits { count: 7 }.save(&mut state)?;
//! assert_eq!(Hits::restore(&Context::new(), &state)?.count, 7);
//! # Ok::<(), BoxError>(())
//! ```
//!
//! With the feature `serde`, a section holds any type that serde knows, as JSON, which
//! people can read and later versions can add fields to:
//!
//! ```
//! # #[cfg(feature = "serde")] {
//! use std::collections::BTreeMap;
//! use lcr_core::{BoxError, Context, Handover, State};
//!
//! struct Sessions { users: BTreeMap<String, u64> }
//!
//! impl Handover for Sessions {
//!     fn save(&self, state: &mut State) -> Result<(), BoxError> {
//!         state.section("users", 1).write_json(&self.users)?;
//!         Ok(())
//!     }
//!
//!     fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
//!         Ok(Sessions { users: state.read("users", 1..=1)?.read_json()? })
//!     }
//! }
//!
//! let mut state = State::new();
//! Sessions { users: [("ada".to_owned(), 7)].into() }.save(&mut state)?;
//! assert_eq!(state.get("users").unwrap().bytes(), br#"{"ada":7}"#);
//! assert_eq!(Sessions::restore(&Context::new(), &state)?.users["ada"], 7);
//! # }
//! # Ok::<(), lcr_core::BoxError>(())
//! ```

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::abi::{Abi, Frame};
use crate::call::{Reply, answer, caught};
use crate::construct::{BoxError, Constructed, with_causes};
use crate::context::{Context, ContextWire};
use crate::services::Message;

/// What an interface under `state` must be able to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says `state` and cannot hand it over",
    note = "write `impl Handover for {Self} {{ fn save(&self, state: &mut State) …; fn restore(cx: &Context, state: &State) … }}`, \
            or drop `state`"
)]
pub trait Handover: Sized {
    /// Writes what the next version needs. Nobody is calling meanwhile. The object
    /// must stay usable: if a later step fails, it goes on serving.
    ///
    /// All callers wait for as long as this takes, and [`restore`](Self::restore): no deadline
    /// ends either. So they wait for nobody, least of all for a thread that may be calling
    /// what is held; a call that they make themselves is refused.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being saved; the replacement is then undone.
    fn save(&self, state: &mut State) -> Result<(), BoxError>;

    /// Makes the new object from what the old one saved.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made; the replacement is then undone.
    fn restore(cx: &Context, state: &State) -> Result<Self, BoxError>;

    /// Stops the object's own threads and timers, before the gate is held: callers
    /// still come in. What is done here is undone by [`resume`](Self::resume); after
    /// a replacement that is done the object is not resumed, but dropped.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from pausing; the replacement is then undone, and the
    /// object resumed: it may have stopped half-way.
    fn pause(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Goes on after a pause that failed, or that was followed by a step that did.
    /// Callers may be inside already.
    fn resume(&self) {}
}

/// Named sections of bytes and descriptors, from an old version to a new one.
#[derive(Debug, Default)]
pub struct State {
    sections: Vec<Section>,
}

/// One section of a [`State`].
#[derive(Debug)]
pub struct Section {
    name: String,
    version: u32,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// A section that is not there, or that the new version does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// No section of that name was saved.
    #[error("the state has no section `{name}` (it has: {})", if .found.is_empty() { "none".to_owned() } else { .found.join(", ") })]
    Missing {
        /// The section.
        name: String,
        /// Those that were saved.
        found: Vec<String>,
    },
    /// Its schema is not understood.
    #[error(
        "section `{name}` was saved with schema version {found}, and this version restores {}",
        accepted(.wanted)
    )]
    Schema {
        /// The section.
        name: String,
        /// The version that was saved.
        found: u32,
        /// Those that are understood.
        wanted: RangeInclusive<u32>,
    },
    /// It has fewer descriptors.
    #[error("section `{name}` holds {found} descriptors, and number {wanted} was wanted (from 0)")]
    Descriptor {
        /// The section.
        name: String,
        /// How many there are.
        found: usize,
        /// Which one was wanted.
        wanted: usize,
    },
    /// It cannot be written as JSON, or is not the JSON of the type that was wanted.
    #[cfg(feature = "serde")]
    #[error("section `{name}` is no JSON of `{wanted}`: {error}")]
    Json {
        /// The section.
        name: String,
        /// The type.
        wanted: &'static str,
        /// What serde says, with line and column.
        error: String,
    },
    /// A descriptor could not be duplicated.
    #[error("a descriptor of section `{name}` could not be duplicated: {error}")]
    Duplicate {
        /// The section.
        name: String,
        /// The system's answer.
        error: String,
    },
}

fn accepted(wanted: &RangeInclusive<u32>) -> String {
    if wanted.start() == wanted.end() {
        format!("version {}", wanted.start())
    } else {
        format!("versions {} to {}", wanted.start(), wanted.end())
    }
}

impl State {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        State::default()
    }

    /// The section `name`, to be written; an empty one if there is none. `version`
    /// is the schema's.
    ///
    /// Sections are few, each with all of its kind: they are looked up one after the
    /// other, while calls wait.
    pub fn section(&mut self, name: &str, version: u32) -> &mut Section {
        let at = self.sections.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.sections.push(Section {
                name: name.to_owned(),
                version,
                bytes: Vec::new(),
                descriptors: Vec::new(),
            });
            self.sections.len() - 1
        });
        let section = &mut self.sections[at];
        section.version = version;
        section
    }

    /// The section `name`, if its schema version is among `versions`.
    ///
    /// # Errors
    ///
    /// There is none, or its version is another.
    pub fn read(&self, name: &str, versions: RangeInclusive<u32>) -> Result<&Section, StateError> {
        let section = self.get(name).ok_or_else(|| StateError::Missing {
            name: name.to_owned(),
            found: self.sections.iter().map(|s| s.name.clone()).collect(),
        })?;
        if versions.contains(&section.version) {
            Ok(section)
        } else {
            Err(StateError::Schema { name: name.to_owned(), found: section.version, wanted: versions })
        }
    }

    /// The section `name`, whatever its version.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// All sections, in the order in which they were written.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = &Section> {
        self.sections.iter()
    }
}

impl Section {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of its schema.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Puts `value` into the place of the section's bytes, as JSON.
    ///
    /// # Errors
    ///
    /// The type refuses to be written, or has maps whose keys are no strings.
    #[cfg(feature = "serde")]
    pub fn write_json<T: serde_core::Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<&mut Self, StateError> {
        self.bytes = serde_json::to_vec(value).map_err(|error| self.not_json::<T>(&error))?;
        Ok(self)
    }

    /// The value that was written by [`write_json`](Self::write_json).
    ///
    /// # Errors
    ///
    /// The bytes are something else, or of another type.
    #[cfg(feature = "serde")]
    pub fn read_json<T: serde_core::de::DeserializeOwned>(&self) -> Result<T, StateError> {
        serde_json::from_slice(&self.bytes).map_err(|error| self.not_json::<T>(&error))
    }

    #[cfg(feature = "serde")]
    fn not_json<T: ?Sized>(&self, error: &serde_json::Error) -> StateError {
        StateError::Json {
            name: self.name.clone(),
            wanted: std::any::type_name::<T>(),
            error: error.to_string(),
        }
    }

    /// Appends a duplicate of a descriptor: the same open file, so that a
    /// listening socket goes on listening, and an open-file-description lock stays
    /// held, without a gap.
    ///
    /// # Errors
    ///
    /// The process has no descriptor left.
    pub fn attach(&mut self, descriptor: impl AsFd) -> Result<&mut Self, StateError> {
        let copy = descriptor
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| StateError::Duplicate { name: self.name.clone(), error: error.to_string() })?;
        self.descriptors.push(copy);
        Ok(self)
    }

    /// How many descriptors it holds.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.descriptors.len()
    }

    /// The descriptor with this number, from 0, lent.
    ///
    /// # Errors
    ///
    /// There are fewer.
    pub fn descriptor(&self, number: usize) -> Result<BorrowedFd<'_>, StateError> {
        self.descriptors.get(number).map(AsFd::as_fd).ok_or_else(|| StateError::Descriptor {
            name: self.name.clone(),
            found: self.descriptors.len(),
            wanted: number,
        })
    }

    /// The descriptor with this number, to keep: a duplicate.
    ///
    /// # Errors
    ///
    /// There are fewer, or the process has none left.
    pub fn take(&self, number: usize) -> Result<OwnedFd, StateError> {
        self.descriptor(number)?
            .try_clone_to_owned()
            .map_err(|error| StateError::Duplicate { name: self.name.clone(), error: error.to_string() })
    }
}

/// A state as it crosses: name, schema version, bytes, descriptors.
type Sections = Vec<(String, u32, Vec<u8>, Vec<OwnedFd>)>;

/// The wire of a state.
pub type StateWire = <Sections as Abi>::Wire;
type SavedWire = <Result<Sections, String> as Abi>::Wire;
type DoneWire = <Result<(), String> as Abi>::Wire;

impl State {
    fn into_sections(self) -> Sections {
        let whole = |Section { name, version, bytes, descriptors }| (name, version, bytes, descriptors);
        self.sections.into_iter().map(whole).collect()
    }

    fn from_sections(sections: Sections) -> Self {
        let whole = |(name, version, bytes, descriptors)| Section { name, version, bytes, descriptors };
        State { sections: sections.into_iter().map(whole).collect() }
    }
}

/// The thunks of an interface that hands state over. Its layout grows at its
/// end; `size` says how much of it there is.
#[repr(C)]
#[derive(Debug)]
pub struct HandoverTable {
    size: usize,
    save: unsafe extern "C" fn(*const ()) -> Reply<SavedWire>,
    restore: unsafe extern "C" fn(*const ContextWire, StateWire) -> Constructed,
    pause: unsafe extern "C" fn(*const ()) -> Reply<DoneWire>,
    resume: unsafe extern "C" fn(*const ()) -> Reply<()>,
}

impl HandoverTable {
    /// The thunks of `T`.
    #[must_use]
    pub const fn of<T: Handover + Send + Sync + 'static>() -> Self {
        HandoverTable {
            size: size_of::<HandoverTable>(),
            save: save::<T>,
            restore: restore::<T>,
            pause: pause::<T>,
            resume: resume::<T>,
        }
    }
}

unsafe extern "C" fn save<T: Handover>(object: *const ()) -> Reply<SavedWire> {
    answer(|| {
        // SAFETY: the factory passes a `T` that lives until this returns.
        let object = unsafe { &*object.cast::<T>() };
        let mut state = State::new();
        let saved = object.save(&mut state).map(|()| state.into_sections());
        saved.map_err(|error| with_causes(&*error)).into_wire(&Frame::new())
    })
}

unsafe extern "C" fn restore<T: Handover>(cx: *const ContextWire, state: StateWire) -> Constructed {
    let made = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the factory gives the state up, and lends the context until this
        // returns.
        let (cx, state) = unsafe { (Context::from_wire(cx), Sections::from_wire(state, &Frame::new())) };
        T::restore(&cx, &State::from_sections(state))
            .map(|object| Box::into_raw(Box::new(object)).cast::<()>())
    }));
    match made {
        Ok(Ok(object)) => Constructed { object, error: ptr::null_mut(), panicked: 0 },
        Ok(Err(error)) => {
            Constructed { object: ptr::null_mut(), error: Message::new(&with_causes(&*error)), panicked: 0 }
        }
        Err(payload) => Constructed { object: ptr::null_mut(), error: caught(payload), panicked: 1 },
    }
}

unsafe extern "C" fn pause<T: Handover>(object: *const ()) -> Reply<DoneWire> {
    answer(|| {
        // SAFETY: as for `save`.
        let object = unsafe { &*object.cast::<T>() };
        object.pause().map_err(|error| with_causes(&*error)).into_wire(&Frame::new())
    })
}

unsafe extern "C" fn resume<T: Handover>(object: *const ()) -> Reply<()> {
    // SAFETY: as for `save`.
    answer(|| unsafe { &*object.cast::<T>() }.resume())
}

/// What a thunk of a hand-over said instead of doing it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) panicked: bool,
}

impl HandoverTable {
    /// Saves `object`.
    ///
    /// # Safety
    ///
    /// The object must be of this table's type, alive, and nobody inside it. So
    /// for the others below.
    pub(crate) unsafe fn save(&self, object: *const ()) -> Result<Saved, Failed> {
        // SAFETY: the caller's word; the reply is taken once.
        unsafe {
            let wire = taken((self.save)(object))?;
            let saved = <Result<Sections, String>>::from_wire(wire, &Frame::new());
            saved.map(Saved).map_err(|message| Failed { message, panicked: false })
        }
    }

    /// Makes an object from what was saved.
    ///
    /// # Safety
    ///
    /// `cx` must be lent until this returns.
    pub(crate) unsafe fn restore(&self, cx: *const ContextWire, saved: Saved) -> Constructed {
        // SAFETY: the caller's word; the state is given up.
        unsafe { (self.restore)(cx, saved.0.into_wire(&Frame::new())) }
    }

    /// Pauses `object`.
    ///
    /// # Safety
    ///
    /// As for [`save`](Self::save), but that callers may be inside.
    pub(crate) unsafe fn pause(&self, object: *const ()) -> Result<(), Failed> {
        // SAFETY: the caller's word; the reply is taken once.
        unsafe {
            let wire = taken((self.pause)(object))?;
            <Result<(), String>>::from_wire(wire, &Frame::new())
                .map_err(|message| Failed { message, panicked: false })
        }
    }

    /// Lets `object` go on. A panic in it was printed by the component, and there
    /// is nobody left to tell.
    ///
    /// # Safety
    ///
    /// As for [`pause`](Self::pause).
    pub(crate) unsafe fn resume(&self, object: *const ()) {
        // SAFETY: the caller's word.
        let _ = unsafe { taken((self.resume)(object)) };
    }
}

/// What an old version saved, on its way to the new one.
#[derive(Debug)]
pub(crate) struct Saved(Sections);

/// # Safety
///
/// As [`Reply::take`].
unsafe fn taken<W: Copy>(reply: Reply<W>) -> Result<W, Failed> {
    // SAFETY: the caller's word.
    unsafe { reply.take() }.map_err(|caught| Failed { message: caught.into_message(), panicked: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Records(Vec<u8>);

    impl Handover for Records {
        fn save(&self, state: &mut State) -> Result<(), BoxError> {
            state.section("records", 3).write(&self.0);
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            state.section("sockets", 1).attach(&listener)?;
            Ok(())
        }

        fn restore(_: &Context, state: &State) -> Result<Self, BoxError> {
            let socket = state.read("sockets", 1..=1)?.take(0)?;
            std::net::TcpListener::from(socket).local_addr()?;
            Ok(Records(state.read("records", 2..=3)?.bytes().to_vec()))
        }
    }

    #[test]
    fn a_state_goes_through_the_thunks_with_its_descriptors() {
        let table = HandoverTable::of::<Records>();
        let old = Records(vec![1, 2, 3]);
        // SAFETY: the object is a `Records`, the context is lent for the call, and
        // what was restored is taken back as the box that it is.
        unsafe {
            let saved = table.save((&raw const old).cast()).unwrap();
            let made = Context::new().lend("records", 1, &[], |cx| table.restore(cx, saved));
            assert!(made.error.is_null());
            assert_eq!(Box::from_raw(made.object.cast::<Records>()).0, [1, 2, 3]);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_section_that_is_other_json_is_refused_by_name() {
        let mut state = State::new();
        state.section("numbers", 1).write_json(&[1, 2]).unwrap().write_json(&[1, 2, 3]).unwrap();
        assert_eq!(state.get("numbers").unwrap().read_json::<Vec<u8>>().unwrap(), [1, 2, 3]);
        assert_eq!(
            state.get("numbers").unwrap().read_json::<String>().unwrap_err().to_string(),
            "section `numbers` is no JSON of `alloc::string::String`: invalid type: sequence, expected a string at \
             line 1 column 0"
        );
    }

    #[test]
    fn a_section_is_refused_by_name_and_schema() {
        let mut state = State::new();
        state.section("records", 1).write(b"x");
        assert_eq!(
            state.read("records", 2..=3).unwrap_err().to_string(),
            "section `records` was saved with schema version 1, and this version restores versions 2 to 3"
        );
        assert_eq!(
            state.read("locks", 1..=1).unwrap_err().to_string(),
            "the state has no section `locks` (it has: records)"
        );
        assert_eq!(
            state.get("records").unwrap().descriptor(0).unwrap_err().to_string(),
            "section `records` holds 0 descriptors, and number 0 was wanted (from 0)"
        );
    }
}
