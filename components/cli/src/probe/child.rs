//! The child's side: loads one library, says what registered itself, and ends.
//!
//! The library takes the command for the program that it was made for, so the symbols
//! that C components expect of a program are defined here, and exported by the build
//! script. Nothing is constructed and nothing called: descriptors are read, after the
//! library's ELF constructors have filled them in.
//!
//! The report goes to what standard output was when the child began. Afterwards standard
//! output is nowhere, so that a constructor which greets the world does not garble it.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use lcr_core::descriptor::{Comp, Iface};
use lcr_core::library::{Candidate, LoadError, Object, Policy};
use lcr_core::metadata::Interface;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::Report;

/// Load a library, print what registers itself as JSON, and end.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    file: PathBuf,
}

/// What has been registered, as addresses: descriptors live as long as the library is
/// mapped, which is as long as this process.
static REGISTERED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let report = || -> std::io::Result<File> {
        // Should the parent die, nobody waits for this process any more.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 100)?;
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(File::from(report))
    };
    let Ok(mut report) = report() else { return ExitCode::from(1) };
    let document = match look(arguments) {
        Ok(components) => Report::Components(components),
        Err(reason) => Report::Refused(reason),
    }
    .document()
    .to_string();
    let written = report.write_all(document.as_bytes());
    // SAFETY: it ends the process, and does nothing else: `exit` handlers and destructors
    // of the library do not run.
    unsafe { libc::_exit(written.is_err().into()) }
}

fn look(arguments: &Arguments) -> Result<Vec<Vec<Interface>>, String> {
    let path = &arguments.file;
    // `$ORIGIN` is no danger to a process that ends at once.
    let policy = Policy::default().by_path(true);
    let candidate = Candidate::open(path, &policy).map_err(|error| error.to_string())?;
    limit()
        .map_err(|error| format!("{}: cannot be probed: no limits can be set: {error}", path.display()))?;
    let object = candidate.map().map_err(|error| explained(&error))?;
    let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if registered.is_empty()
        && let Some(advice) = older(&object)
    {
        return Err(format!("{}: {advice}", path.display()));
    }
    // SAFETY: the library registered these descriptors, and is mapped. Should one of them
    // be wrong, this process ends, which is what it is there for.
    Ok(registered.into_iter().map(|comp| unsafe { interfaces(comp as *const Comp) }).collect())
}

/// What a library may take.
fn limit() -> std::io::Result<()> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Cpu, most(super::DEADLINE.as_secs() + 1))?;
    setrlimit(Resource::As, most(8 << 30))?;
    setrlimit(Resource::Fsize, most(0))?;
    Ok(())
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

/// What to do about a library from before components registered themselves.
fn older(object: &Object) -> Option<&'static str> {
    object.symbol(c"lcr_comp_get")?;
    Some(
        "exports `lcr_comp_get`, which nothing calls any more: call `lcr_component_register(&comp)` from a function \
         with `__attribute__((constructor))` instead",
    )
}

/// # Safety
///
/// `comp` must be a component's descriptor.
unsafe fn interfaces(comp: *const Comp) -> Vec<Interface> {
    if comp.is_null() {
        return Vec::new();
    }
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
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).push(comp as usize);
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
