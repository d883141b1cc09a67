//! Sized tables: what a C component says of the length of a raw table, and of its state.
//!
//! A raw table is an array of functions whose length nobody wrote down, so it cannot be
//! changed under its callers. A component that does write it down, in a [`Table`] that it
//! hands to `lcr_component_describe` (C's `struct lcr_table`, in `lcr.h`), lets the factory
//! give its C callers a table of the factory's own: one that goes on when the component
//! is replaced, its entries changed one by one.
//!
//! Calls in C are counted by nobody, so nobody can be kept out or waited for. What that
//! means for state is settled by four functions of the component, all of them or none:
//!
//! * `pause` returns when no call changes the state any more; calls that come in wait;
//! * `save` and `restore` run between `pause` and `resume`;
//! * `resume` ends a pause. Given null, this version serves. Given a table, another one
//!   does: calls that waited, and those that come late, are made again through it.
//!
//! So the old version's calls are either over before its state is saved, or made by the
//! new version; none is lost and none is made twice. Only the component can do that, and
//! one lock does it.
//!
//! Invariants: a description is believed only as far as it can be checked
//! (`Table::check`): each entry of a table that is as long as it says leads to code.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::{offset_of, size_of};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::ptr;
use std::sync::atomic::AtomicBool;

use crate::descriptor::Iface;
use crate::handover::State;
use crate::process::maps::Mapped;

/// The first bytes of a [`Table`].
pub const MAGIC: [u8; 8] = *b"LCRtabl1";

const WORD: usize = size_of::<*const c_void>();

/// No table is longer, in bytes: a size beyond that is a mistake.
const LONGEST: usize = 1 << 20;

/// What a C component says of an interface's table: the twin of `struct lcr_table`.
#[repr(C)]
#[derive(Debug)]
pub struct Table {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The interface.
    pub iface: *const Iface,
    /// The size of this structure: it grows at its end.
    pub size: usize,
    /// The size of the table, in bytes.
    pub bytes: usize,
    /// Keeps calls from changing the state. Anything but 0: it could not, and nothing
    /// is paused.
    pub pause: Option<unsafe extern "C" fn() -> c_int>,
    /// Writes the state.
    pub save: Option<unsafe extern "C" fn(*mut StateCalls) -> c_int>,
    /// Takes the state over.
    pub restore: Option<unsafe extern "C" fn(*mut StateCalls) -> c_int>,
    /// Ends a pause.
    pub resume: Option<Resume>,
}

/// `resume`: the table through which calls go on, or null, and its number of functions.
pub type Resume = unsafe extern "C" fn(*const *const c_void, usize);

const _: () = {
    assert!(size_of::<Table>() == 64);
    assert!(offset_of!(Table, iface) == 8);
    assert!(offset_of!(Table, bytes) == 24);
    assert!(offset_of!(Table, restore) == 48);
};

/// A description, and whether its component was told that another version serves.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) table: *const Table,
    pub(crate) forwards: AtomicBool,
}

// SAFETY: constants of an object that is mapped as long as the description is kept.
unsafe impl Send for Description {}
// SAFETY: as above.
unsafe impl Sync for Description {}

impl Description {
    /// # Safety
    ///
    /// `table` must be a sound description for as long as the object is mapped.
    pub(crate) unsafe fn new(table: *const Table) -> Self {
        Description { table, forwards: AtomicBool::new(false) }
    }

    pub(crate) fn table(&self) -> &Table {
        // SAFETY: `new`'s caller gave its word.
        unsafe { &*self.table }
    }
}

/// What a description comes to, once it was checked.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// The functions; null for one that is not there.
    pub(crate) functions: Vec<*const c_void>,
    pub(crate) hooks: Option<Hooks>,
}

// SAFETY: addresses of functions, of an object that whoever has this keeps mapped.
unsafe impl Send for Measured {}

