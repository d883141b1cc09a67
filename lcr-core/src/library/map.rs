//! Mapping a verified copy, and finding out what is mapped.
//!
//! The dynamic linker knows an open object by its *name* first, by device and inode
//! second. The copy is opened as `/proc/<pid>/fd/N`, and N stays open as long as it
//! is mapped: were N closed and its number used for the next version, the linker
//! would answer with the old one. `<pid>` and not `self`, for a debugger that opens
//! the name in its own process would find its own N.
//!
//! Whether something is mapped is read from `/proc/self/maps`, by device and inode:
//! what `dlclose` answers says nothing about it. Only its code counts: who printed
//! a backtrace may have mapped the file for reading, to look up names, and std's
//! symbolizer never unmaps what it once read.

use std::ffi::{CStr, c_void};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::LoadError;
use super::verify::Candidate;
use crate::border;
use crate::process::maps::Line;
use crate::registry::{self, Registered};

/// One thread maps or unmaps at a time, so that what it reads from
/// `/proc/self/maps` afterwards is its own doing. Not held while a library's own
/// functions run, except its ELF constructors and destructors.
static LOADER: Mutex<()> = Mutex::new(());

fn loader() -> MutexGuard<'static, ()> {
    LOADER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mapped object, of which nothing but its ELF constructors has run.
///
/// It stays mapped when it is dropped: [`Object::close`] unmaps it.
#[derive(Debug)]
pub struct Object {
    path: PathBuf,
    handle: *mut c_void,
    /// The file that is mapped, open as long as it is.
    file: Option<fs::File>,
    mapping: Mapping,
    /// The C components that its ELF constructors registered.
    pub(super) registered: Box<Registered>,
    pub(super) nodelete: bool,
    closed: bool,
}

// SAFETY: a handle of the dynamic linker belongs to the process, not to a thread.
unsafe impl Send for Object {}
// SAFETY: looking up symbols is safe from any number of threads.
unsafe impl Sync for Object {}

/// What is mapped: the identity of its file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The device, as `/proc/self/maps` writes it: "00:01".
    pub device: String,
    /// The inode.
    pub inode: u64,
    /// From its first address to its last.
    pub range: Range<usize>,
}

/// What C components look for in the program that loads them.
const EXPORTED_TO_C: [&str; 3] = ["lcr_component_register", "lcr_ifact_reference", "lcr_ifact_release"];
/// What to do where they do not find it.
const EXPORT: &str = "; C components find it in the program, which must export it: link a C program with \
                      liblcr.so, or with liblcr.a and -rdynamic; in a Rust program, write \
                      lcr_core::export_to_c!(), and lcr_build::export() in its build script";

impl Object {
    /// Maps a verified copy; its ELF constructors run.
    pub(super) fn map(candidate: Candidate) -> Result<Object, LoadError> {
        let Candidate { path, copy, dynamic, original, .. } = candidate;
        let link = |message: String| LoadError::Link { path: path.clone(), message };
        let by_path = original.is_some();
        let file = original.unwrap_or(copy);
        let name = if by_path {
            fs::canonicalize(&path).map_err(|source| LoadError::Open { path: path.clone(), source })?
        } else {
            // The pid as this /proc counts, which a process in a pid namespace may not know.
            let pid = fs::read_link("/proc/self");
            let pid = pid.map_err(|error| link(format!("/proc must be mounted: {error}")))?;
            Path::new("/proc").join(pid).join("fd").join(file.as_raw_fd().to_string())
        };
        let swapped = |found: &str| LoadError::Swapped { path: path.clone(), found: found.into() };
        let _lock = loader();
        if by_path && linker::is_open(&name) {
            return Err(swapped("one is open under this name"));
        }
        let (opened, registered) = registry::collect(|| linker::open(&name));
        let handle = opened.map_err(|message| {
            // The linker names what it was given, which says nothing to a person.
            let mut message = message.replace(&*name.to_string_lossy(), &path.to_string_lossy());
            if EXPORTED_TO_C.iter().any(|call| message.ends_with(&format!("undefined symbol: {call}"))) {
                message.push_str(EXPORT);
            }
            link(message)
        })?;
        let found = linker::anchor(handle)
            .ok_or_else(|| "the dynamic linker does not say where it is".to_owned())
            .and_then(|anchor| Mapping::around(anchor).map_err(|error| error.to_string()));
        let mapping = match found {
            Ok(mapping) => mapping,
            Err(message) => {
                linker::close(handle);
                return Err(link(message));
            }
        };
        if by_path {
            let identity = |facts: fs::Metadata| (facts.dev(), facts.ino());
            let verified = file.metadata().ok().map(identity);
            if verified.is_none() || fs::metadata(&name).ok().map(identity) != verified {
                linker::close(handle);
                return Err(swapped("the path names another file now"));
            }
        }
        let (nodelete, mut registered) = (dynamic.nodelete, Box::new(registered));
        // SAFETY: it is mapped.
        unsafe { registered.check_tables() };
        Ok(Object { path, handle, file: Some(file), mapping, registered, nodelete, closed: false })
    }

