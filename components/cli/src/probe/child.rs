//! The child's side: loads one library, says what registered itself, and ends.
//!
//! The library takes the command for the program that it was made for, so the symbols
//! that C components expect of a program are defined here, and exported by the build
//! script. Nothing is constructed and nothing called: descriptors are read, after the
//! library's ELF constructors have filled them in.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lcr_core::descriptor::{Comp, Iface};
use lcr_core::library::probe::{self, Registered};
use lcr_core::library::{Candidate, LoadError, Policy};
use lcr_core::metadata::Interface;
use lcr_core::registry;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Load a library, print what registers itself as JSON, and end.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    file: PathBuf,
}

/// What has been registered, as addresses: descriptors live as long as the library is
/// mapped, which is as long as this process.
static REGISTERED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Why others were passed over.
static PASSED_OVER: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(crate) fn run(arguments: &Arguments) -> ! {
    probe::answer(|| look(arguments))
}

fn look(arguments: &Arguments) -> Result<Registered, String> {
    let path = &arguments.file;
    // `$ORIGIN` is no danger to a process that ends at once.
    let policy = Policy::default().by_path(true);
    let candidate = Candidate::open(path, &policy).map_err(|error| error.to_string())?;
    limit()
        .map_err(|error| format!("{}: cannot be probed: no limits can be set: {error}", path.display()))?;
    let object = candidate.map().map_err(|error| explained(&error))?;
    let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if registered.is_empty() && object.symbol(c"lcr_comp_get").is_some() {
        return Err(format!("{}: {}", path.display(), probe::OLDER));
    }
    // SAFETY: the library registered these descriptors, and is mapped. Should one of them
    // be wrong, this process ends, which is what it is there for.
    let components = registered.into_iter().map(|comp| unsafe { interfaces(comp as *const Comp) }).collect();
    let passed_over = PASSED_OVER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Registered { components, passed_over })
}

/// What a library may take.
fn limit() -> std::io::Result<()> {
    probe::limit()?;
    let most = Some(8 << 30);
    Ok(setrlimit(Resource::As, Rlimit { current: most, maximum: most })?)
}

/// The dynamic linker's words, with what they mean for a C component.
fn explained(error: &LoadError) -> String {
    match error {
        LoadError::Link { message, .. } if message.contains("undefined symbol") => format!(
            "{error}; it expects this symbol of the program that loads it, and `lcr` has those of a component's \
             program alone"
        ),
        _ => error.to_string(),
    }
}

/// # Safety
///
/// `comp` must be a component's descriptor.
unsafe fn interfaces(comp: *const Comp) -> Vec<Interface> {
    // SAFETY: the caller's word, which is the library's.
    let ifaces = unsafe { (*comp).ifaces() };
    // SAFETY: as above.
    ifaces.iter().map(|iface| unsafe { interface(iface) }).collect()
}

/// # Safety
///
/// As for [`interfaces`].
unsafe fn interface(iface: &Iface) -> Interface {
    // SAFETY: the caller's word.
    let (name, replaces, requires) = unsafe { (iface.name(), iface.replaces(), iface.requires()) };
    Interface {
        name: name.into_owned(),
        version: iface.version,
        replaces: replaces.to_vec(),
        requires,
        per_reference: false,
        state: false,
        contract: None,
    }
}

/// What a component's ELF constructor calls.
#[unsafe(no_mangle)]
extern "C" fn lcr_component_register(comp: *const Comp) {
    if comp.is_null() {
        return;
    }
    // SAFETY: the library's word; if it is wrong, this process ends.
    match unsafe { registry::refusal(comp) } {
        Some(reason) => PASSED_OVER.lock().unwrap_or_else(PoisonError::into_inner).push(reason),
        None => REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).push(comp as usize),
    }
}

/// A component may reference others. Here it gets none: -1.
#[unsafe(no_mangle)]
extern "C" fn lcr_ifact_reference(
    _handle: *mut u64,
    _name: *const c_char,
    _version: c_int,
    _interface: *mut *mut c_void,
    _context: *mut c_void,
) -> c_int {
    -1
}

/// There is nothing to release: -1.
#[unsafe(no_mangle)]
extern "C" fn lcr_ifact_release(_handle: u64) -> c_int {
    -1
}