/// The four functions of a component that hands state over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooks {
    pause: unsafe extern "C" fn() -> c_int,
    save: unsafe extern "C" fn(*mut StateCalls) -> c_int,
    restore: unsafe extern "C" fn(*mut StateCalls) -> c_int,
    resume: Resume,
}

impl Table {
    /// Is it one at all? It is asked before anything else is.
    pub(crate) fn is_sound(&self) -> bool {
        self.magic == MAGIC && self.size >= size_of::<Table>() && !self.iface.is_null()
    }

    /// The interface that it names, for a message.
    ///
    /// # Safety
    ///
    /// The description is sound, and its object mapped.
    pub(crate) unsafe fn subject(&self) -> String {
        // SAFETY: the caller's word.
        let iface = unsafe { &*self.iface };
        // SAFETY: as above; it is not null.
        let name = (!iface.name.is_null()).then(|| unsafe { iface.name() });
        format!("`{}` version {}", name.as_deref().unwrap_or_default(), iface.version)
    }

    /// What can be seen of it before its table is filled in: the four functions.
    ///
    /// # Errors
    ///
    /// What cannot be true.
    pub(crate) fn form(&self) -> Result<Option<Hooks>, String> {
        let bytes = self.bytes;
        if bytes == 0 || !bytes.is_multiple_of(WORD) || bytes > LONGEST {
            return Err(format!(
                "its description says that its table has {bytes} bytes, and a table is made of functions, {WORD} bytes \
                 each, at most {LONGEST}; write LCR_TABLE (&iface, struct of functions)"
            ));
        }
        match (self.pause, self.save, self.restore, self.resume) {
            (None, None, None, None) => Ok(None),
            (Some(pause), Some(save), Some(restore), Some(resume)) => {
                Ok(Some(Hooks { pause, save, restore, resume }))
            }
            _ => Err("its description has some of pause, save, restore and resume, and not all: state is handed over \
                      by the four together"
                .to_owned()),
        }
    }

    /// Reads the table that it describes, if it is what this says.
    ///
    /// # Errors
    ///
    /// What cannot be true.
    pub(crate) fn check(&self) -> Result<Measured, String> {
        let (bytes, hooks) = (self.bytes, self.form()?);
        // SAFETY: the description is sound, so this is a descriptor of the same object.
        let start = unsafe { (*self.iface).interfaces };
        let count = bytes / WORD;
        let range = start.addr()..start.addr().saturating_add(bytes);
        let holds = |what: usize, size: usize| what < range.end && range.start < what + size;
        if holds(self.iface.addr(), size_of::<Iface>())
            || holds(ptr::from_ref(self).addr(), size_of::<Table>())
        {
            return Err(format!(
                "its description says that its table has {count} functions, and among them stand its own descriptors; \
                 write LCR_TABLE (&iface, the type of the table itself)"
            ));
        }
        let mapped = Mapped::now();
        if let Some(mapped) = &mapped
            && !mapped.can_read(range)
        {
            return Err(format!(
                "its description says that its table has {count} functions, and there is no memory for so many at \
                 {start:p}; write LCR_TABLE (&iface, the type of the table itself)"
            ));
        }
        if start.is_null() {
            return Err("its descriptor has no table of functions (`interfaces` is null)".to_owned());
        }
        // SAFETY: it can be read; the component's word where that cannot be seen.
        let functions = unsafe { std::slice::from_raw_parts(start, count) }.to_vec();
        let is_none =
            |f: &*const c_void| mapped.as_ref().is_some_and(|m| !f.is_null() && !m.is_code(f.addr()));
        if let Some(at) = functions.iter().position(is_none) {
            return Err(format!(
                "its description says that its table has {count} functions, and number {at}, from 0, is {:p}, where \
                 no code is: the size is wrong, or the table holds something else than functions",
                functions[at]
            ));
        }
        Ok(Measured { functions, hooks })
    }
}

impl Hooks {
    /// Keeps calls from changing the state.
    pub(crate) fn pause(self) -> Result<(), String> {
        // SAFETY: the component's own function, which is mapped.
        match unsafe { (self.pause)() } {
            0 => Ok(()),
            code => Err(format!("it returned {code}")),
        }
    }