    /// The path it was verified under.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that are mapped, from the first one.
    pub(crate) fn content(&self) -> impl std::io::Read + '_ {
        struct Content<'o>(&'o Object, u64);
        impl std::io::Read for Content<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                use std::os::unix::fs::FileExt;
                let file = self.0.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
                let read = file.read_at(into, self.1)?;
                self.1 += read as u64;
                Ok(read)
            }
        }
        Content(self, 0)
    }

    /// What is mapped, and where.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The address of a symbol that this object itself defines; `None` if it has
    /// none of that name. A symbol of a library that it was linked with, which the
    /// dynamic linker would answer with too, is not its own.
    #[must_use]
    pub fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        linker::symbol(self.handle, name).filter(|address| self.mapping.range.contains(&address.addr()))
    }

    /// Whether its ELF constructors registered components, as those of a C library do.
    #[must_use]
    pub fn has_registered(&self) -> bool {
        !self.registered.components.is_empty()
    }

    /// Whose symbol of that name the dynamic linker finds instead.
    pub(super) fn foreign_symbol(&self, name: &CStr) -> Option<String> {
        linker::symbol(self.handle, name).map(linker::holder)
    }

    /// Whether the calling thread's stack holds a frame of it: then it must not be
    /// unmapped, for the thread will return into it. Found by unwinding; frames
    /// beyond one that has no unwind table are not seen.
    #[must_use]
    pub fn on_this_stack(&self) -> bool {
        linker::stack_touches(&self.mapping.range)
    }

    /// Runs its ELF destructors and unmaps it, once. True if no code of it
    /// is mapped afterwards; called again, it looks again.
    ///
    /// # Safety
    ///
    /// Nothing of the object is used any more, by any thread, and nobody will call
    /// into it: no thread's end, no key, no stack.
    pub unsafe fn close(&mut self) -> bool {
        // SAFETY: passed on.
        unsafe { self.close_then(|| ()) }
    }

    /// As [`Object::close`]; calls `then` if it has gone, before anything else can be
    /// mapped at its addresses.
    ///
    /// # Safety
    ///
    /// As [`Object::close`].
    pub(super) unsafe fn close_then(&mut self, then: impl FnOnce()) -> bool {
        let _lock = loader();
        if !self.closed {
            self.closed = true;
            linker::close(self.handle);
        }
        // Unreadable maps say nothing: then it counts as mapped.
        let gone = self.mapping.is_gone().unwrap_or(false);
        if gone {
            self.file = None;
            border::panics::unmapped(&self.mapping.range);
            then();
        }
        gone
    }

    /// Whether [`Object::close`] was called, and yet something of it is mapped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Mapped to the process's end: the name it is known by must not be reused.
        if let Some(file) = self.file.take() {
            std::mem::forget(file);
        }
    }
}

impl Mapping {
    /// What is mapped at an address.
    fn around(address: usize) -> io::Result<Mapping> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let lines: Vec<Line<'_>> = maps.lines().filter_map(Line::parse).collect();
        let missing = || io::Error::other("it is not in /proc/self/maps");
        let found = lines.iter().find(|line| line.range.contains(&address) && line.inode != 0);
        let found = found.ok_or_else(missing)?;
        let own = || lines.iter().filter(|line| line.device == found.device && line.inode == found.inode);
        let start = own().map(|line| line.range.start).min().ok_or_else(missing)?;
        let end = own().map(|line| line.range.end).max().ok_or_else(missing)?;
        Ok(Mapping { device: found.device.into(), inode: found.inode, range: start..end })
    }

    /// Whether no code of this file is mapped.
    fn is_gone(&self) -> io::Result<bool> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(!maps
            .lines()
            .filter_map(Line::parse)
            .any(|line| line.executable && line.device == self.device && line.inode == self.inode))
    }
}

/// The dynamic linker and the unwinder.
#[cfg(not(target_feature = "crt-static"))]
pub(super) mod linker {
    use std::ffi::{CString, c_int};
    use std::os::unix::ffi::OsStrExt;
    use std::ptr::null_mut;

    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    use super::*;