    /// Ends a pause; with a table, another version serves, through that.
    pub(crate) fn resume(self, elsewhere: Option<(*const *const c_void, usize)>) {
        let (table, count) = elsewhere.unwrap_or((ptr::null(), 0));
        // SAFETY: as for `pause`; the table stays as long as the program runs.
        unsafe { (self.resume)(table, count) }
    }

    pub(crate) fn save(self) -> Result<State, String> {
        let mut session = Session { state: State::new(), may_write: true, error: None };
        session.run(self.save).map(|()| session.state)
    }

    pub(crate) fn restore(self, state: State) -> Result<(), String> {
        Session { state, may_write: false, error: None }.run(self.restore)
    }
}

/// What `save` and `restore` get: the twin of `struct lcr_state`. They are called through
/// it, so that a component refers to nothing that an older program does not have.
#[repr(C)]
#[derive(Debug)]
pub struct StateCalls {
    size: usize,
    session: *mut c_void,
    write: unsafe extern "C" fn(*mut StateCalls, *const c_char, c_uint, *const c_void, usize) -> c_int,
    read: unsafe extern "C" fn(
        *mut StateCalls,
        *const c_char,
        c_uint,
        c_uint,
        *mut *const c_void,
        *mut usize,
    ) -> c_int,
    attach: unsafe extern "C" fn(*mut StateCalls, *const c_char, c_uint, c_int) -> c_int,
    take: unsafe extern "C" fn(*mut StateCalls, *const c_char, usize) -> c_int,
    fail: unsafe extern "C" fn(*mut StateCalls, *const c_char) -> c_int,
}

/// One `save` or `restore`, while it runs.
struct Session {
    state: State,
    may_write: bool,
    /// What failed last.
    error: Option<String>,
}

impl Session {
    fn run(&mut self, hook: unsafe extern "C" fn(*mut StateCalls) -> c_int) -> Result<(), String> {
        let size = size_of::<StateCalls>();
        let session = ptr::from_mut(self).cast();
        let mut calls = StateCalls { size, session, write, read, attach, take, fail };
        // SAFETY: the component's own function; what it gets lives until it returns.
        match unsafe { hook(&raw mut calls) } {
            0 => Ok(()),
            code => Err(self.error.take().unwrap_or_else(|| format!("it returned {code}"))),
        }
    }
}

/// Runs `f` with the session and the section's name; an error is kept, and answered by -1.
///
/// # Safety
///
/// `calls` is what `run` made, and `name` null or a C string.
unsafe fn with(
    calls: *mut StateCalls,
    name: *const c_char,
    f: impl FnOnce(&mut Session, &str) -> Result<c_int, String>,
) -> c_int {
    // SAFETY: `run` waits until the component has returned, and nobody else has it.
    let session = unsafe { &mut *(*calls).session.cast::<Session>() };
    let name = if name.is_null() {
        Err("a section was asked for with null for its name".to_owned())
    } else {
        // SAFETY: the caller's word.
        let name = unsafe { CStr::from_ptr(name) };
        name.to_str().map_err(|_| format!("{name:?} is no UTF-8: no section has such a name"))
    };
    name.and_then(|name| f(session, name)).unwrap_or_else(|error| {
        session.error = Some(error);
        -1
    })
}

impl Session {
    fn writable(&mut self) -> Result<&mut State, String> {
        if self.may_write {
            Ok(&mut self.state)
        } else {
            Err("`restore` reads a state, it writes none".into())
        }
    }
}

unsafe extern "C" fn write(
    calls: *mut StateCalls,
    name: *const c_char,
    version: c_uint,
    bytes: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: the component's arguments, as `lcr.h` says.
    unsafe {
        with(calls, name, |session, name| {
            let section = session.writable()?.section(name, version);
            if size > 0 {
                section.write(std::slice::from_raw_parts(bytes.cast(), size));
            }
            Ok(0)
        })
    }
}

unsafe extern "C" fn read(
    calls: *mut StateCalls,
    name: *const c_char,
    lowest: c_uint,
    highest: c_uint,
    bytes: *mut *const c_void,
    size: *mut usize,
) -> c_int {
    // SAFETY: the component's arguments; the bytes live until `restore` returns.
    unsafe {
        with(calls, name, |session, name| {
            let section = session.state.read(name, lowest..=highest).map_err(|error| error.to_string())?;
            *bytes = section.bytes().as_ptr().cast();
            *size = section.bytes().len();
            Ok(0)
        })
    }
}

unsafe extern "C" fn attach(
    calls: *mut StateCalls,
    name: *const c_char,
    version: c_uint,
    descriptor: c_int,
) -> c_int {
    // SAFETY: the component's arguments; the descriptor is borrowed for the call.
    unsafe {
        with(calls, name, |session, name| {
            if descriptor < 0 {
                return Err(format!("{descriptor} is no descriptor that section `{name}` could hold"));
            }
            let section = session.writable()?.section(name, version);
            section.attach(BorrowedFd::borrow_raw(descriptor)).map_err(|error| error.to_string())?;
            Ok(0)
        })
    }
}

unsafe extern "C" fn take(calls: *mut StateCalls, name: *const c_char, number: usize) -> c_int {
    // SAFETY: the component's arguments.
    unsafe {
        with(calls, name, |session, name| {
            let section = session.state.read(name, 0..=u32::MAX).map_err(|error| error.to_string())?;
            Ok(section.take(number).map_err(|error| error.to_string())?.into_raw_fd())
        })
    }
}