    fn c_name(path: &Path) -> Option<CString> {
        CString::new(path.as_os_str().as_bytes()).ok()
    }

    pub(super) fn is_open(path: &Path) -> bool {
        let Some(path) = c_name(path) else { return false };
        // SAFETY: NOLOAD runs nothing: it answers a handle to what is open, or null.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            if !handle.is_null() {
                libc::dlclose(handle);
            }
            !handle.is_null()
        }
    }

    pub(super) fn open(path: &Path) -> Result<*mut c_void, String> {
        // SAFETY: the object's constructors run. Whoever loads a library trusts its author,
        // by the policy that the file has passed.
        match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) } {
            Ok(library) => Ok(library.into_raw()),
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(source) => source.to_string(),
                None => error.to_string(),
            }),
        }
    }

    pub(super) fn close(handle: *mut c_void) {
        // SAFETY: from `open`, and closed once: `Object::closed` sees to it. What it
        // answers is of no use; the mappings are.
        let _ = unsafe { Library::from_raw(handle) }.close();
    }

    pub(super) fn symbol(handle: *mut c_void, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: an open handle and a name that ends with NUL.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }

    /// The file name of the object that holds an address.
    pub(super) fn holder(address: *mut c_void) -> String {
        // SAFETY: all-zero is a value of this C structure, which the call fills in.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: any address will do.
        if unsafe { libc::dladdr(address, &raw mut info) } == 0 || info.dli_fname.is_null() {
            return "another object".into();
        }
        // SAFETY: the linker's own string, for an object that is open.
        unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned()
    }

    /// The beginning of C's `struct link_map`, which <link.h> makes public.
    #[repr(C)]
    struct LinkMap {
        offset: usize,
        name: *const libc::c_char,
        dynamic: *const c_void,
    }

    /// An address within the object: that of its dynamic section.
    pub(super) fn anchor(handle: *mut c_void) -> Option<usize> {
        let mut map: *const LinkMap = null_mut();
        // SAFETY: this request writes a pointer to the handle's link map.
        let answer = unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
        // SAFETY: answered with 0, it points to the link map, which lives while it is open.
        (answer == 0 && !map.is_null()).then(|| unsafe { (*map).dynamic.addr() })
    }

    #[repr(C)]
    struct UnwindContext {
        opaque: [u8; 0],
    }

    unsafe extern "C-unwind" {
        fn _Unwind_Backtrace(
            trace: extern "C-unwind" fn(*mut UnwindContext, *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
    }

    struct Visitor<'a>(&'a mut dyn FnMut(usize) -> bool);

    extern "C-unwind" fn visit(context: *mut UnwindContext, visitor: *mut c_void) -> c_int {
        const NO_REASON: c_int = 0;
        const NORMAL_STOP: c_int = 4;
        // SAFETY: the unwinder's context, for this frame.
        let address = unsafe { _Unwind_GetIP(context) };
        // SAFETY: the `Visitor` of `any_frame`, which waits for us.
        let visitor = unsafe { &mut *visitor.cast::<Visitor<'_>>() };
        if (visitor.0)(address) { NORMAL_STOP } else { NO_REASON }
    }

    /// Is there a frame on this thread's stack, by its address, for which `is_it` holds?
    pub(in crate::library) fn any_frame(mut is_it: impl FnMut(usize) -> bool) -> bool {
        let mut found = false;
        let mut visitor = Visitor(&mut |address| {
            found |= is_it(address);
            found
        });
        // SAFETY: `visit` takes the argument for what it is, and does not unwind.
        unsafe { _Unwind_Backtrace(visit, (&raw mut visitor).cast()) };
        found
    }

    pub(super) fn stack_touches(range: &Range<usize>) -> bool {
        any_frame(|address| range.contains(&address))
    }
}

/// A static program has no dynamic linker: `Candidate::open` has said so.
#[cfg(target_feature = "crt-static")]
mod linker {
    use super::*;

    pub(super) fn is_open(_: &Path) -> bool {
        false
    }

    pub(super) fn open(_: &Path) -> Result<*mut c_void, String> {
        Err("this program is linked statically".into())
    }

    pub(super) fn close(_: *mut c_void) {}

    pub(super) fn symbol(_: *mut c_void, _: &CStr) -> Option<*mut c_void> {
        None
    }

    pub(super) fn holder(_: *mut c_void) -> String {
        String::new()
    }

    pub(super) fn anchor(_: *mut c_void) -> Option<usize> {
        None
    }

    pub(super) fn stack_touches(_: &Range<usize>) -> bool {
        false
    }
}