unsafe extern "C" fn fail(calls: *mut StateCalls, why: *const c_char) -> c_int {
    // SAFETY: the component's arguments; here it is no section that is named.
    unsafe { with(calls, why, |_, why| Err(why.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::{Names, RawTable};

    unsafe extern "C" fn function() {}
    unsafe extern "C" fn paused() -> c_int {
        0
    }

    static NONE: Names<0> = Names::new([]);
    static FUNCTIONS: RawTable<3> =
        RawTable([function as *const c_void, ptr::null(), paused as *const c_void]);
    static DATA: RawTable<2> = RawTable([function as *const c_void, (&raw const NONE).cast()]);

    fn iface(table: *const *const c_void) -> Iface {
        let mut iface = Iface::raw(c"counter", 0, &[], &NONE, None, None, &FUNCTIONS);
        iface.interfaces = table;
        iface
    }

    fn table(iface: &Iface, bytes: usize) -> Table {
        let size = size_of::<Table>();
        Table { magic: MAGIC, iface, size, bytes, pause: None, save: None, restore: None, resume: None }
    }

    #[test]
    fn a_table_is_read_as_far_as_it_says() {
        let iface = iface(FUNCTIONS.0.as_ptr());
        let whole = table(&iface, 24).check().unwrap();
        assert_eq!((whole.functions, whole.hooks.is_none()), (FUNCTIONS.0.to_vec(), true));
        assert_eq!(table(&iface, 8).check().unwrap().functions, FUNCTIONS.0[..1]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "/proc/self/maps is not there")]
    fn what_cannot_be_true_is_refused() {
        let good = iface(FUNCTIONS.0.as_ptr());
        for bytes in [0, 7, 12, LONGEST + 8] {
            let error = table(&good, bytes).check().unwrap_err();
            assert!(
                error.starts_with(&format!("its description says that its table has {bytes} bytes")),
                "{error}"
            );
        }
        let data = iface(DATA.0.as_ptr());
        let error = table(&data, 16).check().unwrap_err();
        assert!(error.contains("2 functions, and number 1, from 0, is 0x"), "{error}");
        let nowhere = iface(ptr::without_provenance(0x10));
        let error = table(&nowhere, 16).check().unwrap_err();
        assert!(error.contains("there is no memory for so many at 0x10"), "{error}");
        let null = iface(ptr::null());
        assert!(table(&null, 16).check().is_err());
        let itself = iface(ptr::null());
        let itself = Box::new(Iface { interfaces: (&raw const itself).cast(), ..itself });
        let mut own = table(&itself, 16);
        let start = (&raw const *itself).cast::<*const c_void>();
        // SAFETY: the box is not read through another reference meanwhile.
        unsafe { (*(&raw const *itself).cast_mut()).interfaces = start };
        own.iface = &raw const *itself;
        assert!(own.check().unwrap_err().contains("stand its own descriptors"));
    }

    #[test]
    fn state_is_handed_over_by_four_functions_or_by_none() {
        let iface = iface(FUNCTIONS.0.as_ptr());
        let half = Table { pause: Some(paused), ..table(&iface, 24) };
        assert!(half.check().unwrap_err().contains("handed over by the four together"));
    }

    #[test]
    fn a_description_of_another_form_is_none() {
        let iface = iface(FUNCTIONS.0.as_ptr());
        assert!(table(&iface, 24).is_sound());
        assert!(!Table { magic: *b"LCRtabl9", ..table(&iface, 24) }.is_sound());
        assert!(!Table { size: 56, ..table(&iface, 24) }.is_sound());
        assert!(!Table { iface: ptr::null(), ..table(&iface, 24) }.is_sound());
    }

    unsafe extern "C" fn save(state: *mut StateCalls) -> c_int {
        // SAFETY: what `Session::run` gives.
        unsafe {
            let calls = &*state;
            assert_eq!((calls.read)(state, c"count".as_ptr(), 1, 1, &mut ptr::null(), &mut 0), -1);
            assert_eq!((calls.write)(state, c"count".as_ptr(), 2, c"ab".as_ptr().cast(), 2), 0);
            assert_eq!((calls.write)(state, c"count".as_ptr(), 2, c"c".as_ptr().cast(), 1), 0);
            assert_eq!((calls.attach)(state, c"files".as_ptr(), 1, -1), -1);
            assert_eq!((calls.write)(state, ptr::null(), 2, ptr::null(), 0), -1);
            (calls.attach)(state, c"files".as_ptr(), 1, 2)
        }
    }

    unsafe extern "C" fn restore(state: *mut StateCalls) -> c_int {
        let (mut bytes, mut size) = (ptr::null(), 0);
        // SAFETY: as above.
        unsafe {
            let calls = &*state;
            assert_eq!((calls.read)(state, c"count".as_ptr(), 1, 2, &raw mut bytes, &raw mut size), 0);
            assert_eq!(std::slice::from_raw_parts(bytes.cast::<u8>(), size), b"abc");
            let file = (calls.take)(state, c"files".as_ptr(), 0);
            assert!(file > 2);
            libc::close(file);
            assert_eq!((calls.write)(state, c"count".as_ptr(), 2, ptr::null(), 0), -1);
            (calls.take)(state, c"files".as_ptr(), 1)
        }
    }

    unsafe extern "C" fn refuses(state: *mut StateCalls) -> c_int {
        // SAFETY: as above.
        unsafe { ((*state).fail)(state, c"the disk is full".as_ptr()) }
    }

    unsafe extern "C" fn silent(_: *mut StateCalls) -> c_int {
        3
    }

    unsafe extern "C" fn resume(_: *const *const c_void, _: usize) {}

    #[test]
    fn a_state_goes_through_the_calls_and_errors_say_why() {
        let hooks = Hooks { pause: paused, save, restore, resume };
        let state = hooks.save().unwrap();
        assert_eq!(state.get("count").unwrap().version(), 2);
        assert_eq!(
            hooks.restore(state).unwrap_err(),
            "section `files` holds 1 descriptors, and number 1 was wanted (from 0)"
        );
        assert_eq!(Hooks { save: refuses, ..hooks }.save().unwrap_err(), "the disk is full");
        assert_eq!(Hooks { save: silent, ..hooks }.save().unwrap_err(), "it returned 3");
    }
}
